import numpy as np
import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.figures import roc_curves
from radlearn.metrics import classification


@pytest.mark.parametrize("decimals", [8, 1, 0])
def test_curve_and_area_equal_the_metric_with_and_without_ties(decimals):
    rng = np.random.default_rng(decimals)
    positive = rng.random(200) < 0.3
    scores = np.round(rng.standard_normal(200) + positive, decimals)
    curve = roc_curves.roc_curve(scores, positive)
    assert curve.area == pytest.approx(float(classification.auroc(scores, positive.astype(float))), abs=1e-12)
    reference = classification.roc_curve(scores, positive.astype(float))
    ours = np.stack([curve.false_positive_rate, curve.true_positive_rate], axis=1)
    corners = np.stack([reference.false_positive_rate, reference.true_positive_rate], axis=1)
    # The metric may leave out corners on a straight piece; each that it names must be one of ours.
    assert np.abs(corners[:, None] - ours[None]).sum(axis=2).min(axis=1).max() < 1e-12
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0]) == (0, 0)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)


def test_perfect_inverted_and_constant_scores():
    positive = np.array([True, True, False, False])
    assert roc_curves.roc_curve(np.array([4.0, 3, 2, 1]), positive).area == 1
    assert roc_curves.roc_curve(np.array([1.0, 2, 3, 4]), positive).area == 0
    assert roc_curves.roc_curve(np.ones(4), positive).area == 0.5


def entries(figure):
    return [
        text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()
    ]


def test_the_legend_is_ordered_by_area_and_ends_with_chance():
    found = entries(roc_curves.draw(roc_curves.fake()))
    areas = [float(entry.split("  ")[1]) for entry in found]
    assert areas[:-1] == sorted(areas[:-1], reverse=True)
    assert found[-1].startswith("chance")


def test_uncertain_and_missing_labels_do_not_count():
    table = pl.DataFrame(
        {
            "patient_id": list("abcdef"),
            "score_x": [0.9, 0.8, 0.1, 0.2, 0.99, 0.0],
            "label_x": pl.Series([1, 1, 0, 0, -1, None], dtype=pl.Float32),
        }
    )
    assert entries(roc_curves.draw(table))[0] == "X  1.000  (2 + / 2 −)"


def test_a_label_with_one_class_is_named_but_not_drawn():
    table = roc_curves.fake().with_columns(label_edema=pl.lit(0.0))
    figure = roc_curves.draw(table)
    assert not any("Edema" in entry for entry in entries(figure))
    assert "not drawn: Edema" in figure.get_supxlabel()
    only = table.select("patient_id", "score_edema", "label_edema")
    with pytest.raises(DataError, match="both positives and negatives"):
        roc_curves.draw(only)


def test_no_pair_of_columns_is_a_clear_error():
    with pytest.raises(DataError, match=r"score_<label>"):
        roc_curves.draw(pl.DataFrame({"patient_id": ["a"], "label_x": [1.0]}))


def test_a_score_that_is_no_number_is_named():
    table = roc_curves.fake().with_columns(score_edema=pl.lit(float("nan")))
    with pytest.raises(DataError, match="score_edema"):
        roc_curves.draw(table)
