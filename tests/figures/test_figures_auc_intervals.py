import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.figures import auc_intervals


def points(axes):
    """Legend entry -> values of the markers."""
    return {
        line.get_label(): list(line.get_xdata()) for line in axes.get_lines() if line.get_marker() != "None"
    }


def test_each_run_has_its_values_and_whiskers():
    table = auc_intervals.fake()
    (axes,) = auc_intervals.draw(table).axes
    for run in ("nova", "infonce"):
        own = table.filter(pl.col("run") == run)
        assert points(axes)[run] == own["value"].to_list()
    whiskers = [tuple(path.vertices[:, 0]) for lines in axes.collections for path in lines.get_paths()]
    assert whiskers == list(zip(table["low"], table["high"], strict=True))


def test_means_stand_below_the_labels_behind_a_line():
    (axes,) = auc_intervals.draw(auc_intervals.fake()).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[-2:] == ["Macro", "Macro without nodule and devices"]
    ticks = axes.get_yticks()
    assert ticks[5] - ticks[4] > ticks[1] - ticks[0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_the_chance_line_is_the_rows_own():
    table = auc_intervals.fake()
    (axes,) = auc_intervals.draw(table.with_columns(chance=pl.lit(0.4))).axes
    assert any("chance 0.4" in text.get_text() for text in axes.texts)
    (axes,) = auc_intervals.draw(table.drop("chance")).axes
    assert any("chance 0.5" in text.get_text() for text in axes.texts)


def test_levels_that_differ_have_no_common_line():
    table = auc_intervals.fake().with_columns(
        metric=pl.lit("average_precision"), chance=pl.int_range(pl.len()).cast(pl.Float64) / 100
    )
    (axes,) = auc_intervals.draw(table, metric="average_precision").axes
    assert not any("chance" in text.get_text() for text in axes.texts)
    assert "average precision" in axes.get_xlabel()


def test_missing_intervals_and_values_are_left_out_alone():
    table = auc_intervals.fake().filter(pl.col("run") == "nova")
    holes = table.with_columns(
        low=pl.lit(None, dtype=pl.Float64),
        value=pl.when(pl.col("label") == "nodule").then(float("nan")).otherwise(pl.col("value")),
    )
    (axes,) = auc_intervals.draw(holes).axes
    assert len(points(axes)["nova"]) == table.height - 1


def test_the_last_of_two_equal_measurements_counts():
    table = auc_intervals.fake().filter((pl.col("run") == "nova") & (pl.col("label") == "edema"))
    (axes,) = auc_intervals.draw(pl.concat([table, table.with_columns(value=pl.lit(0.7))])).axes
    assert points(axes)["nova"] == [0.7]


def test_no_row_of_the_variant_is_a_clear_error():
    with pytest.raises(DataError, match="variant='other'"):
        auc_intervals.draw(auc_intervals.fake(), variant="other")
    with pytest.raises(DataError, match=r"metric='dice'.*there is auc"):
        auc_intervals.draw(auc_intervals.fake(), metric="dice")


def test_n_is_a_span_where_labels_differ():
    table = auc_intervals.fake().with_columns(num_cases=pl.Series([380 + i for i in range(14)]))
    assert "n = 380 to 393 images of 200 patients" in auc_intervals.draw(table).get_supxlabel()
