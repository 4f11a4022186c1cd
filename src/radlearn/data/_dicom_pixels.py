"""The stored values of a DICOM image, by the fastest decoder that is bit-exact.

Grey JPEG, JPEG lossless, JPEG-LS and JPEG 2000 frames go to simplejpeg and imagecodecs as they stand in the
file; everything else (uncompressed, deflated, RLE, colour) to pydicom and its plug-ins. gdcm takes 4 times as
long for JPEG lossless and cannot decode 12-bit JPEG. benchmarks/dicom.py compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from radlearn.data._dicom_codestream import Codestream, read_codestream
from radlearn.data.images import ImageError
from radlearn.errors import ConfigurationError

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
# Transfer syntaxes of PS3.5 annex A.4, by the decoder of imagecodecs.
_IMAGECODECS = {
    "1.2.840.10008.1.2.4.51": "jpeg8_decode",  # JPEG extended, 8 or 12 bit
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.201": "jpeg2k_decode",  # high-throughput JPEG 2000
    "1.2.840.10008.1.2.4.202": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.203": "jpeg2k_decode",
}
# Compressed forms whose frames have no header of the JPEG family.
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True)
class Stored:
    """Pixels as they are stored, before any look-up table.

    Attributes:
        pixels: (H, W) integers, or (H, W, 3) RGB.
        bits: bits of a sample that are meant to be used.
    """

    pixels: np.ndarray
    bits: int

    @property
    def signed(self) -> bool:
        """Whether values can be negative."""
        return self.pixels.dtype.kind == "i"

    def limits(self) -> tuple[int, int]:
        """Lowest and highest value that the header allows, or that occurs in spite of it."""
        low, high = (
            (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)
        )
        return min(low, int(self.pixels.min())), max(high, int(self.pixels.max()))


def transfer_syntax(dataset: Any, path: str | Path) -> str:
    """The UID of the pixels' encoding; of files without one, as the rest of the file was encoded."""
    meta = getattr(dataset, "file_meta", None)
    stated = meta.get("TransferSyntaxUID") if meta is not None else None
    if stated:
        return str(stated)
    if dataset["PixelData"].is_undefined_length:
        raise ImageError(path, "unsupported_mode", "compressed pixels without a transfer syntax")
    implicit, little = dataset.original_encoding
    if implicit:
        return _IMPLICIT
    return _EXPLICIT if little else _BIG_ENDIAN


def frame_bytes(dataset: Any) -> bytes:
    """The compressed frame of a single-frame dataset, its fragments joined."""
    from pydicom.encaps import get_frame

    frame: bytes = get_frame(dataset.PixelData, 0, number_of_frames=1)
    return frame


def stored_pixels(dataset: Any, path: str | Path) -> Stored:
    """Decode the one frame of a dataset that `open_with_pixels` returned.

    Raises:
        ImageError: `unsupported_mode` for more than 16 bits or colour that is not RGB in the end, `corrupt`
            where the compressed frame contradicts the header.
        Exception: whatever a decoder raises; see `refusing`.
    """
    syntax = transfer_syntax(dataset, path)
    decoder = _decoder(syntax, path)
    if dataset.BitsAllocated > 16:
        raise ImageError(path, "unsupported_mode", f"{dataset.BitsAllocated} bits a sample")
    if decoder.is_encapsulated and syntax != _RLE:
        frame = frame_bytes(dataset)
        stream = _checked_stream(frame, dataset, path)
        if stream.components == 1 and (syntax == JPEG_BASELINE or syntax in _IMAGECODECS):
            return _decode_grey(frame, stream, syntax, dataset)
    return _decode_with_pydicom(dataset, decoder, path)


def _decoder(syntax: str, path: str | Path) -> Any:
    """What pydicom has for a transfer syntax."""
    from pydicom.pixels import get_decoder

    try:
        return get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageError(path, "unsupported_mode", f"transfer syntax {syntax}") from error


def _checked_stream(frame: bytes, dataset: Any, path: str | Path) -> Codestream:
    stream = read_codestream(frame)
    found = (stream.height, stream.width, stream.components)
    stated = (int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1))
    if found != stated:
        raise ImageError(
            path, "corrupt", f"the header states {stated} rows, columns, samples; the pixels have {found}"
        )
    return stream


def _decode_grey(frame: bytes, stream: Codestream, syntax: str, dataset: Any) -> Stored:
    if syntax == JPEG_BASELINE:
        pixels = simplejpeg.decode_jpeg(frame, "GRAY")[..., 0]  # strict: a damaged stream raises
    else:
        pixels = _imagecodecs(_IMAGECODECS[syntax])(frame)
    if pixels.shape != (stream.height, stream.width) or pixels.dtype.itemsize > 2:
        raise ValueError(f"decoded to {pixels.shape} {pixels.dtype}")
    signed = bool(dataset.get("PixelRepresentation"))
    bits = min(stream.precision, int(dataset.get("BitsStored") or stream.precision))
    # A 16-bit stream of 12-bit numbers has either 12 bits of a negative one, or all 16.
    width = stream.precision if int(pixels.max()) >> bits else bits
    return Stored(with_sign(pixels, width, signed=signed), bits)


def with_sign(pixels: np.ndarray, width: int, *, signed: bool) -> np.ndarray:
    """Read samples of `width` bits as the header says, whatever the stream or its decoder said.

    Most streams carry the bits of negative numbers as those of unsigned ones; some JPEG 2000 streams state
    the opposite of the header.
    """
    if (pixels.dtype.kind == "i") == signed:
        return pixels
    wanted = np.dtype(f"{'i' if signed else 'u'}{pixels.dtype.itemsize}")
    unused = pixels.dtype.itemsize * 8 - width
    # The shift to the right repeats the sign bit of signed types and none of unsigned ones.
    return np.asarray(np.right_shift(np.left_shift(pixels, unused).view(wanted), unused))


def _imagecodecs(name: str) -> Callable[[bytes], np.ndarray]:
    try:
        import imagecodecs
    except ImportError as error:
        raise ConfigurationError('compressed DICOM needs an extra: pip install "radlearn[dicom]"') from error
    decoder: Callable[[bytes], np.ndarray] = getattr(imagecodecs, name)
    return decoder


def _decode_with_pydicom(dataset: Any, decoder: Any, path: str | Path) -> Stored:
    pixels, properties = decoder.as_array(dataset, index=0)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    photometric = str(properties["photometric_interpretation"])
    if pixels.ndim == 3 and photometric != "RGB":
        raise ImageError(path, "unsupported_mode", f"photometric interpretation {photometric}")
    return Stored(pixels, int(properties["bits_stored"]))
