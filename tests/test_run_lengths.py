"""Run lengths: a known mask, round trips, and texts that are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from radlearn import run_lengths
from radlearn.errors import DataError


def test_a_known_mask_is_row_major_from_zero():
    mask = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1]], bool)
    assert run_lengths.encode(mask) == "1 3 8 1"
    np.testing.assert_array_equal(run_lengths.decode("1 3 8 1", 3, 3), mask)


def test_an_empty_mask_is_an_empty_text():
    assert run_lengths.encode(np.zeros((3, 3), bool)) == ""
    assert not run_lengths.decode("", 3, 3).any()


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=100, deadline=None)
def test_masks_survive_a_round_trip_and_runs_do_not_touch(mask):
    rle = run_lengths.encode(mask)
    np.testing.assert_array_equal(run_lengths.decode(rle, *mask.shape), mask)
    numbers = [int(n) for n in rle.split()]
    ends = [start + length for start, length in zip(numbers[::2], numbers[1::2], strict=True)]
    assert all(end < start for end, start in zip(ends, numbers[2::2], strict=False))


def test_overlapping_runs_are_a_union():
    assert run_lengths.decode("0 3 1 1 2 3", 1, 6).tolist() == [[True] * 5 + [False]]


@pytest.mark.parametrize(
    "rle", ["0", "0 10", "9 1", "-1 2", "0 -1", "a b", "1.5 2", "99999999999999999999 1"]
)
def test_runs_that_leave_the_image_are_refused(rle):
    with pytest.raises(DataError, match="mask"):
        run_lengths.decode(rle, 3, 3)
