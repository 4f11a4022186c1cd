"""The command line: `radlearn VERB key=value ...`.

Help, lists, completion and configuration errors answer at once: only the standard library is imported here,
Hydra when there is something to compose, torch when a verb runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radlearn.errors import ConfigurationError, RadlearnError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Verb -> its `main(config)`. A new verb is one entry here, in `usage` and in `schema`, and its YAML file.
VERBS = {
    "prepare": "radlearn.prepare:main",
    "pretrain": "radlearn.verbs:pretrain",
    "embed": "radlearn.embed:main",
    "evaluate": "radlearn.evaluate:main",
    "report": "radlearn.report.page:main",
    "export": "radlearn.export:main",
    "check": "radlearn.check:main",
    "demo": "radlearn.demo:main",
}
_TRAINING = ("pretrain", "demo")
# Hydra's options that we pass on -> whether a value follows.
_OPTIONS = {
    **dict.fromkeys(("--cfg", "-c", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p"), True),
    **dict.fromkeys(("--info", "-i"), True),
    **dict.fromkeys(("--multirun", "-m", "--resolve", "--run", "-r", "--hydra-help"), False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0, 2 for a configuration error, 1 for others, 130 if interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except RadlearnError as error:
        if os.environ.get("RADLEARN_DEBUG") == "1":
            raise
        print(_message(error, arguments), file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    except KeyboardInterrupt:
        resumes = bool(arguments) and arguments[0] in (*_TRAINING, "prepare", "embed")
        print("interrupted" + (": the same command resumes it" if resumes else ""), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has left; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _message(error: RadlearnError, arguments: Sequence[str]) -> str:
    """`error: ...`, a blank line, `hint: ...`."""
    text, _, hint = str(error).partition("\n\nhint: ")
    if not hint and "; did you mean " in text:
        text, _, hint = text.rpartition("; ")
    if not hint and isinstance(error, ConfigurationError):
        verb = next((word for word in arguments[:1] if word in VERBS), "")
        hint = f"radlearn {verb + ' ' if verb else ''}--help lists what there is"
    if not hint:
        hint = "RADLEARN_DEBUG=1 shows where it happened"
    return f"error: {text}\n\nhint: {hint}"


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        from radlearn import usage

        print(usage.general())
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb in ("--version", "-V"):
        from importlib.metadata import version

        print(f"radlearn {version('radlearn')}")
        return 0
    if verb in ("list", "completion"):
        module = importlib.import_module("radlearn.listing" if verb == "list" else "radlearn.completion")
        print(module.main(rest))
        return 0
    if verb not in VERBS:
        known = [*VERBS, "list", "completion"]
        raise ConfigurationError(f"no verb '{verb}': there is {', '.join(known)}{nearest(verb, known)}")
    if any(word in ("--help", "-h") for word in rest):
        from radlearn import usage

        print(usage.of_verb(verb))
        return 0
    return _compose_and_run(verb, rest)


def _split(verb: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's options with their values, and the overrides; argparse wants them apart."""
    options: list[str] = []
    overrides: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, _, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif name not in _OPTIONS:
            key = name.lstrip("-").replace("-", "_")
            raise ConfigurationError(
                f"{verb} has no option '{name}'\n\nhint: settings are keys: {key}={value or 'true'}"
            )
        else:
            options.append(word)
            if _OPTIONS[name] and not value:
                following = next(remaining, None)
                if following is None:
                    raise ConfigurationError(f"{name} needs a value")
                options.append(following)
    return options, overrides


def _value(options: Sequence[str], *names: str) -> str | None:
    for position, word in enumerate(options):
        name, _, value = word.partition("=")
        if name in names:
            return value or options[position + 1]
    return None


def _compose_and_run(verb: str, words: Sequence[str]) -> int:
    """Hand over to Hydra, which composes the configuration and calls the verb, once a job of a sweep."""
    from radlearn import composition

    options, overrides = _split(verb, words)
    config_dir = _value(options, "--config-dir", "-cd")
    folder = Path(config_dir) if config_dir else None
    with composition.in_our_words(verb):
        composition.prepare_hydra(folder)
        overrides = composition.rewrite(verb, overrides, folder)
        multirun = any(word in ("--multirun", "-m") for word in options)
        if multirun:
            overrides += _names_of_jobs(verb, overrides)
        job = Job(verb, multirun=multirun)
        _call_hydra(job, [*options, *_hydra_settings(verb, overrides), *overrides])
    if job.error is not None:
        raise job.error
    return 0


def _hydra_settings(verb: str, overrides: Sequence[str]) -> list[str]:
    """Where Hydra works: in the run's folder for verbs that make one; it writes no files of its own."""
    settings = ["hydra.job.name=radlearn", "hydra.output_subdir=null"]
    if verb in _TRAINING:
        folder = "'${radlearn.run_folder:${output_dir}}'"
        settings += [f"hydra.run.dir={folder}", "hydra.sweep.dir=${paths.runs}"]
        settings += [f"hydra.sweep.subdir={folder}"]
    else:
        settings += ["hydra.run.dir=.", "hydra.sweep.dir=${paths.cache}/sweeps", "hydra.sweep.subdir=."]
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    groups = [f"hydra/{name}" for name in ("job_logging", "hydra_logging") if f"hydra/{name}" not in given]
    return settings + [f"{group}=none" for group in groups]


def _names_of_jobs(verb: str, overrides: Sequence[str]) -> list[str]:
    """Each job of a sweep gets a run of its own: its name ends in the values that are swept."""
    from radlearn import composition

    swept, fixed = composition.swept_keys(overrides)
    if verb not in _TRAINING or "run_name" in swept:
        return []
    if "output_dir" in fixed:
        raise ConfigurationError(
            "output_dir would be the same for every job of the sweep: set paths.runs instead"
        )
    name = next((o.partition("=")[2] for o in overrides if o.lstrip("+").startswith("run_name=")), None)
    name = name if name is not None else "${recipe}-${data.name}"
    excluded = ",".join(sorted({*fixed, "run_name"}))
    return [
        f"hydra.job.config.override_dirname.exclude_keys=[{excluded}]",
        f"++run_name='{name}-${{radlearn.slug:${{hydra:job.override_dirname}}}}'",
    ]


def _call_hydra(job: Job, arguments: list[str]) -> None:
    import hydra

    before = os.environ.get("HYDRA_FULL_ERROR")
    program = job.program = sys.argv
    # Hydra prints its errors and exits by itself unless it is told to raise them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["radlearn", *arguments]
    try:
        hydra.main(version_base="1.3", config_path="pkg://radlearn.configs", config_name=job.verb)(job)()
    except OSError as error:
        if job.started or isinstance(error, RadlearnError) or error.filename is None:
            raise
        raise RadlearnError(
            f"cannot make the folder {error.filename}: {error.strerror}"
            "\n\nhint: paths.runs=FOLDER or RADLEARN_RUNS says where runs are written"
        ) from error
    finally:
        sys.argv = program
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


class Job:
    """What Hydra calls with a composed configuration; it can be sent to another machine by a launcher.

    Attributes:
        error: what went wrong in a single run; Hydra would print its own line about it.
        started: whether Hydra got as far as calling.
        program: the command line as it was given; further ranks of a run are launched with it.
    """

    def __init__(self, verb: str, *, multirun: bool) -> None:
        self.verb, self.multirun = verb, multirun
        self.error: BaseException | None = None
        self.started = False
        self.program = sys.argv

    def __call__(self, cfg: DictConfig) -> None:
        """Validate the configuration and run the verb."""
        self.started = True
        try:
            self._run(cfg)
        except Exception as error:
            if self.multirun:
                raise
            self.error = error

    def _run(self, cfg: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        from radlearn import composition

        settings = HydraConfig.get()
        if self.multirun:
            print(
                f"job {settings.job.num}: {settings.job.override_dirname.replace('+', '')}", file=sys.stderr
            )
        try:
            config = composition.finish(cfg, self.verb, settings.overrides.task)
            sys.argv = self.program
            function(self.verb)(config)
        except BaseException:
            composition.remove_new_folders(settings.runtime.output_dir)
            raise


def function(verb: str) -> Callable[[dict[str, Any]], Any]:
    """The `main(config)` of a verb, imported now."""
    from radlearn import terminal

    terminal.set_up(speaks=terminal.is_first_process())
    module, _, name = VERBS[verb].partition(":")
    found: Callable[[dict[str, Any]], Any] = getattr(importlib.import_module(module), name)
    return found
