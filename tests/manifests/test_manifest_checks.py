"""What `finish` accepts, sets aside and refuses."""

import dataclasses
import re

import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.manifests.checks import OPTIONAL_TYPES, REQUIRED_TYPES, finish, reject
from radlearn.records import Card

CARD = Card("toy", "a test", "none", "open", "1", label_names=("edema",), split_rule="by hand")
SCHEMA = {**REQUIRED_TYPES, **OPTIONAL_TYPES, "edema": pl.Float32()}


def row(number, **changes):
    """A good row; patient and split go with the number."""
    values = {
        "image_id": f"i{number}", "patient_id": f"p{number}", "study_id": f"s{number}",
        "split": ("train", "validate", "test")[number % 3], "view": "PA", "path": f"a/{number}.png",
        "height": 20, "width": 30, "edema": 1.0,
    }  # fmt: skip
    return {**dict.fromkeys(SCHEMA), **values, **changes}


def table(*rows):
    return pl.DataFrame(rows, schema=SCHEMA)


def column(*values):
    return pl.Series(values, dtype=pl.Float32)


def box(x, y, w, h):
    return {"x": float(x), "y": float(y), "w": float(w), "h": float(h), "class": "edema"}


def test_good_rows_are_sorted_and_counted(tmp_path):
    release = finish(
        table(row(2), row(0), row(1)), [], CARD, tmp_path, left_out={"other_view": 4, "no_text": 0}
    )
    assert release.rows["image_id"].to_list() == ["i0", "i1", "i2"]
    assert release.card.counts == {"train": 1, "validate": 1, "test": 1, "left_out.other_view": 4}
    assert release.rejected.is_empty()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_id": "i0", "path": "b/1.png"}, "duplicate_id"),
        ({"path": "../1.png"}, "path_escape"),
        ({"path": "a/../../1.png"}, "path_escape"),
        ({"path": "/etc/passwd"}, "path_escape"),
        ({"path": "a/\0.png"}, "path_escape"),
        ({"path": "link/1.png"}, "path_escape"),
        ({"path": "a/link.png"}, "path_escape"),
        ({"path": "link/sub/1.png"}, "path_escape"),
        ({"boxes": [box(0, 0, 30, 20), box(25, 0, 10, 5)]}, "box_outside"),
        ({"boxes": [box(-5, 0, 10, 5)]}, "box_outside"),
        ({"boxes": [box(0, 0, 0, 5)]}, "box_outside"),
        ({"boxes": [box(0, float("nan"), 3, 5)]}, "box_outside"),
        ({"boxes": [box(0, 18, 3, 5)], "height": 20}, "box_outside"),
        ({"sentences": [{"text": "Edema.", "boxes": [0]}]}, "sentence_without_box"),
        (
            {"sentences": [{"text": "Edema.", "boxes": [1]}], "boxes": [box(0, 0, 3, 5)]},
            "sentence_without_box",
        ),
    ],
)
def test_a_faulty_row_is_rejected_by_name_and_the_others_stay(tmp_path, changes, reason):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "sub").mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "a" / "link.png").symlink_to("/etc/passwd")
    release = finish(table(row(0), row(3, **changes)), [], CARD, root)
    assert release.rows["path"].to_list() == ["a/0.png"]
    assert release.rejected["reason"].to_list() == [reason]
    assert release.card.counts[f"rejected.{reason}"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": []},
        {"boxes": [box(0, 0, 30, 20), box(-0.5, 0, 3, 20.9)]},  # releases round sides on their own
        {"boxes": [box(500, 500, 9, 9)], "height": None, "width": None},
        {"sentences": [{"text": "Edema.", "boxes": [0, 1]}], "boxes": [box(0, 0, 3, 5), box(3, 0, 3, 5)]},
        {"sentences": [{"text": "Clear.", "boxes": []}, {"text": "x", "boxes": None}]},
        {"view": None, "height": None, "width": None, "edema": None},
        {"edema": -1.0, "view": "LATERAL"},
        {"path": "a/b..c/..d.png"},
        {"path": "inside/1.png"},
    ],
)
def test_what_is_odd_but_sound_is_kept(tmp_path, changes):
    (tmp_path / "a").mkdir()
    (tmp_path / "inside").symlink_to(tmp_path / "a")
    release = finish(table(row(0, **changes)), [], CARD, tmp_path)
    assert len(release.rows) == 1


def test_a_root_that_is_a_link_is_fine(tmp_path):
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(finish(table(row(0)), [], CARD, tmp_path / "link").rows) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("view"), "lacks column 'view'"),
        (lambda t: t.drop("edema"), "lacks column 'edema'"),
        (lambda t: t.with_columns(pl.col("edema").cast(pl.Float64)), "'edema' is Float64, wanted Float32"),
        (lambda t: t.with_columns(boxes=pl.lit("1 2 3 4")), "'boxes' is String"),
        (lambda t: t.with_columns(patient_id=pl.lit(None, pl.String)), "2 rows have no patient_id"),
        (lambda t: t.with_columns(split=pl.lit("dev")), "'split' holds 'dev' in row 1"),
        (lambda t: t.with_columns(view=pl.lit("Frontal")), "'view' holds 'Frontal'"),
        (lambda t: t.with_columns(edema=column(1, 0.5)), "'edema' holds 0.5 in row 2"),
        (lambda t: t.with_columns(edema=column(1, float("nan"))), "'edema' holds nan in row 2"),
        (lambda t: t.with_columns(patient_id=pl.lit("p")), "1 of 1 patients lie in several splits"),
    ],
)  # fmt: skip
def test_a_fault_of_the_release_is_an_error(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        finish(change(table(row(0), row(1))), [], CARD, tmp_path)


def test_one_image_in_two_splits_is_a_leak_and_no_duplicate(tmp_path):
    rows = table(row(0), row(0, split="test"))
    with pytest.raises(DataError, match="splits"):
        finish(rows, [], CARD, tmp_path)


def test_a_label_cannot_take_a_column_of_the_contract(tmp_path):
    with pytest.raises(DataError, match="cannot be named view"):
        finish(table(row(0)), [], dataclasses.replace(CARD, label_names=("view",)), tmp_path)


def test_soft_labels_pass_where_they_are_announced(tmp_path):
    release = finish(table(row(0, edema=0.5)), [], CARD, tmp_path, label_values=(1, 0, 0.5))
    assert release.rows["edema"].to_list() == [0.5]


def test_nothing_left_is_an_error_with_reasons(tmp_path):
    gone = reject(table(row(4)), "missing")
    with pytest.raises(DataError, match=r"no usable row.*rejected\.missing 1, rejected\.path_escape 1"):
        finish(table(row(0, path="/x")), [gone], CARD, tmp_path)


def test_missing_and_empty_files_are_found_on_request(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").write_bytes(b"x")
    (tmp_path / "a/1.png").write_bytes(b"")
    rows = table(row(0), row(1), row(2))
    assert len(finish(rows, [], CARD, tmp_path).rows) == 3
    release = finish(rows, [], CARD, tmp_path, check_files=True)
    assert release.rows["image_id"].to_list() == ["i0"]
    assert release.rejected.select("image_id", "reason").rows() == [("i1", "empty_file"), ("i2", "missing")]


def test_the_fingerprint_is_of_the_content_alone(tmp_path):
    rows = table(row(0), row(1), row(2))
    one = finish(rows, [], CARD, tmp_path).card.fingerprint
    other_order = rows.sort("image_id", descending=True).select(rows.columns[::-1])
    assert finish(other_order, [], CARD, tmp_path).card.fingerprint == one
    elsewhere = rows.with_columns(path="files/" + pl.col("path"))
    assert finish(elsewhere, [], CARD, tmp_path / "x").card.fingerprint == one
    assert re.fullmatch("[0-9a-f]{64}", one)
    for changed in (
        rows.with_columns(edema=column(1, 1, 0)),
        rows.with_columns(impression=pl.lit("x")),
        rows.head(2),
    ):
        assert finish(changed, [], CARD, tmp_path).card.fingerprint != one
    assert finish(rows, [], dataclasses.replace(CARD, release="2"), tmp_path).card.fingerprint != one
