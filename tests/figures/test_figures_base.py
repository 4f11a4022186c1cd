import matplotlib
import numpy as np
import polars as pl
import pytest

from radlearn.errors import DataError
from radlearn.figures import base


def luminance(colour):
    """Relative luminance of an sRGB colour (WCAG 2.1)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def plain_figure():
    with base.style():
        figure = base.new_figure(3, 2)
        figure.add_subplot().plot([0, 1], [0, 1])
        base.footer(figure, "n = 2", synthetic=False)
    return figure


def test_colours_stand_out_from_what_they_are_drawn_on():
    # 1.9 : 1 keeps Okabe and Ito's light hues for lines; their yellow (1.3 : 1) is what it excludes.
    assert all((1 + 0.05) / (luminance(colour) + 0.05) > 1.9 for colour in base.PALETTE)
    assert all((luminance(colour) + 0.05) / 0.05 > 5 for colour in base.PALETTE_ON_DARK)
    assert len(set(base.PALETTE)) == len(base.PALETTE)


def test_colour_and_line_together_name_sixteen_labels():
    names = [f"label_{i}" for i in range(16)]
    hue, line = base.colours(names), base.line_styles(names)
    assert len({(hue[name], line[name]) for name in names}) == 16


def test_style_leaves_no_trace():
    before = dict(matplotlib.rcParams)
    plain_figure()
    assert dict(matplotlib.rcParams) == before


def test_save_writes_each_kind_and_nothing_else(tmp_path):
    paths = base.save(plain_figure(), tmp_path / "plots" / "a.b", kinds=("png", "pdf", "svg"), dpi=50)
    assert [path.name for path in paths] == ["a.b.png", "a.b.pdf", "a.b.svg"]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(p.name for p in paths)
    heads = [path.read_bytes()[:8] for path in paths]
    assert heads[0].startswith(b"\x89PNG")
    assert heads[1].startswith(b"%PDF")
    assert b"xml" in heads[2]


def test_files_carry_no_date():
    for kind in ("pdf", "svg"):
        data = base.render(plain_figure(), kind)
        assert b"CreationDate" not in data
        assert b"dc:date" not in data
        assert data == base.render(plain_figure(), kind)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    base.write(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        base.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_require_suggests_the_nearest_column():
    table = pl.DataFrame({"steps": [1], "loss": [0.5]})
    with pytest.raises(DataError, match=r"'step'.*steps, loss; did you mean 'steps'\?"):
        base.require(table, ("step",), "learning_curves")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pleural_effusion", "Pleural effusion"),
        ("COVID-19", "COVID-19"),
        ("a\nb\x00c", "A b c"),
        ("x" * 80, "X" + "x" * 58 + "…"),
        ("", ""),
    ],
)
def test_display(name, shown):
    assert base.display(name) == shown


def test_legend_entries_never_start_with_an_underscore():
    assert base.entry("_run") == " _run"


def test_count_knows_one_from_many():
    assert base.count(1, "patient") == "1 patient"
    assert base.count(1200, "patient") == "1,200 patients"


@pytest.mark.parametrize(
    ("panels", "shape"), [(1, (1, 1)), (3, (1, 3)), (5, (2, 3)), (8, (2, 4)), (14, (4, 4))]
)
def test_grid_shape_holds_all_panels(panels, shape):
    assert base.grid_shape(panels, 4) == shape
    assert shape[0] * shape[1] >= panels
