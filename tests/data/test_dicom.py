"""DICOM against pydicom, and files that hold the same pixels in other encodings; headers."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import imagecodecs
import numpy as np
import pydicom
import pytest
import simplejpeg
from dicom_files import ALL, TEST_FILES, noise, reason, smooth, write
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder

from radlearn.data._dicom_codestream import read_codestream
from radlearn.data.dicom import (
    is_dicom,
    read_header,
    read_stored,
)
from radlearn.data.images import (
    image_size,
    luma,
    read_image,
    read_image_and_size,
    resize_short,
)

REFUSED = {
    **dict.fromkeys(
        [
            "DICOMDIR-empty.dcm",
            "ExplVR_BigEndNoMeta.dcm",
            "ExplVR_LitEndNoMeta.dcm",
            "UN_sequence.dcm",
            "empty_charset_LEI.dcm",
            "meta_missing_tsyntax.dcm",
            "nested_priv_SQ.dcm",
            "no_meta_group_length.dcm",
            "priv_SQ.dcm",
            "reportsi.dcm",
            "reportsi_with_empty_number_tags.dcm",
            "rtplan.dcm",
            "rtplan_truncated.dcm",
            "rtstruct.dcm",
            "test-SR.dcm",
            "waveform_ecg.dcm",
        ],
        "no_pixels",
    ),
    **dict.fromkeys(
        [
            "OBXXXX1A_2frame.dcm",
            "OBXXXX1A_expb_2frame.dcm",
            "OBXXXX1A_rle_2frame.dcm",
            "SC_rgb_16bit_2frame.dcm",
            "SC_rgb_2frame.dcm",
            "SC_rgb_32bit_2frame.dcm",
            "SC_rgb_expb_16bit_2frame.dcm",
            "SC_rgb_expb_2frame.dcm",
            "SC_rgb_expb_32bit_2frame.dcm",
            "SC_rgb_rle_16bit_2frame.dcm",
            "SC_rgb_rle_2frame.dcm",
            "SC_rgb_rle_32bit_2frame.dcm",
            "color3d_jpeg_baseline.dcm",
            "eCT_Supplemental.dcm",
            "emri_small.dcm",
            "emri_small_RLE.dcm",
            "emri_small_big_endian.dcm",
            "emri_small_jpeg_2k_lossless.dcm",
            "emri_small_jpeg_ls_lossless.dcm",
            "examples_ybr_color.dcm",
            "liver.dcm",
            "liver_expb.dcm",
            "rtdose.dcm",
            "rtdose_expb.dcm",
            "rtdose_rle.dcm",
        ],
        "multi_frame",
    ),
    **dict.fromkeys(
        [
            "JPEGLSNearLossless_08.dcm",
            "JPEGLSNearLossless_16.dcm",
            "SC_rgb_small_odd.dcm",
            "SC_rgb_small_odd_big_endian.dcm",
            "SC_rgb_small_odd_jpeg.dcm",
            "rtdose_1frame.dcm",
            "rtdose_expb_1frame.dcm",
            "rtdose_rle_1frame.dcm",
        ],
        "too_small",
    ),
    "MR_truncated.dcm": "truncated",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "truncated",
    "JPEG2000-embedded-sequence-delimiter.dcm": "corrupt",  # the frame ends in the middle of its own header
    "badVR.dcm": "corrupt",  # '1A' frames
    "no_meta.dcm": "unsupported_format",  # begins with a blank
    "SC_rgb_32bit.dcm": "unsupported_mode",
    "SC_rgb_expb_32bit.dcm": "unsupported_mode",
    "SC_rgb_rle_32bit.dcm": "unsupported_mode",
}
# gdcm decodes no 12-bit JPEG; the last has no meta header, so pydicom does not know its encoding.
ONLY_OURS = ("JPEG-lossy.dcm", "JPGExtended.dcm", "OT-PAL-8-face.dcm")
GREY_LIKE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")


# --- the files of pydicom and pydicom-data


def test_there_are_as_many_files_as_ever():
    assert len(ALL) == 147
    assert set(REFUSED) < set(ALL)


@pytest.mark.parametrize("name", [name for name in ALL if name not in REFUSED])
def test_every_other_file_is_a_grey_image(name):
    image, size = read_image_and_size(ALL[name])
    assert image.shape == size == image_size(ALL[name])
    assert image.dtype in (np.uint8, np.uint16)
    assert image.max() > image.min()


@pytest.mark.parametrize(("name", "why"), REFUSED.items())
def test_files_that_hold_no_single_image_are_refused_by_name(name, why):
    assert reason(read_image, ALL[name]) == why
    in_header = why in ("no_pixels", "multi_frame", "too_small", "unsupported_format")
    if in_header and name != "nested_priv_SQ.dcm":
        assert reason(image_size, ALL[name]) == why


@pytest.mark.parametrize("name", [name for name in ALL if name not in (*REFUSED, *ONLY_OURS, "RG1_J2KR.dcm")])
def test_stored_pixels_are_pydicoms(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pydicom.dcmread(ALL[name]).pixel_array
    np.testing.assert_array_equal(read_stored(ALL[name]), expected)


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("MR_small_RLE", "MR_small"),
        ("MR_small_bigendian", "MR_small"),
        ("MR_small_implicit", "MR_small"),
        ("MR_small_jp2klossless", "MR_small"),
        ("MR_small_jpeg_ls_lossless", "MR_small"),
        ("693_J2KR", "693_UNCR"),
        ("693_J2KI", "693_UNCI"),
        ("MR2_J2KR", "MR2_UNCR"),
        ("RG3_J2KR", "RG3_UNCR"),
        ("US1_J2KR", "US1_UNCR"),
        ("JPEG2000", "JPEG2000_UNC"),
        ("OBXXXX1A_rle", "OBXXXX1A"),
        ("OBXXXX1A_expb", "OBXXXX1A"),
        ("gdcm-US-ALOKA-16_big", "gdcm-US-ALOKA-16"),
        ("SC_rgb_rle", "SC_rgb"),
        ("SC_rgb_expb", "SC_rgb"),
        ("SC_rgb_16bit", "SC_rgb"),
        ("SC_rgb_rle_16bit", "SC_rgb"),
        ("SC_rgb_jpeg_gdcm", "SC_rgb"),
        ("SC_rgb_jpeg", "SC_rgb_jpeg_dcmd"),
        ("liver_expb_1frame", "liver_1frame"),
    ],
)
def test_an_encoding_changes_no_grey_value(name, twin):
    np.testing.assert_array_equal(read_image(ALL[f"{name}.dcm"]), read_image(ALL[f"{twin}.dcm"]))


@pytest.mark.parametrize("form", ["+eb+cr", "+eb+cy+n1", "+eb+cy+n2", "+eb+cy+np", "+eb+cy+s2", "+eb+cy+s4"])
def test_colour_jpeg_is_converted_once(form):
    """RGB or YBR, subsampled or not, with or without the marker that says which: within JPEG's rounding."""
    decompressed = ALL[f"SC_rgb_dcmtk_{form.replace('+', '')}_dcmd.dcm"]
    difference = read_image(ALL[f"SC_rgb_dcmtk_{form}.dcm"]).astype(int) - read_image(decompressed)
    assert np.abs(difference).max() <= 2


def test_colour_becomes_luma():
    for name in ("SC_ybr_full_uncompressed", "SC_ybr_full_422_uncompressed"):
        assert np.abs(read_image(ALL[f"{name}.dcm"]).astype(int) - read_image(ALL["SC_rgb.dcm"])).max() <= 3
    dataset = pydicom.dcmread(ALL["examples_palette.dcm"])
    colour = apply_color_lut(dataset.pixel_array, dataset)
    np.testing.assert_array_equal(
        read_image(ALL["examples_palette.dcm"]), luma((colour >> 8).astype(np.uint8))
    )


def test_twelve_bit_jpeg_has_the_values_of_pydicoms_own_tests():
    """tests/pixels/pixels_reference.py of pydicom 3: JPGExtended.dcm."""
    pixels = read_stored(ALL["JPGExtended.dcm"])
    assert (pixels[420, 140], pixels[230, 120]) == (244, 95)
    np.testing.assert_array_equal(pixels, read_stored(ALL["JPEG-lossy.dcm"]))


# --- encodings that the files do not have


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        ("1.2.840.10008.1.2.4.70", lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
        ("1.2.840.10008.1.2.4.57", lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=4)),
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
        (
            "1.2.840.10008.1.2.4.90",
            lambda a: imagecodecs.jpeg2k_encode(
                a, level=0, reversible=True, codecformat="j2k", bitspersample=12
            ),
        ),
        ("1.2.840.10008.1.2.4.201", imagecodecs.htj2k_encode),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_encodings_return_what_was_encoded(tmp_path, syntax, encode, signed):
    pixels = noise(-2048, 2048, np.int16) if signed else noise(0, 4096, np.uint16)
    # 16-bit streams hold a negative number with 12 or with 16 bits.
    for number, patterns in enumerate([pixels.view(np.uint16) & 4095, pixels.view(np.uint16)]):
        if number and syntax.endswith((".70", ".90")):
            continue  # a 12-bit stream
        path = write(tmp_path / f"{number}.dcm", pixels, syntax=syntax, frame=encode(patterns), bits=12)
        np.testing.assert_array_equal(read_stored(path), pixels)


@pytest.mark.parametrize("seed", range(3))
def test_grey_jpeg_baseline_is_gdcms_bit_by_bit(tmp_path, seed):
    pixels = np.random.default_rng(seed).permuted(smooth(), axis=seed % 2) if seed else smooth()
    frame = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels)[..., None], 85, "GRAY")
    path = write(tmp_path / "a.dcm", pixels, syntax="1.2.840.10008.1.2.4.50", frame=frame)
    decoder = get_decoder("1.2.840.10008.1.2.4.50")
    expected, _ = decoder.as_array(pydicom.dcmread(path), index=0, decoding_plugin="gdcm")
    np.testing.assert_array_equal(read_image(path), expected)


def test_short_side_shrinks_as_for_other_files(tmp_path):
    path = ALL["RG3_UNCR.dcm"]
    small, size = read_image_and_size(path, short_side=200)
    assert size == (1760, 1760)
    np.testing.assert_array_equal(small, resize_short(read_image(path), 200))
    image = smooth(512, 640)
    frame = simplejpeg.encode_jpeg(image[..., None], 95, "GRAY")
    (tmp_path / "a.jpg").write_bytes(frame)
    dcm = write(tmp_path / "a.dcm", image, syntax="1.2.840.10008.1.2.4.50", frame=frame)
    for short_side in (100, 256, 600):
        expected = read_image(tmp_path / "a.jpg", short_side=short_side)
        np.testing.assert_array_equal(read_image(dcm, short_side=short_side), expected)
    inverted = write(
        tmp_path / "b.dcm",
        image,
        syntax="1.2.840.10008.1.2.4.50",
        frame=frame,
        PhotometricInterpretation="MONOCHROME1",
    )
    np.testing.assert_array_equal(
        read_image(inverted, short_side=256), resize_short(255 - read_image(tmp_path / "a.jpg"), 256)
    )


# --- headers


def test_a_header_has_what_groups_and_orders_slices():
    header = read_header(ALL["CT_small.dcm"])
    dataset = pydicom.dcmread(ALL["CT_small.dcm"])
    assert header.patient_id == dataset.PatientID == "1CT1"
    assert header.study_uid == dataset.StudyInstanceUID
    assert header.series_uid == dataset.SeriesInstanceUID
    assert header.sop_uid == dataset.SOPInstanceUID
    assert (header.modality, header.image_type) == ("CT", ("ORIGINAL", "PRIMARY", "AXIAL"))
    assert (header.rows, header.columns, header.number_of_frames, header.bits_stored) == (128, 128, 1, 16)
    assert header.image_position == (-158.135803, -179.035797, -75.699997)
    assert header.image_orientation == (1, 0, 0, 0, 1, 0)
    assert header.pixel_spacing == (0.661468, 0.661468)
    assert (header.slice_thickness, header.instance_number) == (5, 1)
    assert (header.rescale_slope, header.rescale_intercept) == (1, -1024)
    chest = read_header(ALL["RG1_UNCR.dcm"])
    assert (chest.view_position, chest.photometric, chest.modality) == ("PA", "MONOCHROME1", "CR")
    assert chest.pixel_spacing is None  # the file says 0 x 0
    assert read_header(ALL["emri_small.dcm"]).number_of_frames == 10
    assert reason(read_header, ALL["rtplan.dcm"]) == "no_pixels"
    assert reason(read_header, ALL["rtplan.dcm"].parent / "absent.dcm") == "missing"
    assert reason(read_header, TEST_FILES) == "unreadable"


def test_a_header_that_is_partly_unreadable_still_groups(tmp_path):
    path = write(
        tmp_path / "a.dcm",
        noise(0, 9, np.uint8),
        PatientID="x",
        InstanceNumber="",
        ImagePositionPatient=[1, 2],
    )
    header = read_header(path)
    assert header.patient_id == "x"
    assert header.instance_number is header.image_position is header.slice_thickness is None


def test_identifiers_are_not_printed(tmp_path, caplog):
    secret = "Smith-4711"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # writing them is what pydicom warns of
        path = write(
            tmp_path / "a.dcm",
            noise(0, 9, np.uint8),
            PatientID=secret * 9,
            PatientName=secret,
            StudyInstanceUID=secret,
            SeriesInstanceUID=secret,
            SOPInstanceUID=secret,
        )
    caplog.clear()
    with warnings.catch_warnings(record=True) as heard, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        header = read_header(path)
        read_image(path)
    assert header.series_uid == secret
    assert secret not in repr(header) + str(header) + caplog.text + " ".join(str(w.message) for w in heard)


def test_is_dicom_looks_at_the_content(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.dcm", format="PNG")
    assert not is_dicom(tmp_path / "a.dcm")
    assert not is_dicom(tmp_path / "absent.dcm")
    assert is_dicom(ALL["MR_small.dcm"])
    assert is_dicom(ALL["OT-PAL-8-face.dcm"])  # no preamble


def test_codestream_headers(tmp_path):
    for name in ("RG1_J2KR", "JPEG-LL", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg", "JPGExtended"):
        dataset = pydicom.dcmread(ALL[f"{name}.dcm"])
        stream = read_codestream(get_frame(dataset.PixelData, 0, number_of_frames=1))
        assert (stream.height, stream.width, stream.components) == (
            dataset.Rows,
            dataset.Columns,
            dataset.SamplesPerPixel,
        )
        assert dataset.BitsStored <= stream.precision <= dataset.BitsAllocated
    for damaged in (
        b"",
        b"\xff\xd9",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\0\0\xff\xd9",
        b"\xff\x4f\xff\x51\xff\xd9",
    ):
        with pytest.raises(ValueError, match="compressed pixels"):
            read_codestream(damaged)


def test_a_missing_extra_is_named():
    code = f"""
import sys
sys.modules["pydicom"] = None
from radlearn.data.images import image_size, read_image
from radlearn.data.dicom import read_header, read_hounsfield, to_hounsfield
from radlearn.errors import ConfigurationError
for call in (read_image, image_size, read_header, read_hounsfield):
    try:
        call({str(ALL["CT_small.dcm"])!r})
    except ConfigurationError as error:
        print(error)
del sys.modules["pydicom"]
sys.modules["imagecodecs"] = None
try:
    read_image({str(ALL["RG3_J2KR.dcm"])!r})
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 5
    assert all('pip install "radlearn[dicom]"' in line for line in lines)
