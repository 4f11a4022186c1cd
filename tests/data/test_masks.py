"""Masks of releases: against loops that paint one pixel at a time, and shapes of known area."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from radlearn import run_lengths
from radlearn.data import masks
from radlearn.errors import DataError


def painted(rle: str, height: int, width: int) -> np.ndarray:
    """The challenge's description, literally: advance by the gap, paint, go on where the run ended."""
    flat, position = np.zeros(height * width, bool), 0
    numbers = [int(n) for n in rle.split()]
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += gap
        flat[position : position + length] = True
        position += length
    return flat.reshape(width, height).T


def relative(mask: np.ndarray) -> str:
    words, position = [], 0
    flat = mask.T.ravel()
    runs = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
    for start, stop in zip(runs[::2], runs[1::2], strict=True):
        words += [start - position, stop - start]
        position = stop
    return " ".join(map(str, words))


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=100, deadline=None)
def test_relative_runs_go_down_the_columns(mask):
    rle = relative(mask)
    np.testing.assert_array_equal(masks.from_relative_runs(rle, *mask.shape), mask)
    np.testing.assert_array_equal(painted(rle, *mask.shape), mask)


@pytest.mark.parametrize("rle", ["-1", " -1", "", "  "])
def test_minus_one_with_and_without_blanks_is_empty(rle):
    assert not masks.from_relative_runs(rle, 4, 5).any()


@pytest.mark.parametrize("rle", ["1", "1 2 3", "-1 2", "0 99", "x 1", "4 4 4 9"])
def test_faulty_relative_runs_are_refused(rle):
    with pytest.raises(DataError):
        masks.from_relative_runs(rle, 4, 4)


def test_boxes_are_a_union_clipped_to_the_image():
    mask = masks.from_boxes([(1, 2, 3, 2), (3, 3, 10, 1), (-2, -2, 3, 3)], 5, 6)
    wanted = np.zeros((5, 6), bool)
    wanted[2:4, 1:4] = wanted[3:4, 3:6] = wanted[0:1, 0:1] = True
    np.testing.assert_array_equal(mask, wanted)


def test_a_whole_box_fills_width_times_height_pixels():
    assert masks.from_boxes([(10, 20, 30, 40)], 100, 100).sum() == 1200


def test_an_ellipse_has_the_area_of_an_ellipse_whatever_the_order_of_its_corners():
    mask = masks.from_ellipse(20, 30, 180, 110, 200, 220)
    assert mask.sum() == pytest.approx(np.pi * 80 * 40, rel=0.005)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (30, 110, 20, 180)
    np.testing.assert_array_equal(masks.from_ellipse(180, 110, 20, 30, 200, 220), mask)


def test_a_polygon_is_filled_in_x_and_y_not_y_and_x():
    mask = masks.from_polygon([(10, 5), (90, 5), (90, 30), (10, 30)], 50, 100)
    np.testing.assert_array_equal(mask, masks.from_boxes([(10, 5, 80, 25)], 50, 100))


def inside(points, x: float, y: float) -> bool:
    """Even-odd by the ray to the right, in whole numbers and fractions."""
    odd = False
    for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
        if (y1 > y) != (y2 > y) and x1 + Fraction((y - y1) * (x2 - x1), y2 - y1) > x:
            odd = not odd
    return odd


@given(st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 9)), min_size=1, max_size=7))
@settings(max_examples=100, deadline=None)
def test_polygons_agree_with_the_ray_rule_at_every_pixel_centre(points):
    mask = masks.from_polygon(points, 6, 9)
    half = Fraction(1, 2)
    wanted = [[inside(points, x + half, y + half) for x in range(9)] for y in range(6)]
    on_side = [
        [any(touches(a, b, x + half, y + half) for a, b in sides(points)) for x in range(9)] for y in range(6)
    ]
    # A centre that lies on a side belongs to either.
    np.testing.assert_array_equal(mask | on_side, np.array(wanted) | on_side)


def sides(points):
    return list(zip(points, points[1:] + points[:1], strict=True))


def touches(a, b, x, y) -> bool:
    (x1, y1), (x2, y2) = a, b
    return (x2 - x1) * (y - y1) == (y2 - y1) * (x - x1) and min(y1, y2) <= y <= max(y1, y2)


def test_the_cell_of_a_row_leaves_empty_masks_out():
    mask = np.eye(2, dtype=bool)
    assert masks.row({"a": mask, "b": np.zeros((2, 2), bool)}) == [{"class": "a", "rle": "0 1 3 1"}]


# --- straight to run lengths: the same text as by way of the whole image


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))), st.integers(0, 3), st.integers(0, 3)
)
@settings(max_examples=100, deadline=None)
def test_a_part_has_the_run_lengths_of_the_image_that_holds_it(part, top, left):
    for right in (0, 2):
        image = np.pad(part, ((top, 1), (left, right)))
        assert masks.rle_of_part(part, top, left, image.shape[1]) == run_lengths.encode(image)


@given(st.lists(arrays(np.bool_, (5, 7)), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_several_relative_runs_are_or_ed(several):
    rles = [relative(mask) or "-1" for mask in several]
    wanted = run_lengths.encode(np.logical_or.reduce(several))
    assert masks.rle_of_relative_runs(rles, 5, 7) == wanted
    assert masks.rle_of_relative_runs([*rles, " -1", ""], 5, 7) == wanted


SIDE = st.floats(-4, 12, allow_nan=False)


@given(st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE), max_size=4))
@settings(max_examples=100, deadline=None)
def test_boxes_go_straight_to_the_run_lengths_of_their_union(boxes):
    assert masks.rle_of_boxes(boxes, 6, 9) == run_lengths.encode(masks.from_boxes(boxes, 6, 9))


def test_no_box_and_a_box_beyond_the_image_are_empty():
    assert masks.rle_of_boxes([], 6, 9) == masks.rle_of_boxes([(20, 20, 3, 3)], 6, 9) == ""


def test_a_box_of_huge_sides_is_cut():
    assert masks.rle_of_boxes([(-1e30, 1, 2e30, 1)], 6, 9) == "9 9"


@pytest.mark.parametrize("rle", ["1", "-1 2", "0 99", "x 1", "4 4 4 9"])
def test_faulty_relative_runs_are_refused_here_too(rle):
    with pytest.raises(DataError):
        masks.rle_of_relative_runs(["0 1", rle], 4, 4)
