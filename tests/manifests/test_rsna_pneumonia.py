"""RSNA Pneumonia: its oddities, its splits, and the real tables of the installed torchxrayvision."""

import functools
import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.data import masks
from radlearn.data.images import read_image
from radlearn.data.splits import assign, check_patients
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.rsna_pneumonia import RSNAPneumonia

REAL = Path(importlib.util.find_spec("torchxrayvision").origin).parent / "data"
HEADER = "patientId,x,y,width,height,Target"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


def write(root, *lines, header=HEADER):
    (root / "stage_2_train_labels.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("rsna")
    return root, RSNAPneumonia.fake(root).read(root)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real tables under the names of the release; no image is there."""
    root = tmp_path_factory.mktemp("real")
    (root / "stage_2_train_labels.csv.zip").symlink_to(REAL / "kaggle_stage_2_train_labels.csv.zip")
    headers = "kaggle_stage_2_train_images_dicom_headers.csv.gz"
    (root / headers).symlink_to(REAL / headers)
    return root


@pytest.fixture(scope="module")
def read_real(real):
    """The real tables read with these settings, once."""
    return functools.cache(lambda **settings: RSNAPneumonia(**settings).read(real))


def ids(release, split):
    return {*release.rows.filter(pl.col("split") == split)["image_id"]}


# --- oddities


def test_several_rows_of_an_image_are_its_boxes(tmp_path):
    write(tmp_path, "a,264.0,152.0,213.0,379.0,1", "b,,,,,0", "a,562.0,152.0,256.0,453.0,1")
    rows = RSNAPneumonia().read(tmp_path).rows
    assert rows["image_id"].to_list() == ["a", "b"]
    assert rows["pneumonia"].to_list() == [1, 0]
    sides = [[tuple(box[side] for side in "xywh") for box in boxes] for boxes in rows["boxes"].to_list()]
    assert sides == [[(264, 152, 213, 379), (562, 152, 256, 453)], []]
    assert rows["path"].to_list() == ["stage_2_train_images/a.dcm", "stage_2_train_images/b.dcm"]
    assert rows.select("height", "width").unique().rows() == [(1024, 1024)]


def test_the_mask_is_the_union_of_the_boxes_with_rounded_corners(tmp_path):
    write(tmp_path, "a,10.4,20.6,30.0,40.0,1", "a,20,30,1004,100,1", "b,,,,,0")
    masks_ = RSNAPneumonia().read(tmp_path).rows["mask"].to_list()
    wanted = np.zeros((1024, 1024), bool)
    wanted[21:61, 10:40] = wanted[30:130, 20:1024] = True
    assert [cell["class"] for cell in masks_[0]] == ["opacity"]
    np.testing.assert_array_equal(run_lengths.decode(masks_[0][0]["rle"], 1024, 1024), wanted)
    assert masks_[1] == []


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["bad,1,2,3,,1"], "bad_box"),
        (["bad,1,2,3,x,1"], "bad_box"),
        (["bad,1,2,3,nan,1"], "bad_box"),
        (["bad,,,,,2"], "bad_target"),
        (["bad,,,,,"], "bad_target"),
        (["bad,,,,,1"], "box_against_target"),
        (["bad,1,2,3,4,0"], "box_against_target"),
        (["bad,1,2,3,4,1", "bad,,,,,0"], "box_against_target"),
        (["bad,1000,2,300,4,1"], "box_outside"),
        (["bad,1,2,0,4,1"], "box_outside"),
        ([",1,2,3,4,1"], "no_image_id"),
        (["../../etc/passwd,,,,,0"], "path_escape"),
    ],
)
def test_faulty_images_are_rejected_by_name(tmp_path, lines, reason):
    release = RSNAPneumonia().read(write(tmp_path, "good,,,,,0", *lines))
    assert release.rows["image_id"].to_list() == ["good"]
    assert release.rejected["reason"].to_list() == [reason]


def test_another_header_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no column 'patientId'"):
        RSNAPneumonia().read(write(tmp_path, "a,,,,,0", header="id,x,y,width,height,Target"))


def test_the_fake_release(fake):
    root, release = fake
    assert release.rejected.select("reason").rows() == [("missing",)]
    assert {*release.card.label_names} == {"pneumonia", "normal"}
    assert read_image(root / release.rows["path"][0]).shape == (1024, 1024)
    assert release.card.counts["rejected.missing"] == 1
    # Three rows in the class table, one image.
    assert release.rows["image_id"].is_unique().all()
    assert max(len(boxes) for boxes in release.rows["boxes"].to_list()) == 3


def test_the_mapping_tells_the_patients(fake):
    release = fake[1]
    assert release.card.patient_namespace == "nih"
    assert release.rows["patient_id"].str.contains(r"^\d{8}$").all()
    assert release.rows["patient_id"].n_unique() == 15 < len(release.rows)
    check_patients(release.rows)


def test_without_the_mapping_each_image_is_a_patient_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        release = RSNAPneumonia().read(write(tmp_path, "a,,,,,0"))
    assert release.card.patient_namespace == ""
    assert release.rows["patient_id"].to_list() == ["a"]
    assert "each image counts as a patient" in caplog.text


def test_published_splits_of_known_patients_leak_and_that_is_counted(fake, caplog):
    release = RSNAPneumonia(split="lovt", check_files=True).read(fake[0])
    assert release.card.split_unit == "image"
    assert release.card.counts["leak.patients_in_several_splits"] > 0


def test_test_patients_are_test_patients_of_chestxray14s_split_too(fake):
    rows = fake[1].rows
    there = assign(rows, {"train": 0.7, "validate": 0.1, "test": 0.2}, 0)
    assert {*rows.filter(pl.col("split") == "test")["patient_id"]} == {
        *there.filter(pl.col("split") == "test")["patient_id"]
    }


def test_a_mapping_that_comes_later_makes_a_prepared_set_anew(tmp_path):
    release = RSNAPneumonia().read(write(tmp_path, "a,,,,,0"))
    assert str((tmp_path / MAPPING).absolute()) in release.sources


@pytest.mark.parametrize("text", ["[", "{}x", '[{"img_id": "00000001_000.png"}]', "[1]"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path, text):
    write(tmp_path, "a,,,,,0")
    (tmp_path / MAPPING).write_text(text)
    with pytest.raises(DataError, match="mapping"):
        RSNAPneumonia().read(tmp_path)


def test_the_class_table_adds_a_label(tmp_path):
    write(tmp_path, "a,1,2,3,4,1", "b,,,,,0", "c,,,,,0", "d,,,,,0")
    classes = [
        "patientId,class",
        "a,Lung Opacity",
        "a,Lung Opacity",
        "b,Normal",
        "c,No Lung Opacity / Not Normal",
    ]
    (tmp_path / "stage_2_detailed_class_info.csv").write_text("\n".join(classes) + "\n")
    assert RSNAPneumonia().read(tmp_path).rows["normal"].to_list() == [0, 1, 0, None]


# --- the real tables


def test_totals_of_the_real_table(read_real, caplog):
    release = read_real()
    rows = release.rows
    assert len(rows) == 26_684
    assert (rows["pneumonia"] == 1).sum() == 6_012
    assert rows["boxes"].list.len().sum() == 9_555
    assert (rows["mask"].list.len() > 0).sum() == 6_012
    assert release.rejected.is_empty()
    assert dict(rows["view"].value_counts().iter_rows()) == {"PA": 14_511, "AP": 12_173}
    check_patients(rows)


def test_masks_of_the_real_table_are_the_union_of_its_boxes(read_real):
    rows = read_real().rows.filter(pl.col("boxes").list.len() > 1).head(40)
    for boxes, mask in rows.select("boxes", "mask").iter_rows():
        wanted = masks.from_boxes([[box[side] for side in "xywh"] for box in boxes], 1024, 1024)
        np.testing.assert_array_equal(run_lengths.decode(mask[0]["rle"], 1024, 1024), wanted)


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("lovt", (16_010, 5_337, 5_337)),
        ("mgca_classification", (18_678, 4_003, 4_003)),
        ("mgca_detection", (16_010, 5_337, 5_337)),
    ],
)
def test_published_split_sizes_of_the_real_table(read_real, split, sizes):
    release = read_real(split=split)
    assert tuple(release.card.counts[name] for name in ("train", "validate", "test")) == sizes
    assert release.card.split == split


def test_split_hashes_stay(read_real):
    hashes = {split: read_real(split=split).card.split_hash[:12] for split in RSNAPneumonia.splits}
    assert hashes == {
        "patients": "f2d5300dbbe1",
        "lovt": "ac0bbb72899d",
        "mgca_classification": "caa89ecf4426",
        "mgca_detection": "ffcd566e43e7",
    }


def test_mgcas_two_splits_share_images_across_training_and_test(read_real):
    classification, detection = (read_real(split=f"mgca_{task}") for task in ("classification", "detection"))
    assert len(ids(classification, "train") & ids(detection, "test")) == 1_328
    # Both draws are beginnings of one permutation, so the other way round nothing leaks.
    assert not ids(detection, "train") & ids(classification, "test")


# --- LoVT's few-shot subsets


def few_shot(read_real, fraction, rule, **settings):
    settings |= {"train_subset": fraction, "subset_rule": rule}
    return read_real(split="lovt", validate_subset=0.1, **settings)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 160), (0.1, 1_601)])
@pytest.mark.parametrize("rule", ["first", "seeded"])
def test_subset_sizes(read_real, fraction, count, rule):
    card = few_shot(read_real, fraction, rule).card
    assert (card.counts["train"], card.counts["validate"], card.counts["test"]) == (count, 534, 5_337)
    assert card.counts["left_out.outside_subset"] == 26_684 - count - 534 - 5_337
    assert f"{rule} {fraction:g} of train" in card.split_rule


@pytest.mark.parametrize("rule", ["first", "seeded"])
def test_one_percent_lies_within_ten_and_both_within_the_split(read_real, rule):
    small, large = (ids(few_shot(read_real, fraction, rule), "train") for fraction in (0.01, 0.1))
    assert small < large < ids(read_real(split="lovt"), "train")


def test_seeded_subsets_are_balanced_and_differ_by_seed(read_real):
    one, other = few_shot(read_real, 0.1, "seeded"), few_shot(read_real, 0.1, "seeded", subset_seed=1)
    assert ids(one, "train") != ids(other, "train")
    train = one.rows.filter(pl.col("split") == "train")
    assert train["pneumonia"].mean() == pytest.approx(6_012 / 26_684, abs=0.005)


def test_settings_are_checked():
    with pytest.raises(ConfigurationError, match=r"data\.split is one of patients, lovt"):
        RSNAPneumonia(split="lvot")
    with pytest.raises(ConfigurationError, match=r"data\.train_subset"):
        RSNAPneumonia(train_subset=0)


def test_the_mapping_may_hold_a_zip_beside_it(tmp_path):
    """Only what the release needs is read: an unreadable other file does not matter."""
    write(tmp_path, "a,,,,,0")
    (tmp_path / f"{MAPPING}.zip").write_bytes(b"no archive")
    assert len(RSNAPneumonia().read(tmp_path).rows) == 1


def test_images_missing_from_the_mapping_stay_their_own_patients(tmp_path):
    write(tmp_path, "a,,,,,0", "b,,,,,0")
    entries = [{"subset_img_id": "a", "img_id": "00000013_005.png"}]
    (tmp_path / MAPPING).write_text(json.dumps(entries))
    assert RSNAPneumonia().read(tmp_path).rows["patient_id"].to_list() == ["00000013", "b"]
