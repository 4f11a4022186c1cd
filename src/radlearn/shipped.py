"""The configuration files on disk, listed without Hydra: for help, lists and completion."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "configs"


def options(group: str, folders: Iterable[Path] = (FOLDER,)) -> dict[str, Path]:
    """Option -> file of a group, `ablation/no_l` for nested ones; the first folder that has it wins."""
    found: dict[str, Path] = {}
    for folder in folders:
        root = folder / group
        for path in sorted(root.rglob("*.yaml")) if root.is_dir() else []:
            found.setdefault(path.relative_to(root).with_suffix("").as_posix(), path)
    return found


def groups(folders: Iterable[Path] = (FOLDER,)) -> set[str]:
    """Groups that can be chosen from: the sub-folders, and those that only plug-ins or users fill."""
    nested = {path.name for folder in folders for path in folder.iterdir() if path.is_dir()}
    return {name for name in nested if not name.startswith(("_", "."))} | {"experiment", "task"}


def primaries(folders: Iterable[Path] = (FOLDER,)) -> list[str]:
    """Names for --config-name."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def description(path: Path) -> str:
    """The first comment of a YAML file or the first line of a module's docstring."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip().removeprefix("#").strip().removeprefix('"""').removesuffix('"""')
        if text and not text.startswith("@package"):
            return text if line.lstrip().startswith(("#", '"""')) else ""
    return ""


def body(verb: str) -> str:
    """The keys of a verb with their defaults and meanings, as they stand in its file."""
    lines = (FOLDER / f"{verb}.yaml").read_text(encoding="utf-8").splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("defaults:")), -1) + 1
    while start < len(lines) and (lines[start].startswith("  ") or not lines[start].strip()):
        start += 1
    return "\n".join(lines[start:] if start else lines[1:])
