"""The synthetic CT data set: files, rows and labels are those of the phantom, in any number of processes."""

import cv2
import numpy as np
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import phantom_ct
from radlearn.manifests.phantom_ct import LABELS, PhantomCT
from radlearn.phantom.ct import lesion_types, num_slices_of, render_slice, stage_of

SMALL = {
    "num_train": 5,
    "num_validate": 1,
    "num_test": 3,
    "num_slices": 4,
    "image_size": 48,
    "num_workers": 1,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom_ct")
    return root, PhantomCT(**SMALL).read(root)


def test_it_says_that_it_is_synthetic_and_how_its_pixels_are_stored(small):
    release = small[1]
    assert release.card.synthetic
    assert release.card.label_names == LABELS
    assert release.rows["patient_id"].str.contains(r"^phantom-ct-\d{5}$").all()
    assert (release.pixels.kind, release.pixels.offset) == ("hounsfield", -32768)
    assert release.rejected.is_empty()


def test_every_slice_of_a_patient_is_there_once_and_in_order(small):
    rows = small[1].rows
    patients = rows.group_by("patient_id", maintain_order=True).agg("split", "slice_index", "series_id")
    assert len(patients) == 9
    for patient_id, split, indices, series in patients.iter_rows():
        number = int(patient_id[-5:])
        assert split[0] == ("train", "validate", "test")[number % 3]
        assert indices == list(range(num_slices_of(0, number, 4)))
        assert len({*series}) == 1
    assert rows["series_id"].n_unique() == 9


def test_each_row_describes_the_file_that_the_phantom_renders(small):
    root, release = small
    for row in release.rows.iter_rows(named=True):
        patient, index = int(row["patient_id"][-5:]), row["slice_index"]
        drawn = render_slice(0, patient, index, 48, 4)
        stored = cv2.imread(str(root / row["path"]), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(stored.astype(np.int32) - 32768, drawn.hu)
        assert row["lesion_present"] == drawn.lesion_present == bool(row["boxes"])
        assert [b["class"] for b in row["boxes"]] == [m["class"] for m in row["mask"]]
        for mask, box, entry in zip(drawn.masks, row["boxes"], row["mask"], strict=True):
            decoded = run_lengths.decode(entry["rle"], 48, 48)
            np.testing.assert_array_equal(decoded, mask)
            rows, columns = np.nonzero(decoded)
            assert (box["x"], box["y"]) == (columns.min(), rows.min())
            assert (box["w"], box["h"]) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert (row["window"]["low"], row["window"]["high"]) == drawn.window
        assert row["spacing"]["row"] == pytest.approx(drawn.pixel_spacing)
        assert row["spacing"]["slice"] == pytest.approx(drawn.slice_spacing)


def test_labels_are_the_patients_on_each_of_its_rows(small):
    seen = set()
    for row in small[1].rows.iter_rows(named=True):
        patient = int(row["patient_id"][-5:])
        types = lesion_types(0, patient, 4)
        assert {kind: row[kind] for kind in types} == types
        assert row["any_lesion"] == any(types.values())
        codes = [row[f"stage_ge_{stage}"] for stage in (2, 3, 4)]
        stage = stage_of(0, patient, 4)
        if stage is None:
            assert codes == [None] * 3
        else:
            assert 1 + sum(codes) == stage
            assert codes == sorted(codes, reverse=True)
        seen.add(stage)
    assert None in seen
    assert len(seen) > 1


def test_more_training_patients_change_no_other_patient(small, tmp_path):
    more = PhantomCT(**{**SMALL, "num_train": 7}).read(tmp_path).rows
    for split in ("validate", "test"):
        one, two = (rows.filter(pl.col("split") == split).drop("path") for rows in (small[1].rows, more))
        assert one.equals(two)
    assert {*small[1].rows["image_id"]} < {*more["image_id"]}


def test_another_seed_is_other_data(small, tmp_path):
    assert PhantomCT(**SMALL, seed=1).read(tmp_path).card.fingerprint != small[1].card.fingerprint


def test_a_second_read_generates_nothing(small, monkeypatch):
    root, release = small
    monkeypatch.setattr(phantom_ct, "render_slice", None)
    assert PhantomCT(**SMALL).read(root).rows.equals(release.rows)


def test_two_processes_and_a_second_run_make_the_same_files(small, tmp_path, monkeypatch):
    monkeypatch.setattr(phantom_ct, "_CHUNK", 3)
    release = PhantomCT(**{**SMALL, "num_workers": 2}).read(tmp_path)
    assert release.card.fingerprint == small[1].card.fingerprint
    for row in release.rows.iter_rows(named=True):
        twin = small[1].rows.row(by_predicate=pl.col("image_id") == row["image_id"], named=True)
        assert (tmp_path / row["path"]).read_bytes() == (small[0] / twin["path"]).read_bytes()


def test_a_killed_generation_goes_on_with_the_missing_chunks(small, tmp_path, monkeypatch):
    rendered = []

    def render(seed, patient, index, size, num_slices):
        rendered.append((patient, index))
        if len(rendered) == 20:
            raise KeyboardInterrupt
        return render_slice(seed, patient, index, size, num_slices)

    monkeypatch.setattr(phantom_ct, "render_slice", render)
    monkeypatch.setattr(phantom_ct, "_CHUNK", 4)
    with pytest.raises(KeyboardInterrupt):
        PhantomCT(**SMALL).read(tmp_path)
    assert sorted(p.name for p in (tmp_path / "chunks").iterdir()) == ["00000"]
    assert not (tmp_path / "rows.parquet").exists()
    first = sum(num_slices_of(0, 3 * number, 4) for number in range(4))
    release = PhantomCT(**SMALL).read(tmp_path)
    assert len(rendered) == 20 + len(release.rows) - first
    assert release.card.fingerprint == small[1].card.fingerprint


def test_a_root_of_other_settings_or_of_radiographs_is_refused(small, tmp_path):
    from radlearn.manifests.phantom_cxr import PhantomCXR

    with pytest.raises(DataError, match=r"'num_slices': 4.*wanted.*'num_slices': 5"):
        PhantomCT(**{**SMALL, "num_slices": 5}).read(small[0])
    PhantomCXR(num_train=1, num_validate=0, num_test=0, image_size=32).read(tmp_path)
    with pytest.raises(DataError, match="'kind': 'ct'"):
        PhantomCT(**SMALL).read(tmp_path)


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="choose another folder"):
        PhantomCT(**SMALL).read(tmp_path / "file")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"num_train": 0, "num_validate": 0, "num_test": 0}, "not all 0"),
        ({"num_test": -1}, "not negative"),
        ({"num_slices": 0}, "num_slices is at least 1"),
        ({"image_size": 16}, "32 to 1024"),
    ],
)
def test_settings_that_make_no_data_are_refused(wrong, match):
    with pytest.raises(ConfigurationError, match=match):
        PhantomCT(**{**SMALL, **wrong})


def test_the_fake_release_has_the_oddities_it_lists(tmp_path):
    release = PhantomCT.fake(tmp_path).read(tmp_path)
    rows = release.rows
    assert rows["view"].is_null().all()
    assert rows.group_by("series_id").len()["len"].n_unique() > 1
    assert rows["spacing"].struct.field("slice").n_unique() > 1
    assert rows["stage_ge_2"].is_null().any()
    assert rows.filter((pl.col("any_lesion") == 1) & (pl.col("lesion_present") == 0)).height > 0
    assert (rows["boxes"].list.len() > 1).any()
    windows = rows.group_by("series_id").agg(pl.col("window").struct.field("low").n_unique())
    assert windows["low"].max() == 2
