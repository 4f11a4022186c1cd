"""`radlearn list`: what there is, plug-ins included, without importing any of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from radlearn import registry, shipped
from radlearn.errors import ConfigurationError, nearest

_FOLDERS = (shipped.FOLDER, Path("configs"))


def _of_group(group: str) -> Callable[[], dict[str, str]]:
    def listing() -> dict[str, str]:
        found = shipped.options(group, [folder for folder in _FOLDERS if folder.is_dir()])
        return {name: shipped.description(path) for name, path in found.items()}

    return listing


def _of_kind(kind: str) -> Callable[[], dict[str, str]]:
    def listing() -> dict[str, str]:
        return {name: _docstring(kind, name) for name in registry.names(kind)}

    return listing


def _docstring(kind: str, name: str) -> str:
    path = registry._files(kind).get(name)
    return shipped.description(path) if path else "an installed plug-in"


# What `list` takes -> name and description of each.
KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "methods": _of_group("method"),
    "objectives": _of_kind("objectives"),
    "encoders": _of_kind("encoders"),
    "models": _of_group("model"),
    "texts": _of_group("text"),
    "data": _of_kind("manifests"),
    "tasks": _of_kind("tasks"),
    "suites": _of_group("suite"),
    "figures": _of_kind("figures"),
    "experiments": _of_group("experiment"),
}


def main(arguments: Sequence[str]) -> str:
    """The text of `radlearn list [KIND ...]`; everything where no kind is named.

    Raises:
        ConfigurationError: for an unknown kind.
    """
    if any(argument in ("--help", "-h") for argument in arguments):
        return f"radlearn list [KIND ...]: what there is, plug-ins included\n\nKinds: {', '.join(KINDS)}"
    for kind in arguments:
        if kind not in KINDS:
            raise ConfigurationError(
                f"nothing called '{kind}' to list: {', '.join(KINDS)}{nearest(kind, KINDS)}"
            )
    return "\n\n".join(_section(kind) for kind in arguments or KINDS)


def _section(kind: str) -> str:
    entries = KINDS[kind]()
    if not entries:
        return f"{kind}\n  none yet"
    width = max(map(len, entries)) + 2
    return "\n".join([kind, *(f"  {name:<{width}}{about}".rstrip() for name, about in entries.items())])
