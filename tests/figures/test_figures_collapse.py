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


@pytest.mark.parametrize(
    ("values", "alarms"),
    [
        ([0.5, 0.09, 0.09, 0.09, 0.5], {"image": 20}),
        ([0.09, 0.09, 0.5, 0.09, 0.09], {}),
        ([0.5, 0.05, None, 0.05, 0.05], {"image": 20}),
        ([0.1, 0.1, 0.1, 0.1, 0.1], {}),
        ([0.05], {}),
    ],
)
def test_three_low_probes_in_a_row_are_an_alarm(values, alarms):
    steps = [10 * (i + 1) for i in range(len(values))]
    assert collapse.alarms(pl.DataFrame({"step": steps, "diagnostics/image_std_mean": values})) == alarms


def test_sides_are_found_below_any_group():
    table = collapse.fake().rename(
        {"diagnostics/image_std_mean": "diagnostics/collapse/image_global_std_mean"}
    )
    assert entries(collapse.draw(table).axes[0])[0] == "Image global"
    assert collapse.measured(table)
    assert not collapse.measured(table.select("step"))


def test_no_probe_yet_is_a_clear_error():
    table = collapse.fake().with_columns(
        pl.lit(None, dtype=pl.Float64).alias(name)
        for name in collapse.fake().columns
        if name.startswith("diag")
    )
    with pytest.raises(DataError, match="no probe"):
        collapse.draw(table)
