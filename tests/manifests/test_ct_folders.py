"""Folders of CT slices in every form, their order, their tables, and Hounsfield units up to the batch."""

import cv2
import numpy as np
import polars as pl
import pydicom
import pytest
from ct_root import SIDE, column, dicom, png, read, table, units, volume

from radlearn import config
from radlearn.check import missing_files
from radlearn.datasets import open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._ct_files import natural_key, owners, stem
from radlearn.manifests._ct_folders_fake import CTSlice, uid
from radlearn.manifests.ct_folders import CTFolders
from radlearn.prepare import prepare, prepared_folder

# --- pictures


def test_slices_are_ordered_as_people_count_and_grouped_by_the_first_folder(tmp_path):
    png(tmp_path, "p1/2.png", "p1/10.png", "p1/1.PNG", "p2/a/slice9.jpg", "p2/a/slice10.jpg", "p2/b/1.png")
    release = read(tmp_path)
    assert column(release, "slice_index") == {
        "p1/1.PNG": 0, "p1/2.png": 1, "p1/10.png": 2, "p2/a/slice9.jpg": 0, "p2/a/slice10.jpg": 1,
        "p2/b/1.png": 0,
    }  # fmt: skip
    assert {*column(release, "patient_id").values()} == {"p1", "p2"}
    assert {*column(release, "series_id").values()} == {"p1", "p2/a", "p2/b"}
    assert {*column(release, "study_id").values()} == {"p1", "p2/a", "p2/b"}
    assert release.pixels.kind == "grey"
    assert release.rows.select("height", "width").unique().rows() == [(SIDE, SIDE)]
    assert "lesion_present" not in release.rows.columns
    assert release.card.label_names == ()


def test_natural_order():
    names = ["s10.png", "s9.png", "s1.png", "a.png", "10.png", "9.png", "s1b.png", "s01.png"]
    assert sorted(names, key=natural_key) == [
        "9.png", "10.png", "a.png", "s01.png", "s1.png", "s1b.png", "s9.png", "s10.png",
    ]  # fmt: skip


def test_names_of_deeplesion_tell_patient_study_and_series():
    for path in ("000001_02_03/109.png", "any/000001_02_03/109.png", "000001_02_03_109.png"):
        assert owners(path) == ("000001", "000001_02", "000001_02_03")
    assert owners("p1/x/y/3.png") == ("p1", "p1/x", "p1/x/y")
    assert owners("3.png") == (None, "", "")
    assert stem("a/scan.nii.gz") == "a/scan"
    assert stem("a/1.2.840.113") == "a/1.2.840.113"


@pytest.mark.parametrize("offset", [-32768, -1024])
def test_the_offset_of_16_bit_pictures_is_found_by_the_image(tmp_path, offset):
    png(tmp_path, *(f"p{i}/1.png" for i in range(5)), offset=offset)
    release = read(tmp_path)
    assert (release.pixels.kind, release.pixels.offset) == ("hounsfield", offset)
    assert release.pixels.window == (-160, 240)


def test_an_offset_in_doubt_is_an_error_and_can_be_set(tmp_path):
    png(tmp_path, "p1/1.png", "p2/1.png", offset=-8192)
    with pytest.raises(DataError, match=r"cannot tell.*-32768: .*-1024: .*data\.hounsfield_offset"):
        read(tmp_path)
    assert read(tmp_path, hounsfield_offset=-8192).pixels.offset == -8192


def test_grey_and_hounsfield_pictures_do_not_mix(tmp_path):
    png(tmp_path, "p1/1.png")
    png(tmp_path, "p2/1.png", offset=-1024)
    with pytest.raises(DataError, match=r"mixes pictures of 8 and 16 bits: p1/1\.png.*p2/1\.png"):
        read(tmp_path)


def test_kinds_do_not_mix_unless_one_is_chosen(tmp_path):
    png(tmp_path, "p1/1.png")
    dicom(tmp_path, ("p1/IM1", CTSlice("2.25.1.1", 0.0, 1)))
    with pytest.raises(
        DataError, match=r"mixes kinds of files: png \(1, first p1/1\.png\), dicom .*data\.kind"
    ):
        read(tmp_path)
    assert read(tmp_path, kind="dicom").card.counts["left_out.other_kind"] == 1
    assert read(tmp_path, kind="png").rows["path"].to_list() == ["p1/1.png"]
    with pytest.raises(DataError, match="holds no nifti files, but png, dicom"):
        read(tmp_path, kind="nifti")


def test_hidden_files_damaged_files_and_linked_folders(tmp_path):
    root = tmp_path / "root"
    png(root, "p1/1.png", ".hidden/1.png", "__MACOSX/1.png")
    (root / "p1" / "._1.png").write_bytes(b"x")
    (root / "p1" / "notes.txt").write_text("no slice")
    (root / "p1" / "2.png").write_bytes(b"")
    png(tmp_path / "elsewhere", "1.png")
    (root / "p2").symlink_to(tmp_path / "elsewhere")
    release = read(root)
    assert release.rows["path"].to_list() == ["p1/1.png"]
    assert release.rejected.select("path", "reason").rows() == [("p1/2.png", "empty_file")]
    assert release.card.counts["left_out.linked_folder"] == 1


def test_pictures_in_no_folder_need_a_table_of_patients(tmp_path):
    png(tmp_path, "1.png", "2.png", "10.png")
    with pytest.raises(DataError, match=r"no usable slice in .*no_patient_id"):
        read(tmp_path)
    name = table(tmp_path, "image,patient_id\n10.png,A\n2.png,A\n1.png,B\n")
    release = read(tmp_path, table=name)
    assert release.rows.select("path", "patient_id", "series_id", "slice_index").sort("path").rows() == [
        ("1.png", "B", "B", 0), ("10.png", "A", "A", 1), ("2.png", "A", "A", 0),
    ]  # fmt: skip


# --- DICOM


def test_dicom_is_ordered_by_position_from_head_to_feet_and_never_by_name(tmp_path):
    series = "2.25.7.1"
    dicom(
        tmp_path,
        ("p1/a", CTSlice(series, -10.0, 9)),
        ("p1/b.dcm", CTSlice(series, 5.0, 1)),
        ("p1/c.IMA", CTSlice(series, -2.5, 2)),
    )
    release = read(tmp_path)
    assert column(release, "slice_index") == {"p1/b.dcm": 0, "p1/c.IMA": 1, "p1/a": 2}
    row = release.rows.row(0, named=True)
    assert (row["patient_id"], row["study_id"], row["series_id"]) == ("p1", "2.25.7", series)
    assert row["spacing"] == pytest.approx({"row": 0.8, "column": 0.7, "slice": 7.5})
    assert release.pixels.kind == "hounsfield"


def test_a_patient_whose_rows_run_backwards_is_still_ordered_from_the_head(tmp_path):
    prone = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    feet_first = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    for orientation in (prone, feet_first):
        root = tmp_path / str(sum(orientation))
        slices = [(f"p1/{i}", CTSlice("2.25.7.1", 10.0 * i, i, orientation)) for i in range(4)]
        assert column(read(dicom(root, *slices)), "slice_index") == {f"p1/{i}": 3 - i for i in range(4)}


def test_a_tilted_gantry_counts_along_its_own_axis(tmp_path):
    tilted = (1.0, 0.0, 0.0, 0.0, float(np.cos(0.35)), float(-np.sin(0.35)))
    slices = [(f"p1/{i}", CTSlice("2.25.7.1", -5.0 * i, i, tilted)) for i in range(3)]
    release = read(dicom(tmp_path, *slices))
    assert column(release, "slice_index") == {"p1/0": 0, "p1/1": 1, "p1/2": 2}
    assert release.rows["spacing"][0]["slice"] == pytest.approx(5 * np.cos(0.35), abs=1e-3)


def test_without_positions_instance_numbers_count_and_without_both_nothing(tmp_path):
    dicom(
        tmp_path,
        *((f"p1/{9 - i}.dcm", CTSlice("2.25.7.1", None, i)) for i in (1, 2, 10)),
        ("p2/1.dcm", CTSlice("2.25.8.1", None, None)),
        ("p2/2.dcm", CTSlice("2.25.8.1", None, 2)),
    )
    release = read(tmp_path)
    assert column(release, "slice_index") == {"p1/8.dcm": 0, "p1/7.dcm": 1, "p1/-1.dcm": 2}
    assert release.rows["spacing"][0]["slice"] == 5.0  # SliceThickness
    assert {*release.rejected["reason"]} == {"no_slice_order"}
    assert len(release.rejected) == 2


def test_what_is_no_axial_ct_slice_is_left_out_and_counted(tmp_path):
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    dicom(
        tmp_path,
        ("p1/1", CTSlice("2.25.7.1", 0.0, 1)),
        ("p1/scout", CTSlice("2.25.7.2", 0.0, 1, coronal, ("ORIGINAL", "PRIMARY", "LOCALIZER"))),
        ("p1/coronal", CTSlice("2.25.7.3", 0.0, 1, coronal)),
        ("p1/chest", CTSlice("2.25.7.4", None, 1, modality="DX")),
    )
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "p1" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 40)
    release = read(tmp_path)
    assert release.rows["path"].to_list() == ["p1/1"]
    left_out = {key: n for key, n in release.card.counts.items() if key.startswith("left_out")}
    assert left_out == {
        "left_out.localizer": 1, "left_out.not_axial": 1, "left_out.other_modality": 1,
    }  # fmt: skip
    assert release.rejected["path"].to_list() == ["p1/broken.dcm"]
    assert {*read(tmp_path, planes="all").rows["path"]} == {"p1/1", "p1/coronal"}


def test_an_image_exported_twice_counts_once(tmp_path):
    same = uid("image")
    dicom(
        tmp_path,
        ("p1/1", CTSlice("2.25.7.1", 0.0, 1, sop_uid=same)),
        ("p1/again", CTSlice("2.25.7.1", 0.0, 1, sop_uid=same)),
    )
    assert read(tmp_path).rejected.select("path", "reason").rows() == [("p1/again", "duplicate_slice")]


def test_identifiers_of_patients_come_from_folders_and_else_from_the_header(tmp_path, caplog):
    dicom(tmp_path, ("1.dcm", CTSlice("2.25.7.1", 0.0, 1)), ("p1/1.dcm", CTSlice("2.25.8.1", 0.0, 1)))
    release = read(tmp_path)
    assert column(release, "patient_id") == {"1.dcm": "ANONYMOUS", "p1/1.dcm": "p1"}
    assert "ANONYMOUS" not in caplog.text


def test_a_study_that_two_patients_share_is_told_apart(tmp_path):
    dicom(tmp_path, ("p1/1", CTSlice("2.25.7.1", 0.0, 1)), ("p2/2", CTSlice("2.25.7.1", 0.0, 2)))
    release = read(tmp_path)
    assert column(release, "study_id") == {"p1/1": "p1/2.25.7", "p2/2": "p2/2.25.7"}
    assert column(release, "slice_index") == {"p1/1": 0, "p2/2": 0}


# --- NIfTI


def test_each_slice_of_a_volume_is_a_row_from_head_to_feet(tmp_path):
    volume(tmp_path / "p1.nii.gz")
    volume(tmp_path / "p2" / "before.nii")
    volume(tmp_path / "p2" / "after.nii.gz", number=2, affine=(0.7, -0.8, 2.5))  # from the feet on
    release = read(tmp_path)
    assert release.rows["image_id"].to_list() == [
        "p1#0000", "p1#0001", "p1#0002", "p2/after#0000", "p2/after#0001", "p2/before#0000",
        "p2/before#0001", "p2/before#0002",
    ]  # fmt: skip
    assert release.rows["path"][3] == "p2/after.nii.gz#0"
    assert release.rows["slice_index"].to_list() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert release.rows["study_id"].unique().sort().to_list() == ["p1", "p2/after", "p2/before"]
    assert release.rows["patient_id"].unique().sort().to_list() == ["p1", "p2"]
    assert release.rows["spacing"][3] == pytest.approx({"row": 0.8, "column": 0.7, "slice": 2.5})


def test_slices_of_volumes_are_prepared_and_read_like_files(tmp_path):
    root = tmp_path / "root"
    for patient in range(6):
        volume(root / f"p{patient}.nii.gz")
    (root / "p9.nii.gz").write_bytes(b"")
    settings = {"name": "ct_folders", "root": str(root), "size": SIDE}
    paths = {"cache": str(tmp_path / "cache"), "data": str(tmp_path)}
    folder = prepared_folder(settings, paths)
    manifest = CTFolders(**config.manifest_arguments(settings))
    dry = prepare(manifest, root, folder, size=SIDE, max_bad_fraction=0.1, dry_run=True)
    assert dry.counts["rejected.empty_file"] == 1
    assert sum(dry.counts[split] for split in ("train", "validate", "test")) == 18
    plain = open_dataset(settings, paths)
    assert missing_files(plain) == []
    prepare(manifest, root, folder, size=SIDE, max_bad_fraction=0.1)
    stored = open_dataset(settings, paths)
    assert type(stored.source.source).__name__ == "Store"
    assert stored.rows["image_id"].to_list() == plain.rows["image_id"].to_list()
    for row in range(len(stored.rows)):
        shown = units(stored.rows["slice_index"][row])
        for dataset in (plain, stored):
            assert (dataset.source.source.image(row) == shown).all()
            assert dataset.source.size(row) == (SIDE, SIDE)
        grey = np.rint(np.clip((shown.astype(float) + 160) / 400, 0, 1) * 255)
        assert np.abs(stored.source.image(row) - grey).max() <= 1


# --- settings, and the whole way


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "jpg"}, {"unlisted": "positive"}, {"split": "auto"}, {"planes": "coronal"},
        {"access": "public"}, {"hounsfield_offset": "1024"}, {"hounsfield_offset": True},
        {"label_cols": ["a"]},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(settings):
    with pytest.raises(ConfigurationError, match=r"data\."):
        CTFolders(**settings)


def test_missing_tables_and_folders_say_where_was_looked(tmp_path):
    png(tmp_path, "p1/1.png")
    with pytest.raises(DataError, match=r"no table 'gone\.csv': looked for"):
        read(tmp_path, table="gone.csv")
    with pytest.raises(DataError, match="is no folder"):
        read(tmp_path / "gone")


def test_the_fake_release_holds_what_it_says(tmp_path):
    manifest = CTFolders.fake(tmp_path)
    release = manifest.read(tmp_path)
    assert {key: n for key, n in release.card.counts.items() if "." in key} == {
        "left_out.localizer": 1, "left_out.not_axial": 1, "left_out.other_modality": 1,
        "rejected.conflicting_rows": 1, "rejected.duplicate_slice": 1, "rejected.unknown_image": 1,
    }  # fmt: skip
    first = release.rows.filter(pl.col("patient_id") == "pat-01").sort("slice_index")
    assert first["lesion_present"].to_list() == [0, 1, 1, 0]
    assert first["boxes"].list.len().to_list() == [0, 2, None, 0]
    counts = release.rows.group_by("series_id").agg(pl.col("slice_index").sort())
    assert {tuple(one) for one in counts["slice_index"]} == {(0, 1, 2, 3), (0, 1, 2)}


def test_hounsfield_units_of_dicom_survive_up_to_the_window(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    manifest = CTFolders.fake(root)
    settings = {"name": "ct_folders", "root": str(root), "size": 48, "table": "lesions.csv",
                "labels": "studies.csv", "window": "bone"}  # fmt: skip
    paths = {"cache": str(tmp_path / "cache"), "data": str(tmp_path)}
    prepare(manifest, root, prepared_folder(settings, paths), size=48, max_bad_fraction=0.1)
    dataset = open_dataset(settings, paths)
    assert len(dataset.rows) == 20 * 4 - 1
    kinds = set()
    for row, path in enumerate(dataset.rows["path"]):
        file = pydicom.dcmread(root / path)
        kinds.add(file.PixelRepresentation)
        stored = file.pixel_array.astype(np.int32)
        wanted = stored if file.PixelRepresentation else stored + int(file.RescaleIntercept)
        assert (dataset.source.source.image(row) == wanted).all()
        grey = np.rint(np.clip((wanted + 500) / 1800, 0, 1) * 255)
        assert np.abs(dataset.source.image(row) - grey).max() <= 1
    assert kinds == {0, 1}  # one file holds Hounsfield units already
    with pytest.raises(ConfigurationError, match=r"data\.window=row: .* names no window"):
        open_dataset({**settings, "window": "row"}, paths)


def test_pictures_of_a_window_take_no_other(tmp_path):
    root = png(tmp_path / "root", "p1/1.png", "p2/1.png")
    settings = {"name": "ct_folders", "root": str(root), "size": SIDE}
    paths = {"cache": str(tmp_path / "cache"), "data": str(tmp_path)}
    dataset = open_dataset(settings, paths)
    grey = cv2.imread(str(root / "p1/1.png"), cv2.IMREAD_UNCHANGED)
    assert (dataset.source.image(0) == grey).all()
    with pytest.raises(ConfigurationError, match=r"data\.window=lung: ct_folders holds no Hounsfield units"):
        open_dataset({**settings, "window": "lung"}, paths)


def test_a_prepared_root_is_not_read_again_until_a_slice_comes(tmp_path, monkeypatch):
    root = png(tmp_path / "root", *(f"p{i}/1.png" for i in range(8)), offset=-32768)
    name = table(root, "image,lesion_present\np1/1.png,1\n")
    settings = {"name": "ct_folders", "root": str(root), "size": SIDE, "table": name}
    paths = {"cache": str(tmp_path / "cache"), "data": str(tmp_path)}
    manifest = CTFolders(**config.manifest_arguments(settings))
    prepare(manifest, root, prepared_folder(settings, paths), size=SIDE)
    reads = []
    original = CTFolders.read
    monkeypatch.setattr(CTFolders, "read", lambda *a: reads.append(1) or original(*a))
    dataset = open_dataset(settings, paths)
    assert reads == []
    assert dataset.card.mean is not None
    assert (dataset.source.source.image(0) == units(0)).all()
    png(root, "p1/2.png", offset=-32768)
    with pytest.raises(DataError, match="prepare again"):
        open_dataset(settings, paths)
    assert reads == [1]


def test_files_that_went_away_are_named_by_check(tmp_path):
    root = png(tmp_path / "root", "p1/1.png", "p2/1.png", offset=-1024)
    settings = {"name": "ct_folders", "root": str(root), "size": SIDE}
    dataset = open_dataset(settings, {"cache": str(tmp_path / "cache"), "data": str(tmp_path)})
    (root / "p1" / "1.png").unlink()
    assert missing_files(dataset) == [str((root / "p1" / "1.png").resolve())]
