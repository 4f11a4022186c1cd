"""From files to stored pixels: Hounsfield units exact, never rescaled twice; equalised as by scikit-image."""

import cv2
import nibabel
import numpy as np
import pytest
from skimage import exposure

from radlearn.data.images import ImageError
from radlearn.data.nifti import slice_path
from radlearn.data.pixels import (
    GREY,
    equalize,
    file_of,
    read_hounsfield,
    read_pixels,
    resolve_inside,
    source_size,
)
from radlearn.manifests._ct_fake import ct_slice
from radlearn.manifests._ct_folders_fake import CTSlice, write_slice
from radlearn.records import Pixels

SLICE = CTSlice("2.25.1.1", 0.0, 1)
UNITS = ct_slice(64, 48, seed=0, lesion=(20, 20, 10, 8))


def png16(path, stored):
    assert cv2.imwrite(str(path), stored.astype(np.uint16))
    return path


def volume(path, slices):
    affine = np.diag([-0.7, -0.7, -5.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.stack([s.T for s in slices], axis=2), affine), path)
    return path


@pytest.mark.parametrize("kind", ["dicom", "deeplesion", "offset 1024", "nii", "nii.gz"])
def test_hounsfield_units_are_exact_in_every_form(kind, tmp_path):
    offset = 0
    if kind == "dicom":
        path = tmp_path / "IM0001"
        write_slice(path, UNITS, SLICE)
    elif kind.startswith("nii"):
        path = slice_path(volume(tmp_path / f"scan.{kind}", [UNITS[::-1], UNITS]), 1)
    else:
        offset = -32768 if kind == "deeplesion" else -1024
        path = png16(tmp_path / "a.png", UNITS.astype(np.int32) - offset)
    read = read_hounsfield(path, offset=offset)
    assert read.dtype == np.int16
    assert (read == UNITS).all()
    image, size = read_pixels(path, Pixels(kind="hounsfield", offset=offset), short_side=24)
    assert (image.shape, size, image.dtype) == ((32, 24), (64, 48), np.int16)
    assert abs(float(image.mean()) - float(UNITS.mean())) < 1  # area averaging keeps the mean


def test_what_is_rescaled_twice_or_never_is_refused(tmp_path):
    deeplesion = png16(tmp_path / "a.png", UNITS.astype(np.int32) + 32768)
    for offset in (0, -1024, -33792):
        with pytest.raises(ImageError, match=rf"not_hounsfield.*after adding {offset}"):
            read_hounsfield(deeplesion, offset=offset)
    scanner = png16(tmp_path / "b.png", UNITS.astype(np.int32) + 1024)
    with pytest.raises(ImageError, match="not_hounsfield"):
        read_hounsfield(scanner, offset=0)
    with pytest.raises(ImageError, match="not_hounsfield"):
        read_hounsfield(scanner, offset=-32768)
    never = volume(tmp_path / "never.nii", [UNITS + np.int16(1024)])
    with pytest.raises(ImageError, match="not_hounsfield"):
        read_hounsfield(slice_path(never, 0))
    # The scanner's rescale is stated, and the pixels hold Hounsfield units already.
    write_slice(tmp_path / "c.dcm", UNITS, CTSlice("2.25.1.1", 0.0, 1, stores_units=True))
    assert (read_hounsfield(tmp_path / "c.dcm") == UNITS).all()


def test_a_slice_of_air_alone_is_hounsfield_in_every_form(tmp_path):
    noise = np.random.default_rng(0).normal(-1000, 12, (32, 32))
    air = np.clip(np.rint(noise), -1024, 3071).astype(np.int16)
    padded = air.copy()
    padded[:8] = -2000
    for number, units in enumerate((air, padded)):
        write_slice(tmp_path / f"{number}.dcm", np.maximum(units, -1024), SLICE)
        assert (read_hounsfield(tmp_path / f"{number}.dcm") == np.maximum(units, -1024)).all()
        path = png16(tmp_path / f"{number}.png", units.astype(np.int32) + 32768)
        assert (read_hounsfield(path, offset=-32768) == units).all()
    with pytest.raises(ImageError, match="not_hounsfield"):
        read_hounsfield(png16(tmp_path / "low.png", air.astype(np.int32) + 32768 - 1024), offset=-32768)


def test_eight_bits_hold_no_hounsfield_units(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32), np.uint8))
    with pytest.raises(ImageError, match=r"unsupported_mode: .*8 bits hold no Hounsfield units"):
        read_hounsfield(tmp_path / "a.png")


def test_grey_is_read_as_ever(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    image, size = read_pixels(tmp_path / "a.png", GREY)
    assert (image == picture).all()
    assert size == (40, 30)
    image, _ = read_pixels(tmp_path / "a.png", Pixels(equalize=True), short_side=15)
    assert image.shape == (20, 15)
    assert abs(float(image.mean()) - 127.5) < 3


@pytest.mark.parametrize("shape", ["noise", "narrow", "skewed", "few greys", "one grey", "two greys"])
def test_equalisation_is_that_of_scikit_image(shape):
    generator = np.random.default_rng(0)
    image = {
        "noise": generator.integers(0, 256, (64, 64)),
        "narrow": np.clip(generator.normal(90, 12, (120, 90)), 0, 255),
        "skewed": np.clip(generator.exponential(30, (120, 90)) + 12, 0, 255),
        "few greys": generator.integers(100, 104, (40, 40)),
        "one grey": np.full((20, 20), 7),
        "two greys": generator.integers(0, 2, (40, 40)) * 255,
    }[shape].astype(np.uint8)
    theirs = np.rint(exposure.equalize_hist(image / 255) * 255)
    assert np.abs(equalize(image).astype(int) - theirs).max() <= 1


def test_paths_of_slices_stay_inside_the_root(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    volume(outside / "scan.nii.gz", [UNITS])
    (root / "link.nii.gz").symlink_to(outside / "scan.nii.gz")
    inside = volume(root / "scan.nii.gz", [UNITS, UNITS[::-1]])
    assert resolve_inside(root, "scan.nii.gz#1") == (root / "scan.nii.gz#1").resolve()
    assert (read_hounsfield(resolve_inside(root, "scan.nii.gz#1")) == UNITS[::-1]).all()
    for path in ("link.nii.gz#0", "../outside/scan.nii.gz#0", str(outside / "scan.nii.gz#0")):
        with pytest.raises(ImageError, match="path_escape"):
            resolve_inside(root, path)
    assert file_of("scan.nii.gz#1") == "scan.nii.gz"
    assert file_of("a/b.png") == "a/b.png"
    assert source_size(f"{inside}#0") == (64, 48)
    assert source_size(png16(tmp_path / "a.png", np.zeros((20, 33)))) == (20, 33)
