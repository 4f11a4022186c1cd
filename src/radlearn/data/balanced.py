"""Sets of a wanted size, drawn by hash: balanced over labels as CheXpert-5x200, or of whole patients.

An image's or patient's place in the draw is SHA-256 of the seed and its id, so that neither the order of the
rows nor the machine matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from radlearn.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class BalancedSet:
    """As many images of each of several labels.

    Attributes:
        rows: the chosen rows, in their order.
        labels: (N,) for which label each was chosen.
        hash: SHA-256 of which image was chosen for which label.
    """

    rows: pl.DataFrame
    labels: pl.Series
    hash: str


def balanced_set(
    rows: pl.DataFrame,
    label_names: Sequence[str],
    per_label: int,
    seed: int,
    *,
    exclusive: bool = True,
    among: Sequence[str] = (),
) -> BalancedSet:
    """Draw a set with `per_label` images of each label, of as many patients as there are.

    No patient is drawn twice, over all labels, unless a label has too few patients otherwise. Labels with few
    candidates choose first, so that the others do not take their patients.

    Args:
        rows: a manifest table: `image_id`, `patient_id` and label columns in {1, 0, -1, null}, before any
            policy. Views that do not belong in the set are filtered out before.
        label_names: the labels to draw for.
        per_label: images of each.
        seed: another seed is another set.
        exclusive: take images of which no other label is positive or uncertain.
        among: the labels that `exclusive` looks at; empty takes `label_names`.

    Raises:
        ConfigurationError: for no label, or fewer than one image.
        DataError: if a label has too few candidates; names it and says how many there are.
    Source: CheXpert-5x200 of Huang et al. 2021 (GLoRIA), by the five competition labels of CheXpert's 14.
    """
    if per_label < 1 or not label_names:
        raise ConfigurationError(
            "a balanced set has labels and at least one image of each: got "
            f"{per_label} of {list(label_names)}"
        )
    others = {*label_names, *among} if exclusive else set()
    candidates = {name: _candidates(rows, name, others - {name}, seed) for name in label_names}
    chosen: dict[str, str] = {}
    patients: set[str] = set()
    for name in sorted(label_names, key=lambda name: (len(candidates[name]), name)):
        free = [(image, patient) for image, patient in candidates[name] if image not in chosen]
        if len(free) < per_label:
            raise DataError(
                f"label '{name}' has {len(free)} images that could stand in a balanced set"
                f"{' (no other label positive or uncertain)' if exclusive else ''}, {per_label} are wanted: "
                "draw fewer of each label, or leave this one out"
            )
        drawn = _new_patients_first(free, patients)[:per_label]
        chosen |= {image: name for image, _ in drawn}
        patients |= {patient for _, patient in drawn}
    digest = hashlib.sha256("\n".join(f"{image}\t{chosen[image]}" for image in sorted(chosen)).encode())
    kept = rows.filter(pl.col("image_id").is_in(list(chosen)))
    labels = pl.Series("label", [chosen[image] for image in kept["image_id"]], dtype=pl.String)
    return BalancedSet(kept, labels, digest.hexdigest())


def draw_patients(rows: pl.DataFrame, num_rows: int, seed: int) -> list[str]:
    """Patients, in hashed order, whose rows together are `num_rows`; one with too many for what remains is
    passed over.

    A set of fixed size that no patient leaves: LoVT's "fill test, then validation" of whole patients. Where
    no patient fits the rest, it is smaller than wanted by that rest.

    Args:
        rows: with `patient_id`.
        num_rows: wanted rows, of all drawn patients together.
        seed: another seed is another draw.
    """
    counts = dict(rows.group_by("patient_id").len().iter_rows())
    drawn, remaining = [], num_rows
    for patient in sorted(counts, key=lambda patient: _place(seed, patient)):
        if counts[patient] <= remaining:
            drawn.append(patient)
            remaining -= counts[patient]
        if not remaining:
            break
    return drawn


def _candidates(rows: pl.DataFrame, name: str, others: set[str], seed: int) -> list[tuple[str, str]]:
    """(image, patient) in the order of the draw."""
    clear = [~pl.col(other).is_in([1.0, -1.0]).fill_null(False) for other in sorted(others)]
    positive = (pl.col(name) == 1).fill_null(False)
    found = rows.filter(positive, *clear).select("image_id", "patient_id").unique("image_id").rows()
    return sorted(found, key=lambda pair: _place(seed, pair[0]))


def _new_patients_first(pairs: Sequence[tuple[str, str]], taken: set[str]) -> list[tuple[str, str]]:
    """The first image of each patient that is not taken, then all other images, each part in its order."""
    seen = set(taken)
    first: list[tuple[str, str]] = []
    later: list[tuple[str, str]] = []
    for pair in pairs:
        (later if pair[1] in seen else first).append(pair)
        seen.add(pair[1])
    return first + later


def _place(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()
