import cv2
import numpy as np
import pytest

from radlearn.phantom import render_case, render_full_size


def test_a_full_size_image_is_the_case_with_grain_and_compresses_like_a_radiograph():
    image = render_full_size(1, 2, 0)
    assert image.shape == (3050, 2500)
    assert image.dtype == np.uint8
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    assert 1.0e6 < len(encoded) < 2.2e6
    side = round(0.55 * 3050 + 0.45 * 2500)
    top, left = (3050 - side) // 2, (side - 2500) // 2
    small = cv2.resize(render_case(1, 2, 0, 640).image, (side, side), interpolation=cv2.INTER_CUBIC)
    small = small[:, left : left + 2500].astype(float)
    assert np.corrcoef(small.ravel()[::97], image[top : top + side].ravel()[::97])[0, 1] > 0.99


def test_small_sides_are_refused():
    with pytest.raises(ValueError, match="at least 640"):
        render_full_size(0, 0, 0, 600, 2500)
