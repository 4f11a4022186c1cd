"""NIfTI volumes: one orientation whatever the file's, slices from head to feet, every damaged file named."""

import gzip
import os

import nibabel
import numpy as np
import pytest

from radlearn.data import nifti
from radlearn.data.images import ImageError
from radlearn.data.nifti import is_nifti, read_header, read_slice, slice_path, split_path

# Left-right, back-front and foot-head axes of a file point left, back and to the feet: as slices are shown.
SHOWN = np.diag([-0.7, -0.8, -3.0, 1.0])
WIDTH, HEIGHT, SLICES = 20, 18, 5


@pytest.fixture
def volume():
    """(columns, rows, slices) int16 in which each voxel tells where it is."""
    columns, rows, slices = np.meshgrid(*(np.arange(n) for n in (WIDTH, HEIGHT, SLICES)), indexing="ij")
    return (slices * 400 + rows * 20 + columns - 900).astype(np.int16)


def save(path, voxels, affine=SHOWN, **header):
    image = nibabel.Nifti1Image(voxels, affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def reoriented(volume, codes):
    """The same volume with axes that point as `codes` say, by hand: flips and a transposition."""
    opposite = {"L": "R", "P": "A", "I": "S"}
    voxels, affine = volume, SHOWN.copy()
    axis_of = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
    order = [axis_of[code] for code in codes]
    for axis, own in enumerate("LPI"):
        if opposite[own] in codes:
            voxels = np.flip(voxels, axis)
            affine[:, 3] += affine[:, axis] * (volume.shape[axis] - 1)
            affine[:, axis] *= -1
    return voxels.transpose(order), affine[:, [*order, 3]]


@pytest.mark.parametrize("codes", ["LPI", "RAS", "LPS", "RPI", "PIR", "ASL", "SRA"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slices_look_the_same_whatever_the_axes_of_the_file(volume, codes, name, tmp_path):
    path = save(tmp_path / name, *reoriented(volume, codes))
    assert nibabel.aff2axcodes(nibabel.load(path).affine) == tuple(codes)
    header = read_header(path)
    assert (header.num_slices, header.height, header.width) == (SLICES, HEIGHT, WIDTH)
    assert header.spacing == pytest.approx((0.8, 0.7, 3.0))
    for index in range(SLICES):
        assert (read_slice(path, index) == volume[:, :, index].T).all()


def test_an_oblique_volume_is_turned_to_its_nearest_axes(volume, tmp_path):
    angle = np.deg2rad(20)  # a tilted gantry
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = SHOWN.copy()
    affine[:3, :3] = tilt @ affine[:3, :3]
    path = save(tmp_path / "a.nii.gz", volume, affine)
    assert (read_slice(path, 1) == volume[:, :, 1].T).all()


def test_slope_and_intercept_are_applied_and_floats_rounded(volume, tmp_path):
    stored = (volume + 1024).astype(np.uint16)
    path = save(tmp_path / "a.nii", stored)
    with path.open("r+b") as file:  # nibabel chooses a slope itself when it saves
        file.seek(112)
        file.write(np.array([1, -1024], "<f4").tobytes())
    assert (read_slice(path, 2) == volume[:, :, 2].T).all()
    path = save(tmp_path / "b.nii", volume + np.float32(0.4))
    assert (read_slice(path, 2) == volume[:, :, 2].T).all()
    assert read_slice(path, 2).dtype == np.int16
    path = save(tmp_path / "c.nii", np.full((20, 20, 2), 1e9, np.float32))
    assert (read_slice(path, 0) == 32767).all()


def test_an_edited_file_is_read_anew(volume, tmp_path):
    path = save(tmp_path / "a.nii.gz", volume)
    before = read_slice(path, 0)
    save(path, volume + np.int16(1))
    os.utime(path, ns=(1, 1))
    assert (read_slice(path, 0) == before + 1).all()


def test_a_compressed_volume_is_unpacked_once(volume, tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz", volume)
    opened = []
    original = nifti._open
    monkeypatch.setattr(nifti, "_open", lambda path: opened.append(path) or original(path))
    for index in range(SLICES):
        read_slice(path, index)
    assert len(opened) == 1
    assert nifti._voxels.cache_info().maxsize == 1


def test_a_fourth_axis_of_length_one_is_no_axis(volume, tmp_path):
    path = save(tmp_path / "a.nii", volume[..., None])
    assert read_header(path).num_slices == SLICES
    assert (read_slice(path, 3) == volume[:, :, 3].T).all()


def test_what_is_no_ct_volume_is_refused_by_name(volume, tmp_path):
    whole = save(tmp_path / "whole.nii.gz", volume).read_bytes()
    files = {
        "missing": None,
        "empty_file": b"",
        "corrupt": b"no volume at all" * 40,
    }
    for reason, content in files.items():
        path = tmp_path / f"{reason}.nii"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ImageError) as error:
            read_header(path)
        assert error.value.reason == reason
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ImageError, match="truncated"):
        read_slice(cut, 0)
    # Every byte after the header counts, as the checksum is at the end.
    damaged = tmp_path / "damaged.nii.gz"
    for place in (len(whole) // 2, len(whole) - 20, len(whole) - 6):
        packed = bytearray(whole)
        packed[place] ^= 255
        damaged.write_bytes(packed)
        os.utime(damaged, ns=(place, place))
        with pytest.raises(ImageError, match=r"truncated|corrupt"):
            read_slice(damaged, 0)
    damaged.write_bytes(gzip.compress(gzip.decompress(whole) + b"\0" * 2**25))
    with pytest.raises(ImageError, match="too_large"):
        read_slice(damaged, 0)


@pytest.mark.parametrize(
    ("voxels", "reason"),
    [
        (np.zeros((20, 20, 3, 2), np.int16), "multi_frame"),
        (np.zeros((20, 20), np.int16), "multi_frame"),
        (np.zeros((20, 8, 3), np.int16), "too_small"),
        (np.zeros((20, 20, 3), np.complex64), "unsupported_mode"),
    ],
)
def test_shapes_and_types_that_are_no_slices(voxels, reason, tmp_path):
    with pytest.raises(ImageError) as error:
        read_header(save(tmp_path / "a.nii", voxels))
    assert error.value.reason == reason


def test_a_header_that_claims_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((20, 20, 3), np.int16))
    with path.open("r+b") as file:
        file.seek(42)
        file.write(np.array([4096, 4096, 4096], "<i2").tobytes())
    with pytest.raises(ImageError, match="too_large"):
        read_header(path)


def test_a_volume_without_orientation_is_refused(volume, tmp_path):
    path = save(tmp_path / "a.nii", volume)
    with path.open("r+b") as file:
        file.seek(252)
        file.write(np.zeros(2, "<i2").tobytes())
    with pytest.raises(ImageError, match="nothing tells head from feet"):
        read_header(path)


def test_voxels_that_are_no_numbers_and_slices_beyond_the_end(volume, tmp_path):
    voxels = volume.astype(np.float32)
    voxels[3, 3, 1] = np.nan
    path = save(tmp_path / "a.nii", voxels)
    assert (read_slice(path, 0) == volume[:, :, 0].T).all()
    with pytest.raises(ImageError, match="nan"):
        read_slice(path, 1)
    with pytest.raises(ImageError, match="the volume has 5 slices"):
        read_slice(path, SLICES)


def test_paths_of_slices():
    assert split_path("p/scan.nii.gz#12") == ("p/scan.nii.gz", 12)
    assert split_path(slice_path("p/scan.NII", 0)) == ("p/scan.NII", 0)
    for other in ("p/scan.nii.gz", "p/a#3.png", "p/scan.nii#x", "p#1/scan.nii"):
        assert split_path(other) == (other, None)
    assert is_nifti("a.NII.GZ")
    assert not is_nifti("a.nii.png")
