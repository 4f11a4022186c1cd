"""Slices of CT series in folders: which files they are, whose, and in which order.

    patient/slice.png                      also deeper; the folder is the series
    patient/.../*.dcm                      series, position and order by the header
    patient/scan.nii.gz, patient.nii.gz    each slice is a row, `scan.nii.gz#12`

Each reader gives a table with the columns of `SLICES`. `slice_index` counts from 0, from the head on where a
header tells where that is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from radlearn.data import dicom, nifti
from radlearn.data.images import ImageError, image_size
from radlearn.manifests._ct_files import natural_key, owners, stem
from radlearn.manifests._each_file import each_file
from radlearn.manifests.checks import REJECTED_TYPES

# Millimetres between rows, between columns and between slices.
SPACING = pl.Struct({"row": pl.Float32, "column": pl.Float32, "slice": pl.Float32})
SLICES: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "path": pl.String(),
    "patient_id": pl.String(),
    "study_id": pl.String(),
    "series_id": pl.String(),
    "slice_index": pl.Int32(),
    "height": pl.Int32(),
    "width": pl.Int32(),
    "spacing": SPACING,
}
T = TypeVar("T")

_PNG_HEADER = struct.Struct(">8s4x4sIIB")


@dataclass
class Found:
    """What a reader makes of the files: rows, rows that cannot be used, and how many it leaves out and why.

    Attributes:
        rows: with the columns of `SLICES`.
        bits: of pictures: bits -> a file that has them.
    """

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SLICES))
    rejected: list[tuple[str, str, str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    bits: dict[int, str] = field(default_factory=dict)

    def rejected_table(self) -> pl.DataFrame:
        """The unusable rows as `Release.rejected` has them."""
        return pl.DataFrame(self.rejected, schema=REJECTED_TYPES, orient="row")

    def refuse(self, path: str, reason: str, detail: str = "") -> None:
        """Set one file aside."""
        self.rejected.append((stem(path), path, reason, detail))

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count files that the settings leave out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + count

    def read(
        self, read: Callable[[Path], T], root: Path, paths: Sequence[str], progress: Any, what: str
    ) -> list[tuple[str, T]]:
        """Each path with what `read` finds in its file; unreadable ones are refused."""
        usable = []
        results = each_file(read, [root / path for path in paths], progress, what)
        for path, result in zip(paths, results, strict=True):
            if isinstance(result, ImageError):
                self.refuse(path, result.reason, result.detail)
            else:
                usable.append((path, result))
        return usable


# --- pictures


def pictures(root: Path, paths: Sequence[str], progress: Any = None) -> Found:
    """Slices that are PNG or JPEG files; in a series they are ordered by name, 2 before 10."""
    found = Found()
    usable = found.read(_picture_form, root, paths, progress, "headers of pictures")
    usable.sort(key=lambda pair: natural_key(pair[0]))
    for path, (_, _, bits) in usable:
        found.bits.setdefault(bits, path)
    told = [owners(path) for path, _ in usable]
    columns = {
        "image_id": [stem(path) for path, _ in usable],
        "path": [path for path, _ in usable],
        "patient_id": [patient for patient, _, _ in told],
        "study_id": [study for _, study, _ in told],
        "series_id": [series for _, _, series in told],
        "height": [form[0] for _, form in usable],
        "width": [form[1] for _, form in usable],
    }
    rows = pl.DataFrame(columns, schema={name: SLICES[name] for name in columns})
    index = pl.int_range(pl.len()).over("series_id").cast(pl.Int32).alias("slice_index")
    found.rows = rows.with_columns(index, pl.lit(None, SPACING).alias("spacing")).select(*SLICES)
    return found


def _picture_form(path: Path) -> tuple[int, int, int]:
    """Height, width and bits a channel."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEADER.size)
    except OSError as error:
        raise ImageError(path, "unreadable", error.strerror or "") from error
    if len(head) == _PNG_HEADER.size and head.startswith(b"\x89PNG"):
        _, _, width, height, depth = _PNG_HEADER.unpack(head)
        return height, width, 16 if depth == 16 else 8
    return (*image_size(path), 8)


# --- NIfTI


def volumes(root: Path, paths: Sequence[str], progress: Any = None) -> Found:
    """Slices of NIfTI volumes, a row each, from head to feet (data/nifti.py)."""
    found = Found()
    usable = found.read(nifti.read_header, root, paths, progress, "headers of volumes")
    scans = pl.DataFrame(
        [
            {
                "path": path,
                "series_id": stem(path),
                "patient_id": owners(path)[0] or stem(path),
                # Without a folder of the study each volume is one.
                "study_id": owners(path)[1] if path.count("/") > 1 else stem(path),
                "slice_index": volume.num_slices,
                "height": volume.height,
                "width": volume.width,
                "spacing": dict(zip(("row", "column", "slice"), volume.spacing, strict=True)),
            }
            for path, volume in usable
        ],
        schema={name: dtype for name, dtype in SLICES.items() if name != "image_id"},
    )
    rows = scans.with_columns(pl.int_ranges("slice_index").cast(pl.List(pl.Int32)).alias("slice_index"))
    rows = rows.explode("slice_index").drop_nulls("slice_index")
    number = pl.col("slice_index").cast(pl.String)
    found.rows = rows.with_columns(
        image_id=pl.concat_str("series_id", number.str.zfill(4), separator="#"),
        path=pl.concat_str("path", number, separator="#"),
    ).select(*SLICES)
    return found


# --- DICOM


@dataclass(frozen=True)
class _Slice:
    path: str
    header: dicom.DicomHeader


def dicom_series(root: Path, paths: Sequence[str], progress: Any = None, *, planes: str = "axial") -> Found:
    """Slices of DICOM series, ordered by position, or by InstanceNumber where a slice tells none.

    Left out are localizers, other modalities than CT, and with `planes="axial"` coronal and sagittal slices.
    A series in which neither tells the order is rejected: names of files tell nothing.
    """
    found = Found()
    series: dict[tuple[str | None, str], list[_Slice]] = {}
    seen: set[str] = set()
    for done, path in enumerate(paths, start=1):
        if progress is not None and (done % 500 == 0 or done == len(paths)):
            progress(done, len(paths), "headers of DICOM files")
        try:
            header = dicom.read_header(root / path)
        except ImageError as error:
            found.refuse(path, error.reason, error.detail)
            continue
        if (reason := _unwanted(header, planes)) is not None:
            found.leave_out(reason)
        elif header.sop_uid and header.sop_uid in seen:
            found.refuse(path, "duplicate_slice")
        else:
            seen.add(header.sop_uid)
            patient, _, folder = owners(path)
            owner = patient or header.patient_id or None
            series.setdefault((owner, header.series_uid or folder), []).append(_Slice(path, header))
    rows: list[dict[str, Any]] = []
    for (patient, series_id), slices in series.items():
        places = _places(slices)
        if places is None:
            for one in slices:
                detail = "neither ImagePositionPatient nor InstanceNumber"
                found.refuse(one.path, "no_slice_order", detail)
        else:
            rows += _ordered(patient, series_id, slices, places)
    found.rows = pl.DataFrame(rows, schema=SLICES)
    return found


def _unwanted(header: dicom.DicomHeader, planes: str) -> str | None:
    if header.modality != "CT":
        return "other_modality"
    if "LOCALIZER" in header.image_type:
        return "localizer"
    normal = _normal(header)
    if planes == "axial" and normal is not None and np.abs(normal).argmax() != 2:
        return "not_axial"
    return None


def _normal(header: dicom.DicomHeader) -> np.ndarray | None:
    """The direction of rising slices: to the feet, or of other planes to the left or back."""
    if header.image_orientation is None:
        return None
    normal = np.cross(header.image_orientation[:3], header.image_orientation[3:])
    main = int(np.abs(normal).argmax())
    # Patient coordinates rise to the left, the back and the head.
    return np.asarray(normal * np.sign(normal[main]) * (-1 if main == 2 else 1))


def _ordered(
    patient: str | None, series_id: str, slices: list[_Slice], places: list[float]
) -> list[dict[str, Any]]:
    """The rows of one series."""
    order = sorted(
        range(len(slices)),
        key=lambda i: (places[i], slices[i].header.instance_number or 0, slices[i].path),
    )
    located = all(one.header.image_position and one.header.image_orientation for one in slices)
    steps = np.diff(np.unique(places)) if located else np.empty(0)
    rows = []
    for index, i in enumerate(order):
        path, header = slices[i].path, slices[i].header
        row, column = header.pixel_spacing or (None, None)
        step = float(np.median(steps)) if len(steps) else header.slice_thickness
        rows.append(
            {
                "image_id": stem(path),
                "path": path,
                "patient_id": patient,
                "study_id": header.study_uid or owners(path)[1],
                "series_id": series_id,
                "slice_index": index,
                "height": header.rows,
                "width": header.columns,
                "spacing": {"row": row, "column": column, "slice": step},
            }
        )
    return rows


def _places(slices: Sequence[_Slice]) -> list[float] | None:
    """A number a slice that rises along the series, in mm where positions are told; None if nothing tells."""
    headers = [one.header for one in slices]
    normal = _normal(headers[0])
    positions = [header.image_position for header in headers]
    if normal is not None and all(position is not None for position in positions):
        return [round(float(np.dot(position, normal)), 3) for position in positions if position is not None]
    numbers = [header.instance_number for header in headers]
    if len(slices) > 1 and any(number is None for number in numbers):
        return None
    return [float(number or 0) for number in numbers]


Reader = Callable[..., Found]
READERS: dict[str, Reader] = {"png": pictures, "dicom": dicom_series, "nifti": volumes}
