"""A run folder, read for the report: whatever is there, and who may see it.

A folder holds `config.yaml`, `card.json`, `metrics.parquet`, `results.parquet`,
`predictions/<task>-<data>[-<split>][-<variant>].parquet`, `embeddings/<data>.parquet` and
`cases/<data>.parquet`. A run that was only trained has no results, one that was only evaluated no metrics;
each is read where it exists.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from radlearn import results as results_table
from radlearn.errors import DataError, nearest
from radlearn.records import Card, Result, card_from

CONFIG, CARD, METRICS, RESULTS = "config.yaml", "card.json", "metrics.parquet", "results.parquet"
OPEN = ("open", "synthetic")
_TYPES = {str: pl.String, float: pl.Float64, int: pl.Int64, bool: pl.Boolean}


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind.

    Attributes:
        path: the folder; name: its name, or `run_name` of its configuration.
        config: the resolved configuration, empty where there is none.
        card: card of the training data, or None.
        metrics: one row a logged step, or None.
        results: rows of `records.Result`, perhaps none; null where a number is not known or not finite.
        predictions, embeddings, cases: file stem -> file; read one at a time, as they are large.
        versions: file stem of predictions -> fingerprint of the data they were made on, empty if not known.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    card: Card | None
    metrics: pl.DataFrame | None
    results: pl.DataFrame
    predictions: Mapping[str, Path]
    embeddings: Mapping[str, Path]
    cases: Mapping[str, Path]
    versions: Mapping[str, str]

    def access(self, data: str) -> str:
        """`open`, `synthetic` or `credentialed` for a data set, by its name or by its part of a file name.

        An evaluation set may have a name of its own in the files, so the version of the data that was scored
        under the name decides before the name does. What is not known to be free is credentialed.
        """
        versions = {
            version for stem, version in self.versions.items() if _parts(stem)[1] == file_part(data)
        } - {""}
        named = [file_part(str(name)) == file_part(data) for name in self.results["data"]]
        rows = self.results.filter(
            pl.Series(named, dtype=pl.Boolean) | self.results["data_hash"].is_in(versions)
        )
        versions |= set(rows["data_hash"]) - {""}
        if self.card is not None:
            of_card = (
                versions == {self.card.fingerprint}
                if versions
                else file_part(data) == file_part(self.card.name)
            )
            if of_card:
                return self.card.access if self.card.access in OPEN else "credentialed"
        return "synthetic" if rows.height and bool(rows["synthetic"].all()) else "credentialed"

    def predictions_of(self, task: str, data: str, split: str, variant: str = "") -> Path | None:
        """The file of predictions behind some results, by the name of the data or by its version."""
        rest = [file_part(part) for part in ("" if split == "test" else split, variant) if part]
        rows = self.results.filter(
            (pl.col("task") == task) & (pl.col("data") == data) & (pl.col("split") == split)
        )
        scored = set(rows["data_hash"]) - {""}
        fitting = [stem for stem in self.predictions if _parts(stem)[::2] == (file_part(task), rest)]
        named = [stem for stem in fitting if _parts(stem)[1] == file_part(data)]
        found = named or [stem for stem in fitting if self.versions.get(stem) in scored]
        return self.predictions[found[0]] if found else None

    @property
    def synthetic(self) -> bool:
        """Whether anything in the run is made from generated data."""
        trained = self.card is not None and self.card.synthetic
        return trained or bool(self.results["synthetic"].any())


def read(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        DataError: if there is no such folder, it holds nothing of a run, or a file of it cannot be read.
    """
    if not path.is_dir():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"no run folder at {path}{nearest(path.name, siblings)}; give a run's name below paths.runs or "
            "its path"
        )
    known = (CONFIG, CARD, METRICS, RESULTS, "predictions", "embeddings", "cases")
    if not any((path / name).exists() for name in known):
        raise DataError(f"{path} is no run folder: it holds none of {', '.join(known)}")
    config = _config(path / CONFIG)
    results = _results(path / RESULTS)
    name = config.get("run_name") or (results["run"][0] if results.height else None) or path.resolve().name
    predictions = _files(path / "predictions")
    return RunFolder(
        path=path,
        name=str(name),
        config=config,
        card=_card(path / CARD),
        metrics=table(path / METRICS) if (path / METRICS).is_file() else None,
        results=results,
        predictions=predictions,
        embeddings=_files(path / "embeddings"),
        cases=_files(path / "cases"),
        versions={stem: _version(file) for stem, file in predictions.items()},
    )


def table(path: Path) -> pl.DataFrame:
    """A parquet file as a table.

    Raises:
        DataError: if it is not one.
    """
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot read {path} as parquet: {error}") from error


def file_part(name: str) -> str:
    """A name as `results.write_predictions` writes it into a file name."""
    return "".join(letter if letter.isalnum() or letter in "._=" else "_" for letter in name)


def _parts(stem: str) -> tuple[str, str, list[str]]:
    """Task, data set and the rest of a file of predictions; no part holds a hyphen."""
    task, *others = stem.split("-")
    return task, others[0] if others else "", others[1:]


def _version(path: Path) -> str:
    """Fingerprint of the data behind predictions; empty for a file of another kind, by a plug-in."""
    try:
        return results_table.read_predictions(path).data_hash
    except DataError:
        return ""


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.parquet"))} if folder.is_dir() else {}


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        # Not resolved: the saved file is, and an interpolation could read the environment into the page.
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise DataError(f"cannot read {path} as YAML: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} must hold keys and values, it holds a {type(config).__name__}")
    return {str(key): value for key, value in config.items()}


def _card(path: Path) -> Card | None:
    if not path.is_file():
        return None
    try:
        return card_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read {path} as a data card: {error}") from error


def _results(path: Path) -> pl.DataFrame:
    """The results as a table with every column of `records.Result`."""
    rows = results_table.read(path) if path.is_file() else []
    schema = {}
    for name, hint in typing.get_type_hints(Result).items():
        # The type X behind `X` or `X | None`.
        kind = next((part for part in typing.get_args(hint) if part is not type(None)), hint)
        schema[name] = _TYPES[kind]
    found = pl.DataFrame([dataclasses.asdict(row) for row in rows], schema=schema)
    numbers = pl.col(pl.Float64)
    return found.with_columns(pl.when(numbers.is_finite()).then(numbers))
