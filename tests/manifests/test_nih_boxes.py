"""The boxes of NIH ChestX-ray14: LoVT's protocol on the real table of boxes."""

import csv
import gzip
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.data.splits import check_patients
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._open import open_manifest
from radlearn.manifests.nih_boxes import LABELS, NIHBoxes

REAL = Path(importlib.util.find_spec("torchxrayvision").origin).parent / "data"
ENTRIES = "Image Index,Finding Labels,Patient ID,View Position"
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
# Boxes by class, reference of LoVT's published split: train + validate + test.
PUBLISHED = {
    "Atelectasis": 107 + 39 + 34,
    "Cardiomegaly": 74 + 30 + 42,
    "Effusion": 88 + 39 + 26,
    "Infiltration": 79 + 15 + 29,
    "Mass": 57 + 17 + 11,
    "Nodule": 48 + 19 + 12,
    "Pneumonia": 72 + 22 + 26,
    "Pneumothorax": 59 + 15 + 24,
}


def read(root, *boxes, header=BOXES, entries=("00000001_000.png,Infiltration|Edema,1,PA",), **settings):
    root.mkdir(parents=True, exist_ok=True)
    (root / "BBox_List_2017.csv").write_text("\n".join([header, *boxes]) + "\n")
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([ENTRIES, *entries]) + "\n")
    return NIHBoxes(negatives=0, **settings).read(root)


# --- boxes and masks


def test_boxes_of_one_finding_make_one_mask(tmp_path):
    (row,) = read(
        tmp_path,
        "00000001_000.png,Infiltrate,10.4,20,30,40",
        "00000001_000.png,Infiltrate,35,50,30.2,40",
        "00000001_000.png,Mass,1000,1000,24,24",
    ).rows.iter_rows(named=True)
    assert [(box["class"], box["x"], box["h"]) for box in row["boxes"]] == [
        ("Infiltration", pytest.approx(10.4), 40),
        ("Infiltration", 35, 40),
        ("Mass", 1000, 24),
    ]
    assert [mask["class"] for mask in row["mask"]] == ["Infiltration", "Mass"]
    union = np.zeros((1024, 1024), bool)
    union[20:60, 10:40] = union[50:90, 35:65] = True
    np.testing.assert_array_equal(run_lengths.decode(row["mask"][0]["rle"], 1024, 1024), union)
    assert run_lengths.decode(row["mask"][1]["rle"], 1024, 1024)[1000:, 1000:].all()
    assert (row["height"], row["width"]) == (1024, 1024)


def test_labels_are_those_of_the_image_whether_it_has_a_box_or_not(tmp_path):
    entries = ["00000001_000.png,Infiltration|Effusion|Edema,1,AP"]
    rows = read(tmp_path, "00000001_000.png,Infiltrate,1,2,30,40", entries=entries).rows
    assert {name for name in LABELS if rows[name][0]} == {"Infiltration", "Effusion"}
    assert (rows["patient_id"][0], rows["view"][0]) == ("00000001", "AP")


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("00000001_000.png,Infiltrates,1,2,3,4", "row 1 is no box.*did you mean 'Infiltration'"),
        ("00000001_000.png,Edema,1,2,3,4", "row 1 is no box: .*Pneumothorax and four numbers"),
        ("00000001_000.png,Mass,1,2,,4", "row 1 is no box"),
        ("00000001_000.png,Mass,1,2,wide,4", "row 1 is no box.*wide"),
    ],
)
def test_what_is_no_box_is_an_error(tmp_path, box, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, box)


def test_a_box_outside_or_of_an_unknown_image_is_rejected(tmp_path):
    release = read(
        tmp_path,
        "00000001_000.png,Mass,1,2,3,4",
        "00000002_000.png,Mass,1000,2,60,4",
        "00000009_000.png,Mass,1,2,3,4",
        entries=["00000001_000.png,Mass,1,PA", "00000002_000.png,Mass,2,PA"],
    )
    assert release.rows["image_id"].to_list() == ["00000001_000"]
    assert release.rejected.select("image_id", "reason").rows() == [
        ("00000002_000", "box_outside"),
        ("00000009_000", "no_entry"),
    ]


def test_a_header_of_another_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no column 'Bbox \[x'; did you mean 'Bbox\[x'"):
        read(tmp_path, header="Image Index,Finding Label,Bbox[x,y,w,h]")


def test_a_resized_copy_is_refused_because_boxes_would_not_fit(tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/00000001_000.png"), np.zeros((256, 256), np.uint8))
    with pytest.raises(DataError, match="not 1024 x 1024 pixels"):
        read(tmp_path, "00000001_000.png,Mass,1,2,3,4")


def test_equalize_is_passed_on_to_the_pixels(tmp_path):
    box = "00000001_000.png,Mass,1,2,3,4"
    assert read(tmp_path, box).pixels.equalize is False
    assert read(tmp_path, box, equalize=True).pixels.equalize is True


# --- the protocol


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("boxes")
    NIHBoxes.fake(root)
    return root


def test_images_without_finding_come_from_the_official_test_list(fake, tmp_path):
    rows = NIHBoxes(negatives=10).read(fake).rows
    check_patients(rows)
    negative = rows.filter(pl.col("boxes").list.len() == 0)
    assert len(negative) == 10
    assert negative["mask"].list.len().to_list() == [0] * 10
    assert negative.select(LABELS).sum().sum_horizontal()[0] == 0
    listed = (fake / "test_list.txt").read_text().splitlines()
    assert all(f"{image}.png" in listed for image in negative["image_id"])
    assert dict(negative["split"].value_counts().iter_rows()) == {"train": 6, "validate": 2, "test": 2}
    with pytest.raises(DataError, match=r"'No Finding' has 12 images.*13 are wanted"):
        NIHBoxes(negatives=13).read(fake)


def test_the_published_lists_choose_among_all_images_without_finding(fake, tmp_path):
    every = NIHBoxes(negatives=None).read(fake)
    check_patients(every.rows)
    assert (len(every.rows), sum(every.rows["boxes"].list.len() == 0)) == (32, 12)
    lists = {"train": every.rows["image_id"][:20], "test": every.rows["image_id"][20:]}
    for split, ids in lists.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(["ID,boxes,classes", *(f"{i},," for i in ids)]))
    files = {split: str(tmp_path / f"{split}.csv") for split in lists}
    opened = open_manifest({"name": "nih_boxes", "negatives": None, "split_files": files}).read(fake)
    assert dict(opened.rows.select("image_id", "split").iter_rows()) == {
        image: split for split, ids in lists.items() for image in ids
    }


def test_without_the_list_boxes_alone_can_be_read(fake, tmp_path):
    for name in ("BBox_List_2017.csv", "Data_Entry_2017_v2020.csv"):
        (tmp_path / name).symlink_to(fake / name)
    with pytest.raises(DataError, match=r"no test_list\.txt.*data\.negatives=0"):
        NIHBoxes().read(tmp_path)
    assert len(NIHBoxes(negatives=0).read(tmp_path).rows) == 20
    with pytest.raises(ConfigurationError, match="negatives"):
        NIHBoxes(negatives=-1)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real tables, and a stand-in for the official test list: the real one is not installed."""
    root = tmp_path_factory.mktemp("real")
    for name in ("BBox_List_2017.csv.gz", "Data_Entry_2017_v2020.csv.gz"):
        (root / name).symlink_to(REAL / name)
    with gzip.open(root / "Data_Entry_2017_v2020.csv.gz", "rt", newline="") as file:
        names = [row["Image Index"] for row in csv.DictReader(file) if int(row["Patient ID"]) % 4 == 0]
    (root / "test_list.txt").write_text("\n".join(names))
    return root


@pytest.fixture(scope="module")
def release(real):
    return NIHBoxes().read(real)


def test_all_boxes_of_the_real_table(release):
    boxes = release.rows.select(pl.col("boxes").explode().struct.unnest()).drop_nulls()
    assert len(boxes) == 984
    assert dict(boxes["class"].value_counts().iter_rows()) == PUBLISHED
    boxed = release.rows.filter(pl.col("boxes").list.len() > 0)
    assert (len(boxed), boxed["patient_id"].n_unique()) == (880, 726)
    assert len(release.rejected) == 0
    # Each box's finding stands in the table of entries too.
    for name in LABELS:
        has_box = boxed["boxes"].list.eval(pl.element().struct.field("class") == name).list.any()
        assert (boxed.filter(has_box)[name] == 1).all()


def test_the_split_has_the_published_sizes(release):
    sizes = {split: release.card.counts[split] for split in ("train", "validate", "test")}
    assert sizes == {"train": 588, "validate": 196, "test": 196}  # LoVT's, to the image
    check_patients(release.rows)
    negative = release.rows.filter(pl.col("boxes").list.len() == 0)
    assert negative["patient_id"].n_unique() == 100
    counts = dict(negative["split"].value_counts().iter_rows())
    assert counts == {"train": 60, "validate": 20, "test": 20}


def test_the_split_of_the_boxed_images_is_pinned_and_does_not_hang_on_the_negatives(real, release):
    alone = NIHBoxes(negatives=0).read(real)
    joined = release.rows.filter(pl.col("boxes").list.len() > 0)
    assert alone.rows.select("image_id", "split").equals(joined.select("image_id", "split"))
    assert alone.card.split_hash == "5e7f67eebdd2a774c36d346c7b5efd32e6dcc4c5afbcff6268e53d11b39957cd"


def test_masks_are_the_boxes_filled(release):
    for row in release.rows.sample(40, seed=0).iter_rows(named=True):
        for mask in row["mask"]:
            area = sum(box["w"] * box["h"] for box in row["boxes"] if box["class"] == mask["class"])
            edge = sum(2 * (box["w"] + box["h"]) for box in row["boxes"] if box["class"] == mask["class"])
            filled = run_lengths.decode(mask["rle"], 1024, 1024).sum()
            assert abs(filled - area) <= edge / 2 + 4  # corners are rounded by half a pixel at most
