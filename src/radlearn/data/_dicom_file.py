"""DICOM files opened: one frame, of a size that may be decoded, every failure an `ImageError`.

pydicom's messages about values are switched off, because they quote them: identifiers must not be logged.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from radlearn.data.images import HEAD_BYTES, MAX_PIXELS, ImageError, checked_size, is_dicom_head, unopened
from radlearn.errors import ConfigurationError, RadlearnError

_DEFLATED = b"1.2.840.10008.1.2.1.99"
# What a deflated file may grow to: the largest image in 16-bit colour, and as much again as overlays need.
_MAX_INFLATED = MAX_PIXELS * 8
_INFLATE_PIECE = 1 << 20
_META = b"\x02\x00"
_PIXEL_DATA_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_FLOAT_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")
_MAX_DETAIL = 200

# Where enhanced objects keep what plain ones keep at the top: the functional group of each attribute.
_FUNCTIONAL_GROUPS = {
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
}


def import_pydicom() -> ModuleType:
    """pydicom, or what to install.

    Raises:
        ConfigurationError: if it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ConfigurationError('DICOM files need an extra: pip install "radlearn[dicom]"') from error
    module: ModuleType = pydicom
    return module


@contextmanager
def refusing(path: str | Path) -> Iterator[ModuleType]:
    """Whatever pydicom or a decoder raises inside becomes an `ImageError` of `path`; yields pydicom."""
    pydicom = import_pydicom()
    try:
        with pydicom.config.disable_value_validation():
            yield pydicom
    except (RadlearnError, MemoryError, ImportError):
        raise
    except OSError as error:
        # With a number it is the system's; without, a decoder's word for a damaged file.
        raise unopened(path, error) if error.errno else _refusal(path, error) from error
    except Exception as error:  # parsers and decoders raise anything on a damaged file
        raise _refusal(path, error) from error


def _refusal(path: str | Path, error: Exception) -> ImageError:
    lines = str(error).splitlines() or [""]
    detail = f"{type(error).__name__}: {lines[0]}"[:_MAX_DETAIL]
    message = str(error).lower()
    if "less than expected" in message or "premature end" in message or "truncated" in message:
        return ImageError(path, "truncated", detail)
    if isinstance(error, NotImplementedError) or "unsupported" in message or "not supported" in message:
        return ImageError(path, "unsupported_mode", detail)
    return ImageError(path, "corrupt", detail)


def open_with_pixels(data: bytes, path: str | Path) -> Any:
    """The dataset of a whole file with one image in it; to be called inside `refusing`.

    Raises:
        ImageError: `multi_frame`, `no_pixels`, `truncated`, `too_small`, `too_large`, `unsupported_mode`.
    """
    _check_begin(data, path)
    _check_deflated(data, path)
    dataset = import_pydicom().dcmread(io.BytesIO(data), force=True)  # force: old files have no preamble
    if any(keyword in dataset for keyword in _FLOAT_PIXELS):
        raise ImageError(path, "unsupported_mode", "floating-point pixels; their scale is not known")
    if not dataset.get("PixelData"):
        # pydicom gives up quietly at the end of a file that is cut inside compressed pixels.
        if any(tag in data for tag in _PIXEL_DATA_TAGS):
            raise ImageError(path, "truncated", "the file ends inside the pixel data")
        raise ImageError(path, "no_pixels", _kind(dataset))
    single_frame_size(dataset, path)
    return dataset


def open_header(path: str | Path) -> Any:
    """The dataset up to the pixels; to be called inside `refusing`."""
    pydicom = import_pydicom()
    with Path(path).open("rb") as file:
        head = file.read(1024)
        _check_begin(head, path)
        file.seek(0)
        if _DEFLATED in head:
            data = file.read()
            _check_deflated(data, path)
            return pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
        return pydicom.dcmread(file, force=True, stop_before_pixels=True)


def single_frame_size(dataset: Any, path: str | Path) -> tuple[int, int]:
    """Height and width, if the header describes one image of a decodable size.

    Raises:
        ImageError: `multi_frame`, `no_pixels`, `too_small`, `too_large`.
    """
    height, width = dataset.get("Rows"), dataset.get("Columns")
    if not height or not width:
        raise ImageError(path, "no_pixels", _kind(dataset))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageError(path, "multi_frame", f"{frames} frames; split the file first")
    return checked_size(int(height), int(width), path)


def attribute(dataset: Any, keyword: str) -> Any:
    """The value of an attribute, also where an enhanced object keeps it for its one frame; None if absent."""
    found = dataset.get(keyword)
    if found is not None or keyword not in _FUNCTIONAL_GROUPS:
        return found
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for item in (dataset.get(groups) or [])[:1]:
            for macro in (item.get(_FUNCTIONAL_GROUPS[keyword]) or [])[:1]:
                if macro.get(keyword) is not None:
                    return macro.get(keyword)
    return None


def _check_begin(data: bytes, path: str | Path) -> None:
    if not is_dicom_head(data[:HEAD_BYTES]):
        raise ImageError(path, "unsupported_format", "not a DICOM file")


def _kind(dataset: Any) -> str:
    if "DirectoryRecordSequence" in dataset:
        return "a DICOMDIR, which lists other files"
    modality = dataset.get("Modality")
    return f"modality {modality}" if modality else "the header describes no image"


def _check_deflated(data: bytes, path: str | Path) -> None:
    """Refuse a deflated file that would fill the memory: pydicom inflates all of it, whatever comes."""
    begin = _end_of_meta(data)
    if _DEFLATED not in data[:begin]:
        return
    inflater, pending, size = zlib.decompressobj(-zlib.MAX_WBITS), data[begin:], 0
    while not inflater.eof:
        piece = inflater.decompress(pending, _INFLATE_PIECE)
        pending = inflater.unconsumed_tail
        if not piece and not pending:
            raise ImageError(path, "truncated", "the deflated data ends too early")
        size += len(piece)
        if size > _MAX_INFLATED:
            raise ImageError(path, "too_large", f"it inflates to more than {_MAX_INFLATED} bytes")


def _end_of_meta(data: bytes) -> int:
    """Where the elements of group 2 end, which are never deflated (PS3.10 7.1: explicit, little endian)."""
    position = HEAD_BYTES if data[:HEAD_BYTES].endswith(b"DICM") else 0
    while data[position : position + 2] == _META and position + 12 <= len(data):
        if data[position + 4 : position + 6] in (b"OB", b"UN", b"OW", b"SQ", b"UT"):
            position += 12 + struct.unpack_from("<I", data, position + 8)[0]
        else:
            position += 8 + struct.unpack_from("<H", data, position + 6)[0]
    return position
