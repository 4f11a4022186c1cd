import numpy as np
import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.figures import embedding_map


def table_of(embeddings, **labels):
    rows = len(embeddings)
    return pl.DataFrame(
        {
            "patient_id": [f"p{i}" for i in range(rows)],
            "embedding": pl.Series([list(map(float, row)) for row in embeddings], dtype=pl.List(pl.Float32)),
            **(labels or {"label_x": [float(i % 2) for i in range(rows)]}),
        }
    )


def test_components_equal_the_singular_value_decomposition():
    embeddings = np.random.default_rng(0).standard_normal((60, 9)) * np.arange(1, 10)
    mapped = embedding_map.principal_components(embeddings)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(mapped.coordinates), np.abs(left[:, :2] * values[:2]), atol=1e-10)
    np.testing.assert_allclose(mapped.explained, values[:2] ** 2 / (values**2).sum(), atol=1e-12)


def test_the_map_ignores_lengths_and_the_sign_of_a_component():
    embeddings = np.random.default_rng(1).standard_normal((30, 5))
    first = embedding_map.principal_components(embeddings)
    scaled = embedding_map.principal_components(embeddings * np.arange(1, 31)[:, None])
    np.testing.assert_allclose(first.coordinates, scaled.coordinates, atol=1e-9)


def test_embeddings_in_a_plane_are_explained_by_it():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(40)], axis=1)
    assert sum(embedding_map.principal_components(circle).explained) == pytest.approx(1)


def test_collapsed_embeddings_explain_nothing_and_still_draw():
    assert embedding_map.principal_components(np.ones((5, 3))).explained == (0.0, 0.0)
    assert embedding_map.draw(table_of(np.ones((5, 3)))).axes


def test_one_panel_a_label_with_its_positives():
    table = embedding_map.fake()
    figure = embedding_map.draw(table)
    for axes, name in zip(figure.axes, ("cardiomegaly", "edema", "pneumothorax"), strict=True):
        count = int((table[f"label_{name}"] == 1).sum())
        assert axes.get_title(loc="left") == f"{name.capitalize()} ({count})"
        others, positives = axes.collections
        assert len(positives.get_offsets()) == count
        assert len(others.get_offsets()) == table.height - count


def test_uncertain_and_missing_labels_are_not_positive():
    table = table_of(np.eye(4), label_x=pl.Series([1, -1, None, 0], dtype=pl.Float32))
    assert embedding_map.draw(table).axes[0].get_title(loc="left") == "X (1)"


def test_arrays_of_fixed_width_are_lists_too():
    table = embedding_map.fake()
    fixed = table.with_columns(pl.col("embedding").cast(pl.Array(pl.Float32, 16)))
    assert embedding_map.draw(fixed).get_supxlabel() == embedding_map.draw(table).get_supxlabel()


def test_many_points_are_thinned_at_random_and_said_so():
    figure = embedding_map.draw(embedding_map.fake(), max_points=50)
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == 50
    assert "50 drawn at random" in figure.get_supxlabel()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (table_of([[1, 2], [1, 2, 3], [1, 2]]), "one length"),
        (table_of([[1], [2], [3]]), "at least 2"),
        (table_of(np.eye(3)).with_columns(embedding=pl.lit(1.0)), "lists of numbers"),
        (table_of([[1, 2], [2, 1]]), "at least 3 images"),
        (table_of([[1, 2], [2, float("nan")], [3, 3]]), "not finite"),
        (table_of(np.eye(3)).drop("label_x"), "label_<label>"),
    ],
)
def test_what_cannot_be_mapped_is_a_clear_error(table, message):
    with pytest.raises(DataError, match=message):
        embedding_map.draw(table)
