"""Imports point one way: each line below knows only those before it."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "radlearn"
LAYERS = [
    {"errors", "records", "terminal"},
    {"registry"},
    {"config", "schema", "run_lengths", "stats", "losses", "metrics", "results", "ranks", "phantom"},
    {"data"},
    {"manifests"},
    {"prepare", "datasets", "overlap"},
    {"heads", "attention", "encoders", "dense_heads"},
    {"objectives"},
    {"training"},
    {"subject", "extract", "regions"},
    {"embed"},
    {"tasks"},
    {"gather", "evaluate", "cases"},
]
# Figures and the page redraw on a laptop without torch; the command line knows all.
LAPTOP = {"figures", "report"}
LAPTOP_KNOWS = {"errors", "records", "run_lengths", "results", "stats", "figures", "report", "metrics"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(path: Path) -> set[str]:
    """Top-level parts of radlearn that a file imports when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "radlearn":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found


def test_no_import_points_back():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for other in imported(path) - {own}:
            if own in LAPTOP:
                bad = other not in LAPTOP_KNOWS
            else:
                bad = own in LEVEL and (other not in LEVEL or LEVEL[other] > LEVEL[own])
            if bad:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_records_and_registry_import_no_torch():
    import subprocess
    import sys

    code = "import sys, radlearn.records, radlearn.registry; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
