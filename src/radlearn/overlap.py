"""Patients that training and evaluation share: refused where ids tell it, reported where only origins do.

RSNA's and SIIM's images come from NIH ChestX-ray14, for instance, under other names. Cards declare such
origins (`overlaps`), and which data sets number their patients alike (`patient_namespace`).
"""

from __future__ import annotations

import logging

import polars as pl

from radlearn.errors import DataError
from radlearn.records import Card

logger = logging.getLogger("radlearn")


def check(name: str, trained: tuple[Card, pl.Series], scored: tuple[Card, pl.Series]) -> None:
    """Compare the patients of a training split with those of an evaluation set.

    Args:
        name: of the evaluation set.
        trained, scored: card and patient ids of either.

    Raises:
        DataError: if both number patients alike and share some.
    """
    (own, train_ids), (other, test_ids) = trained, scored
    shared = {*train_ids} & {*test_ids}
    if shared and _compares(own, other):
        raise DataError(
            f"{len(shared)} patients of evaluation set '{name}' ({other.name}) stand in the training split "
            f"of {own.name}: scores on them would be too good. Give both one split by patient, for example "
            "with data.split_files, or score another split"
        )
    if shared:
        logger.warning(
            "%d patient ids of evaluation set '%s' stand in the training split as well: if they are the same "
            "patients, its scores are too good",
            len(shared),
            name,
        )
    check_cards(own, other)


def check_cards(trained: Card, scored: Card) -> None:
    """Report what cards alone tell: shared origins, and two splits of the same images."""
    if trained.name in scored.overlaps or scored.name in trained.overlaps:
        logger.warning(
            "%s and %s share patients by their origin: scores on patients that were trained on are too good",
            trained.name,
            scored.name,
        )
    same = trained.name == scored.name and trained.release == scored.release
    if same and trained.split_hash and scored.split_hash and trained.split_hash != scored.split_hash:
        logger.warning(
            "the run was trained on split '%s' of %s and is scored on split '%s': test images of the one may "
            "have been training images of the other",
            trained.split or "as given",
            trained.name,
            scored.split or "as given",
        )


def _compares(own: Card, other: Card) -> bool:
    """Whether equal ids mean the same patient."""
    if own.patient_namespace and own.patient_namespace == other.patient_namespace:
        return True
    # Tables and folders of one's own have no release: their ids may repeat by chance.
    return own.name == other.name and own.release == other.release != ""
