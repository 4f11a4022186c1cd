"""The sets a run is scored on while it trains and by `evaluate`: entries of `evals`, or the data set's own
split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from radlearn import overlap
from radlearn.data.prompts import default_prompts
from radlearn.datasets import Dataset, open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.records import Tokens
from radlearn.training.probes import ZeroShotProbe
from radlearn.training.text import TextSide, TokenSide, report_texts

_MAX_ROWS = 1024


def evaluation_sets(
    config: Mapping[str, Any], data: Dataset, text: TextSide | TokenSide | None
) -> list[ZeroShotProbe]:
    """The entries of `evals`, or the data set's own validation split if it has labels."""
    if text is None or config["eval_every_n_steps"] is None:
        return []
    entries = [entry for entry in config["evals"] if entry.get("enabled", True)]
    if not entries and len(data.split("validate")) and data.card.label_names:
        rows = data.split("validate")[:_MAX_ROWS]
        return [zero_shot_probe(data.card.name, data, rows, text, column=config["text"]["column"])]
    probes = []
    for entry in entries:
        other = open_dataset(evaluation_data(entry), config["paths"])
        rows = other.split(entry.get("split", "test"))
        if len(rows) == 0:
            raise DataError(f"evaluation set '{entry['name']}' has no rows in its split: set split")
        trained = data.rows[data.split("train").tolist()]["patient_id"]
        scored = other.rows[rows.tolist()]["patient_id"]
        overlap.check(entry["name"], (data.card, trained), (other.card, scored))
        probes.append(zero_shot_probe(entry["name"], other, rows, text, entry))
    return probes


def evaluation_data(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` settings of an entry of `evals`."""
    known = {"name", "enabled", "data", "positive_prompts", "negative_prompts", "manifest", "split"}
    settings = {key: value for key, value in entry.items() if key not in known}
    name = entry.get("data", "table")
    if name == "table":
        settings |= {"test_manifest": entry["manifest"], "title": entry["name"], "require_text": False}
    return {"name": name, **settings}


def zero_shot_probe(
    name: str,
    data: Dataset,
    rows: np.ndarray,
    text: TextSide | TokenSide,
    entry: Mapping[str, Any] | None = None,
    column: str = "impression",
) -> ZeroShotProbe:
    """A zero-shot evaluation set of these rows, prompts encoded.

    Args:
        name: of the set.
        data: the data set.
        rows: which of its rows.
        text: the text side.
        entry: of `evals`; its prompts come first, then the data set's own, then the general defaults.
        column: the reports' text, for held-out diagnostics.
    """
    names = data.card.label_names
    if not names:
        raise ConfigurationError(f"evaluation set '{name}' has no labels: set label_cols")
    positive, negative = prompts(data, entry or {})
    features = text.groups([*positive, *negative])
    labels = data.labels()[rows]
    return ZeroShotProbe(
        name=name,
        source=data.source,
        rows=data.source_rows[rows],
        labels=np.where((labels == 0) | (labels == 1), labels, np.nan),
        label_names=names,
        positive=features[: len(names)],
        negative=features[len(names) :],
        in_macro=[n.lower() != "no finding" for n in names],
        texts=_report_features(data, rows, column, text),
    )


def _report_features(
    data: Dataset, rows: np.ndarray, column: str, text: TextSide | TokenSide
) -> Tensor | Tokens | None:
    """Features of the cases' own reports, or None where a case has none."""
    if column not in data.rows.columns:
        return None
    texts = report_texts(data.rows[rows.tolist()], column)
    return text.features(texts) if all(texts) and len(texts) > 1 else None


def prompts(data: Dataset, entry: Mapping[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    """Positive and negative prompts, a list for each label."""
    own = data.manifest.prompts()
    pairs = [own.get(name) or tuple([p] for p in default_prompts(name)) for name in data.card.label_names]

    def side(key: str, which: int) -> list[list[str]]:
        given = entry.get(key)
        if given is None:
            return [list(pair[which]) for pair in pairs]
        if len(given) != len(pairs):
            raise ConfigurationError(
                f"{key} has {len(given)} entries for {len(pairs)} labels {list(data.card.label_names)}"
            )
        return [[item] if isinstance(item, str) else list(item) for item in given]

    return side("positive_prompts", 0), side("negative_prompts", 1)
