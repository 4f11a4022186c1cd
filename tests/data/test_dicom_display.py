"""From stored values to grey, against pydicom and the standard's own formulas."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import ALL, noise, write
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from radlearn.data._dicom_display import window_linear, window_linear_exact, window_sigmoid
from radlearn.data.dicom import (
    read_header,
    read_hounsfield,
)
from radlearn.data.images import (
    read_image,
    to_uint8,
)


def test_window_functions_are_the_examples_of_the_standard():
    """PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2 print these for output 0 to 255."""
    x = np.arange(-200, 5000, dtype=float)
    cases = {
        (2048, 4096): ((x - 2047.5) / 4095 + 0.5) * 255,
        (2048, 1): np.where(x <= 2047.5, 0, 255),
        (0, 100): ((x + 0.5) / 99 + 0.5) * 255,
        (0, 1): np.where(x <= -0.5, 0, 255),
    }
    for (centre, width), expected in cases.items():
        np.testing.assert_allclose(
            255 * window_linear(x, centre, width), np.clip(expected, 0, 255), atol=1e-9
        )
    exact = np.clip(((x - 2048) / 4096 + 0.5) * 255, 0, 255)
    np.testing.assert_allclose(255 * window_linear_exact(x, 2048, 4096), exact, atol=1e-9)
    np.testing.assert_allclose(window_sigmoid(x, 40, 400), 1 / (1 + np.exp(-4 * (x - 40) / 400)))
    assert window_sigmoid(np.array([-1e9, 1e9]), 0, 1).tolist() == pytest.approx([0, 1])


def presented(dataset):
    """[0, 1] as pydicom computes it, then the inversion."""
    values = apply_modality_lut(dataset.pixel_array, dataset)
    if "VOILUTSequence" in dataset:
        entries = apply_voi(values.astype(np.int64), dataset).astype(float)
        shown = entries / (2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1)
    else:
        # pydicom maps to the stored range after rescale.
        bits, signed = dataset.BitsStored, dataset.PixelRepresentation
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], float)
        ends = ends * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
        shown = (apply_windowing(values, dataset) - ends[0]) / (ends[1] - ends[0])
    return 1 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


@pytest.mark.parametrize(
    "name",
    [
        *(f"MR2_{kind}" for kind in ("UNCR", "J2KI")),
        *(f"RG1_{kind}" for kind in ("UNCR", "UNCI")),
        *(f"RG3_{kind}" for kind in ("UNCR", "J2KI")),
        "693_UNCR",
        "MR_small",
        "MR-SIEMENS-DICOM-WithOverlays",
        "J2K_pixelrep_mismatch",
        "bad_sequence",
        "JPGLosslessP14SV1_1s_1f_8b",
        "vlut_04",
    ],
)
def test_windows_of_real_files_are_pydicoms(name):
    dataset = pydicom.dcmread(ALL[f"{name}.dcm"])
    image, shown = read_image(ALL[f"{name}.dcm"]), presented(dataset)
    if "PixelPaddingValue" in dataset:
        shown[dataset.pixel_array == dataset.PixelPaddingValue] = 0
    assert image.dtype == (np.uint8 if dataset.BitsStored == 8 else np.uint16)
    assert np.abs(image - shown * np.iinfo(image.dtype).max).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("rescale", [None, (2.5, -1024), (-1, 100)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_the_whole_chain_is_pydicoms(tmp_path, function, rescale, photometric, dtype):
    low = -2048 if dtype == np.int16 else 0
    attributes = {"VOILUTFunction": function, "PhotometricInterpretation": photometric}
    if rescale:
        attributes |= {"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]}
    path = write(
        tmp_path / "a.dcm",
        noise(low, low + 4096, dtype),
        bits=12,
        WindowCenter=[350.5, 40],
        WindowWidth=[1500, 400],
        **attributes,
    )
    image = read_image(path)
    assert image.dtype == np.uint16
    assert np.abs(image - presented(pydicom.dcmread(path)) * 65535).max() <= 0.5 + 1e-6


def test_modality_lut_then_window(tmp_path):
    dataset = pydicom.dcmread(ALL["mlut_18.dcm"])
    values = apply_modality_lut(dataset.pixel_array, dataset).astype(float)
    entries = np.asarray(dataset.ModalityLUTSequence[0].LUTData, float)
    expected = (values - entries.min()) / (entries.max() - entries.min()) * 65535
    assert np.abs(read_image(ALL["mlut_18.dcm"]) - expected).max() <= 0.5
    dataset.WindowCenter, dataset.WindowWidth = float(np.median(values)), float(np.ptp(values) / 3)
    dataset.save_as(tmp_path / "a.dcm")
    shown = window_linear(values, dataset.WindowCenter, dataset.WindowWidth) * 65535
    assert np.abs(read_image(tmp_path / "a.dcm") - shown).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("big_endian", [False, True])
def test_tables_in_words_follow_the_byte_order_of_the_file(tmp_path, big_endian):
    entries = np.arange(1000, 0, -1).astype(np.uint16) * 4
    pixels = noise(0, 1200, np.uint16)
    item = Dataset()
    item.LUTDescriptor = [1000, 100, 12]
    item.add_new("LUTData", "OW", entries.astype(">u2" if big_endian else "<u2").tobytes())
    path = write(tmp_path / "a.dcm", pixels, bits=11, big_endian=big_endian, VOILUTSequence=[item])
    expected = entries[np.clip(pixels.astype(int) - 100, 0, 999)] / 4095 * 65535
    assert np.abs(read_image(path) - expected).max() <= 0.5


def test_inversion_is_done_once(tmp_path):
    pixels = noise(0, 256, np.uint8)
    for number, (photometric, shape, inverted) in enumerate(
        [
            ("MONOCHROME2", "IDENTITY", False),
            ("MONOCHROME2", "INVERSE", True),
            ("MONOCHROME1", "INVERSE", True),
            ("MONOCHROME1", None, True),
        ]
    ):
        attributes = {"PresentationLUTShape": shape} if shape else {}
        path = write(tmp_path / f"{number}.dcm", pixels, PhotometricInterpretation=photometric, **attributes)
        np.testing.assert_array_equal(read_image(path), 255 - pixels if inverted else pixels)


def test_padding_is_black_whatever_the_window_says(tmp_path):
    pixels = noise(-1000, 2000, np.int16)
    pixels[:4], pixels[4:6], pixels[6] = -2000, -1500, -1400
    window = {"WindowCenter": 0, "WindowWidth": 2000, "PhotometricInterpretation": "MONOCHROME1"}
    single = write(tmp_path / "a.dcm", pixels, PixelPaddingValue=-2000, **window)
    image = read_image(single)
    assert image[:4].max() == 0
    assert image[4:7].min() == 65535
    several = write(
        tmp_path / "b.dcm", pixels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1500, **window
    )
    image = read_image(several)
    assert image[:6].max() == 0
    assert image[6].min() == 65535


def test_without_a_window_the_stored_range_is_shown(tmp_path):
    pixels = noise(1000, 2000, np.uint16)
    image = read_image(write(tmp_path / "a.dcm", pixels, bits=12))
    np.testing.assert_array_equal(image, np.rint(pixels / 4095 * 65535))
    # A width of 0 or a centre alone is no window.
    for number, window in enumerate([{"WindowCenter": 50, "WindowWidth": 0}, {"WindowCenter": 50}]):
        path = write(tmp_path / f"{number}.dcm", pixels, bits=12, **window)
        np.testing.assert_array_equal(read_image(path), image)
    # What is shown then are the percentiles, and no two of 4,096 values have become one.
    shown = to_uint8(image)
    low, high = np.percentile(pixels, [0.5, 99.5], method="inverted_cdf").astype(float)
    assert np.abs(shown - np.clip((pixels - low) / (high - low) * 255, 0, 255)).max() <= 0.51  # of 16 bits
    assert np.unique(image).size == np.unique(pixels).size


def test_values_beyond_the_stated_bits_are_kept_in_order(tmp_path):
    pixels = noise(0, 5000, np.uint16)
    frame = imagecodecs.jpegls_encode(pixels)
    path = write(tmp_path / "a.dcm", pixels, syntax="1.2.840.10008.1.2.4.80", frame=frame, bits=12)
    order = np.argsort(pixels, axis=None)
    assert (np.diff(read_image(path).ravel()[order].astype(int)) >= 0).all()
    assert np.unique(read_image(path)).size == np.unique(pixels).size


def test_eight_bits_stay_eight_unless_the_window_would_merge_values(tmp_path):
    pixels = noise(0, 256, np.uint8)
    narrow = write(tmp_path / "a.dcm", pixels, WindowCenter=100, WindowWidth=51)
    expected = np.rint(window_linear(pixels.astype(float), 100, 51) * 255)
    image = read_image(narrow)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)
    wide = read_image(write(tmp_path / "b.dcm", pixels, WindowCenter=128, WindowWidth=1000))
    assert wide.dtype == np.uint16
    assert np.unique(wide).size == np.unique(pixels).size


def test_one_bit_becomes_black_and_white():
    dataset = pydicom.dcmread(ALL["liver_1frame.dcm"])
    np.testing.assert_array_equal(read_image(ALL["liver_1frame.dcm"]), dataset.pixel_array * 255)


def enhanced(tmp_path, **attributes):
    """The one frame of an enhanced CT: rescale, window and position stand in functional groups."""

    def item(**values):
        inner = Dataset()
        for keyword, value in values.items():
            setattr(inner, keyword, value)
        return inner

    shared = item(
        PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-1024, RescaleType="HU")],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=3)],
    )
    own = item(
        FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=400)],
        PlanePositionSequence=[item(ImagePositionPatient=[1, 2, 3])],
    )
    pixels = np.where(noise(0, 3, np.uint16) == 0, 12, noise(480, 560, np.uint16)).astype(np.uint16)
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [own]}
    path = write(tmp_path / "e.dcm", pixels, bits=12, Modality="CT", NumberOfFrames=1, **groups, **attributes)
    return path, pixels


def test_a_single_frame_of_an_enhanced_object_has_its_rescale_and_window(tmp_path):
    path, pixels = enhanced(tmp_path)
    hounsfield = pixels.astype(int) * 2 - 1024
    np.testing.assert_array_equal(read_hounsfield(path), hounsfield)
    np.testing.assert_array_equal(read_image(path), np.rint(window_linear(hounsfield, 40, 400) * 65535))
    header = read_header(path)
    assert (header.rescale_slope, header.rescale_intercept) == (2, -1024)
    assert (header.pixel_spacing, header.slice_thickness) == ((0.5, 0.75), 3)
    assert header.image_position == (1, 2, 3)
