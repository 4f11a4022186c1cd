"""Damaged and hostile DICOM files are refused by their reason, before they fill the memory."""

from __future__ import annotations

import warnings
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
import simplejpeg
from dicom_files import ALL, attempt, noise, reason, smooth, write

from radlearn.data.dicom import (
    read_header,
)
from radlearn.data.images import (
    ImageError,
    image_size,
    read_image,
)

CUT = ["MR_small", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "JPEG-LL"]


@pytest.mark.parametrize("name", [*CUT, "JPGExtended", "SC_rgb_jpeg", "image_dfl", "US1_J2KI"])
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path, name):
    data, whole = ALL[f"{name}.dcm"].read_bytes(), read_image(ALL[f"{name}.dcm"])
    for share in (0, 0.2, 0.5, 0.8, 0.95, 0.99):
        (tmp_path / "a.dcm").write_bytes(data[: max(int(len(data) * share), 300)])
        image, refusal = attempt(read_image, tmp_path / "a.dcm")
        if refusal is None:
            np.testing.assert_array_equal(image, whole)  # only padding after the pixels was cut
        else:
            assert refusal in ("truncated", "corrupt", "no_pixels")
            assert refusal == "truncated" or share < 0.8


@pytest.mark.parametrize("syntax", ["50", "70", "80", "90"])
def test_a_frame_cut_inside_a_whole_file_is_truncated(tmp_path, syntax):
    pixels = smooth()
    frame = {
        "50": lambda: simplejpeg.encode_jpeg(pixels[..., None], 90, "GRAY"),
        "70": lambda: imagecodecs.ljpeg_encode(pixels, bitspersample=8),
        "80": lambda: imagecodecs.jpegls_encode(pixels),
        "90": lambda: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
    }[syntax]()
    path = write(
        tmp_path / "a.dcm", pixels, syntax=f"1.2.840.10008.1.2.4.{syntax}", frame=frame[: len(frame) // 2]
    )
    assert reason(read_image, path) == "truncated"


@pytest.mark.parametrize("name", [*CUT, "CT_small"])
def test_flipped_bytes_raise_image_errors_only(tmp_path, name):
    data = bytearray(ALL[f"{name}.dcm"].read_bytes())
    generator = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position in generator.integers(132, min(len(data), 8000), 60):
            damaged = data.copy()
            damaged[position] ^= int(generator.integers(1, 256))
            (tmp_path / "a.dcm").write_bytes(damaged)
            for call in (read_image, image_size, read_header):
                attempt(call, tmp_path / "a.dcm")


def test_a_header_that_claims_a_huge_image_is_refused_before_decoding(tmp_path):
    path = write(tmp_path / "a.dcm", noise(0, 9, np.uint8), Rows=60000, Columns=60000)
    assert reason(read_image, path) == "too_large"
    assert reason(image_size, path) == "too_large"


@pytest.mark.parametrize("colour", [False, True])
def test_a_stream_that_is_larger_than_the_header_says_is_refused_before_decoding(tmp_path, colour):
    pixels = np.zeros((2000, 2000, 3) if colour else (2000, 2000), np.uint8)
    frame = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k")
    small = pixels[:32, :32]
    path = write(tmp_path / "a.dcm", small, syntax="1.2.840.10008.1.2.4.90", frame=frame)
    with pytest.raises(ImageError, match=r"corrupt.*\(32, 32, .\).*\(2000, 2000, .\)"):
        read_image(path)
    grey = imagecodecs.jpegls_encode(noise(0, 256, np.uint8, (32, 33)))
    path = write(
        tmp_path / "b.dcm", np.zeros((32, 32), np.uint8), syntax="1.2.840.10008.1.2.4.80", frame=grey
    )
    assert reason(read_image, path) == "corrupt"


def test_a_deflated_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    """pydicom writes the file, here without the length of its meta group; its body is replaced."""
    pixels, syntax = noise(0, 9, np.uint8), "1.2.840.10008.1.2.1.99"
    path = write(tmp_path / "a.dcm", pixels, syntax=syntax)
    np.testing.assert_array_equal(read_image(path), pixels)
    head = path.read_bytes()[: path.read_bytes().index(syntax.encode()) + 22]
    plain = write(tmp_path / "b.dcm", pixels).read_bytes()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = deflater.compress(plain[len(head) - 2 :] + bytes(3_000_000)) + deflater.flush()
    path.write_bytes(head + body)
    assert len(body) < 10_000
    monkeypatch.setattr("radlearn.data._dicom_file._MAX_INFLATED", 1_000_000)
    for call in (read_image, image_size, read_header):
        assert reason(call, path) == "too_large"


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"FloatPixelData": b"\0" * 4}, "unsupported_mode"),
        ({"PhotometricInterpretation": "HSV", "SamplesPerPixel": 3, "Rows": 16, "Columns": 16}, "corrupt"),
        ({"Rows": 200}, "truncated"),
        ({"PixelData": None}, "no_pixels"),
        ({"PixelData": b""}, "truncated"),
        ({"PixelData": b"\0" * 100}, "truncated"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "unsupported_mode"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "corrupt"),
    ],
)
def test_headers_that_do_not_fit_the_pixels(tmp_path, attributes, why):
    path = write(tmp_path / "a.dcm", noise(0, 9, np.uint8))
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
        if value is None:
            del dataset[keyword]
    dataset.save_as(path, enforce_file_format=False)
    assert reason(read_image, path) == why


def test_an_unknown_transfer_syntax_is_named(tmp_path):
    path = write(
        tmp_path / "a.dcm", noise(0, 9, np.uint8), syntax="1.2.840.10008.1.2.4.100", frame=b"\0" * 64
    )
    with pytest.raises(ImageError, match=r"unsupported_mode.*1\.2\.840\.10008\.1\.2\.4\.100"):
        read_image(path)
