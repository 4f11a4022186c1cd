"""Which patients training and evaluation share, and what is done about it."""

import dataclasses
import logging

import polars as pl
import pytest

from radlearn import overlap
from radlearn.errors import DataError
from radlearn.records import Card

NIH = Card("chestxray14", "a", "b", "open", "1", patient_namespace="nih", overlaps=("rsna_pneumonia",))
BOXES = Card("nih_boxes", "a", "b", "open", "1", patient_namespace="nih")
RSNA = Card("rsna_pneumonia", "a", "b", "open", "1")
TABLE = Card("table", "a", "b", "open", "")


def ids(*names):
    return pl.Series(names)


def test_shared_patients_of_one_numbering_are_refused():
    with pytest.raises(DataError, match=r"1 patients of evaluation set 'boxes' \(nih_boxes\).*chestxray14"):
        overlap.check("boxes", (NIH, ids("1", "2")), (BOXES, ids("2", "3")))
    overlap.check("boxes", (NIH, ids("1", "2")), (BOXES, ids("3")))


def test_equal_ids_of_unrelated_tables_are_reported_only(caplog):
    with caplog.at_level(logging.WARNING):
        overlap.check("mine", (TABLE, ids("1", "2")), (TABLE, ids("2")))
    assert "1 patient ids of evaluation set 'mine'" in caplog.text
    assert "'2'" not in caplog.text


@pytest.mark.parametrize("pair", [(NIH, RSNA), (RSNA, NIH)])
def test_a_declared_origin_is_reported_either_way(pair, caplog):
    with caplog.at_level(logging.WARNING):
        overlap.check("rsna", (pair[0], ids("a")), (pair[1], ids("b")))
    assert "share patients by their origin" in caplog.text


def test_another_split_of_the_same_images_is_reported(caplog):
    one, two = (dataclasses.replace(NIH, split=n, split_hash=n) for n in ("official", "lovt"))
    with caplog.at_level(logging.WARNING):
        overlap.check_cards(one, one)
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        overlap.check_cards(one, two)
    assert "trained on split 'official' of chestxray14 and is scored on split 'lovt'" in caplog.text
