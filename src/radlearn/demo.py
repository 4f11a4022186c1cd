"""The verb `demo`: generate synthetic chest radiographs, pre-train, evaluate, write the page."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from radlearn import terminal
from radlearn.errors import ConfigurationError
from radlearn.evaluate import evaluate
from radlearn.records import Result
from radlearn.report.page import report
from radlearn.verbs import pretrain

logger = logging.getLogger("radlearn")

# What `fast=true` changes beside the number of steps: fewer phantoms to render.
_FAST_DATA = {"num_train": 600, "num_validate": 60, "num_test": 240}


def main(config: dict[str, Any]) -> list[Result]:
    """Run the demo and print its table; everything in it is synthetic.

    Raises:
        ConfigurationError: for a data set that is not the phantom.
    """
    if config["data"]["name"] != "phantom_cxr":
        raise ConfigurationError(
            "the demo is about data=phantom_cxr: use pretrain, evaluate and report for others"
        )
    started = time.monotonic()
    if config["fast"]:
        data = config["data"]
        config = {**config, "data": {**data, **{k: min(v, data.get(k, v)) for k, v in _FAST_DATA.items()}}}
    run = pretrain(config)
    if not terminal.is_first_process():
        return []
    trained = time.monotonic()
    rows = [
        row
        for task in ("zero_shot", "pixel_probe")
        for row in evaluate(evaluation_settings(config, run.folder, task))
    ]
    page = report([run.folder], run.folder / "report")
    done = time.monotonic()
    _print(rows, page)
    print(
        f"{done - started:.0f} s in all: data and pre-training {trained - started:.0f} s, "
        f"evaluation and page {done - trained:.0f} s"
    )
    return rows


def evaluation_settings(config: dict[str, Any], run: Path, task: str) -> dict[str, Any]:
    """Settings of the verb `evaluate` for a run that was just trained."""
    return {
        "run": str(run),
        "checkpoint": "auto",
        "task": {"name": task},
        "data": None,
        "split": "test",
        "evals": None,
        "positive_prompts": None,
        "negative_prompts": None,
        "score": "cosine",
        "num_bootstrap": 1000,
        "batch_size": 256,
        "num_workers": 0,
        "device": "auto",
        "seed": config["seed"],
        "trust": config["trust"],
        "paths": config["paths"],
    }


def _print(rows: list[Result], page: Path) -> None:
    """One line a finding: zero-shot AUC with its interval, beside the other negative prompt and the pixel
    probe.
    """
    from rich.table import Table

    auc = {(r.task, r.variant, r.label): r for r in rows if r.metric == "auc"}
    headline = ("zero_shot", "")
    labels = list(dict.fromkeys(label for task, variant, label in auc if (task, variant) == headline))
    first = auc["zero_shot", "", labels[0]]
    columns = {
        "zero-shot AUC [95 %]": ("zero_shot", ""),
        'negative "no X"': ("zero_shot", "negative=no_x"),
        "supervised 16x16 pixels": ("pixel_probe", ""),
    }
    table = Table(
        title=f"{first.method} on SYNTHETIC radiographs: {first.num_cases} test images of "
        f"{first.num_patients} patients",
        caption=f"text model {first.text_model}; 95 % intervals, patients resampled; chance 0.5",
    )
    table.add_column("finding")
    table.add_column("positives", justify="right")
    for name in columns:
        table.add_column(name, justify="right")
    for label in sorted(labels, key=lambda label: label.startswith("macro")):
        row = auc["zero_shot", "", label]
        if label == "macro":
            table.add_section()
        cells = []
        for key in columns.values():
            found = auc.get((*key, label))
            interval = f" [{found.low:.3f}, {found.high:.3f}]" if found and key == ("zero_shot", "") else ""
            cells.append("" if found is None else f"{found.value:.3f}{interval}")
        positives = "" if row.num_positive is None else str(row.num_positive)
        table.add_row(label.replace("_", " "), positives, *cells)
    console = terminal.console()
    console.print(table)
    console.print(f"page: {page}", soft_wrap=True)
