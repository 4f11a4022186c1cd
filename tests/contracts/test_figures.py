"""Every figure there is, plug-ins included, keeps the contract of `figures/base.py`."""

import ast
import io
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from radlearn import registry
from radlearn.errors import DataError
from radlearn.figures import base

FIGURES = registry.names("figures")
# figures redraw on a laptop: they know these, and each other's helpers, but never torch.
MAY_IMPORT = {"radlearn", "radlearn.records", "radlearn.results", "radlearn.stats", "radlearn.errors"}


@pytest.fixture(params=FIGURES, scope="module")
def module(request):
    return registry.find("figures", request.param)


@pytest.fixture(scope="module")
def drawn(module):
    return module.draw(module.fake())


def words(figure):
    """All text of a figure that can be seen."""
    return [
        text.get_text() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()
    ]


def test_the_shipped_figures_are_found():
    shipped = {
        "auc_intervals",
        "collapse",
        "embedding_map",
        "example_cases",
        "learning_curves",
        "roc_curves",
    }
    assert shipped <= set(FIGURES)


def test_it_draws_its_fake_table(drawn):
    assert isinstance(drawn, Figure)
    assert drawn.axes


def test_axes_are_named_and_n_is_stated(drawn):
    plots = [axes for axes in drawn.axes if axes.axison and axes.get_visible() and not axes.get_images()]
    # Small multiples share their labels; a plot whose rows are named needs no name for the axis.
    assert not plots or any(axes.get_xlabel() for axes in plots)
    assert not plots or any(axes.get_ylabel() or axes.get_yticklabels() for axes in plots)
    assert "n = " in drawn.get_supxlabel()


def test_synthetic_data_say_so_and_others_do_not(module, drawn):
    assert any("synthetic" in text for text in words(drawn))
    real = module.draw(module.fake().with_columns(synthetic=pl.lit(False)))
    assert not any("synthetic" in text.lower() for text in words(real))


def test_an_empty_table_is_a_clear_error(module):
    with pytest.raises(DataError, match=r"empty"):
        module.draw(module.fake().clear())


def test_a_missing_column_is_named(module):
    for column in module.NEEDS:
        with pytest.raises(DataError, match=rf"needs the column '{column}'"):
            module.draw(module.fake().drop(column))


def test_the_title_appears_as_it_is(module):
    title = "run_1 <b>$x_2$</b> 100 %"
    assert title in words(module.draw(module.fake(), title=title))


def test_letters_can_be_read(drawn):
    assert min(text.get_fontsize() for text in drawn.findobj(Text) if text.get_text().strip()) >= 8


def test_it_is_the_same_picture_each_time(module, drawn):
    first, second = base.render(drawn, dpi=60), base.render(module.draw(module.fake()), dpi=60)
    assert first == second
    pixels = matplotlib.image.imread(io.BytesIO(first))
    assert pixels.std() > 0.02


def test_nothing_is_changed_in_the_table(module):
    table = module.fake()
    module.draw(table)
    assert table.equals(module.fake())


def test_it_imports_nothing_heavy_and_nothing_above_it(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    } | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    own = {
        name for name in imported if name.startswith("radlearn") and not name.startswith("radlearn.figures")
    }
    assert own <= MAY_IMPORT
    assert not {name for name in imported if name.split(".")[0] in {"torch", "cv2"} or "pyplot" in name}


def test_figures_need_neither_torch_nor_pyplot():
    code = (
        "import sys\n"
        "from radlearn import registry\n"
        "[registry.find('figures', name) for name in registry.names('figures')]\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib.pyplot', 'lightning')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
