"""Splits and label fractions by patient, drawn by hash: the same whatever the order of the rows.

A patient's place is SHA-256 of seed, draw and patient id, so adding patients moves nobody to another split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from radlearn.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class SplitRule:
    """One named way to split a release: an entry of a manifest's `splits`.

    Attributes:
        about: the rule in words, with its source.
        seed: what it is drawn with; None where a file of the release tells the split.
        unit: `patient`, or `image` for published splits that ignore patients.
    """

    about: str
    seed: int | None = None
    unit: str = "patient"


def split_hash(rows: pl.DataFrame) -> str:
    """SHA-256 of which image lies in which split; the order of rows does not matter."""
    pairs = rows.select(pl.concat_str("image_id", pl.lit("\t"), "split")).to_series().sort()
    return hashlib.sha256("\n".join(pairs).encode()).hexdigest()


def crossing_patients(rows: pl.DataFrame) -> pl.DataFrame:
    """Patients that lie in several splits: columns `patient_id, split` (a list)."""
    splits = rows.group_by("patient_id").agg(pl.col("split").unique().sort())
    return splits.filter(pl.col("split").list.len() > 1).sort("patient_id")


def check_patients(rows: pl.DataFrame) -> None:
    """Check that no patient lies in two splits.

    Raises:
        DataError: says how many do and where; who stays unsaid, as ids may be names.
    """
    crossing = crossing_patients(rows)
    if len(crossing):
        where = sorted({split for splits in crossing["split"] for split in splits})
        raise DataError(
            f"{len(crossing)} of {rows['patient_id'].n_unique()} patients lie in several splits "
            f"({', '.join(where)}): split by patient, for example with radlearn.data.splits.assign"
        )


def assign(rows: pl.DataFrame, fractions: Mapping[str, float], seed: int) -> pl.DataFrame:
    """Draw a patient-level split.

    Args:
        rows: with `patient_id`.
        fractions: split -> share of the patients; they sum to 1.
        seed: another seed is another split.

    Returns:
        The rows with their column `split` set.
    """
    if any(share < 0 for share in fractions.values()) or not math.isclose(
        sum(fractions.values()), 1, abs_tol=1e-9
    ):
        raise ConfigurationError(f"fractions of a split are at least 0 and sum to 1: got {dict(fractions)}")
    shares = [(name, share) for name, share in fractions.items() if share > 0]

    def place(patient: str) -> str:
        position, low = _uniform(seed, "split", patient), 0.0
        for name, share in shares:
            low += share
            if position < low:
                return name
        return shares[-1][0]  # the shares may sum to a little less than 1

    patients = rows["patient_id"].unique()
    chosen = pl.Series([place(patient) for patient in patients], dtype=pl.String)
    return rows.with_columns(
        split=pl.col("patient_id").replace_strict(patients, chosen, return_dtype=pl.String)
    )


def fraction(
    rows: pl.DataFrame, percent: float, seed: int, draw: int = 0, *, label_names: Sequence[str] = ()
) -> pl.DataFrame:
    """Keep a share of the patients: nested few-shot subsets, 1 % lies within 10 % of the same draw.

    Args:
        rows: of one split, with `patient_id` and the label columns.
        percent: share of the patients in (0, 100]; at least one patient is kept.
        seed: of all draws.
        draw: which subset; draws of one seed are independent.
        label_names: strata: each patient counts for the rarest of these labels that is positive in any of its
            rows, and every subset holds about its share of every stratum.

    Returns:
        The rows of the kept patients, in their order.
    """
    if not 0 < percent <= 100:
        raise ConfigurationError(f"percent is above 0 and at most 100: got {percent}")
    order = _stratified_order(_strata(rows, label_names), seed, draw)
    count = max(1, math.floor(len(order) * percent / 100 + 0.5))
    return rows.filter(pl.col("patient_id").is_in(order[:count]))


def _uniform(*key: object) -> float:
    """A number in [0, 1) from a hash of the key."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _strata(rows: pl.DataFrame, label_names: Sequence[str]) -> dict[str, list[str]]:
    """Stratum -> its patients: the rarest positive label, or none."""
    positive = rows.group_by("patient_id").agg((pl.col(name) == 1).any() for name in label_names)
    counts = {name: int(positive[name].sum()) for name in label_names}
    by_rarity = sorted(label_names, key=lambda name: (counts[name], name))
    stratum = pl.coalesce(*(pl.when(pl.col(name)).then(pl.lit(name)) for name in by_rarity), pl.lit(""))
    strata: dict[str, list[str]] = {}
    for patient, name in positive.select("patient_id", stratum.alias("stratum")).iter_rows():
        strata.setdefault(name, []).append(patient)
    return strata


def _stratified_order(strata: Mapping[str, Sequence[str]], seed: int, draw: int) -> list[str]:
    """All patients in one order of which every beginning holds about its share of every stratum.

    The k-th of a stratum's n patients, in hashed order, is placed at (k + u) / n; a stratum has one hashed u.
    """
    placed = []
    for name, patients in strata.items():
        hashed = sorted((_uniform(seed, "fraction", draw, patient), patient) for patient in patients)
        offset = _uniform(seed, "stratum", draw, name)
        placed += [((k + offset) / len(hashed), *key) for k, key in enumerate(hashed)]
    return [patient for *_, patient in sorted(placed)]
