"""DICOM images (extra `dicom`): as grey, as Hounsfield units, or only what the header says.

    images.read_image(path)     grey as a viewer shows it, high = bright: modality LUT, window, inversion
    read_hounsfield(path)       a CT slice as int16 Hounsfield units, checked by the image
    read_header(path)           tags for grouping and ordering, without the pixels

One image a file: multi-frame objects are refused. Overlays are not drawn. Identifiers are read for grouping
and never printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from radlearn.data import images
from radlearn.data._dicom_display import grey_pixels, is_padding, is_plain_8_bit, rescale
from radlearn.data._dicom_file import attribute, open_header, open_with_pixels, refusing, single_frame_size
from radlearn.data._dicom_hounsfield import check_hounsfield, hounsfield_problem, to_hounsfield
from radlearn.data._dicom_pixels import JPEG_BASELINE, Stored, frame_bytes, stored_pixels, transfer_syntax
from radlearn.data.images import ImageError, resize_short

__all__ = [
    "DicomHeader",
    "Units",
    "check_hounsfield",
    "is_dicom",
    "read_header",
    "read_hounsfield",
    "read_stored",
    "to_hounsfield",
]

Units = Literal["auto", "raw", "hu"]
# What padding becomes in Hounsfield units: the lowest value of a 12-bit scanner, below every window.
PADDING = -1024


@dataclass(frozen=True)
class DicomHeader:
    """What a file says of its image. Identifiers are left out of the printed form.

    Attributes:
        patient_id, study_uid, series_uid, sop_uid: identifiers, empty where the file has none.
        modality: CT, CR, DX, MR ...
        image_type: ORIGINAL or DERIVED, PRIMARY or SECONDARY, then the kind: AXIAL, LOCALIZER ...
        view_position: AP, PA, LL ... of a radiograph.
        photometric: MONOCHROME1 (low = bright), MONOCHROME2, RGB, PALETTE COLOR ...
        rows, columns, number_of_frames, bits_stored: form of the pixels.
        instance_number: place in the series.
        image_position: x, y, z of the first pixel, in mm (patient coordinates: left, back, head).
        image_orientation: direction of rows, then of columns, as two unit vectors.
        pixel_spacing: mm between rows, then between columns; of radiographs at the detector.
        slice_thickness: mm.
        rescale_slope, rescale_intercept: stored value to the modality's unit; None where not stated.
    """

    patient_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_uid: str = field(repr=False)
    modality: str
    image_type: tuple[str, ...]
    view_position: str
    photometric: str
    rows: int
    columns: int
    number_of_frames: int
    bits_stored: int
    instance_number: int | None
    image_position: tuple[float, ...] | None
    image_orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    slice_thickness: float | None
    rescale_slope: float | None
    rescale_intercept: float | None


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM by its first bytes; its name does not matter. False if it cannot be opened."""
    try:
        with Path(path).open("rb") as file:
            return images.is_dicom_head(file.read(images.HEAD_BYTES))
    except OSError:
        return False


def read_header(path: str | Path) -> DicomHeader:
    """The header of an image file, multi-frame ones too, without reading the pixels.

    Optional numbers that cannot be read are None.

    Raises:
        ImageError: `missing`, `unreadable`, `unsupported_format` if it is not DICOM, `no_pixels` where the
            header describes no image, `corrupt`.
        ConfigurationError: if the extra `dicom` is not installed.
    """
    with refusing(path):
        dataset = open_header(path)
        if not dataset.get("Rows") or not dataset.get("Columns"):
            single_frame_size(dataset, path)  # raises, by name
        slope_and_intercept = rescale(dataset) or (None, None)
        return DicomHeader(
            patient_id=_text(dataset, "PatientID"),
            study_uid=_text(dataset, "StudyInstanceUID"),
            series_uid=_text(dataset, "SeriesInstanceUID"),
            sop_uid=_text(dataset, "SOPInstanceUID"),
            modality=_text(dataset, "Modality"),
            image_type=tuple(str(part).strip() for part in dataset.get("ImageType") or ()),
            view_position=_text(dataset, "ViewPosition"),
            photometric=_text(dataset, "PhotometricInterpretation"),
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            number_of_frames=int(dataset.get("NumberOfFrames") or 1),
            bits_stored=int(dataset.get("BitsStored") or dataset.BitsAllocated),
            instance_number=_integer(dataset, "InstanceNumber"),
            image_position=_numbers(dataset, "ImagePositionPatient", 3),
            image_orientation=_numbers(dataset, "ImageOrientationPatient", 6),
            pixel_spacing=_spacing(dataset, "PixelSpacing") or _spacing(dataset, "ImagerPixelSpacing"),
            slice_thickness=(_numbers(dataset, "SliceThickness", 1) or (None,))[0],
            rescale_slope=slope_and_intercept[0],
            rescale_intercept=slope_and_intercept[1],
        )


def header_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the one image in a file: `images.image_size`."""
    with refusing(path):
        return single_frame_size(open_header(path), path)


def decode(data: bytes, path: str | Path, short_side: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """`images.read_image_and_size` of a DICOM file that has been read.

    Args:
        data: the file.
        path: its name, for errors.
        short_side: shrink to this short side, in pixels; a smaller image is returned as it is.

    Returns:
        (H, W) uint8 or uint16, high = bright (`_dicom_display.grey_pixels`); height and width in the file.
    """
    with refusing(path):
        dataset = open_with_pixels(data, path)
        size = single_frame_size(dataset, path)
        if short_side and transfer_syntax(dataset, path) == JPEG_BASELINE and is_plain_8_bit(dataset):
            image, found = images.decode_jpeg(frame_bytes(dataset), path, short_side)
            if found != size:
                raise ImageError(path, "corrupt", f"the header states {size} pixels, the JPEG has {found}")
            return image, size
        return resize_short(grey_pixels(dataset, stored_pixels(dataset, path)), short_side), size


def read_stored(path: str | Path) -> np.ndarray:
    """The values as stored, before any look-up table: (H, W) integers, or (H, W, 3) RGB.

    Raises:
        ImageError: with a reason of `images.REASONS`.
        ConfigurationError: if the extra `dicom` is not installed.
    """
    return _read(path)[1].pixels


def read_hounsfield(path: str | Path, *, units: Units = "auto") -> np.ndarray:
    """A CT slice as (H, W) int16 Hounsfield units; padding becomes -1024.

    Args:
        path: a DICOM file of modality CT.
        units: what the file stores: `raw` values, to which RescaleSlope and RescaleIntercept are applied, or
            Hounsfield units (`hu`), to which they are not. `auto` takes whichever the image agrees with.

    Raises:
        ImageError: `not_hounsfield` if it is no CT slice, or the image disagrees with `units`; and as
            `read_image`.
        ConfigurationError: if the extra `dicom` is not installed.
    """
    dataset, stored = _read(path)
    with refusing(path):
        _check_is_ct_slice(dataset, stored, path)
        padded = is_padding(dataset, stored.pixels)
        stated = rescale(dataset)
        candidates = {
            "raw": to_hounsfield(stored.pixels, *(stated or (1, 0))),
            "hu": to_hounsfield(stored.pixels),
        }
        problems = {name: hounsfield_problem(values[~padded]) for name, values in candidates.items()}
        chosen = (
            next((n for n, problem in problems.items() if problem is None), "raw")
            if units == "auto"
            else units
        )
        if problems[chosen]:
            raise ImageError(path, "not_hounsfield", _disagreement(units, chosen, stated, problems))
        return np.where(padded, np.int16(PADDING), candidates[chosen])


def _check_is_ct_slice(dataset: Any, stored: Stored, path: str | Path) -> None:
    modality, kinds = _text(dataset, "Modality"), [str(k).strip() for k in dataset.get("ImageType") or ()]
    unit = attribute(dataset, "RescaleType")
    if (
        modality != "CT"
        or stored.pixels.ndim == 3
        or _text(dataset, "PhotometricInterpretation")[:4] != "MONO"
    ):
        raise ImageError(path, "not_hounsfield", f"modality {modality or 'unknown'}; grey CT is wanted")
    if "LOCALIZER" in kinds:
        raise ImageError(path, "not_hounsfield", "a localizer, which is a projection")
    if unit not in (None, "", "HU"):
        raise ImageError(path, "not_hounsfield", f"the header states the unit {unit}")


def _disagreement(
    units: Units, chosen: str, stated: tuple[float, float] | None, problems: dict[str, str | None]
) -> str:
    rescaled = f"slope {stated[0]:g} and intercept {stated[1]:g}" if stated else "no rescale in the header"
    if units == "auto":
        return f"stored values: {problems['hu']}. With {rescaled}: {problems['raw']}"
    after = rescaled if chosen == "raw" else "values as stored"
    other = "hu" if chosen == "raw" else "raw"
    hint = f"; set units={other}, with which the image agrees" if problems[other] is None else ""
    return f"units={units}, {after}: {problems[chosen]}{hint}"


def _read(path: str | Path) -> tuple[Any, Stored]:
    data = images.read_bytes(Path(path))
    with refusing(path):
        dataset = open_with_pixels(data, path)
        return dataset, stored_pixels(dataset, path)


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _spacing(dataset: Any, keyword: str) -> tuple[float, ...] | None:
    """Two distances; None where a writer put 0 for unknown."""
    found = _numbers(dataset, keyword, 2)
    return found if found and min(found) > 0 else None


def _integer(dataset: Any, keyword: str) -> int | None:
    try:
        return int(dataset.get(keyword))
    except (TypeError, ValueError):
        return None


def _numbers(dataset: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        value = attribute(dataset, keyword)
        found = (float(value),) if count == 1 else tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count else None
