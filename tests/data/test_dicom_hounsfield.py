"""Hounsfield units of real slices, and the image as a witness of how often it was rescaled."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_files import ALL, TEST_FILES, noise, reason, smooth, write
from PIL import Image

from radlearn.data.dicom import (
    check_hounsfield,
    read_header,
    read_hounsfield,
    to_hounsfield,
)
from radlearn.data.images import (
    ImageError,
)
from radlearn.errors import DataError

CT = ["CT_small", "693_UNCR", "693_J2KR", "693_UNCI", "693_J2KI", "J2K_pixelrep_mismatch", "bad_sequence"]


@pytest.mark.parametrize("name", [*CT, "explicit_VR-UN"])
def test_real_slices_become_hounsfield_units(name):
    dataset = pydicom.dcmread(ALL[f"{name}.dcm"])
    stored = dataset.pixel_array.astype(float)
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    expected = stored * slope + intercept
    if "PixelPaddingValue" in dataset:
        expected[stored == dataset.PixelPaddingValue] = -1024
    for units in ("auto", "raw"):
        image = read_hounsfield(ALL[f"{name}.dcm"], units=units)
        assert image.dtype == np.int16
        np.testing.assert_array_equal(image, expected)
    check_hounsfield(image)


@pytest.mark.parametrize("name", CT)
def test_the_image_tells_whether_the_rescale_was_done_never_once_or_twice(name):
    dataset = pydicom.dcmread(ALL[f"{name}.dcm"])
    hounsfield = read_hounsfield(ALL[f"{name}.dcm"])
    check_hounsfield(hounsfield)
    # Undone and done again by the usual intercept, whatever this file's is.
    with pytest.raises(DataError, match="seems not to be applied"):
        check_hounsfield(np.maximum(hounsfield.astype(int), -1024) + 1024)
    with pytest.raises(DataError, match="applied twice"):
        check_hounsfield(hounsfield.astype(int) - 1024)
    if dataset.RescaleIntercept:
        assert reason(read_hounsfield, ALL[f"{name}.dcm"], units="hu") == "not_hounsfield"


def test_a_file_that_holds_hounsfield_units_is_not_rescaled_again(tmp_path):
    """What converters write: the values are rescaled, the header still says -1024."""
    hounsfield = read_hounsfield(ALL["693_UNCR.dcm"])
    stale = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
    path = write(tmp_path / "a.dcm", hounsfield, **stale)
    for units in ("auto", "hu"):
        np.testing.assert_array_equal(read_hounsfield(path, units=units), hounsfield)
    with pytest.raises(ImageError, match=r"units=raw.*twice.*set units=hu"):
        read_hounsfield(path, units="raw")
    forgotten = write(tmp_path / "b.dcm", (hounsfield + 1024).astype(np.uint16), Modality="CT")
    with pytest.raises(ImageError, match=r"not_hounsfield.*no rescale in the header.*not to be applied"):
        read_hounsfield(forgotten)


def test_a_slice_inside_the_body_needs_no_air():
    generator = np.random.default_rng(0)
    tissue = generator.normal(40, 30, (64, 64)).round().astype(np.int16)
    check_hounsfield(tissue)
    with pytest.raises(DataError, match="not to be applied"):
        check_hounsfield(tissue + 1024)
    with pytest.raises(DataError, match="twice"):
        check_hounsfield(tissue - 1024)
    with pytest.raises(DataError, match="no pixels"):
        check_hounsfield(tissue[:0])


def test_padding_that_no_header_declares_is_no_second_rescale():
    hounsfield = read_hounsfield(ALL["693_UNCR.dcm"]).copy()
    hounsfield[hounsfield < -1000] = -3024
    check_hounsfield(hounsfield)


def test_images_without_hounsfield_units_are_refused(tmp_path):
    localizer = next(p for p in (TEST_FILES / "dicomdirtests").rglob("CT2N/*"))
    for path in (ALL["MR_small.dcm"], ALL["SC_rgb.dcm"], localizer):
        assert reason(read_hounsfield, path) == "not_hounsfield"
    other = write(tmp_path / "a.dcm", noise(0, 99, np.uint16), Modality="CT", RescaleType="US")
    with pytest.raises(ImageError, match="unit US"):
        read_hounsfield(other)
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    assert reason(read_hounsfield, tmp_path / "a.png") == "unsupported_format"
    assert reason(read_header, tmp_path / "a.png") == "unsupported_format"


def test_to_hounsfield_rounds_and_holds_at_the_ends():
    stored = np.array([0, 31744, 32768, 32808, 65535], np.uint16)
    np.testing.assert_array_equal(to_hounsfield(stored, 1, -32768), [-32768, -1024, 0, 40, 32767])
    np.testing.assert_array_equal(to_hounsfield(stored), [0, 31744, 32767, 32767, 32767])
    np.testing.assert_array_equal(to_hounsfield(np.array([0, 1, 3]), 0.5, -1000.2), [-1000, -1000, -999])
    assert to_hounsfield(stored).dtype == np.int16
