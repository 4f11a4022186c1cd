"""COVIDx: lists without header, three classes, validation by patient."""

import logging

import polars as pl
import pytest

from radlearn.data.images import read_image
from radlearn.data.splits import check_patients
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.covidx import COVIDx


def write(root, train, test=("t t.png normal rsna",), version="COVIDx9A"):
    for part, lines in (("train", train), ("test", test)):
        (root / f"{part}_{version}.txt").write_text("\n".join(lines) + "\n")
    return root


def row(release, name):
    return release.rows.row(by_predicate=pl.col("image_id") == name, named=True)


def labels(release, name):
    found = row(release, name)
    return [found[label] for label in ("normal", "pneumonia", "covid")]


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("covidx")
    return root, COVIDx.fake(root).read(root)


# Lines of the published list, and one whose file name holds a blank.
LINES = (
    "3 SARS-10.1148rg.242035193-g04mr34g0-Fig8a-day0.jpeg pneumonia cohen",
    "311a 10.1016-slash-j.crad.2020.04.002-a.png COVID-19 cohen",
    "409 000004.png pneumonia cohen",
    "396 000004.jpg normal cohen",
    "7 chest film 2.jpg COVID-19 fig1",
)


def test_lines_of_the_published_list(tmp_path):
    release = COVIDx().read(write(tmp_path, LINES))
    assert release.rejected.is_empty()
    assert labels(release, "SARS-10.1148rg.242035193-g04mr34g0-Fig8a-day0.jpeg") == [0, 1, 0]
    assert labels(release, "10.1016-slash-j.crad.2020.04.002-a.png") == [0, 0, 1]
    assert row(release, "10.1016-slash-j.crad.2020.04.002-a.png")["patient_id"] == "311a"
    assert labels(release, "000004.png") == [0, 1, 0]
    assert labels(release, "000004.jpg") == [1, 0, 0]
    assert row(release, "chest film 2.jpg")["path"] == "train/chest film 2.jpg"
    assert release.card.release == "COVIDx9A"


def test_the_later_lists_are_read_as_well(tmp_path):
    assert COVIDx().read(write(tmp_path, LINES, version="COVIDx_CXR-3A")).card.release == "COVIDx_CXR-3A"


@pytest.mark.parametrize(
    ("line", "reason"),
    [("9 9.png positive bimcv", "unknown_class"), ("9 9.png normal", "bad_line"), ("9", "bad_line")],
)
def test_faulty_lines_are_rejected(tmp_path, line, reason):
    release = COVIDx().read(write(tmp_path, [*LINES, line]))
    assert release.rejected["reason"].to_list() == [reason]


def test_sources_that_number_alike_do_not_share_patients(tmp_path):
    release = COVIDx().read(
        write(tmp_path, ["1 a.png normal rsna", "1 b.png normal cohen", "2 c.png normal cohen"])
    )
    found = {name: row(release, name)["patient_id"] for name in ("a.png", "b.png", "c.png")}
    assert found == {"a.png": "rsna-1", "b.png": "cohen-1", "c.png": "2"}


def test_training_images_of_test_patients_are_left_out(tmp_path):
    train = ["1 a.png normal rsna", "2 b.png normal rsna"]
    release = COVIDx().read(write(tmp_path, train, ["1 c.png COVID-19 rsna"]))
    assert release.card.counts["left_out.patient_in_test"] == 1
    assert sorted(release.rows["image_id"]) == ["b.png", "c.png"]


def test_files_that_the_download_lacks(fake):
    root, release = fake
    assert release.rejected.filter(pl.col("reason") == "missing")["image_id"].to_list() == ["gone.png"]
    kept = COVIDx(missing_files="leave_out").read(root)
    assert kept.card.counts["left_out.missing_file"] == 1
    assert "missing" not in kept.rejected["reason"].to_list()
    assert kept.rows.equals(release.rows)


def test_without_folders_the_rows_are_read_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(COVIDx().read(write(tmp_path, LINES)).rows) == 6
    assert "no folder train" in caplog.text


def test_the_fake_release(fake):
    root, release = fake
    assert sorted(release.rejected["reason"]) == ["bad_line", "missing", "unknown_class"]
    assert release.card.counts["left_out.patient_in_test"] == 1
    assert all(read_image(root / path).shape == (48, 48) for path in release.rows["path"])
    assert (release.rows.select("normal", "pneumonia", "covid").sum_horizontal() == 1).all()


def full_size(root):
    """As many test images as the official list, and 4,000 training images of 2,500 patients."""
    kinds = ("normal", "pneumonia", "COVID-19", "COVID-19")
    train = [f"p{n % 2500} {n}.png {kinds[n % 2500 % 4]} rsna" for n in range(4000)]
    return write(root, train, [f"t{n} t{n}.png {kinds[n % 4]} rsna" for n in range(400)])


@pytest.mark.parametrize(("split", "share"), [("patients", 0.1), ("mgca", 0.2)])
def test_validation_is_drawn_by_patient_and_the_official_list_is_test(tmp_path, split, share):
    release = COVIDx(split=split).read(full_size(tmp_path))
    check_patients(release.rows)
    patients = (
        release.rows.filter(pl.col("split") != "test").group_by("split").agg(pl.col("patient_id").n_unique())
    )
    counts = dict(patients.iter_rows())
    assert counts["validate"] == pytest.approx(share * 2500, rel=0.15)
    test = release.rows.filter(pl.col("split") == "test")
    assert (len(test), test["normal"].sum(), test["pneumonia"].sum(), test["covid"].sum()) == (
        400,
        100,
        100,
        200,
    )
    assert release.card.split_unit == "patient"
    assert COVIDx(split=split).read(tmp_path).card.split_hash == release.card.split_hash


def test_mgcas_validation_is_a_fifth_of_the_patients_by_scikit_learn(tmp_path):
    from sklearn.model_selection import train_test_split

    rows = COVIDx(split="mgca").read(full_size(tmp_path)).rows
    _, wanted = train_test_split(sorted(f"p{n}" for n in range(2500)), test_size=0.2, random_state=0)
    assert {*rows.filter(pl.col("split") == "validate")["patient_id"]} == {*wanted}


def test_lists_b_alone_are_no_release(tmp_path):
    with pytest.raises(DataError, match=r"train_COVIDx9A\.txt"):
        COVIDx().read(write(tmp_path, LINES, version="COVIDx9B"))


def test_a_list_that_is_no_text_is_an_error(tmp_path):
    write(tmp_path, LINES)
    (tmp_path / "train_COVIDx9A.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        COVIDx().read(tmp_path)


def test_settings_are_checked():
    with pytest.raises(ConfigurationError, match=r"data\.missing_files"):
        COVIDx(missing_files="skip")
    with pytest.raises(ConfigurationError, match=r"data\.split"):
        COVIDx(split="mgca_row")
