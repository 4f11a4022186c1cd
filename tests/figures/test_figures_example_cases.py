import numpy as np
import polars as pl
import pytest
from matplotlib.contour import ContourSet
from matplotlib.text import Text

from radlearn import run_lengths
from radlearn.errors import DataError
from radlearn.figures import base, example_cases


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def test_the_outline_lies_on_the_border_of_the_mask():
    table = example_cases.fake().slice(1, 1)
    entry = table["mask"][0][0]
    mask = run_lengths.decode(entry["rle"], 64, 64)
    axes = example_cases.draw(table).axes[1]
    (outline,) = [artist for artist in axes.get_children() if isinstance(artist, ContourSet)]
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    rows, columns = np.nonzero(mask)
    # Pixel i covers [i, i + 1], so a mask from column a to b is outlined from a to b + 1.
    np.testing.assert_allclose(vertices[:, 0].min(), columns.min(), atol=0.51)
    np.testing.assert_allclose(vertices[:, 0].max(), columns.max() + 1, atol=0.51)
    np.testing.assert_allclose(vertices[:, 1].min(), rows.min(), atol=0.51)
    np.testing.assert_allclose(vertices[:, 1].max(), rows.max() + 1, atol=0.51)


def test_every_image_of_generated_data_is_marked():
    found = texts(example_cases.draw(example_cases.fake()))
    assert found.count("SYNTHETIC") == 4
    real = example_cases.fake().with_columns(synthetic=pl.lit(False))
    assert "SYNTHETIC" not in texts(example_cases.draw(real))


def test_only_outlined_findings_stand_in_the_legend_with_the_colour_of_their_order():
    labels = ("edema", "nodule", "cardiomegaly", "pleural_effusion")
    figure = example_cases.draw(example_cases.fake(), labels=labels)
    legend = figure.axes[0].get_legend()
    shown = dict(
        zip(
            (t.get_text() for t in legend.get_texts()),
            (h.get_color() for h in legend.get_lines()),
            strict=True,
        )
    )
    expected = {base.display(name): base.PALETTE_ON_DARK[labels.index(name)] for name in labels[1:]}
    assert shown == expected


def test_a_long_legend_takes_lines_of_its_own_and_no_space_from_the_images():
    def image_width(table):
        figure = example_cases.draw(table)
        figure.draw_without_rendering()
        return max(axes.get_window_extent().width for axes in figure.axes if axes.get_images())

    table = example_cases.fake()
    masks = [{"class": f"a_finding_with_a_long_name_{i}", "rle": "0 1"} for i in range(14)]
    many = table.with_columns(mask=pl.Series([masks] * 4, dtype=table.schema["mask"]))
    assert image_width(many) == pytest.approx(image_width(table), rel=0.02)


def test_max_cases_and_n():
    figure = example_cases.draw(example_cases.fake(), max_cases=3)
    assert sum(bool(axes.get_images()) for axes in figure.axes) == 3
    assert "n = 3 of 4 images" in figure.get_supxlabel()


def test_a_broken_image_names_its_case():
    table = example_cases.fake().with_columns(png=pl.lit(b"no image"))
    with pytest.raises(DataError, match="image_0000"):
        example_cases.draw(table)


def test_images_without_masks_and_reports_are_drawn():
    table = example_cases.fake().drop("impression", "findings", "view")
    empty = table.with_columns(mask=pl.lit(None, dtype=table.schema["mask"]))
    assert sum(bool(axes.get_images()) for axes in example_cases.draw(empty).axes) == 4


def test_a_long_impression_is_shortened():
    table = example_cases.fake().with_columns(impression=pl.lit("word " * 200))
    labels = [axes.get_xlabel() for axes in example_cases.draw(table).axes if axes.get_images()]
    assert all(label.endswith("…") and label.count("\n") <= 3 for label in labels)
