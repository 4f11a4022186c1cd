"""Tiny invented CT slices for miniature releases: air, a body with fat, lungs and spine, maybe a lesion."""

from __future__ import annotations

import numpy as np

Box = tuple[int, int, int, int]


def ct_slice(height: int, width: int, seed: int, lesion: Box | None = None) -> np.ndarray:
    """A slice as (height, width) int16 Hounsfield units.

    Args:
        height, width: in pixels, 16 or more.
        seed: of noise and of the shape of the body.
        lesion: x, y, w, h of a bright ellipse.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = (np.arange(height)[:, None] + 0.5) / height * 2 - 1
    columns = (np.arange(width)[None, :] + 0.5) / width * 2 - 1

    def ellipse(x: float, y: float, w: float, h: float) -> np.ndarray:
        inside: np.ndarray = ((columns - x) / w) ** 2 + ((rows - y) / h) ** 2 <= 1
        return inside

    image = np.full((height, width), -1000.0)
    reach = generator.uniform(0.8, 0.9)
    image[ellipse(0, 0, reach, reach * 0.75)] = -110
    image[ellipse(0, 0, reach - 0.08, reach * 0.75 - 0.08)] = 45
    for side in (-1, 1):
        image[ellipse(side * 0.38, -0.05, 0.24, 0.36)] = -850
    image[ellipse(0, 0.42, 0.12, 0.12)] = 380
    if lesion is not None:
        x, y, w, h = lesion
        centre_x, centre_y = (x + w / 2) / width * 2 - 1, (y + h / 2) / height * 2 - 1
        image[ellipse(centre_x, centre_y, w / width, h / height)] = 95
    noisy = image + generator.normal(0, 9, image.shape)
    return np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
