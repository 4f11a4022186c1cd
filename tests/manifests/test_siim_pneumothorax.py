"""SIIM-ACR Pneumothorax: its oddities, its splits, and the real table of the installed torchxrayvision."""

import functools
import importlib.util
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.data.images import read_image
from radlearn.data.splits import check_patients
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _dicom_fake
from radlearn.manifests.siim_pneumothorax import SIIMPneumothorax

REAL = Path(importlib.util.find_spec("torchxrayvision").origin).parent / "data"
TABLE = "siim-pneumothorax-train-rle.csv.gz"
SIDE = 1024


def write(root, *lines, header="ImageId, EncodedPixels", name="train-rle.csv"):
    (root / name).write_text("\n".join([header, *lines]) + "\n")
    return root


def write_image(root, name, patient="", *, folder="dicom-images-train/1.2/1.3", side=SIDE):
    picture = _dicom_fake.radiograph(0, side)
    path = root / folder / f"{name}.dcm"
    _dicom_fake.write(path, picture, sop_uid=f"2.25.{len(name)}", patient_id=patient, view="AP")


def painted(*rles):
    """The challenge's description, literally: advance by the gap, paint, go on where the run ended."""
    flat = np.zeros(SIDE * SIDE, bool)
    for rle in rles:
        position = 0
        numbers = [int(number) for number in rle.split()]
        for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
            position += gap
            flat[position : position + length] = True
            position += length
    return flat.reshape(SIDE, SIDE).T


def mask_of(cell):
    return run_lengths.decode(cell[0]["rle"], SIDE, SIDE)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("siim")
    return root, SIIMPneumothorax.fake(root).read(root)


@pytest.fixture(scope="module")
def read_real(tmp_path_factory):
    """The real table under the name of the release, read with these settings, once; no image is there."""
    root = tmp_path_factory.mktemp("real")
    (root / "train-rle.csv.gz").symlink_to(REAL / TABLE)
    return functools.cache(lambda **settings: SIIMPneumothorax(**settings).read(root))


# --- the table


def test_rows_of_an_image_are_or_ed_and_minus_one_is_empty(tmp_path):
    one, two = "387620 23 996 33", "387630 5 1019 700"
    rows = SIIMPneumothorax().read(write(tmp_path, f"a,{one}", "b,-1", f"a,{two}", "c, -1")).rows
    assert rows["image_id"].to_list() == ["a", "b", "c"]
    assert rows["pneumothorax"].to_list() == [1, 0, 0]
    cells = rows["mask"].to_list()
    assert [cell["class"] for cell in cells[0]] == ["pneumothorax"]
    np.testing.assert_array_equal(mask_of(cells[0]), painted(one, two))
    assert cells[1] == cells[2] == []


def test_stage_two_has_another_file_and_a_header_without_the_blank(tmp_path):
    write(tmp_path, "a,-1", header="ImageId,EncodedPixels", name="stage_2_train.csv")
    assert len(SIIMPneumothorax().read(tmp_path).rows) == 1


def test_another_header_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no column ' EncodedPixels'"):
        SIIMPneumothorax().read(write(tmp_path, "a,-1", header="ImageId,Pixels"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [("bad,1 2 3", "bad_mask"), ("bad,1048570 7", "bad_mask"), ("bad,x", "bad_mask"), (",-1", "no_image_id")],
)
def test_faulty_rows_are_rejected_by_name(tmp_path, line, reason):
    release = SIIMPneumothorax().read(write(tmp_path, "a,-1", line))
    assert release.rows["image_id"].to_list() == ["a"]
    assert release.rejected["reason"].to_list() == [reason]


# --- the files


def test_the_fake_release(fake):
    root, release = fake
    counts = release.card.counts
    assert release.rejected.select("reason").rows() == [("missing",)]
    assert counts["left_out.not_in_table"] == 2
    assert release.rows["path"].str.contains(r"^dicom-images-train/[\d.]+/[\d.]+/[\d.]+\.dcm$").all()
    assert read_image(root / release.rows["path"][0]).shape == (SIDE, SIDE)
    assert {*release.rows["view"]} == {"PA", "AP"}


def test_patients_come_from_the_headers(fake):
    rows = fake[1].rows
    alone = rows.filter(pl.col("patient_id") == pl.col("image_id"))
    assert len(alone) == 1  # its header names no patient
    assert rows["patient_id"].n_unique() == 17 < len(rows)
    check_patients(rows)


def test_images_of_the_first_test_set_are_found(tmp_path):
    write(tmp_path, "a,-1", "b,-1")
    write_image(tmp_path, "a", "p1")
    write_image(tmp_path, "b", "p2", folder="dicom-images-test/1.2/1.3")
    rows = SIIMPneumothorax().read(tmp_path).rows
    assert rows["path"].to_list() == ["dicom-images-train/1.2/1.3/a.dcm", "dicom-images-test/1.2/1.3/b.dcm"]
    assert rows["patient_id"].to_list() == ["p1", "p2"]


def test_a_file_that_is_no_dicom_or_of_another_size_is_rejected(tmp_path):
    write(tmp_path, "good,-1", "shrunk,-1", "text,-1")
    write_image(tmp_path, "good", "p")
    write_image(tmp_path, "shrunk", "p", side=64)
    (tmp_path / "dicom-images-train" / "text.dcm").write_text("no image" * 40)
    release = SIIMPneumothorax().read(tmp_path)
    assert release.rows["image_id"].to_list() == ["good"]
    assert release.rejected.select("image_id", "reason").rows() == [
        ("shrunk", "mask_size"),
        ("text", "unsupported_format"),
    ]


def test_without_headers_and_without_files_each_image_is_a_patient_and_that_is_said(fake, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        rows = SIIMPneumothorax(headers=False).read(fake[0]).rows
    assert rows["patient_id"].equals(rows["image_id"])
    assert "24 images without a patient" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        release = SIIMPneumothorax().read(write(tmp_path, "a,-1"))
    assert "no folder dicom-images-train" in caplog.text
    assert release.rows["path"].to_list() == ["dicom-images-train/a.dcm"]


def test_no_patient_id_is_logged(fake, caplog):
    with caplog.at_level(logging.DEBUG):
        SIIMPneumothorax().read(fake[0])
    assert "patient-" not in caplog.text


def test_progress_counts_the_headers(fake):
    seen = []
    SIIMPneumothorax().read(fake[0], lambda *state: seen.append(state))
    assert seen[-1] == (24, 24, "DICOM headers")


# --- the real table


def test_totals_of_the_real_table(read_real):
    release = read_real()
    rows = release.rows
    assert len(rows) == 12_047
    assert (rows["pneumothorax"] == 1).sum() == 2_669
    assert (rows["mask"].list.len() == 0).sum() == 9_378
    assert release.rejected.is_empty()


def test_the_real_table_has_one_row_a_mask():
    table = pl.read_csv(REAL / TABLE, infer_schema=False)
    assert table.columns == ["ImageId", " EncodedPixels"]
    empty = table[" EncodedPixels"].str.strip_chars() == "-1"
    assert (len(table), empty.sum(), (~empty).sum()) == (12_954, 9_378, 3_576)


def test_real_masks_agree_with_painting_them_run_by_run(read_real):
    table = pl.read_csv(REAL / TABLE, infer_schema=False).rename({" EncodedPixels": "rle"})
    several = table.group_by("ImageId", maintain_order=True).agg("rle").filter(pl.col("rle").list.len() > 2)
    rows = read_real().rows
    for name, rles in several.head(25).iter_rows():
        cell = rows.row(by_predicate=pl.col("image_id") == name, named=True)["mask"]
        np.testing.assert_array_equal(mask_of(cell), painted(*rles))


@pytest.mark.parametrize(
    ("split", "sizes"), [("lovt", (7_229, 2_409, 2_409)), ("mgca", (8_432, 1_808, 1_807))]
)
def test_split_sizes_of_the_real_table(read_real, split, sizes):
    card = read_real(split=split).card
    assert tuple(card.counts[name] for name in ("train", "validate", "test")) == sizes
    assert card.split_unit == "image"


def test_split_hashes_stay(read_real):
    hashes = {split: read_real(split=split).card.split_hash[:12] for split in SIIMPneumothorax.splits}
    assert hashes == {"patients": "0896e9488a90", "lovt": "9516782d1ec1", "mgca": "6a46e8675c5c"}


def test_an_image_lies_in_one_split_of_mgca_too(read_real):
    rows = read_real(split="mgca").rows
    assert rows["image_id"].is_unique().all()


def test_balanced_training_keeps_all_positives_and_as_many_negatives(read_real):
    plain, balanced = read_real(split="lovt"), read_real(split="lovt", balanced_train=True)
    train = balanced.rows.filter(pl.col("split") == "train")
    positive = train.filter(pl.col("pneumothorax") == 1)
    assert len(train) == 2 * len(positive)
    assert len(positive) == len(
        plain.rows.filter((pl.col("split") == "train") & (pl.col("pneumothorax") == 1))
    )
    for split in ("validate", "test"):
        assert balanced.card.counts[split] == plain.card.counts[split]
    assert balanced.card.counts["left_out.unbalanced_negative"] == len(plain.rows) - len(balanced.rows)
    other = read_real(split="lovt", balanced_train=True, balance_seed=1)
    assert {*other.rows["image_id"]} != {*balanced.rows["image_id"]}
    assert "balanced" in balanced.card.split_rule


def test_equalize_is_handed_on(read_real):
    assert read_real(equalize=True).pixels.equalize
    assert not read_real().pixels.equalize


def test_settings_are_checked():
    with pytest.raises(ConfigurationError, match=r"data\.split"):
        SIIMPneumothorax(split="mgca_row")
