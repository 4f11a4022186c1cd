import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.figures import collapse


def entries(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_both_sides_and_the_alarm_level_are_drawn():
    spread, rank = collapse.draw(collapse.fake(), width=64).axes
    assert entries(spread) == ["Image", "Text", "alarm below 0.1"]
    assert entries(rank) == ["Image", "Text", "alarm below width / 8"]
    assert set(spread.get_lines()[-1].get_ydata()) == {0.1}
    assert set(rank.get_lines()[-1].get_ydata()) == {8.0}


def test_steps_without_a_probe_are_skipped():
    spread, _ = collapse.draw(collapse.fake()).axes
    assert list(spread.get_lines()[0].get_xdata()) == list(range(25, 301, 25))


def test_without_width_or_rank_there_is_no_rank_alarm_or_panel():
    _, rank = collapse.draw(collapse.fake()).axes
    assert entries(rank) == ["Image", "Text"]
    assert len(collapse.draw(collapse.fake().select("step", "diagnostics/image_std_mean")).axes) == 1


def test_collapsed_steps_are_those_below_the_alarm():
    table = pl.DataFrame(
        {"step": [10, 20, 30, 40], "diagnostics/image_std_mean": [0.5, None, 0.09, 0.1]},
    )
    assert collapse.collapsed_steps(table) == [30]


def test_no_probe_yet_is_a_clear_error():
    table = collapse.fake().with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name)
        for name in collapse.fake().columns
        if name.startswith("diag")
    )
    with pytest.raises(DataError, match="no probe"):
        collapse.draw(table)
