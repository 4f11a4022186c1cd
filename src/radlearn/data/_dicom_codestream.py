"""What a compressed frame says of itself, read before anything is decoded.

A DICOM header of 512 x 512 may stand before a stream of 60,000 x 60,000; decoders believe the stream.
Sources: ITU-T T.81 B.2.2 (JPEG), T.87 C.1.1 (JPEG-LS), T.800 A.5.1 (JPEG 2000).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG_START, _JPEG_2000_START, _END = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd9"
# Fragments have an even length: writers fill up with 0, and some with FF.
_FILL = b"\0\xff"
# Start-of-frame markers: C0 to CF without DHT (C4), JPG (C8) and DAC (CC); F7 is JPEG-LS.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}
# A JPEG 2000 stream may stand in boxes; DICOM forbids them, and files have them.
_MAX_BOXES = 4096


@dataclass(frozen=True)
class Codestream:
    """Size and samples of a compressed frame.

    Attributes:
        height, width: pixels.
        components: 1 for grey, 3 for colour.
        precision: bits of a sample.
        signed: whether the stream says that samples are signed; only JPEG 2000 can.
    """

    height: int
    width: int
    components: int
    precision: int
    signed: bool = False


def read_codestream(frame: bytes) -> Codestream:
    """The frame header of a JPEG, JPEG-LS or JPEG 2000 stream.

    Raises:
        ValueError: if there is none, or if the stream has no end: decoders would fill what is missing.
    """
    if not frame.rstrip(_FILL).endswith(_END):
        raise ValueError("truncated: no end of the compressed pixels")
    start = frame.find(_JPEG_2000_START, 0, _MAX_BOXES)
    try:
        if start >= 0 and not frame.startswith(_JPEG_START):
            return _jpeg_2000(frame, start)
        return _jpeg(frame)
    except (struct.error, IndexError) as error:
        raise ValueError("the compressed pixels have no frame header") from error


def _jpeg_2000(frame: bytes, start: int) -> Codestream:
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    components, depth = struct.unpack_from(">HB", frame, start + 40)
    return Codestream(bottom - top, right - left, components, (depth & 127) + 1, signed=depth > 127)


def _jpeg(frame: bytes) -> Codestream:
    if not frame.startswith(_JPEG_START):
        raise ValueError(f"the compressed pixels begin with {frame[:4]!r}")
    position = 2
    while True:
        if frame[position] != 0xFF:
            raise ValueError("the compressed pixels have no frame header")
        while frame[position] == 0xFF:
            position += 1
        marker = frame[position]
        position += 1
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _START_OF_SCAN:
            raise ValueError("the compressed pixels have no frame header")
        (length,) = struct.unpack_from(">H", frame, position)
        if marker in _FRAME_MARKERS:
            precision, height, width, components = struct.unpack_from(">BHHB", frame, position + 2)
            return Codestream(height, width, components, precision)
        position += length
