import numpy as np
import pytest

from radlearn.phantom.frame import Frame, Pose, blur, fractal, resize


def tilted_pose() -> Pose:
    elastic = np.random.default_rng(0).normal(0, 0.4, (2, 8, 8)).astype(np.float32)
    return Pose(scale=1.08, shift=(0.7, -0.5), tilt=0.05, elastic=elastic)


@pytest.mark.parametrize("point", [(-9.0, -8.0), (0.0, 0.0), (8.5, 6.0)])
def test_a_stroke_lands_where_the_pixel_grid_has_its_coordinates(point):
    frame = Frame(256, tilted_pose())
    canvas = frame.canvas()
    ends = np.array([point, point]) + np.array([[-0.02, 0.0], [0.02, 0.0]])
    frame.strokes(canvas, [frame.place(ends)], 0.3, 255.0)
    field = frame.sample(canvas, 1.0)
    drawn = np.array([(frame.x * field).sum(), (frame.y * field).sum()]) / field.sum()
    np.testing.assert_allclose(drawn, point, atol=0.08)  # cm; a pixel has 0.13


def test_a_thin_line_keeps_its_cross_section_whatever_the_size():
    pose = Pose(scale=1.0, shift=(0.0, 0.0), tilt=0.0, elastic=np.zeros((2, 8, 8), np.float32))
    totals = []
    for size in (128, 512):
        frame = Frame(size, pose)
        canvas = frame.canvas()
        frame.strokes(canvas, [frame.place(np.array([[-5.0, 0.0], [5.0, 0.0]]))], 0.2, 255.0)
        totals.append(frame.sample(canvas, 1.0).sum() * frame.pixel**2)
    np.testing.assert_allclose(totals, 10.0 * 0.2, rtol=0.1)  # length times width, cm^2


def test_fractal_noise_is_one_picture_at_every_size():
    large = fractal(np.random.default_rng(3), 256, 1.6)
    small = fractal(np.random.default_rng(3), 64, 1.6)
    assert np.corrcoef(resize(large, 64).ravel(), small.ravel())[0, 1] > 0.98
    assert 0.6 < large.std() < 1.5


def test_a_wide_blur_equals_one_on_the_full_grid():
    image = np.random.default_rng(1).random((128, 128), dtype=np.float32)
    image = blur(image, 4.0)
    spectrum = np.fft.fft2(np.pad(image, 64, mode="edge"))
    frequency = np.fft.fftfreq(256)
    transfer = np.exp(-2 * (np.pi * 16.0) ** 2 * (frequency[:, None] ** 2 + frequency[None] ** 2))
    expected = np.fft.ifft2(spectrum * transfer).real[64:-64, 64:-64]
    # The middle only: the padding of the transform wraps around.
    np.testing.assert_allclose(blur(image, 16.0)[40:88, 40:88], expected[40:88, 40:88], atol=0.006)
