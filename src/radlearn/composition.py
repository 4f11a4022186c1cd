"""From a verb and `key=value` overrides to a validated configuration, through Hydra.

Hydra composes; here stands what it does not do: keys of open sections need no `+`, plug-ins can be chosen
without a YAML file of their own, `./configs` is searched, user settings fill the paths, and its errors are
put in our words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from radlearn import config, registry, schema, shipped
from radlearn.errors import ConfigurationError, nearest

_ASSIGNMENT = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
# Texts with other characters than these (`=`, `~`, umlauts) are no values to Hydra unless they are quoted;
# lists, sections, texts in quotes and references are left as they are.
_UNREADABLE = re.compile(r"[^\w\s/\-\\+.$%*@?|:,()\[\]{}'\"]", re.ASCII)
_STRUCTURED = ("'", '"', "[", "{", "$")
ALIASES = {"pretrain": {"name": "run_name", "run": "run_name"}, "evaluate": {"name": "run"}}
ALIASES["embed"] = {"name": "run", "run_name": "run"}
ALIASES["demo"] = ALIASES["pretrain"]
_SETTINGS = {
    "paths.runs": ("RADLEARN_RUNS", "runs"),
    "paths.data": ("RADLEARN_DATA", "data"),
    "paths.cache": ("RADLEARN_CACHE", "~/.cache/radlearn"),
    "tracker_project": ("RADLEARN_TRACKER_PROJECT", None),
}


def settings_file() -> Path:
    """The user's own settings: `paths: {runs, data, cache}` and `tracker_project`."""
    root = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(root).expanduser() / "radlearn" / "config.yaml"


def setting(name: str) -> str | None:
    """A path or name from the environment, else from the user's settings file, else the default."""
    variable, default = _SETTINGS[name]
    value = os.environ.get(variable) or _user_settings().get(name) or default
    return None if value is None else str(value)


def _user_settings() -> dict[str, Any]:
    file = settings_file()
    if not file.is_file():
        return {}
    flat: dict[str, Any] = {}
    for key, value in config.load(file).items():
        flat.update(
            {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
        )
    for key in flat:
        if key not in _SETTINGS:
            raise ConfigurationError(
                f"no setting '{key}' in {file}: there is {', '.join(_SETTINGS)}{nearest(key, _SETTINGS)}"
            )
    return flat


def _slug(text: str) -> str:
    """`++lr=0.001,model=small` as part of a folder's name: `lr-0.001_model-small`."""
    return re.sub(r"[^\w.-]+", "-", text.replace("+", "").replace(",", "_")).strip("-")


# Run folder -> the folders that Hydra is about to make for it, innermost first.
_new_folders: dict[str, list[Path]] = {}


def _run_folder(path: str) -> str:
    """The absolute folder of a run; remembers what does not exist yet: Hydra makes it before we validate."""
    folder = Path(path).expanduser().absolute()
    _new_folders.setdefault(str(folder), [p for p in (folder, *folder.parents) if not p.exists()])
    return str(folder)


def remove_new_folders(folder: str) -> None:
    """Remove the still empty folders that were made for a run that could not start."""
    for made in _new_folders.pop(folder, []):
        if not made.is_dir() or any(made.iterdir()):
            return
        made.rmdir()


OmegaConf.register_new_resolver("radlearn.setting", setting, replace=True)


def _short(fast: bool, smoke: bool) -> str:
    """What a shortened run is called besides, so that it never stands in the way of the real one."""
    return ("-fast" if fast else "") + ("-smoke" if smoke else "")


OmegaConf.register_new_resolver("radlearn.short", _short, replace=True)
OmegaConf.register_new_resolver("radlearn.slug", _slug, replace=True)
OmegaConf.register_new_resolver("radlearn.run_folder", _run_folder, replace=True)


class ConfigFolders(SearchPathPlugin):
    """Searches the folder given with `--config-dir` and `./configs`, after the files that ship."""

    given: Path | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra before it reads anything."""
        for folder in folders(self.given)[1:]:
            search_path.append("radlearn", f"file://{folder.absolute()}")


def folders(config_dir: Path | None = None) -> list[Path]:
    """Where configuration files are looked for, in order."""
    own = [config_dir, Path("configs")]
    return [shipped.FOLDER, *(folder for folder in own if folder is not None and folder.is_dir())]


def prepare_hydra(config_dir: Path | None = None) -> None:
    """Teach Hydra our folders, and a group option for every plug-in that has no YAML file."""
    if config_dir is not None and not config_dir.is_dir():
        raise ConfigurationError(f"--config-dir {config_dir} is no folder")
    ConfigFolders.given = config_dir
    Plugins.instance().register(ConfigFolders)
    for section, kind in config.PLUGINS.items():
        written = shipped.options(section, folders(config_dir))
        for name in registry.names(kind):
            if name not in written:
                _store_option(section, name)


def _store_option(section: str, name: str) -> None:
    # Methods are global files, since their recipes set run keys; so are the options that stand in for one.
    node, package = (
        ({section: {"name": name}}, "_global_") if section == "method" else ({"name": name}, section)
    )
    ConfigStore.instance().store(group=section, name=name, node=node, package=package)


def rewrite(verb: str, overrides: Iterable[str], config_dir: Path | None = None) -> list[str]:
    """Overrides as Hydra wants them: aliases resolved, `++` for keys that may be new.

    Raises:
        ConfigurationError: for a word that is no `key=value`.
    """
    groups = shipped.groups(folders(config_dir))
    return [_rewrite_one(verb, override, groups) for override in overrides]


def _rewrite_one(verb: str, override: str, groups: set[str]) -> str:
    match = _ASSIGNMENT.fullmatch(override)
    if match is None:
        if "=" not in override and not override.startswith("~"):
            raise ConfigurationError(
                f"'{override}' is no key=value\n\nhint: radlearn {verb} --help lists the keys"
            )
        return override
    plus, key, value = match.groups()
    key = ALIASES.get(verb, {}).get(key, key)
    if verb == "report" and key in ("run", "name"):
        key, value = "runs", f"[{value}]"
    if key.split(".")[0] == "hydra":
        return f"{plus}{key}={value}"
    if _UNREADABLE.search(value) and not value.startswith(_STRUCTURED):
        value = ",".join("'" + part.replace("'", r"\'") + "'" for part in value.split(","))
    if key in groups and not value.startswith(_STRUCTURED):
        _allow_dotted_path(key, value)
        return f"{key}={value}"
    return f"++{key}={value}"


def _allow_dotted_path(group: str, value: str) -> None:
    """`method=my_lab.methods.Mine` chooses a class from outside."""
    if group in config.PLUGINS and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        _store_option(group, value)


def swept_keys(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys that take several values under --multirun, and keys that are fixed."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    swept = [p.key_or_group for p in parsed if p.is_sweep_override()]
    return swept, [p.key_or_group for p in parsed if not p.is_sweep_override()]


def finish(cfg: DictConfig, verb: str, overrides: Iterable[str]) -> dict[str, Any]:
    """Resolve, validate and complete a composed configuration.

    Args:
        cfg: Hydra's composition without its `hydra` node.
        verb: whose keys.
        overrides: as given to Hydra.
    """
    with in_our_words(verb):
        resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    composed = {str(key): value for key, value in resolved.items()}
    keys = schema.VERBS[verb]
    if "text" not in keys:
        composed.pop("text", None)  # A data set names its text model for pre-training only.
    composed |= {name: None for name, key in keys.items() if key.null and name not in composed}
    paths = composed["paths"]
    paths |= {name: str(Path(value).expanduser()) for name, value in paths.items() if isinstance(value, str)}
    given = [override.lstrip("+~").partition("=")[0] for override in overrides]
    config.validate(composed, verb, given)
    return config.merge_defaults(composed)


def compose(
    verb: str,
    overrides: Sequence[str] = (),
    *,
    config_name: str | None = None,
    config_dir: Path | None = None,
) -> dict[str, Any]:
    """The validated configuration of a verb, as the command line would make it.

    Args:
        verb: `pretrain`, ...
        overrides: `key=value` texts.
        config_name: primary configuration instead of the verb's own.
        config_dir: a further folder to search.

    Raises:
        ConfigurationError: for anything that cannot be composed or used.
    """
    with _own_hydra(), in_our_words(verb):
        prepare_hydra(config_dir)
        arguments = rewrite(verb, overrides, config_dir)
        with initialize_config_module("radlearn.configs", version_base="1.3", job_name="radlearn"):
            cfg = hydra_compose(config_name or verb, arguments)
        return finish(cfg, verb, arguments)


@contextmanager
def _own_hydra() -> Iterator[None]:
    """A Hydra of our own: the caller may be a Hydra application itself."""
    theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs


@contextmanager
def in_our_words(verb: str) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into a ConfigurationError that says what to do."""
    try:
        yield
    except MissingConfigException as error:
        raise ConfigurationError(_missing(error)) from error
    except OverrideParseException as error:
        text = str(error).partition("\nSee ")[0].strip()
        raise ConfigurationError(
            f"cannot read {error.override.lstrip('+')}: {text}"
            "\n\nhint: quote special characters: key='\"a, b\"'"
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_composition(verb, error)) from error


def _missing(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        known = shipped.primaries(folders(ConfigFolders.given))
        return f"no configuration '{name}': there is {', '.join(known)}{nearest(name, known)}"
    known = sorted({*shipped.options(group, folders(ConfigFolders.given)), *_plugin_names(group)})
    there = f"there is {', '.join(known)}" if known else f"there is no {group} yet"
    return f"no '{name}' in {group}: {there}{nearest(name, known)}"


def _plugin_names(group: str) -> list[str]:
    return registry.names(config.PLUGINS[group]) if group in config.PLUGINS else []


def _composition(verb: str, error: BaseException) -> str:
    text = str(error)
    override = re.search(r"Could not override '([\w/@.]+)'", text)
    if override:
        keys = schema.VERBS[verb]
        return f"{verb} takes no key '{override[1]}'{nearest(override[1], keys)}"
    cause = f": {error.__cause__}" if error.__cause__ else ""
    # The user did not write the `++` that we put before keys.
    return f"{text}{cause}".replace("'++", "'").strip()


def as_overrides(keys: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as overrides: `data={"name": "table", "size": 256}` sets group and key."""
    overrides: list[str] = []
    for key, value in keys.items():
        if isinstance(value, Mapping) and key in config.PLUGINS:
            if "name" in value:
                overrides.append(f"{key}={value['name']}")
            overrides += [f"{key}.{name}={_quoted(item)}" for name, item in value.items() if name != "name"]
        elif isinstance(value, Mapping):
            overrides += [f"{key}.{name}={_quoted(item)}" for name, item in value.items()]
        else:
            overrides.append(f"{key}={_quoted(value, top=True)}")
    return overrides


def _quoted(value: Any, *, top: bool = False) -> str:
    """A Python value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {_quoted(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(_quoted(item) for item in value) + "]"
    text = str(value)
    if top and re.fullmatch(r"[A-Za-z_][\w./-]*", text):
        return text  # The name of a group's option must stay unquoted.
    return "'" + text.replace("\\", "\\\\").replace("'", r"\'") + "'"
