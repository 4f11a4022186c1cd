"""CT windows: the named ones, pairs, and those of the rows, against grey values worked out by hand."""

import numpy as np
import polars as pl
import pytest

from radlearn.data import windows
from radlearn.data.windows import DEFAULT, WINDOWS, WindowedSource, of_rows, parse
from radlearn.errors import ConfigurationError


def test_the_named_windows_are_level_and_width_of_the_reading_presets():
    presets = {
        "soft_tissue": (40, 400), "abdomen": (40, 400), "lung": (-600, 1500), "mediastinum": (50, 350),
        "bone": (400, 1800), "brain": (40, 80),
    }  # fmt: skip
    assert {
        name: (level - width / 2, level + width / 2) for name, (level, width) in presets.items()
    } == WINDOWS
    assert DEFAULT == (-160, 240)


def test_a_window_is_a_name_or_a_pair():
    assert parse("lung") == (-1350, 150)
    assert parse([-100, 300]) == (-100, 300)
    assert parse((0, 80.5)) == (0, 80.5)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("lungs", r"no window 'lungs'.*did you mean 'lung'"),
        ("row", "no window 'row'"),
        ([300, -100], "from a low to a high"),
        ([1, 1], "from a low to a high"),
        ([0, float("inf")], "from a low to a high"),
        ([1], r"\[low, high\]"),
        ([1, 2, 3], r"\[low, high\]"),
        (["a", 2], r"\[low, high\]"),
        (7, r"\[low, high\]"),
    ],
)
def test_what_is_no_window_is_refused(window, message):
    with pytest.raises(ConfigurationError, match=message):
        parse(window)


def test_rows_name_their_windows_and_others_get_the_default():
    cells = [
        {"low": -175.0, "high": 275.0},
        None,
        {"low": None, "high": 275.0},
        {"low": 275.0, "high": -175.0},
        {"low": float("nan"), "high": 1.0},
        {"low": -1350.0, "high": 150.0},
    ]
    column = pl.Series("window", cells, dtype=pl.Struct({"low": pl.Float32, "high": pl.Float32}))
    low, high = of_rows(column, (0.0, 80.0))
    assert low.tolist() == [-175, 0, 0, 0, 0, -1350]
    assert high.tolist() == [275, 80, 80, 80, 80, 150]


class Images:
    """Two CT slices and a radiograph."""

    ids = ("a", "b", "c")
    images = (
        np.array([[-2000, -160, 40, 240, 3000]], np.int16),
        np.array([[-1350, -600, 0, 150]], np.int16),
        np.array([[0, 7, 255]], np.uint8),
    )

    def __len__(self):
        return 3

    def image(self, index):
        return self.images[index]

    def gather(self, indices):
        return [self.images[index] for index in indices]

    def size(self, index):
        return self.images[index].shape

    def index_of(self, image_id):
        return self.ids.index(image_id)


def test_a_windowed_source_is_the_source_in_8_bits():
    source = WindowedSource(Images(), np.array([-160, -1350, np.nan]), np.array([240, 150, np.nan]))
    # (40 + 160) / 400 * 255 = 127.5 and (-600 + 1350) / 1500 * 255 = 127.5; halves go to the even number.
    expected = [[0, 0, 128, 255, 255], [0, 128, 230, 255], [0, 7, 255]]
    assert [image.tolist()[0] for image in source.gather([0, 1, 2])] == expected
    assert [source.image(i).tolist()[0] for i in range(3)] == expected
    assert source.image(0).dtype == np.uint8
    assert [image.tolist()[0] for image in source.gather([2, 0])] == [expected[2], expected[0]]
    assert (len(source), source.ids, source.size(1), source.index_of("c")) == (3, ("a", "b", "c"), (1, 4), 2)


def test_hounsfield_units_without_a_window_come_through():
    source = WindowedSource(Images(), np.full(3, np.nan), np.full(3, np.nan))
    assert source.image(0) is Images.images[0]
    assert windows.ROW == "row"
