import numpy as np
import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.figures import learning_curves


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def test_terms_are_the_objectives_own_columns():
    drawn = panels(learning_curves.draw(learning_curves.fake()))
    assert list(drawn) == ["Training loss", "Terms of the loss", "Learning rate", "Zero-shot score"]
    entries = [text.get_text() for text in drawn["Terms of the loss"].get_legend().get_texts()]
    assert entries == ["mse", "sigreg"]


def test_panels_without_values_are_left_out():
    table = learning_curves.fake().select("step", "loss").with_columns(lr=pl.lit(None, dtype=pl.Float64))
    assert list(panels(learning_curves.draw(table.drop("lr")))) == ["Training loss"]


def test_a_curve_over_decades_is_logarithmic_and_a_flat_one_is_not():
    drawn = panels(learning_curves.draw(learning_curves.fake()))
    assert drawn["Terms of the loss"].get_yscale() == "log"
    assert drawn["Training loss"].get_yscale() == "linear"


def test_negative_losses_stay_on_a_linear_axis():
    table = pl.DataFrame({"step": [1, 2, 3], "loss": [100.0, 1.0, -1.0]})
    assert panels(learning_curves.draw(table))["Training loss"].get_yscale() == "linear"


def test_the_score_has_its_points_and_the_chance_line():
    axes = panels(learning_curves.draw(learning_curves.fake()))["Zero-shot score"]
    points, chance = axes.get_lines()
    assert list(points.get_xdata()) == [50, 100, 150, 200, 250, 300]
    assert list(points.get_ydata()) == [0.58, 0.66, 0.72, 0.755, 0.78, 0.785]
    assert set(chance.get_ydata()) == {0.5}


def test_the_running_mean_of_a_constant_is_the_constant():
    np.testing.assert_allclose(learning_curves.running_mean(np.full(50, 3.0), 7), 3.0)


def test_the_running_mean_is_the_mean_of_the_window():
    values = np.random.default_rng(0).random(31)
    mean = learning_curves.running_mean(values, 5)
    assert mean[15] == pytest.approx(values[13:18].mean())
    assert mean[0] == pytest.approx(values[:3].mean())


def test_non_finite_losses_are_skipped_and_only_them_an_error():
    table = pl.DataFrame({"step": [1, 2, 3], "loss": [1.0, float("nan"), 0.5]})
    assert "n = 2 logged steps" in learning_curves.draw(table).get_supxlabel()
    with pytest.raises(DataError, match="no finite value"):
        learning_curves.draw(table.with_columns(loss=pl.lit(float("inf"))))


def test_several_runs_are_overlaid_without_terms():
    table = pl.concat([learning_curves.fake().with_columns(run=pl.lit(name)) for name in ("_a", "b")])
    drawn = panels(learning_curves.draw(table))
    assert list(drawn) == ["Training loss", "Zero-shot score"]
    entries = [text.get_text() for text in drawn["Training loss"].get_legend().get_texts()]
    assert entries == [" _a", "b"]
    assert "2 training runs" in drawn["Training loss"].figure.get_supxlabel()


def test_one_row_is_enough():
    assert learning_curves.draw(pl.DataFrame({"step": [1], "loss": [0.7]})).axes
