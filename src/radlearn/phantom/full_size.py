"""Images as large as a detector makes them, for tests of the input path."""

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.anatomy import STREAM_FULL_SIZE, stream
from radlearn.phantom.case import render_case

_RENDERED = 640  # pixels a side; the rest of the detail is grain
# Grain of an 8-bit radiograph in grey values: chosen so that a quality-95 JPEG has about 1.5 MB.
_GRAIN = 1.6
_GRAIN_WIDTH = 0.55  # pixels, point spread of the detector


def render_full_size(
    seed: int, patient: int, study: int, height: int = 3050, width: int = 2500
) -> NDArray[np.uint8]:
    """Render a study at (height, width) uint8: a medium rendering enlarged, with the grain of a detector.

    The chest keeps its proportions: the square picture is collimated a little on the longer side and cropped
    a little on the shorter one.

    Raises:
        ValueError: if a side is below 640 pixels; `render_case` makes those.
    """
    if min(height, width) < _RENDERED:
        raise ValueError(f"a full-size side has at least {_RENDERED} pixels: got {height} x {width}")
    image = render_case(seed, patient, study, _RENDERED).image
    side = round(0.55 * max(height, width) + 0.45 * min(height, width))
    move = np.array([[1, 0, (width - side) / 2], [0, 1, (height - side) / 2]], np.float32)
    large = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    picture = cv2.warpAffine(large, move, (width, height), flags=cv2.INTER_LINEAR).astype(np.float32)
    grain = stream(seed, patient, STREAM_FULL_SIZE, study).standard_normal((height, width), dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), _GRAIN_WIDTH)
    grain *= _GRAIN / float(grain.std())
    # Fewer quanta pass where the chest is dense: brighter parts are grainier. The direct beam is clipped.
    amount = np.clip(0.35 + picture / 160, 0, 1.6) * (picture > 2)
    result: NDArray[np.uint8] = np.rint(np.clip(picture + grain * amount, 0, 255)).astype(np.uint8)
    return result
