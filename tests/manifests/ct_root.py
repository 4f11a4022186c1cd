"""Roots of invented CT slices in every form, and what `CTFolders` reads from them."""

import warnings

import cv2
import nibabel
import numpy as np

from radlearn.manifests._ct_fake import ct_slice
from radlearn.manifests._ct_folders_fake import write_slice
from radlearn.manifests.ct_folders import CTFolders

SIDE = 32


def units(seed=0):
    return ct_slice(SIDE, SIDE, seed)


def png(root, *names, offset=None):
    """Pictures of CT: grey of a window, or 16 bits with an offset."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.clip((units(seed) + 160) * 255 / 400, 0, 255).astype(np.uint8)
        stored = grey if offset is None else (units(seed).astype(np.int32) - offset).astype(np.uint16)
        assert cv2.imwrite(str(path), stored)
    return root


def dicom(root, *slices):
    """(path, header) pairs."""
    for seed, (name, header) in enumerate(slices):
        write_slice(root / name, units(seed), header)
    return root


def volume(path, number=3, affine=(-0.7, -0.7, -5.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.stack([units(seed).T for seed in range(number)], axis=2)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([*affine, 1.0])), path)


def table(root, text, name="lesions.csv"):
    (root / name).write_text(text)
    return name


def read(root, **settings):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*slice holds a lesion.*")
        return CTFolders(**settings).read(root)


def column(release, name, by="path"):
    return dict(release.rows.select(by, name).rows())
