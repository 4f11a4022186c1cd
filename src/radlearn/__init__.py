"""Representation learning in radiology: pre-train, embed and evaluate image encoders under equal conditions.

The verbs of the command line are functions here, with the same keys:

    import radlearn as rl

    rl.pretrain("run_name=first", method="nova", data={"name": "table", "train_manifest": "train.csv"})
    rl.evaluate(run="first")
    model = rl.load("first")
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from radlearn.paired import PairedResult
    from radlearn.training.model import Model

__all__ = ["check", "compare", "demo", "embed", "evaluate", "export", "load", "prepare", "pretrain", "report"]
# Verbs that are modules of the same name as well: `radlearn.report` is the module, and can be called.
_MODULES = ("check", "demo", "embed", "evaluate", "export", "prepare", "report")


def _run(
    verb: str, *overrides: str, config_name: str | None = None, config_dir: Path | None = None, **keys: Any
) -> Any:
    """Run a verb as the command line does, and return what it returns.

    Args:
        verb: `pretrain`, `evaluate`, ...
        overrides: `key=value` texts.
        config_name: primary configuration instead of the verb's own.
        config_dir: a further folder of configuration files.
        keys: the same as Python values; `data={"name": "table", "image_root": "images"}` sets a section.

    Raises:
        ConfigurationError: if the configuration cannot be composed or used.
    """
    from radlearn import cli, composition

    given = [*overrides, *composition.as_overrides(keys)]
    config = composition.compose(verb, given, config_name=config_name, config_dir=config_dir)
    return cli.function(verb)(config)


def load(run: str | Path, **options: Any) -> Model:
    """A trained model from a run's name or folder, or from a checkpoint folder.

    Args:
        run: the name of a run in paths.runs, or a folder.
        options: of `radlearn.training.model.load`: `device`, `cache`, `trust`.
    """
    from pathlib import Path

    from radlearn.composition import setting
    from radlearn.training import model

    named = Path(setting("paths.runs") or "").expanduser() / run
    return model.load(named if named.is_dir() else Path(run), **options)


def compare(first: str | Path, second: str | Path, **options: Any) -> list[PairedResult]:
    """First minus second on the same cases: differences with intervals and p values, patients redrawn.

    Args:
        first, second: names of runs in paths.runs, or folders.
        options: of `radlearn.paired.compare`: `task`, `data`, `split`, `variant`, `draws`, `seed`.
    """
    from pathlib import Path

    from radlearn import paired
    from radlearn.composition import setting

    runs = Path(setting("paths.runs") or "").expanduser()
    folders = [runs / run if (runs / run).is_dir() else Path(run) for run in (first, second)]
    return paired.compare(folders[0], folders[1], **options)


def __getattr__(name: str) -> Any:
    """Verbs and the version, when first used: importing radlearn imports nothing heavy."""
    if name == "__version__":
        from importlib.metadata import version

        return version("radlearn")
    if name in _MODULES:
        return import_module(f"radlearn.{name}")
    if name in __all__:
        return partial(_run, name)
    raise AttributeError(f"module 'radlearn' has no attribute '{name}'")


if TYPE_CHECKING:
    check: Callable[..., Any]
    demo: Callable[..., Any]
    embed: Callable[..., Any]
    evaluate: Callable[..., Any]
    export: Callable[..., Any]
    prepare: Callable[..., Any]
    pretrain: Callable[..., Any]
    report: Callable[..., Any]
else:

    class _VerbModule(ModuleType):
        """A module that is called as the verb of its name."""

        def __call__(self, *overrides: str, **keys: Any) -> Any:
            return _run(self.__name__.rpartition(".")[2], *overrides, **keys)

    class _Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if name in _MODULES and type(value) is ModuleType:
                value.__class__ = _VerbModule
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Package
