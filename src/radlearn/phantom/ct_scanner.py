"""From attenuation to a reconstructed slice: resolution of the kernel, noise, streaks, stored numbers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.ct_patient import CTPatient
from radlearn.phantom.ct_tissue import Tissue
from radlearn.phantom.frame import Field, blur, resize

OFFSET = 32768
"""Stored value = HU + 32768, as in DeepLesion's 16-bit PNG files (Yan et al., J Med Imaging 2018)."""
LOWEST, HIGHEST = -1024, 3071  # HU that 12 bits hold
_MATRIX = 512  # pixels a side that scanners reconstruct; smaller images are means over it


def acquire(
    hu: Field, tissue: NDArray[np.uint8], patient: CTPatient, generator: np.random.Generator
) -> NDArray[np.int16]:
    """Reconstruct attenuation (H, W) in HU as the patient's scan would, as int16 HU."""
    scan = patient.scan
    side = hu.shape[0]
    pixel = scan.field_of_view / side
    sharp = scan.kernel == "sharp"
    image = blur(hu, (0.035 if sharp else 0.075) / pixel) if pixel < 0.3 else hu
    if sharp:  # lung and bone kernels overshoot at edges
        image = image + np.float32(0.5) * (image - blur(image, 0.11 / pixel))
    image = image + noise(tissue != Tissue.AIR, scan.noise, sharp, generator)
    limited = np.clip(np.rint(image), LOWEST, HIGHEST)
    return np.asarray(limited, np.int16)


def noise(body: NDArray[np.bool_], level: float, sharp: bool, generator: np.random.Generator) -> Field:
    """Quantum noise (H, W) in HU: correlated by the kernel, stronger and streaky where rays cross much body.

    Args:
        body: (H, W) where there is something to cross.
        level: standard deviation at 512 pixels with the soft kernel in the middle of a round body, HU.
        sharp: whether the kernel passes high frequencies, which multiplies the noise.
        generator: of the noise.
    """
    side = body.shape[0]
    matrix = max(_MATRIX, side)
    white = generator.standard_normal((matrix, matrix), dtype=np.float32)
    # Filtered back-projection passes neither the mean nor the finest detail: a band.
    fine = cv2.GaussianBlur(white, (0, 0), 0.55 if sharp else 1.0)
    band = resize(fine - np.float32(0.85) * cv2.blur(fine, (9, 9)), side)
    unit = 1.83 if sharp else 3.91  # makes the band's standard deviation 1 at 512 pixels
    across = body.mean(axis=1, dtype=np.float32)
    down = body.mean(axis=0, dtype=np.float32)
    wide = np.clip((across - 0.62) * 3.0, 0, 0.6)[:, None]
    streaks = cv2.blur(band, (max(3, side // 20) | 1, 1)) * np.float32(3.0)
    band = band + wide * streaks
    path = cv2.GaussianBlur((across[:, None] + down[None, :]) * body, (0, 0), side / 24)
    strength = level * (1.9 if sharp else 1.0) * unit * (0.35 + 0.55 * path)
    return np.asarray(band * strength, np.float32)
