"""DeepLesion: its oddities one by one, its split, and Hounsfield units from the files to the batch."""

import csv

import cv2
import numpy as np
import polars as pl
import pytest

from radlearn import config
from radlearn.data.dataset import EvaluationDataset
from radlearn.data.splits import check_patients
from radlearn.data.views import EvaluationView
from radlearn.datasets import open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _deeplesion_fake
from radlearn.manifests._ct_fake import ct_slice
from radlearn.manifests.deeplesion import LABELS, DeepLesion
from radlearn.prepare import prepare, prepared_folder

# The first line of DL_info.csv, and its first row, as the release has them.
HEADER = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,Bounding_boxes,"
    "Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,Possibly_noisy,Slice_range,"
    "Spacing_mm_px_,Image_size,DICOM_windows,Patient_gender,Patient_age,Train_Val_Test"
)
ROW = {
    "File_name": "000001_01_01_109.png", "Patient_index": "1", "Study_index": "1", "Series_ID": "1",
    "Key_slice_index": "109",
    "Measurement_coordinates": "233.537, 95.0204, 234.057, 106.977, 231.169, 101.605, 236.252, 101.143",
    "Bounding_boxes": "226.169, 90.0204, 241.252, 111.977", "Lesion_diameters_Pixel_": "11.9677, 5.10387",
    "Normalized_lesion_location": "0.44666, 0.283794, 0.434454", "Coarse_lesion_type": "3",
    "Possibly_noisy": "0", "Slice_range": "103, 115", "Spacing_mm_px_": "0.488281, 0.488281, 5",
    "Image_size": "512, 512", "DICOM_windows": "-175, 275", "Patient_gender": "F", "Patient_age": "62",
    "Train_Val_Test": "3",
}  # fmt: skip


def release(root, *changes, flat=True, header=HEADER, neighbours=()):
    """Write a release of one row for each of `changes`, with tiny images of 20 x 20 pixels."""
    rows = [{**ROW, **change} for change in changes]
    with (root / "DL_info.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, header.split(","), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    stored = (ct_slice(20, 20, seed=0).astype(np.int32) + 32768).astype(np.uint16)
    for name in [*(row["File_name"] for row in rows), *neighbours]:
        series, _, index = name.rpartition("_")
        path = root / "Key_slices" / name if flat else root / "Images_png" / series / index
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), stored)
    return root


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("deeplesion")
    return root, DeepLesion.fake(root)


def test_the_fake_release_has_the_header_of_the_real_one(fake):
    assert HEADER == _deeplesion_fake.HEADER
    assert (fake[0] / "DL_info.csv").read_text().splitlines()[0] == HEADER


def test_a_row_of_the_real_table(tmp_path):
    rows = DeepLesion().read(release(tmp_path, {})).rows
    row = rows.row(0, named=True)
    assert (row["image_id"], row["patient_id"], row["study_id"], row["series_id"]) == (
        "000001_01_01_109",
        "000001",
        "000001_01",
        "000001_01_01",
    )
    assert (row["path"], row["slice_index"], row["split"]) == ("Key_slices/000001_01_01_109.png", 109, "test")
    assert (row["height"], row["width"], row["view"], row["lesion_present"]) == (512, 512, None, 1.0)
    assert row["window"] == {"low": -175.0, "high": 275.0}
    assert row["spacing"] == pytest.approx({"row": 0.488281, "column": 0.488281, "slice": 5.0})
    (box,) = row["boxes"]
    assert box.pop("class") == "mediastinum"
    sides = {"x": 226.169, "y": 90.0204, "w": 241.252 - 226.169, "h": 111.977 - 90.0204}
    assert box == pytest.approx(sides, rel=1e-4)
    assert [row[name] for name in LABELS] == [0, 0, 1, 0, 0, 0, 0, 0]


def test_several_lesions_of_a_slice_are_one_row_with_several_boxes(tmp_path):
    root = release(
        tmp_path,
        {"Coarse_lesion_type": "5"},
        {"Coarse_lesion_type": "4", "Bounding_boxes": "1, 2, 11, 22"},
        {"File_name": "000001_01_01_110.png", "Key_slice_index": "110", "Coarse_lesion_type": "7"},
        {"File_name": "000001_01_01_110.png", "Key_slice_index": "110", "Coarse_lesion_type": "-1"},
        {"File_name": "000001_01_01_111.png", "Key_slice_index": "111", "Coarse_lesion_type": "-1"},
    )
    rows = DeepLesion().read(root).rows
    assert rows["boxes"].list.len().to_list() == [2, 2, 1]
    classes = [[box["class"] for box in boxes] for boxes in rows["boxes"]]
    assert classes == [["lung", "liver"], ["soft tissue", "lesion"], ["lesion"]]
    # A type that is unknown may be any of the others.
    labels = rows.select(LABELS).rows()
    assert labels == [
        (0, 0, 0, 1, 1, 0, 0, 0),
        (None, None, None, None, None, None, 1, None),
        (None,) * 8,
    ]


def test_boxes_are_clipped_to_the_image_and_sides_put_in_order(tmp_path):
    root = release(
        tmp_path,
        {"Bounding_boxes": "-3.5, -1, 14.25, 12"},
        {"Bounding_boxes": "500, 505, 520, 513"},
        {"Bounding_boxes": "30, 40, 10, 20"},
    )
    boxes = DeepLesion().read(root).rows["boxes"][0]
    assert [[box[side] for side in "xywh"] for box in boxes] == [
        [0, 0, 14.25, 12],
        [500, 505, 12, 7],
        [10, 20, 20, 20],
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"File_name": "lesion.png"}, "bad_file_name"),
        ({"Patient_index": "2"}, "name_differs_from_indices"),
        ({"Key_slice_index": "110"}, "name_differs_from_indices"),
        ({"Bounding_boxes": "600, 10, 620, 30"}, "box_outside"),
        ({"Bounding_boxes": "1, 2, 3"}, "box_outside"),
        ({"Bounding_boxes": "a, b, c, d"}, "box_outside"),
        ({"Bounding_boxes": ""}, "box_outside"),
    ],
)
def test_rows_that_cannot_be_are_set_aside(tmp_path, change, reason):
    good = {"File_name": "000002_01_01_109.png", "Patient_index": "2"}
    found = DeepLesion().read(release(tmp_path, change, good))
    assert found.rows["image_id"].to_list() == ["000002_01_01_109"]
    assert found.rejected["reason"].to_list() == [reason]


@pytest.mark.parametrize(
    "change", [{"Train_Val_Test": "4"}, {"Coarse_lesion_type": "9"}, {"Possibly_noisy": "yes"}]
)
def test_undefined_codes_are_errors_that_name_the_row(tmp_path, change):
    (column, value), *_ = change.items()
    with pytest.raises(DataError, match=rf"'{column}' holds '{value}' in row 2"):
        DeepLesion().read(release(tmp_path, {}, change))


def test_a_header_that_differs_is_an_error(tmp_path):
    release(tmp_path, {}, header=HEADER.replace("Bounding_boxes", "Bounding_box"))
    with pytest.raises(DataError, match=r"no column 'Bounding_boxes'; did you mean 'Bounding_box'"):
        DeepLesion().read(tmp_path)


def test_noisy_lesions_are_left_out_unless_kept(tmp_path):
    root = release(
        tmp_path,
        {"Possibly_noisy": "1"},
        {"Bounding_boxes": "1, 2, 11, 22"},
        {"File_name": "000002_01_01_109.png", "Patient_index": "2", "Possibly_noisy": "1"},
    )
    without = DeepLesion().read(root)
    assert without.rows["boxes"].list.len().to_list() == [1]
    assert without.card.counts["left_out.possibly_noisy"] == 1
    kept = DeepLesion(noisy="keep").read(root)
    assert kept.rows["boxes"].list.len().to_list() == [2, 1]
    assert "left_out.possibly_noisy" not in kept.card.counts


def test_both_layouts_of_images_are_found_and_missing_files_counted(tmp_path):
    other = {"File_name": "000002_01_01_109.png", "Patient_index": "2"}
    for flat, path in ((True, "Key_slices/000001_01_01_109.png"), (False, "Images_png/000001_01_01/109.png")):
        root = tmp_path / str(flat)
        root.mkdir()
        release(root, {}, other, flat=flat)
        gone = "Key_slices/000002_01_01_109.png" if flat else "Images_png/000002_01_01/109.png"
        (root / gone).unlink()
        found = DeepLesion().read(root)
        assert found.rows["path"].to_list() == [path]
        assert found.rejected.rows() == [("000002_01_01_109", gone, "missing", "")]
    renamed = tmp_path / "True" / "mine"
    (tmp_path / "True" / "Key_slices").rename(renamed)
    with pytest.raises(DataError, match=r"looked for .*Key_slices.*data\.image_dir"):
        DeepLesion().read(tmp_path / "True")
    assert len(DeepLesion(image_dir="mine").read(tmp_path / "True").rows) == 1


def test_neighbours_are_rows_too_where_they_are_asked_for(tmp_path):
    names = [f"000001_01_01_{index:03d}.png" for index in (8, 107, 108, 110, 111)]
    root = release(tmp_path, {}, {"Possibly_noisy": "1", "File_name": "000001_01_01_111.png",
                                  "Key_slice_index": "111"}, flat=False, neighbours=names)  # fmt: skip
    (root / "Images_png" / "000001_01_01" / "notes.txt").write_text("no slice")
    rows = DeepLesion(slices="all").read(root).rows
    # 111 holds a lesion that is possibly noisy: it counts neither as lesion nor as none.
    assert rows["slice_index"].to_list() == [8, 107, 108, 109, 110]
    assert rows["lesion_present"].to_list() == [0, 0, 0, 1, 0]
    assert rows["boxes"].list.len().to_list() == [0, 0, 0, 1, 0]
    assert {*rows["split"]} == {"test"}
    assert rows["window"].null_count() == 0
    assert rows.filter(pl.col("lesion_present") == 0).select(LABELS).null_count().row(0) == (4,) * 8
    unknown = DeepLesion(slices="all", neighbours="unknown").read(root).rows
    assert unknown["lesion_present"].to_list() == [None, None, None, 1, None]
    assert unknown["boxes"].is_null().to_list() == [True, True, True, False, True]


def test_key_slices_alone_have_no_neighbours(tmp_path):
    with pytest.raises(DataError, match="looked for"):
        DeepLesion(slices="all").read(release(tmp_path, {}))
    with pytest.raises(DataError, match=r"holds no neighbours: data\.slices=all needs Images_png"):
        DeepLesion(slices="all", image_dir="Key_slices").read(tmp_path)


def test_the_official_split_and_that_of_the_lesions_with_a_type(fake):
    root, _ = fake
    official = DeepLesion().read(root)
    assert {split: official.card.counts[split] for split in ("train", "validate", "test")} == {
        "train": 10, "validate": 15, "test": 15,
    }  # fmt: skip
    assert official.rows.filter(pl.col("split") == "train").select(LABELS).null_count().row(0) == (10,) * 8
    assert (official.card.split, official.card.split_seed) == ("official", None)
    typed = DeepLesion(split="typed").read(root)
    check_patients(typed.rows)
    assert typed.card.counts["left_out.official_train"] == 10
    assert len(typed.rows) == 30
    assert typed.card.split_seed == 0
    assert DeepLesion(split="typed").read(root).card.split_hash == typed.card.split_hash


@pytest.mark.parametrize(
    "settings",
    [{"split": "oficial"}, {"slices": "some"}, {"neighbours": "positive"}, {"noisy": True}],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigurationError, match=r"is one of"):
        DeepLesion(**settings)


# --- Hounsfield units, from the file to the batch


def expected(units, window):
    """Grey of a window by hand."""
    low, high = window
    return np.rint(np.clip((units.astype(np.float64) - low) / (high - low), 0, 1) * 255)


def source_units(root, path):
    return cv2.imread(str(root / path), cv2.IMREAD_UNCHANGED).astype(np.int32) - 32768


@pytest.mark.parametrize("size", [64, 300], ids=["raw", "png"])
def test_units_survive_the_store_and_windows_give_the_greys_of_the_formula(fake, tmp_path, size):
    root, manifest = fake
    settings = {"name": "deeplesion", "root": str(root), "size": size}
    paths = {"cache": str(tmp_path), "data": str(tmp_path)}
    prepared = prepare(manifest, root, prepared_folder(settings, paths), size=size, max_bad_fraction=0.1)
    assert prepared.card.counts["rejected.missing"] == 1
    cases = [
        (None, (-160, 240)),
        ("lung", (-1350, 150)),
        ([-100, 300], (-100, 300)),
        ("row", None),
    ]
    for window, bounds in cases:
        dataset = open_dataset({**settings, "window": window}, paths)
        assert dataset.pixels.kind == "hounsfield"
        for row in range(0, len(dataset.rows), 7):
            cells = dataset.rows.row(row, named=True)
            units = source_units(root, cells["path"])
            own = bounds or (cells["window"]["low"], cells["window"]["high"])
            place = int(dataset.source_rows[row])
            assert (dataset.source.source.image(place) == units).all()
            # float32 and float64 may round a half apart.
            assert np.abs(dataset.source.image(place).astype(int) - expected(units, own)).max() <= 1
    assert {*dataset.rows["window"].struct.field("low")} == {-175, -1350}


def test_a_batch_holds_the_window(fake, tmp_path):
    root, _ = fake
    settings = {"name": "deeplesion", "root": str(root), "size": 64, "window": "lung"}
    dataset = open_dataset(settings, {"cache": str(tmp_path), "data": str(tmp_path)})
    rows = dataset.split("test")
    batches = EvaluationDataset(dataset.source, dataset.source_rows[rows], EvaluationView(64))
    images, positions = batches.__getitems__([0, 3])
    assert positions.tolist() == [0, 3]
    for image, position in zip(images, positions, strict=True):
        units = source_units(root, dataset.rows["path"][int(rows[position])])
        assert np.abs(image[0].numpy().astype(int) - expected(units, (-1350, 150))).max() <= 1


def test_windows_belong_to_images_with_hounsfield_units(fake, tmp_path):
    root, _ = fake
    settings = {"name": "deeplesion", "root": str(root), "size": 64}
    paths = {"cache": str(tmp_path), "data": str(tmp_path)}
    with pytest.raises(ConfigurationError, match="no window 'lungs'"):
        open_dataset({**settings, "window": "lungs"}, paths)
    assert config.manifest_arguments({**settings, "window": "lung", "slices": "key"}) == {"slices": "key"}
