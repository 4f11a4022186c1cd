"""Names find files: `find("objectives", "nova")` is the one class that `objectives/nova.py` defines.

A plug-in comes from the package itself, from an installed package's entry point `radlearn.<kind>`, from a
folder named in `RADLEARN_PLUGINS` with the same sub-folders, or as a dotted path `my_lab.methods.Mine`.
Nothing is imported before it is asked for, and `signature` reads a constructor without importing it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from radlearn.errors import ConfigurationError, nearest

# Kind -> name of the base class in <kind>/base.py. A figure is a module with a function `draw`.
BASES = {
    "objectives": "Objective",
    "encoders": "Encoder",
    "manifests": "Manifest",
    "tasks": "Task",
    "figures": "draw",
}
_HIDDEN = {"base", "__init__"}


def _folders(kind: str) -> list[Path]:
    folders = [Path(__file__).parent / kind]
    extra = os.environ.get("RADLEARN_PLUGINS", "")
    folders += [Path(entry) / kind for entry in extra.split(os.pathsep) if entry]
    return folders


def _files(kind: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in _folders(kind):
        for path in sorted(folder.glob("*.py")) if folder.is_dir() else []:
            if path.stem not in _HIDDEN and not path.stem.startswith("_"):
                files.setdefault(path.stem, path)
    return files


@cache
def _entry_points(kind: str) -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=f"radlearn.{kind}")}


def _check_kind(kind: str) -> None:
    if kind not in BASES:
        raise ConfigurationError(
            f"no kind of plug-in '{kind}': there is {', '.join(BASES)}{nearest(kind, BASES)}"
        )


def names(kind: str) -> list[str]:
    """All names of a kind, plug-ins included, sorted."""
    _check_kind(kind)
    return sorted({*_files(kind), *_entry_points(kind)})


def find(kind: str, name: str) -> Any:
    """The class (for figures, the module) behind a name or a dotted path.

    Raises:
        ConfigurationError: if there is none; the message lists what there is and names the nearest.
    """
    _check_kind(kind)
    if "." in name:
        return _dotted(kind, name)
    if name in _files(kind):
        return _load(kind, name)
    if name in _entry_points(kind):
        return _checked(kind, name, _entry_points(kind)[name].load())
    raise ConfigurationError(
        f"no '{name}' in {kind}: there is {', '.join(names(kind))}{nearest(name, names(kind))}"
    )


def _base(kind: str) -> Any:
    return getattr(importlib.import_module(f"radlearn.{kind}.base"), BASES[kind])


def _load(kind: str, name: str) -> Any:
    path = _files(kind)[name]
    module_name = f"radlearn.{kind}.{name}"
    if path.parent == Path(__file__).parent / kind:
        module = importlib.import_module(module_name)
    else:
        module = _module_from(module_name, path)
    if kind == "figures":
        return _checked(kind, name, module)
    base = _base(kind)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    leaves = [c for c in own if not any(c is not other and issubclass(other, c) for other in own)]
    if len(leaves) != 1:
        raise ConfigurationError(f"{path} must define one {base.__name__}: it defines {len(leaves)}")
    return leaves[0]


@cache
def _module_from(module_name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    importlib.import_module("sys").modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _dotted(kind: str, name: str) -> Any:
    module_name, _, attribute = name.rpartition(".")
    try:
        value = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"cannot import '{name}' for {kind}: {error}") from error
    return _checked(kind, name, value)


def _checked(kind: str, name: str, value: Any) -> Any:
    if kind == "figures":
        if not isinstance(getattr(value, "draw", None), Callable):  # type: ignore[arg-type]
            raise ConfigurationError(f"figure '{name}' has no function draw(table)")
        return value
    base = _base(kind)
    if not (isinstance(value, type) and issubclass(value, base)):
        raise ConfigurationError(f"'{name}' is no {base.__name__} (from radlearn.{kind}.base): {value!r}")
    return value


def signature(kind: str, name: str) -> dict[str, Any] | None:
    """Keyword arguments of a plug-in's constructor -> default (`...` where it has none), read from its
    source.

    Reading the source rather than importing it keeps configuration errors instant. Returns None where the
    source is not at hand (an entry point, a dotted path): such a class is imported and checked when it is
    built.
    """
    path = _files(kind).get(name)
    if path is None:
        return None
    classes: dict[str, ast.ClassDef] = {}
    for file in (Path(__file__).parent / kind / "base.py", *_helpers(kind, path), path):
        classes |= _classes(file)
    own = [c for c in _classes(path) if _descends(c, BASES[kind], classes)]
    return _arguments(own[-1], classes) if own else {}


def _helpers(kind: str, path: Path) -> list[Path]:
    """The kind's private modules that a plug-in's file imports names from: a base class may stand there."""
    prefix = f"radlearn.{kind}._"
    names = [
        n.module for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.ImportFrom)
    ]
    files = [
        Path(__file__).parent / kind / f"{name.rpartition('.')[2]}.py"
        for name in names
        if name is not None and name.startswith(prefix)
    ]
    return [file for file in files if file.is_file()]


@cache
def _classes(path: Path) -> dict[str, ast.ClassDef]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def _bases(node: ast.ClassDef) -> list[str]:
    return [b.id if isinstance(b, ast.Name) else getattr(b, "attr", "") for b in node.bases]


def _descends(name: str, base: str, classes: dict[str, ast.ClassDef]) -> bool:
    return name == base or (
        name in classes and any(_descends(b, base, classes) for b in _bases(classes[name]))
    )


def _arguments(name: str, classes: dict[str, ast.ClassDef]) -> dict[str, Any]:
    """Keyword-only arguments of a class, and of its bases where it takes ** or has no constructor."""
    node = classes.get(name)
    if node is None:
        return {}
    inherited: dict[str, Any] = {}
    for base in _bases(node):
        inherited |= _arguments(base, classes)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            arguments = item.args
            keywords = dict(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
            own = {argument.arg: _literal(default) for argument, default in keywords.items()}
            return {**inherited, **own} if arguments.kwarg is not None else own
    return inherited


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return ...
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
