"""NIH ChestX-ray14: its tables, lists and folders, and its real table of entries."""

import csv
import gzip
import importlib.util
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from radlearn.data.images import read_image
from radlearn.data.splits import check_patients
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.chestxray14 import GOOGLE_LABELS, ChestXray14

REAL = Path(importlib.util.find_spec("torchxrayvision").origin).parent / "data"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = ChestXray14.card.label_names


def write(root, *rows, name="Data_Entry_2017_v2020.csv", header=HEADER, end=""):
    """A table of (image, findings, patient, view)."""
    lines = [
        f"{image},{findings},0,{patient},414,M,{view},2682,2749,0.143,0.143{end}"
        for image, findings, patient, view in rows
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([header, *lines]) + "\n")
    return root


def read(root, *rows, **settings):
    return ChestXray14(split="patients", **settings).read(write(root, *rows))


def image(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("nih")
    ChestXray14.fake(root)
    return root


# --- the table


def test_findings_become_labels(tmp_path):
    rows = read(
        tmp_path,
        ("00000001_000.png", "Hernia|Pleural_Thickening", 1, "PA"),
        ("00000001_001.png", "No Finding", 1, "AP"),
        no_finding=True,
    ).rows
    assert rows.select("image_id", "patient_id", "study_id", "view").rows() == [
        ("00000001_000", "00000001", "00000001_000", "PA"),
        ("00000001_001", "00000001", "00000001_001", "AP"),
    ]
    positive = [{name for name in (*LABELS, "No Finding") if row[name]} for row in rows.iter_rows(named=True)]
    assert positive == [{"Hernia", "Pleural_Thickening"}, {"No Finding"}]
    assert rows.select(LABELS).null_count().sum_horizontal()[0] == 0


def test_an_unknown_finding_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"'00000001_000' has the finding 'Efusion'; did you mean 'Effusion'"):
        read(tmp_path, ("00000001_000.png", "Mass|Efusion", 1, "PA"))


def test_incomplete_rows_are_rejected(tmp_path):
    release = read(
        tmp_path,
        ("00000001_000.png", "Mass", 1, "PA"),
        ("00000002_000.png", "", 2, "PA"),
        ("00000003_000.png", "Mass", "", "PA"),
    )
    assert release.rows["image_id"].to_list() == ["00000001_000"]
    assert release.rejected["reason"].to_list() == ["incomplete_row"] * 2


def test_the_older_table_and_its_last_empty_cell(tmp_path):
    row = ("00000001_000.png", "Mass", 1, "PA")
    write(tmp_path, row, name="Data_Entry_2017.csv", header=HEADER + ",", end=",")
    assert ChestXray14(split="patients").read(tmp_path).rows["Mass"].to_list() == [1.0]


def test_a_header_of_another_table_is_refused(tmp_path):
    write(tmp_path, header=HEADER.replace("Finding Labels", "Finding Label"))
    with pytest.raises(DataError, match="no column 'Finding Labels'; did you mean 'Finding Label'"):
        ChestXray14().read(tmp_path)


# --- folders


@pytest.mark.parametrize(
    "folder",
    ["images_007/images", "images", "images/images_03/images", "images_012", "images-224/images-224", "."],
)
def test_the_image_is_found_where_a_copy_has_it(tmp_path, folder):
    image(tmp_path / folder / "00000001_000.png")
    rows = read(tmp_path, ("00000001_000.png", "Mass", 1, "PA")).rows
    assert rows["path"].to_list() == [(Path(folder) / "00000001_000.png").as_posix()]


def test_images_in_no_folder_are_rejected_unless_there_is_none_at_all(tmp_path, caplog):
    rows = [(f"0000000{k}_000.png", "Mass", k, "PA") for k in (1, 2)]
    with caplog.at_level(logging.WARNING, "radlearn"):
        assert len(read(tmp_path, *rows).rows) == 2
    assert "no image below" in caplog.text
    image(tmp_path / "images_001/images/00000001_000.png")
    release = read(tmp_path, *rows)
    assert release.rows["image_id"].to_list() == ["00000001_000"]
    assert release.rejected.select("image_id", "reason").rows() == [("00000002_000", "missing")]


@pytest.mark.parametrize(("side", "wanted"), [(1024, 1024), (224, None)])
def test_the_size_is_the_releases_own_unless_the_copy_was_resized(tmp_path, side, wanted):
    import cv2

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/00000001_000.png"), np.zeros((side, side), np.uint8))
    rows = read(tmp_path, ("00000001_000.png", "Mass", 1, "PA")).rows
    assert rows.select("height", "width").row(0) == (wanted, wanted)


def test_every_image_of_the_fake_release_can_be_read(fake):
    release = ChestXray14().read(fake)
    assert {read_image(fake / path).shape for path in release.rows["path"]} == {(32, 32)}
    assert {path.split("/")[0] for path in release.rows["path"]} == {"images_001", "images_002", "images_012"}


# --- splits


def listed(root, name):
    return {line.removesuffix(".png") for line in (root / name).read_text().splitlines()}


def test_the_official_lists_and_validation_patients_out_of_the_first(fake):
    release = ChestXray14().read(fake)
    rows = release.rows
    check_patients(rows)
    split = {name: {*rows.filter(pl.col("split") == name)["image_id"]} for name in rows["split"].unique()}
    assert split["test"] == listed(fake, "test_list.txt")
    assert split["train"] | split["validate"] == listed(fake, "train_val_list.txt")
    assert split["validate"]
    without = ChestXray14(split="official_no_validation").read(fake)
    assert without.card.counts["validate"] == 0
    assert without.card.counts["test"] == release.card.counts["test"]
    assert (release.card.split_seed, without.card.split_seed) == (0, None)


def test_lists_of_the_other_name_and_images_in_no_list(fake, tmp_path):
    (tmp_path / "Data_Entry_2017_v2020.csv").symlink_to(fake / "Data_Entry_2017_v2020.csv")
    lines = (fake / "train_val_list.txt").read_text().splitlines()
    (tmp_path / "train_val_list_NIH.txt").write_text("\n".join(lines[1:]))
    (tmp_path / "test_list_NIH.txt").symlink_to(fake / "test_list.txt")
    counts = ChestXray14().read(tmp_path).card.counts
    assert counts["left_out.in_no_list"] == 1


def test_a_missing_list_says_where_it_is_from_and_what_to_do(fake, tmp_path):
    (tmp_path / "Data_Entry_2017_v2020.csv").symlink_to(fake / "Data_Entry_2017_v2020.csv")
    with pytest.raises(DataError, match=r"no train_val_list\.txt.*nihcc\.app\.box\.com.*split=patients"):
        ChestXray14().read(tmp_path)
    check_patients(ChestXray14(split="patients").read(tmp_path).rows)


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'google2019'"):
        ChestXray14(labels="google")
    with pytest.raises(ConfigurationError, match="did you mean 'official'"):
        ChestXray14(split="officiel")


# --- the real tables


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The two real tables, and stand-ins for the official lists: the real ones are not installed."""
    root = tmp_path_factory.mktemp("real")
    for name in ("Data_Entry_2017_v2020.csv.gz", "google2019_nih-chest-xray-labels.csv.gz"):
        (root / name).symlink_to(REAL / name)
    names = [row["Image Index"] for row in cells("Data_Entry_2017_v2020.csv.gz")]
    (root / "train_val_list.txt").write_text("\n".join(n for n in names if n < "00024000"))
    (root / "test_list.txt").write_text("\n".join(n for n in names if n >= "00024000"))
    return root


def cells(name):
    with gzip.open(REAL / name, "rt", newline="") as file:
        yield from csv.DictReader(file)


def test_the_real_table_reads_in_full(real):
    release = ChestXray14(no_finding=True).read(real)
    rows = release.rows
    assert (len(rows), rows["patient_id"].n_unique(), len(release.rejected)) == (112_120, 30_805, 0)
    assert rows["image_id"].str.head(8).equals(rows["patient_id"].alias("image_id"))
    assert dict(rows["view"].value_counts().iter_rows()) == {"PA": 67_310, "AP": 44_810}
    words = Counter(
        word for row in cells("Data_Entry_2017_v2020.csv.gz") for word in row["Finding Labels"].split("|")
    )
    assert rows.select(*LABELS, "No Finding").sum().row(0) == tuple(words[n] for n in (*LABELS, "No Finding"))
    assert (words["Infiltration"], words["Hernia"], words["No Finding"]) == (19_894, 227, 60_361)
    assert rows["height"].unique().to_list() == [1024]
    # An eighth of the patients of the first list, and four standard deviations of such a draw.
    first = rows.filter(pl.col("split") != "test")
    patients = first["patient_id"].n_unique()
    drawn = first.filter(pl.col("split") == "validate")["patient_id"].n_unique()
    assert abs(drawn - patients / 8) < 4 * (patients * 7 / 64) ** 0.5


def test_googles_labels_and_split(real):
    release = ChestXray14(labels="google2019").read(real)
    truth = list(cells("google2019_nih-chest-xray-labels.csv.gz"))
    assert release.card.label_names == GOOGLE_LABELS
    assert (release.card.split, release.card.split_seed) == ("google2019", None)
    assert release.card.counts["left_out.not_relabelled"] == 112_120 - len(truth)
    assert (release.card.counts["validate"], release.card.counts["test"]) == (2414, 1962)
    check_patients(release.rows)
    for name in GOOGLE_LABELS:
        assert release.rows[name].sum() == sum(row[name] == "YES" for row in truth)


def test_googles_labels_need_no_list_and_take_the_place_of_the_own(fake, tmp_path):
    for name in ("Data_Entry_2017_v2020.csv", "google2019_nih-chest-xray-labels.csv"):
        (tmp_path / name).symlink_to(fake / name)
    own = ChestXray14(split="patients").read(tmp_path).rows
    google = ChestXray14(labels="google2019", no_finding=True).read(tmp_path)
    assert google.card.label_names == (*GOOGLE_LABELS, "No Finding")
    assert {*google.rows["split"]} == {"validate", "test"}
    shared = own.join(google.rows, on="image_id", suffix="_google")
    assert len(shared) == len(google.rows) < len(own)
    assert (shared["Pneumothorax"] != shared["Pneumothorax_google"]).any()


def test_a_cell_that_is_neither_yes_nor_no_is_an_error(tmp_path):
    write(tmp_path, ("00000001_000.png", "Mass", 1, "PA"))
    header = "Image Index,Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"
    table = tmp_path / "google2019_nih-chest-xray-labels.csv"
    table.write_text(f"{header}\n00000001_000.png,YES,NO,MAYBE,NO,test\n")
    with pytest.raises(DataError, match="'Airspace opacity' holds 'MAYBE'"):
        ChestXray14(labels="google2019").read(tmp_path)
