"""`check`: is this machine ready, and is this data set what it should be?

    environment   versions, devices, folders that can be written
    data          the split and its rule, patients that cross it, rows and label prevalence in each split,
                  unusable and missing images, a contact sheet of eight images and five impressions

Pixels and texts of credentialed data are shown only with `cases=true`, and only on this machine.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from radlearn.data.images import ImageError, to_uint8
from radlearn.data.pixels import file_of
from radlearn.data.splits import crossing_patients
from radlearn.data.store import FolderSource
from radlearn.data.windows import WindowedSource
from radlearn.errors import RadlearnError
from radlearn.manifests.base import SPLITS
from radlearn.records import Card

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from radlearn.datasets import Dataset

_PACKAGES = (
    "radlearn",
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "transformers",
    "numpy",
    "polars",
    "pyarrow",
)
_NUM_IMAGES, _NUM_TEXTS = 8, 5


def main(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the environment, then the data set and the run that the configuration names.

    Returns:
        What was printed: `environment`, and with `data=` `splits`, `prevalence`, `missing`, `texts`,
        `contact_sheet`.
    """
    from rich.console import Console

    console = Console()
    found: dict[str, Any] = {"environment": environment(config["paths"])}
    _print_pairs(console, "Environment", found["environment"])
    if config.get("run"):
        found["run"] = _check_run(config)
        _print_pairs(console, f"Run {config['run']}", found["run"])
    if config.get("data"):
        from radlearn.datasets import open_dataset

        dataset = open_dataset(config["data"], config["paths"])
        sheet = Path(config.get("output") or Path(config["paths"]["cache"]) / "check")
        found |= check_dataset(dataset, sheet, cases=bool(config.get("cases")))
        _print_dataset(console, dataset.card, found)
    return found


def environment(paths: Mapping[str, str]) -> dict[str, str]:
    """Versions, devices and folders, each with a word on its state."""
    import torch

    facts = {"python": f"{platform.python_version()} on {platform.platform()}"}
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["CPU"] = f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}"
    facts["GPU"] = _gpus()
    facts |= {f"paths.{name}": _folder_state(Path(folder)) for name, folder in paths.items()}
    return facts


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> str:
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GiB)" for device in devices)
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return f"none that torch {torch.__version__} can use: training runs on the CPU"


def _folder_state(folder: Path) -> str:
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return f"{folder} (cannot be written)"
    return str(folder) if folder.exists() else f"{folder} (will be made)"


def _check_run(config: Mapping[str, Any]) -> dict[str, str]:
    """Load a run's checkpoint as `evaluate` would; says what is wrong instead of raising."""
    from radlearn.training import model

    named = Path(str(config["run"]))
    folder = named if named.exists() else Path(config["paths"]["runs"]) / named
    try:
        loaded = model.load(folder)
    except RadlearnError as error:
        return {"checkpoint": f"cannot be loaded: {error}"}
    weights = sum(parameter.numel() for parameter in loaded.objective.parameters())
    return {
        "folder": str(folder),
        "checkpoint": f"step {loaded.about['step']}, {weights / 1e6:.1f} M weights",
    }


def check_dataset(dataset: Dataset, folder: Path, *, cases: bool = False) -> dict[str, Any]:
    """Prevalence, missing files, and where it may be shown the contact sheet and some impressions.

    Args:
        dataset: an opened data set.
        folder: where the contact sheet `<name>.png` is written.
        cases: show images and texts of credentialed data too.
    """
    shown = cases or dataset.card.access in ("open", "synthetic")
    return {
        "splits": split_lines(dataset),
        "prevalence": prevalence(dataset.rows, dataset.card.label_names),
        "missing": missing_files(dataset),
        "texts": sample_texts(dataset.rows) if shown else [],
        "contact_sheet": _write_sheet(dataset, folder) if shown else None,
    }


def prevalence(rows: pl.DataFrame, label_names: Sequence[str]) -> pl.DataFrame:
    """Rows, patients and each label's counts in every split.

    Returns:
        Columns `what` and one a split. Rows: images, patients, then "positive (share of 0 and 1), uncertain"
        of each label.
    """
    lines: list[dict[str, str]] = []
    parts = {split: rows.filter(pl.col("split") == split) for split in SPLITS}
    lines.append({"what": "images", **{split: f"{len(part):,}" for split, part in parts.items()}})
    patients = {split: f"{part['patient_id'].n_unique():,}" for split, part in parts.items()}
    lines.append({"what": "patients", **patients})
    for name in label_names:
        counts = {split: _label_counts(part[name]) for split, part in parts.items()}
        lines.append({"what": name, **counts})
    return pl.DataFrame(lines)


def _label_counts(column: pl.Series) -> str:
    positive, uncertain = int((column == 1).sum()), int((column == -1).sum())
    known = positive + int((column == 0).sum())
    share = f" ({positive / known:.1%})" if known else ""
    return f"{positive:,}{share}" + (f", {uncertain:,} uncertain" if uncertain else "")


def split_lines(dataset: Dataset) -> list[str]:
    """The split in use with its rule and hash, how many patients cross it, and the splits to choose from."""
    card = dataset.card
    seed = "" if card.split_seed is None else f", seed {card.split_seed}"
    lines = [f"split: {card.split or 'as given'} by {card.split_unit}{seed}, hash {card.split_hash[:12]}"]
    lines += [f"rule: {card.split_rule}"] if card.split_rule else []
    crossing = len(crossing_patients(dataset.rows))
    lines.append(
        f"patients in several splits: {crossing:,}" if crossing else "patients in several splits: none"
    )
    others = {name: rule for name, rule in type(dataset.manifest).splits.items() if name != card.split}
    lines += [f"data.split={name}: {rule.about}" for name, rule in others.items()]
    lines += [f"shares patients with: {', '.join(card.overlaps)}"] if card.overlaps else []
    return lines


def missing_files(dataset: Dataset) -> list[str]:
    """Paths of plain files that are not there; a prepared data set holds its images itself."""
    source = dataset.source.source if isinstance(dataset.source, WindowedSource) else dataset.source
    if not isinstance(source, FolderSource):
        return []
    return [str(path) for path in source.paths if not Path(file_of(path)).is_file()]


def sample_texts(rows: pl.DataFrame) -> list[str]:
    """The first five impressions, one a study."""
    if "impression" not in rows.columns:
        return []
    texts = rows.unique("study_id", keep="first", maintain_order=True)["impression"].drop_nulls()
    return list(texts.head(_NUM_TEXTS))


def _write_sheet(dataset: Dataset, folder: Path) -> Path | None:
    from radlearn.figures import base

    table = _cases(dataset)
    if table.is_empty():
        return None
    figure = _contact_sheet(table, dataset.card)
    return base.save(figure, folder / dataset.card.name, kinds=("png",), dpi=120)[0]


def _contact_sheet(table: pl.DataFrame, card: Card) -> Figure:
    from radlearn.figures import example_cases

    return example_cases.draw(table, title=f"{card.name}: contact sheet", labels=card.label_names)


def _cases(dataset: Dataset) -> pl.DataFrame:
    """Eight images spread over the rows, with their labels; unreadable ones are left out."""
    spread = np.linspace(0, len(dataset.rows) - 1, min(_NUM_IMAGES, len(dataset.rows))).astype(int)
    cases = []
    for position in spread:
        row = dataset.rows.row(int(position), named=True)
        try:
            image = dataset.source.image(int(dataset.source_rows[position]))
        except ImageError:
            continue
        cases.append(_case(row, to_uint8(image), dataset.card))
    return pl.DataFrame(cases, infer_schema_length=None)


def _case(row: Mapping[str, Any], image: np.ndarray, card: Card) -> dict[str, Any]:
    import cv2

    known = row.get("height") is not None and row.get("width") is not None
    return {
        "image_id": row["image_id"],
        "view": row["view"],
        "impression": row.get("impression"),
        "findings": [name for name in card.label_names if row.get(name) == 1],
        # Masks are in source pixels; without the source's size they cannot be placed.
        "height": row["height"] if known else image.shape[0],
        "width": row["width"] if known else image.shape[1],
        "mask": (row.get("mask") or []) if known else [],
        "png": cv2.imencode(".png", image)[1].tobytes(),
        "synthetic": card.synthetic,
    }


def _print_pairs(console: Any, title: str, pairs: Mapping[str, str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, value in pairs.items():
        table.add_row(escape(name), escape(value))
    console.print(table)


def _print_dataset(console: Any, card: Card, found: Mapping[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{card.name} ({card.access})"), title_justify="left", box=None)
    for number, column in enumerate(found["prevalence"].columns):
        table.add_column(column if number else "", justify="right" if number else "left")
    for row in found["prevalence"].rows():
        table.add_row(*map(escape, row))
    console.print(table)
    lines = [f"rejected: {n:,} {key[9:]}" for key, n in card.counts.items() if key.startswith("rejected.")]
    lines += [f"left out: {n:,} {key[9:]}" for key, n in card.counts.items() if key.startswith("left_out.")]
    lines += found["splits"]
    missing = found["missing"]
    lines += (
        [f"missing: {len(missing):,} files, first {', '.join(missing[:3])}"] if missing else ["missing: none"]
    )
    lines += [f"impression: {text}" for text in found["texts"]]
    if found["contact_sheet"] is not None:
        lines.append(f"contact sheet: {found['contact_sheet']}")
    elif card.access == "credentialed":
        lines.append("images and texts of credentialed data are shown with cases=true")
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
