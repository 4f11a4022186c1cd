"""Image files to grey pixels: every mode comes out right, every unusable file is refused by name and reason.

A grey image is (H, W) uint8 or uint16, high = bright. Colour becomes luma (ITU-R 601-2, as Pillow rounds it),
alpha is composited on black (outside the patient is dark), 1-bit becomes 0 and 255. Pixels keep the order of
the file: an orientation tag is not applied, because radiographs carry none that is trusted.

DICOM files (extra `dicom`) are recognised by their content and shown as their header says: data/dicom.py.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import simplejpeg

from radlearn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

REASONS = {
    "missing": "no such file",
    "unreadable": "the file cannot be opened",
    "path_escape": "the path leaves the data root",
    "empty_file": "the file has 0 bytes",
    "truncated": "the file ends too early",
    "corrupt": "the file cannot be decoded",
    "unsupported_format": "not JPEG, PNG, TIFF, BMP or DICOM",
    "unsupported_mode": "pixels of a kind that has no 8 or 16 bit grey form",
    "nan": "pixels that are not numbers",
    "too_small": "an image too small to hold anything",
    "too_large": "an image too large to be a radiograph",
    "duplicate_id": "the image id stands twice",
    "multi_frame": "several frames, where one image a file is wanted",
    "no_pixels": "a DICOM file without an image",
    "not_hounsfield": "values that are not Hounsfield units",
}
MIN_SIDE = 16
# 67 million: four times the largest detectors. A header that claims more is an attack or damage.
MAX_PIXELS = 2**26
# Percentiles shown as black and white of a 16-bit image without a window: beyond lie markers and dead pixels.
DEFAULT_PERCENTILES = (0.5, 99.5)
# Scales at which the JPEG decoder is fast; between 1/2 and 1 it is slower than decoding everything.
_EIGHTHS = (1, 2, 3, 4, 8)
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
# DICOM: a name after 128 free bytes. Old files lack both and begin with an element of group 2 or 8.
_DICOM_AT, _DICOM = 128, b"DICM"
_LITTLE_ENDIAN_GROUPS, _BIG_ENDIAN_GROUPS = (b"\x02\x00", b"\x08\x00"), b"\x00\x08"
HEAD_BYTES = _DICOM_AT + len(_DICOM)


class ImageError(DataError):
    """An image that cannot be used: `path`, `reason` (a key of `REASONS`) and `detail`."""

    def __init__(self, path: str | Path, reason: str, detail: str = "") -> None:
        self.path, self.reason, self.detail = str(path), reason, detail
        super().__init__(f"{path}: {reason}: {REASONS[reason]}" + (f" ({detail})" if detail else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason, self.detail)


def resolve_inside(root: str | Path, path: str | Path) -> Path:
    """The file `path` below `root`, links followed.

    Raises:
        ImageError: `path_escape` if `..`, an absolute path or a symbolic link leads out of `root`.
    """
    base = Path(root).resolve()
    try:
        resolved = (base / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL byte
        raise ImageError(path, "unreadable", str(error)) from error
    if not resolved.is_relative_to(base):
        raise ImageError(path, "path_escape", f"{resolved} is not below {base}")
    return resolved


def read_image(path: str | Path, *, short_side: int | None = None) -> np.ndarray:
    """Read an image file as grey.

    Args:
        path: JPEG, PNG, TIFF or BMP of 1, 8 or 16 bits, grey, RGB, palette, CMYK or with alpha; or DICOM
            with one frame, of which the window of the header is applied (data/dicom.py).
        short_side: shrink to this short side, in pixels; a smaller image is returned as it is.

    Returns:
        (H, W) uint8, or uint16 where the file has more than 8 bits.

    Raises:
        ImageError: with a reason of `REASONS`.
        ConfigurationError: for a DICOM file, if the extra `dicom` is not installed.
    """
    return read_image_and_size(path, short_side=short_side)[0]


def read_image_and_size(
    path: str | Path, *, short_side: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """`read_image`, and the height and width of the file."""
    path = Path(path)
    data = read_bytes(path)
    if is_dicom_head(data[:HEAD_BYTES]):
        from radlearn.data import dicom  # pydicom is an extra, and slow to import

        return dicom.decode(data, path, short_side)
    if data.startswith(_JPEG):
        return decode_jpeg(data, path, short_side)
    image = _decode_other(data, path)
    return resize_short(image, short_side), image.shape


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width from the header, in pixels.

    Raises:
        ImageError: as `read_image`, as far as the header shows it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if is_dicom_head(file.read(HEAD_BYTES)):
                from radlearn.data import dicom

                return dicom.header_size(path)
            file.seek(0)
            with _open(file, path) as image:
                return checked_size(image.size[1], image.size[0], path)
    except OSError as error:
        raise unopened(path, error) from error


def to_uint8(image: np.ndarray, window: tuple[float, float] | None = None) -> np.ndarray:
    """Map grey values to 8 bits: `window[0]` and below to 0, `window[1]` and above to 255, linear between.

    Args:
        image: (H, W) uint8, uint16 or int16.
        window: lowest and highest value shown. None: 8-bit images stay, others take `default_window`.

    Raises:
        DataError: for floats, whose scale nobody has stated, and for an empty window.
    """
    if image.dtype not in (np.uint8, np.uint16, np.int16):
        reason = "nan" if image.dtype.kind == "f" and np.isnan(image).any() else "unsupported_mode"
        raise DataError(
            f"{reason}: wanted uint8, uint16 or int16 pixels, got {image.dtype}; window them first"
        )
    if image.dtype == np.uint8 and window is None:
        return image
    low, high = window if window is not None else default_window(image)
    if not high > low:
        raise DataError(f"a window goes from low to high: got ({low}, {high})")
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled), np.uint8)


def default_window(image: np.ndarray) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile of an integer image, exact, at least one grey value apart."""
    lowest = int(image.min())
    cumulative = np.cumsum(np.bincount(image.ravel().astype(np.int32) - lowest))
    ranks = np.asarray(DEFAULT_PERCENTILES) / 100 * cumulative[-1]
    low, high = (lowest + int(rank) for rank in np.searchsorted(cumulative, ranks))
    return float(low), float(max(high, low + 1))


def resize_short(image: np.ndarray, short_side: int | None) -> np.ndarray:
    """Shrink (H, W) to a short side by area averaging; smaller images and `None` return the image itself."""
    height, width = image.shape
    if short_side is None or min(height, width) <= short_side:
        return image
    target = target_size(height, width, short_side)
    return np.asarray(cv2.resize(image, target[::-1], interpolation=cv2.INTER_AREA))


def target_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Height and width after shrinking to a short side; the long side is rounded."""
    scale = short_side / min(height, width)
    if scale >= 1:
        return height, width
    return round(height * scale), round(width * scale)


def is_dicom_head(head: bytes) -> bool:
    """Whether a file that begins so is DICOM: at least `HEAD_BYTES` of it, or all it has."""
    if head[_DICOM_AT:].startswith(_DICOM):
        return True
    # The elements that may come first have numbers below 256.
    little = head.startswith(_LITTLE_ENDIAN_GROUPS) and head[3:4] == b"\0"
    return little or (head.startswith(_BIG_ENDIAN_GROUPS) and head[2:3] == b"\0")


def luma(colour: np.ndarray) -> np.ndarray:
    """(..., 3) RGB, uint8 or uint16, to grey of the same type: ITU-R 601-2, rounded as Pillow does."""
    red, green, blue = (colour[..., i].astype(np.uint32) for i in range(3))
    return np.asarray((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16, colour.dtype)


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        ImageError: `missing`, `unreadable` or `empty_file`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unopened(path, error) from error
    if not data:
        raise ImageError(path, "empty_file")
    return data


def unopened(path: str | Path, error: OSError) -> ImageError:
    """The refusal of a file that the system does not open."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ImageError(path, "missing")
    return ImageError(path, "unreadable", error.strerror or str(error))


def checked_size(height: int, width: int, path: str | Path) -> tuple[int, int]:
    """Height and width, if an image of them is neither too small nor too large to be decoded."""
    if min(height, width) < MIN_SIDE:
        raise ImageError(path, "too_small", f"{height} x {width} pixels, at least {MIN_SIDE} wanted")
    if height * width > MAX_PIXELS:
        raise ImageError(path, "too_large", f"{height} x {width} pixels, at most {MAX_PIXELS} in all")
    return height, width


# --- JPEG


def decode_jpeg(data: bytes, path: str | Path, short_side: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Grey (H, W) uint8 of a JPEG stream, shrunk to a short side, and its own height and width."""
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
        checked_size(height, width, path)
        if colour in ("CMYK", "YCCK"):
            # Grey is not offered for four inks. This decode only proves that the file is whole: it is strict.
            simplejpeg.decode_jpeg(data, "CMYK")
            image = resize_short(_decode_other(data, path), short_side)
        else:
            image = _decode_scaled(data, height, width, short_side)
        return image, (height, width)
    except ValueError as error:
        raise ImageError(path, _jpeg_reason(str(error)), str(error)) from error


def _jpeg_reason(message: str) -> str:
    if "Premature end" in message:
        return "truncated"
    return "unsupported_mode" if "nsupported" in message else "corrupt"


def _decode_scaled(data: bytes, height: int, width: int, short_side: int | None) -> np.ndarray:
    """Decode at the smallest DCT scale with twice the pixels wanted, bring to exactly twice, average 2 x 2.

    Decoding n/8 of each block averages 8/n source pixels exactly, so most of the shrinking is free. The
    decoded frame covers whole blocks, up to 7 source pixels beyond the edge; resampling in source coordinates
    keeps the geometry. Against exact area averaging this reaches 49 dB on sharp edges (2500 x 3050 -> 256),
    where resampling straight from the smallest scale above the target reached 41.
    """
    target = target_size(height, width, short_side or min(height, width))
    if target == (height, width):
        return np.asarray(simplejpeg.decode_jpeg(data, "GRAY"))[..., 0]
    eighths = next(n for n in _EIGHTHS if n == 8 or min(height, width) * n >= 2 * min(target) * 8)
    frame = (-(-height * eighths // 8), -(-width * eighths // 8))
    decoded = simplejpeg.decode_jpeg(data, "GRAY", min_height=frame[0], min_width=frame[1])[..., 0]
    if eighths < 8:
        twice = (2 * target[0], 2 * target[1])
        rows, columns = height * eighths / 8 / twice[0], width * eighths / 8 / twice[1]
        # Up to a factor 2 linear interpolation reads every pixel, so it does not alias.
        to_source = np.array([[columns, 0, columns / 2 - 0.5], [0, rows, rows / 2 - 0.5]])
        flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
        decoded = cv2.warpAffine(decoded, to_source, twice[::-1], flags=flags, borderMode=border)
    return np.asarray(cv2.resize(decoded, target[::-1], interpolation=cv2.INTER_AREA))


# --- everything else


def _open(file: Any, path: str | Path) -> Image:
    """Open with Pillow, header only; errors become ImageError."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(path, "too_large", str(error)) from error
    except UnidentifiedImageError as error:
        file.seek(0)
        raise _unidentified(file.read(8), path) from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise ImageError(path, "corrupt", str(error)) from error


def _unidentified(head: bytes, path: str | Path) -> ImageError:
    if not head:
        return ImageError(path, "empty_file")
    if head.startswith((_PNG, _JPEG)):
        return ImageError(path, "truncated", "the header is not complete")
    return ImageError(path, "unsupported_format", f"it begins with {head[:8]!r}")


def _decode_other(data: bytes, path: str | Path) -> np.ndarray:
    if data.startswith(_PNG):
        _check_png(data, path)
    with _open(io.BytesIO(data), path) as image:
        checked_size(image.size[1], image.size[0], path)
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError(path, "unsupported_mode", "the file holds several images")
        if image.format == "PNG" and data[24] == 16 and data[25] != 0:
            return _grey_of_deep_colour(data, path)  # Pillow drops the low byte of these
        try:
            return _grey(image, path)
        except (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error) as error:
            reason = "truncated" if "truncated" in str(error) else "corrupt"
            raise ImageError(path, reason, str(error)) from error


def _check_png(data: bytes, path: str | Path) -> None:
    """Walk the chunks and compare their checksums: decoders may fill what is missing and say nothing."""
    position = len(_PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(memoryview(data)[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError(path, "corrupt", f"checksum of chunk {kind!r}")
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageError(path, "truncated", "no end of the PNG file")


def _grey(image: Image, path: str | Path) -> np.ndarray:
    """(H, W) grey of an opened Pillow image, in any mode."""
    if image.mode == "F":
        holds_nan = bool(np.isnan(np.asarray(image)).any())
        raise ImageError(
            path, "nan" if holds_nan else "unsupported_mode", "floating-point pixels; save 16 bit"
        )
    if image.mode.startswith("I"):
        return _grey_of_integers(image, path)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        grey, alpha = np.asarray(with_alpha.convert("L")), np.asarray(with_alpha.getchannel("A"))
        return _on_black(grey, alpha, 255)
    if image.mode in ("1", "L", "P", "RGB"):
        return np.asarray(image.convert("L"))
    if image.mode in ("CMYK", "YCbCr", "RGBX"):
        return np.asarray(image.convert("RGB").convert("L"))
    raise ImageError(path, "unsupported_mode", f"Pillow mode {image.mode}")


def _grey_of_integers(image: Image, path: str | Path) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            path, "unsupported_mode", f"values {values.min()} to {values.max()} do not fit 16 bits"
        )
    values = values.astype(np.uint16)
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        return 65535 - values  # white is zero; Pillow inverts the 8-bit form only
    key = image.info.get("transparency")
    return values if key is None else np.where(values == key, 0, values).astype(np.uint16)


def _grey_of_deep_colour(data: bytes, path: str | Path) -> np.ndarray:
    """16-bit PNG with colour or alpha: the luma weights of the 8-bit form, on 16 bits."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ImageError(path, "corrupt", "16-bit colour PNG")
    grey = luma(pixels[..., 2::-1])  # blue, green, red
    return _on_black(grey, pixels[..., 3], 65535) if pixels.shape[-1] == 4 else grey


def _on_black(grey: np.ndarray, alpha: np.ndarray, opaque: int) -> np.ndarray:
    product = grey.astype(np.uint64) * alpha
    return np.asarray((product + opaque // 2) // opaque, grey.dtype)
