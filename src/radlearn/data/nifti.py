"""NIfTI volumes of CT (extra `ct`), one axial slice at a time and always the same way up.

    scan.nii.gz#12      the path of a slice: the file, then the slice's place counted from the head, from 0

Whatever the axes of the file, rows of a slice go from the patient's front to the back, columns from right to
left, and slices from head to feet: as an axial DICOM series of a patient on the back. An oblique volume is
turned to its nearest axes and not resampled.

A compressed volume is unpacked once for all slices that are read one after the other: one volume a process is
kept, as stored (16 bits: 0.5 MB a slice of 512 x 512).
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from radlearn.data.dicom import to_hounsfield
from radlearn.data.images import ImageError, checked_size, unopened
from radlearn.errors import ConfigurationError

SUFFIXES = (".nii", ".nii.gz")
_SLICE = re.compile(r"(?P<file>.+\.nii(?:\.gz)?)#(?P<index>\d+)", re.IGNORECASE | re.DOTALL)
# Where the axes of a slice stack point, of rising columns, rows and slices: left, back, feet.
_COLUMNS_ROWS_SLICES = ("L", "P", "I")
# 512 x 512 x 4096: more is no scan. A few compressed bytes may claim it.
_MAX_VOXELS = 2**30
_CHUNK, _MOST_AFTERWARDS = 2**20, 16


@dataclass(frozen=True)
class Volume:
    """The form of a volume: slices of height x width pixels; mm between rows, columns and slices."""

    num_slices: int
    height: int
    width: int
    spacing: tuple[float, float, float]


def is_nifti(path: str | Path) -> bool:
    """Whether a file's name says NIfTI."""
    return str(path).lower().endswith(SUFFIXES)


def slice_path(file: str | Path, index: int) -> str:
    """The path of a slice: `scan.nii.gz#12`."""
    return f"{file}#{index}"


def split_path(path: str | Path) -> tuple[str, int | None]:
    """File and index of a slice's path; any other path comes back with None."""
    match = _SLICE.fullmatch(str(path))
    return (match["file"], int(match["index"])) if match else (str(path), None)


def read_header(path: str | Path) -> Volume:
    """The form of a volume, without its voxels.

    Raises:
        ImageError: with a reason of `images.REASONS`; `corrupt` also where the file states no orientation.
        ConfigurationError: if the extra `ct` is not installed.
    """
    image = _open(path)
    to_axial = _turn(image)
    sides, steps = image.shape[:3], np.asarray(image.header.get_zooms()[:3], float)
    # Axis i of the file becomes axis to_axial[i, 0] of (columns, rows, slices).
    order = [int(np.flatnonzero(to_axial[:, 0] == axis)[0]) for axis in range(3)]
    width, height, num_slices = (int(sides[i]) for i in order)
    checked_size(height, width, path)
    column_step, row_step, slice_step = (float(steps[i]) for i in order)
    return Volume(num_slices, height, width, (row_step, column_step, slice_step))


def read_slice(path: str | Path, index: int) -> np.ndarray:
    """One slice as (H, W) int16 Hounsfield units: stored values by the file's own slope and intercept.

    Args:
        path: the volume.
        index: from the head, from 0.

    Raises:
        ImageError: as `read_header`; `missing` where the volume has no such slice, `nan` where a voxel is no
            number.
    """
    volume = _voxels(str(path), _modified(path))
    if not 0 <= index < volume.values.shape[2]:
        raise ImageError(
            slice_path(path, index), "missing", f"the volume has {volume.values.shape[2]} slices"
        )
    values = np.ascontiguousarray(volume.values[:, :, index].T)
    if values.dtype.kind != "f":
        return to_hounsfield(values, volume.slope, volume.intercept)
    units = values.astype(np.float64) * volume.slope + volume.intercept
    if not np.isfinite(units).all():
        raise ImageError(slice_path(path, index), "nan")
    return to_hounsfield(np.clip(np.rint(units), -(2**15), 2**15 - 1))


@dataclass(frozen=True)
class _Voxels:
    """A volume as stored: (columns, rows, slices), and its way to Hounsfield units."""

    values: np.ndarray
    slope: float
    intercept: float


@lru_cache(maxsize=1)
def _voxels(path: str, modified: int) -> _Voxels:
    """The volume of a file; `modified` makes an edited file another one."""
    import nibabel

    _voxels.cache_clear()  # the last volume goes before the next comes
    image = _open(path)
    proxy = image.dataobj
    try:
        if path.lower().endswith(".gz"):
            content = _unpacked(path, proxy.offset + proxy.dtype.itemsize * int(np.prod(image.shape)))
            stored = np.frombuffer(content, proxy.dtype, offset=proxy.offset)
            stored = stored.reshape(image.shape, order="F")
        else:
            stored = np.asanyarray(proxy.get_unscaled())  # mapped: only the slices asked for are read
    except (EOFError, OSError, ValueError) as error:
        raise ImageError(path, "truncated", _first_line(error)) from error
    except zlib.error as error:
        raise ImageError(path, "corrupt", _first_line(error)) from error
    turned = nibabel.orientations.apply_orientation(stored.reshape(stored.shape[:3]), _turn(image))
    return _Voxels(turned, float(proxy.slope), float(proxy.inter))


def _unpacked(path: str, size: int) -> bytes:
    """The first `size` bytes of a compressed file, read to its end: only there stands its checksum."""
    with gzip.open(path) as file:
        content = file.read(size)
        for _ in range(_MOST_AFTERWARDS):
            if not file.read(_CHUNK):
                return content
    raise ImageError(path, "too_large", f"more than {_MOST_AFTERWARDS * _CHUNK} bytes follow the voxels")


def _open(path: str | Path) -> Any:
    """The file's header, checked: three dimensions, numbers, an orientation."""
    try:
        import nibabel
    except ImportError as error:
        raise ConfigurationError('NIfTI files need an extra: pip install "radlearn[ct]"') from error
    if not _size(path):
        raise ImageError(path, "empty_file")
    try:
        image = nibabel.load(path)
    except OSError as error:
        raise unopened(path, error) from error
    except Exception as error:  # header parsers raise anything on a damaged file
        raise ImageError(path, "corrupt", _first_line(error)) from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise ImageError(path, "unsupported_format", type(image).__name__)
    if len(image.shape) < 3 or any(side != 1 for side in image.shape[3:]):
        raise ImageError(path, "multi_frame", f"shape {image.shape}; a volume of three axes is wanted")
    if image.get_data_dtype().kind not in "iuf":
        raise ImageError(path, "unsupported_mode", f"voxels of type {image.get_data_dtype()}")
    if np.prod(image.shape, dtype=np.float64) > _MAX_VOXELS:
        raise ImageError(path, "too_large", f"shape {image.shape}, at most {_MAX_VOXELS} voxels")
    if not (image.header["qform_code"] or image.header["sform_code"]):
        raise ImageError(
            path,
            "corrupt",
            "qform_code and sform_code are 0, so nothing tells head from feet: write one of them",
        )
    return image


def _turn(image: Any) -> np.ndarray:
    """The transform, as nibabel writes it, of the file's axes to (columns, rows, slices)."""
    import nibabel

    orientations = nibabel.orientations
    now = orientations.io_orientation(image.affine)
    if np.isnan(now).any():
        raise ImageError(image.get_filename(), "corrupt", "the affine has an axis of length 0")
    wanted = orientations.axcodes2ornt(_COLUMNS_ROWS_SLICES)
    return np.asarray(orientations.ornt_transform(now, wanted))


def _size(path: str | Path) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise unopened(path, error) from error


def _modified(path: str | Path) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise unopened(path, error) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
