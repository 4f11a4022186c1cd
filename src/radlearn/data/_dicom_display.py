"""From stored values to grey as a viewer shows it: one table a file, applied to every pixel.

The order is that of PS3.4 N.2: modality LUT, then VOI LUT (table or window), then presentation (inversion).
A stored value has at most 16 bits, so the chain is computed in float64 for each value that can occur and then
looked up: exact, and as fast as one pass over the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from radlearn.data._dicom_file import attribute
from radlearn.data._dicom_pixels import Stored
from radlearn.data.images import luma


def window_linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """VOI LUT function LINEAR, to [0, 1]: PS3.3 C.11.2.1.2.1. `width` is at least 1."""
    if width == 1:
        return np.asarray(values > centre - 0.5, np.float64)
    return np.asarray(np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1))


def window_linear_exact(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """VOI LUT function LINEAR_EXACT, to [0, 1]: PS3.3 C.11.2.1.3.2. `width` is positive."""
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1))


def window_sigmoid(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """VOI LUT function SIGMOID, to (0, 1): PS3.3 C.11.2.1.3.1. `width` is positive."""
    # Beyond 700 the exponential would overflow; the result is 0 or 1 long before.
    return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))


_PIECE = 1 << 15
_WINDOWS: dict[str, tuple[Callable[[np.ndarray, float, float], np.ndarray], float]] = {
    "LINEAR": (window_linear, 1),
    "LINEAR_EXACT": (window_linear_exact, np.finfo(float).tiny),
    "SIGMOID": (window_sigmoid, np.finfo(float).tiny),
}


def grey_pixels(dataset: Any, stored: Stored) -> np.ndarray:
    """(H, W) uint8 or uint16, high = bright: the full range of the type is the window of the header.

    Without a window the full range is what the stored bits can hold; `images.to_uint8` then shows the
    percentiles. Of several windows the first is taken. More than 8 stored bits give uint16; others uint8,
    unless the window would merge values there that 16 bits keep apart.
    """
    if stored.pixels.ndim == 3:
        return luma(exact_8_bit(stored.pixels))
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        table = palette_table(dataset, stored)
    else:
        table = monochrome_table(dataset, stored)
    if table.dtype == stored.pixels.dtype and np.array_equal(table, np.arange(table.size)):
        return stored.pixels
    return _take(table, stored.pixels)


def _take(table: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """`table` of `codes` at every pixel."""
    positions = np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}").ravel()
    out = np.empty(positions.size, table.dtype)
    # NumPy widens positions to 64 bits. In pieces that stay in the cache this is 3 times as fast.
    for start in range(0, positions.size, _PIECE):
        piece = slice(start, start + _PIECE)
        np.take(table, positions[piece], out=out[piece], mode="clip")
    return out.reshape(pixels.shape)


def is_plain_8_bit(dataset: Any) -> bool:
    """Whether the header changes no value of an unsigned 8-bit grey image."""
    stored = Stored(np.zeros((1, 1), np.uint8), 8)
    monochrome = str(dataset.PhotometricInterpretation) in ("MONOCHROME1", "MONOCHROME2")
    if not monochrome or dataset.get("PixelRepresentation") or dataset.get("BitsStored") != 8:
        return False
    table = monochrome_table(dataset, stored)
    return table.dtype == np.uint8 and np.array_equal(table, np.arange(256))


def codes(stored: Stored) -> np.ndarray:
    """Every value of the stored type, as float64, in the order of its bits: a look-up needs no offset."""
    width = stored.pixels.dtype.itemsize
    patterns = np.arange(1 << 8 * width, dtype=f"u{width}")
    return patterns.view(stored.pixels.dtype).astype(np.float64)


def monochrome_table(dataset: Any, stored: Stored) -> np.ndarray:
    """The grey of every stored value of a MONOCHROME1 or MONOCHROME2 image, uint8 or uint16."""
    values = codes(stored)
    low, high = stored.limits()
    occurring = (values >= low) & (values <= high)
    shown = _windowed(dataset, modality_values(dataset, values), occurring)
    # PS3.3 C.11.6.1.2: INVERSE means what MONOCHROME1 means, so both together invert once.
    monochrome1 = str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    if monochrome1 or dataset.get("PresentationLUTShape") == "INVERSE":
        shown = 1 - shown
    # Padding is no tissue: black, as everything outside the patient, also where the image is inverted.
    shown[is_padding(dataset, values)] = 0
    wide: np.ndarray = np.rint(shown * 65535).astype(np.uint16)
    if stored.bits > 8:
        return wide
    narrow: np.ndarray = np.rint(shown * 255).astype(np.uint8)
    lossless = np.unique(narrow[occurring]).size == np.unique(wide[occurring]).size
    return narrow if lossless else wide


def modality_values(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Modality LUT: stored values to the scanner's unit, by table or by slope and intercept (C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        return look_up(values, item.LUTDescriptor, _lut_entries(dataset, item, "LUTData", item.LUTDescriptor))
    slope, intercept = rescale(dataset) or (1.0, 0.0)
    return np.asarray(values * slope + intercept)


def look_up(values: np.ndarray, descriptor: Sequence[int], entries: np.ndarray) -> np.ndarray:
    """Entries of a LUT as float64; values outside it take its first or last entry (PS3.3 C.11.1.1.1).

    Args:
        values: any shape; the nearest integers are looked up.
        descriptor: number of entries, the value of the first, bits of an entry.
        entries: as many as there are.
    """
    first = int(descriptor[1])
    if first > 32767 and values.min() < 0:
        first -= 65536  # signed, written as unsigned bits
    index = np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.intp)
    return np.asarray(entries[index], np.float64)


def _lut_entries(dataset: Any, item: Any, keyword: str, descriptor: Sequence[int]) -> np.ndarray:
    """The entries of a LUT, which stand as numbers, 16-bit words of the file's byte order, or bytes."""
    data = item[keyword].value
    if not isinstance(data, bytes):
        return np.asarray(data)
    count = int(descriptor[0]) or 1 << 16
    if len(data) < 2 * count:
        return np.frombuffer(data, np.uint8, count)
    return np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2", count)


def rescale(dataset: Any) -> tuple[float, float] | None:
    """RescaleSlope and RescaleIntercept; None if the header has neither, or a slope of 0."""
    slope, intercept = attribute(dataset, "RescaleSlope"), attribute(dataset, "RescaleIntercept")
    if slope in (None, "") and intercept in (None, ""):
        return None
    slope, intercept = float(slope if slope not in (None, "") else 1), float(intercept or 0)
    return (slope, intercept) if slope else None


def is_padding(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Which stored values are padding: PixelPaddingValue, or a range from it (PS3.3 C.7.5.1.1.2)."""
    stated = (dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit"))
    ends = [int(end) for end in stated if end not in (None, "")]
    if stated[0] in (None, ""):
        return np.zeros(values.shape, bool)
    if dataset.get("PixelRepresentation") and max(ends) > 32767:
        ends = [end - 65536 if end > 32767 else end for end in ends]  # signed, written as unsigned bits
    return np.asarray((values >= min(ends)) & (values <= max(ends)))


def _windowed(dataset: Any, values: np.ndarray, occurring: np.ndarray) -> np.ndarray:
    """VOI LUT: [0, 1] of modality values. A window that no viewer could apply (width 0) is ignored."""
    if dataset.get("VOILUTSequence"):
        item = dataset.VOILUTSequence[0]
        entries = _lut_entries(dataset, item, "LUTData", item.LUTDescriptor)
        brightest = (1 << int(item.LUTDescriptor[2])) - 1
        return np.asarray(np.clip(look_up(values, item.LUTDescriptor, entries) / brightest, 0, 1))
    centre, width = (_first_number(attribute(dataset, k)) for k in ("WindowCenter", "WindowWidth"))
    function, least = _WINDOWS.get(str(attribute(dataset, "VOILUTFunction") or "LINEAR"), _WINDOWS["LINEAR"])
    if centre is not None and width is not None and width >= least:
        return function(values, centre, width)
    low, high = values[occurring].min(), values[occurring].max()
    return np.asarray(np.clip((values - low) / (high - low or 1), 0, 1))


def _first_number(value: Any) -> float | None:
    """The first of one or several numbers; None if absent or not finite."""
    if value in (None, "") or (not isinstance(value, (str, int, float)) and len(value) == 0):
        return None
    number = float(value if isinstance(value, (str, int, float)) else value[0])
    return number if np.isfinite(number) else None


def palette_table(dataset: Any, stored: Stored) -> np.ndarray:
    """The luma of every stored index of a PALETTE COLOR image (PS3.3 C.7.6.3.1.5)."""
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        from pydicom.pixels import apply_color_lut

        return luma(exact_8_bit(np.asarray(apply_color_lut(codes(stored).astype(np.int32), dataset))))
    channels = []
    for channel in ("Red", "Green", "Blue"):
        descriptor = dataset[f"{channel}PaletteColorLookupTableDescriptor"].value
        entries = _lut_entries(dataset, dataset, f"{channel}PaletteColorLookupTableData", descriptor)
        channels.append(look_up(codes(stored), descriptor, entries).astype(np.uint16))
    colour = np.stack(channels, axis=-1)
    # 8-bit entries may stand in words, low or high.
    return luma(colour.astype(np.uint8) if colour.max() < 256 else exact_8_bit(colour))


def exact_8_bit(colour: np.ndarray) -> np.ndarray:
    """16-bit colour as 8 bits where the low bytes say nothing: all 0, or copies of the high ones."""
    if colour.dtype != np.uint16:
        return colour
    high, low = (colour >> 8).astype(np.uint8), (colour & 255).astype(np.uint8)
    return high if not low.any() or np.array_equal(low, high) else colour
