"""From a file of a release to the pixels that are stored, by the release's `records.Pixels`.

grey          8 or 16 bits, high = bright (data/images.py); equalised first where the release asks for it
hounsfield    int16 Hounsfield units: of DICOM and NIfTI by their own rescale, of 16-bit images by an offset

A path names a file, or one slice of a NIfTI volume: `scan.nii.gz#12` (data/nifti.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from radlearn.data import dicom, images, nifti
from radlearn.data._dicom_hounsfield import hounsfield_problem, to_hounsfield
from radlearn.data.images import ImageError, read_image, read_image_and_size, resize_short, to_uint8
from radlearn.records import Pixels

GREY = Pixels()


def file_of(path: str | Path) -> str:
    """The file that a path leads to: the volume of a slice, otherwise the path itself."""
    return nifti.split_path(path)[0]


def resolve_inside(root: str | Path, path: str | Path) -> Path:
    """The file or slice `path` below `root`, links followed; as `images.resolve_inside`."""
    file, index = nifti.split_path(path)
    resolved = images.resolve_inside(root, file)
    return resolved if index is None else Path(nifti.slice_path(resolved, index))


def source_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a file or slice from its header, in pixels.

    Raises:
        ImageError: as `images.image_size`.
    """
    file, index = nifti.split_path(path)
    if index is None:
        return images.image_size(path)
    volume = nifti.read_header(file)
    return volume.height, volume.width


def read_pixels(
    path: str | Path, pixels: Pixels = GREY, *, short_side: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read one file.

    Args:
        path: the file.
        pixels: how files of its release are read.
        short_side: shrink to this short side; a smaller image is returned as it is.

    Returns:
        (H, W) uint8, uint16 or, for Hounsfield units, int16; and the height and width of the file.

    Raises:
        ImageError: with a reason of `images.REASONS`.
    """
    if pixels.kind == "hounsfield":
        image = read_hounsfield(path, offset=pixels.offset)
        return resize_short(image, short_side), image.shape
    if pixels.equalize:
        image, size = read_image_and_size(path)
        return resize_short(equalize(to_uint8(image)), short_side), size
    return read_image_and_size(path, short_side=short_side)


def read_hounsfield(path: str | Path, *, offset: int = 0) -> np.ndarray:
    """A CT slice as (H, W) int16 Hounsfield units.

    Args:
        path: a DICOM file, a slice of a NIfTI volume, or a 16-bit grey image.
        offset: of 16-bit images: Hounsfield units are the stored value plus this (DeepLesion: -32768).

    Raises:
        ImageError: `not_hounsfield` where the image shows that the rescale is missing or done twice;
            `unsupported_mode` where it has 8 bits, which hold no Hounsfield units.
    """
    file, index = nifti.split_path(path)
    if index is None and dicom.is_dicom(path):
        return dicom.read_hounsfield(path)
    if index is None:
        stored = read_image(path)
        if stored.dtype != np.uint16:
            raise ImageError(
                path, "unsupported_mode", "8 bits hold no Hounsfield units: a 16-bit image is wanted"
            )
        units, scale = to_hounsfield(stored, 1, offset), f" after adding {offset}"
    else:
        units, scale = nifti.read_slice(file, index), ""
    problem = hounsfield_problem(units)
    if problem:
        raise ImageError(path, "not_hounsfield", problem + scale)
    return units


def equalize(image: np.ndarray) -> np.ndarray:
    """Equalise the histogram of (H, W) uint8: each grey becomes the share of pixels up to it.

    As scikit-image's `equalize_hist` on the image in [0, 1] with 256 bins between its extremes, the
    cumulative share interpolated between bin centres; LoVT prepared four of its data sets so.
    """
    greys, counts = np.unique(image, return_counts=True)
    histogram, edges = np.histogram(greys / 255, bins=256, weights=counts)
    shares = np.cumsum(histogram) / counts.sum()
    equalized = np.interp(greys / 255, (edges[:-1] + edges[1:]) / 2, shares)
    table = np.zeros(256, np.uint8)
    table[greys] = np.rint(equalized * 255)
    return np.asarray(table[image])
