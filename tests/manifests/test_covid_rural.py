"""COVID rural: images and masks by name, patients by the name's beginning."""

import cv2
import numpy as np
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.data.images import read_image
from radlearn.data.splits import check_patients
from radlearn.errors import DataError
from radlearn.manifests import _dicom_fake
from radlearn.manifests.covid_rural import CovidRural

FOLDER = "covid_rural_annot"


def write(root, name, mask, shape=(40, 48), folder=FOLDER):
    for part in ("jpgs", "pngs_masks"):
        (root / folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / folder / "jpgs" / f"{name}.jpg"), np.full(shape, 90, np.uint8))
    if mask is not None:
        cv2.imwrite(str(root / folder / "pngs_masks" / f"{name}.png"), mask)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("rural")
    return root, CovidRural.fake(root).read(root)


def test_masks_of_zeros_and_ones_are_read(tmp_path):
    mask = np.zeros((40, 48), np.uint8)
    mask[5:9, 10:30] = 1
    write(tmp_path, "COVID-19-AR-16406488_01-08-2012-XR", mask)
    row = CovidRural().read(tmp_path).rows.row(0, named=True)
    assert (row["height"], row["width"]) == (40, 48)
    assert [cell["class"] for cell in row["mask"]] == ["opacity"]
    np.testing.assert_array_equal(run_lengths.decode(row["mask"][0]["rle"], 40, 48), mask > 0)


def test_the_patient_stands_before_the_first_underscore(tmp_path):
    for day in ("01-08", "01-15"):
        write(tmp_path, f"COVID-19-AR-16406488_{day}-2012-XR", np.ones((40, 48), np.uint8))
    rows = CovidRural().read(tmp_path).rows
    assert rows["patient_id"].to_list() == ["COVID-19-AR-16406488"] * 2
    assert rows["split"].n_unique() == 1


@pytest.mark.parametrize("root", [".", FOLDER])
def test_the_root_may_be_the_repository_or_its_folder(tmp_path, root):
    write(tmp_path, "COVID-19-AR-1_01-08-2012-XR", np.ones((40, 48), np.uint8))
    assert len(CovidRural().read(tmp_path / root).rows) == 1


def test_a_mask_of_another_size_or_a_damaged_one_is_rejected(tmp_path):
    write(tmp_path, "COVID-19-AR-1_a", np.ones((40, 48), np.uint8))
    write(tmp_path, "COVID-19-AR-2_a", np.ones((48, 40), np.uint8))
    write(tmp_path, "COVID-19-AR-3_a", np.ones((40, 48), np.uint8))
    path = tmp_path / FOLDER / "pngs_masks" / "COVID-19-AR-3_a.png"
    path.write_bytes(path.read_bytes()[:-20])
    release = CovidRural().read(tmp_path)
    assert release.rows["image_id"].to_list() == ["COVID-19-AR-1_a"]
    assert release.rejected.select("image_id", "reason").rows() == [
        ("COVID-19-AR-2_a", "mask_size"),
        ("COVID-19-AR-3_a", "truncated"),
    ]


def test_the_fake_release(fake):
    root, release = fake
    assert len(release.rows) == 20
    assert release.card.counts["left_out.no_mask"] == 1
    assert release.rejected["reason"].to_list() == ["mask_size"]
    assert release.rows["mask"].list.len().sum() == 19  # one mask is empty
    assert not release.rows["image_id"].str.contains("pneumonia").any()
    check_patients(release.rows)
    coloured = next(path for path in release.rows["path"] if "01-05" in path)
    assert read_image(root / coloured).ndim == 2


def test_an_empty_folder_is_no_release(tmp_path):
    (tmp_path / FOLDER / "jpgs").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no COVID-19-AR-\*\.jpg"):
        CovidRural().read(tmp_path)


def test_grey_files_in_colour_have_the_mean_of_their_channels(tmp_path):
    """LoVT's mean over channels and our luma are one for grey files."""
    picture = _dicom_fake.radiograph(0, 64)
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.repeat(picture[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(path), cv2.imread(path).mean(axis=2))


def test_a_release_of_full_size_has_the_published_split_sizes(tmp_path):
    generator = np.random.default_rng(0)
    patients = [*range(104), *generator.integers(0, 52, 117)]
    for number, patient in enumerate(patients):
        write(tmp_path, f"COVID-19-AR-{patient:03d}_{number}", np.ones((16, 16), np.uint8), (16, 16))
    release = CovidRural().read(tmp_path)
    counts = release.card.counts
    assert (counts["train"], counts["validate"], counts["test"]) == (133, 44, 44)
    assert release.rows["patient_id"].n_unique() == 104
    check_patients(release.rows)


def test_equalize_is_handed_on(fake):
    assert CovidRural(equalize=True).read(fake[0]).pixels.equalize


def test_a_new_file_makes_the_table_anew(fake):
    root, release = fake
    assert str((root / FOLDER / "jpgs").absolute()) in release.sources
    assert pl.Series(release.sources).str.ends_with(".png").sum() == 21
