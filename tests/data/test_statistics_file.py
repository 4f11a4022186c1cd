"""LoVT's statistics of a data set: the formula on whole images, the file there and back, what is refused."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.data import statistics_file
from radlearn.data.statistics_file import SplitStatistics
from radlearn.errors import DataError


def images():
    generator = np.random.default_rng(0)
    return [
        generator.integers(0, high, (20, side), dtype=np.uint8)
        for high, side in zip((9, 99, 255), (3, 30, 7), strict=True)
    ]


def sums_of(pixels):
    return np.array([[p.size, p.sum(dtype=np.int64), (p.astype(np.int64) ** 2).sum()] for p in pixels])


def test_every_image_weighs_alike():
    rows = pl.DataFrame({"split": ["train", "train", "test"]})
    found = statistics_file.of_splits(rows, sums_of(images()))
    assert found.keys() == {"train", "test"}
    scaled = [image / 255 for image in images()]
    means, variances = [i.mean() for i in scaled[:2]], [i.var() for i in scaled[:2]]
    assert found["train"].num_samples == 2
    assert found["train"].pixel_mean == pytest.approx(np.mean(means))
    assert found["train"].pixel_std == pytest.approx(np.sqrt(np.mean(variances) + np.var(means)))
    assert found["test"].pixel_mean == pytest.approx(scaled[2].mean())
    assert found["test"].pixel_std == pytest.approx(scaled[2].std())


def test_one_flat_image_has_no_deviation():
    flat = np.full((5, 5), 77, np.uint8)
    found = statistics_file.of_splits(pl.DataFrame({"split": ["train"]}), sums_of([flat]))["train"]
    assert (found.pixel_mean, found.pixel_std) == (pytest.approx(77 / 255), pytest.approx(0, abs=1e-7))


def test_positive_weights_are_background_over_foreground_of_each_class():
    generator = np.random.default_rng(1)
    masks = generator.random((3, 20, 10)) < 0.1
    cells = [
        [
            {"class": "b", "rle": run_lengths.encode(masks[0])},
            {"class": "a", "rle": run_lengths.encode(masks[1])},
        ],
        [],  # looked at, and nothing there
        None,  # not looked at
        [{"class": "b", "rle": run_lengths.encode(masks[2])}, {"class": "empty", "rle": ""}],
    ]
    dtype = pl.List(pl.Struct({"class": pl.String, "rle": pl.String}))
    rows = pl.DataFrame({"split": ["train"] * 4, "height": [20] * 4, "width": [10] * 4})
    rows = rows.with_columns(pl.Series("mask", cells, dtype=dtype))
    found = statistics_file.of_splits(rows, sums_of([images()[0]] * 4))["train"]
    pixels = 3 * 200
    wanted = [(pixels - n) / n for n in (masks[1].sum(), masks[0].sum() + masks[2].sum())]
    assert found.segmentation_pos_weights == pytest.approx(wanted)


def test_the_file_comes_back_as_it_was(tmp_path):
    known = {
        "train": SplitStatistics(16010, 0.48988, 0.24818, ("p1", "p2"), (327.5,)),
        "validate": SplitStatistics(5337, 0.49, 0.25),
        "test": SplitStatistics(5337, 0.49, 0.25),
    }
    path = tmp_path / statistics_file.NAME
    statistics_file.write(path, known)
    assert statistics_file.read(path) == known
    content = json.loads(path.read_text())
    assert [*content] == ["train", "validation", "test"]
    assert content["validation"] == {"num_samples": 5337, "scan": {"pixel_mean": 0.49, "pixel_std": 0.25}}


def test_other_spellings_and_further_entries_are_read(tmp_path):
    scan = {"pixel_mean": 0.5, "pixel_std": 0.3, "more": 1}
    content = {
        "val": {"num_samples": 3, "scan": scan, "segmentation_pos_weights": 0.9425, "bbox": {}},
        "name": "covid_rural",
    }
    path = tmp_path / "statistics.json"
    path.write_text("\ufeff" + json.dumps(content))
    assert statistics_file.read(path) == {"validate": SplitStatistics(3, 0.5, 0.3, (), (0.9425,))}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "no statistics of a split"),
        ('{"all": {}}', "one of train, training, validation"),
        ('{"train": {"num_samples": 1}}', "wrong or missing: 'scan'"),
        ('{"train": 3}', "'train' holds num_samples and scan"),
        ('{"train": {"num_samples": 1, "scan": {"pixel_mean": "x", "pixel_std": 1}}}', "wrong or missing"),
        ('{"train": {"num_samples": 1, "scan": {"pixel_mean": 124.9, "pixel_std": 63.3}}}', "divide by 255"),
        (
            '{"train": {"num_samples": 1, "scan": {"pixel_mean": 0.5, "pixel_std": NaN}}}',
            r"pixels in \[0, 1\]",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, content, words):
    path = tmp_path / "statistics.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        statistics_file.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        statistics_file.read(tmp_path / "none.json")
