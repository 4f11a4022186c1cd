import numpy as np
import pytest

from radlearn.phantom.ct_plane import Plane, tube
from radlearn.phantom.ct_tissue import Tissue, attenuation
from radlearn.phantom.frame import FIELD_OF_VIEW, Pose

FLAT = Pose(1.0, (0.0, 0.0), 0.0, np.zeros((2, 7, 7), np.float32))
PIXEL = FIELD_OF_VIEW / 128


@pytest.fixture
def plane():
    return Plane(128, FLAT, 10.0, PIXEL, attenuation("none", {}))


def test_an_ellipse_covers_its_area(plane):
    cover = plane.cover(plane.ellipse(1.0, -2.0, 5.0, 3.0, 0.4))
    assert cover.sum() * PIXEL**2 == pytest.approx(np.pi * 5 * 3, rel=0.02)


def test_a_capsule_covers_its_area(plane):
    cover = plane.cover(plane.capsule((-3.0, 1.0), (4.0, 2.0), 1.5))
    assert cover.sum() * PIXEL**2 == pytest.approx(np.pi * 1.5**2 + 3.0 * np.hypot(7, 1), rel=0.02)


@pytest.mark.parametrize("half", [0.03, 0.1, 0.5])
def test_a_layer_covers_its_area_even_where_it_is_thin(plane, half):
    cover = plane.band(plane.ellipse(0.0, 0.0, 6.0, 6.0), half)
    assert cover.sum() * PIXEL**2 == pytest.approx(2 * np.pi * 6 * 2 * half, rel=0.05)


def test_painting_mixes_by_cover_and_names_the_larger_part(plane):
    cover = np.zeros((128, 128), np.float32)
    cover[0, :3] = 0.25, 0.75, 1.0
    plane.paint(cover, Tissue.CALCIFICATION)
    np.testing.assert_allclose(plane.hu[0, :4], [-1000 + 1620 * 0.25, -1000 + 1620 * 0.75, 620, -1000])
    assert plane.tissue[0, :4].tolist() == [0, Tissue.CALCIFICATION, Tissue.CALCIFICATION, 0]


def test_a_tube_through_the_plane_is_a_disc_and_one_within_it_a_band(plane):
    upright = plane.draw(tube([(2.0, 1.0, 5.0, 1.2), (2.0, 1.0, 15.0, 1.2)], Tissue.ARTERY))
    plane.paint_canvas(upright)
    area = (plane.hu + 1000).sum() / 1042 * PIXEL**2
    assert area == pytest.approx(np.pi * 1.2**2, rel=0.06)
    assert plane.tissue[np.unravel_index(np.argmin(np.hypot(plane.x - 2, plane.y - 1)), (128, 128))] == (
        Tissue.ARTERY
    )
    lying = Plane(128, FLAT, 10.0, PIXEL, attenuation("none", {}))
    lying.paint_canvas(lying.draw(tube([(-4.0, 0.0, 10.0, 1.0), (4.0, 0.0, 10.0, 1.0)], Tissue.ARTERY)))
    area = (lying.hu + 1000).sum() / 1042 * PIXEL**2
    assert area == pytest.approx(8 * 2 + np.pi, rel=0.08)


def test_a_tube_elsewhere_is_not_drawn(plane):
    assert plane.draw(tube([(0.0, 0.0, 20.0, 1.0), (0.0, 0.0, 30.0, 1.0)], Tissue.VEIN)) is None
    before = plane.hu.copy()
    plane.paint_canvas(None)
    np.testing.assert_array_equal(plane.hu, before)


def test_a_patch_is_a_view_of_the_plane(plane):
    patch = plane.patch(4.0, -3.0, 2.0, 1.0)
    assert patch.x.min() < 2 < 6 < patch.x.max()
    assert patch.y.min() < -4 < -2 < patch.y.max()
    assert patch.x.size < 0.1 * plane.x.size
    np.testing.assert_array_equal(patch.part_of(plane.x), patch.x)
    patch.paint(np.ones_like(patch.x), Tissue.FAT)
    assert (plane.tissue == Tissue.FAT).sum() == patch.x.size
