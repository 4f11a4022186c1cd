"""Real DICOM files inside installed packages, and small ones written for a test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from radlearn.data.images import REASONS, ImageError


def installed(package, folder):
    return Path(importlib.util.find_spec(package).submodule_search_locations[0]) / folder


TEST_FILES = installed("pydicom", "data/test_files")
DATA_FILES = installed("data_store", "data")
ALL = {path.name: path for root in (DATA_FILES, TEST_FILES) for path in sorted(root.rglob("*.dcm"))}


def reason(call, *arguments, **keywords):
    with pytest.raises(ImageError) as caught:
        call(*arguments, **keywords)
    assert caught.value.reason in REASONS
    return caught.value.reason


def attempt(call, *arguments):
    """What a call returns, and None; or None, and the reason why not."""
    try:
        return call(*arguments), None
    except ImageError as error:
        return None, error.reason


def write(
    path, pixels, *, syntax="1.2.840.10008.1.2.1", frame=None, bits=None, big_endian=False, **attributes
):
    """A minimal file: `pixels` (H, W) as they are, or the compressed `frame` of them."""
    syntax = "1.2.840.10008.1.2.2" if big_endian else syntax
    dataset = Dataset()
    dataset.preamble = bytes(128)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    if frame is None:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    else:
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB" if frame is not None or pixels.dtype.itemsize == 1 else "OW"
    dataset.save_as(path, implicit_vr=False, little_endian=not big_endian, enforce_file_format=False)
    return path


def noise(low, high, dtype, shape=(32, 40)):
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


def smooth(height=256, width=240):
    coarse = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
