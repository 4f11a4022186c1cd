"""object-CXR: the annotation grammar, boxes and masks, as they are and as LoVT published them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlearn import run_lengths
from radlearn.data import masks
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import _dicom_fake, _object_fake
from radlearn.manifests import _object_shapes as shapes
from radlearn.manifests.object_cxr import ObjectCXR

HEIGHT, WIDTH = 48, 64


def write(root, train, dev=("d.jpg,",), folder="."):
    """Tables of these lines; every image is 48 x 64."""
    import simplejpeg

    for part, lines in (("train", train), ("dev", dev)):
        (root / folder / part).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{part}.csv").write_text("\n".join(["image_name,annotation", *lines]) + "\n")
        for line in lines:
            picture = _dicom_fake.radiograph(0, WIDTH)[:HEIGHT, :, None].copy()
            path = root / folder / part / line.partition(",")[0]
            path.write_bytes(simplejpeg.encode_jpeg(picture, 90, "GRAY"))
    return root


def only(release, name="a.jpg"):
    return release.rows.row(by_predicate=pl.col("image_id") == name, named=True)


def sides(row):
    return [tuple(box[side] for side in "xywh") for box in row["boxes"]]


def mask_of(row):
    return run_lengths.decode(row["mask"][0]["rle"], row["height"], row["width"])


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("objects")
    return root, ObjectCXR.fake(root).read(root)


# --- the grammar


NUMBERS = st.one_of(st.integers(-5, 3000), st.floats(-5, 3000, width=16).map(lambda x: round(x, 2)))
POINTS = st.tuples(NUMBERS, NUMBERS)
SHAPES = st.one_of(
    st.builds(shapes.Shape, st.sampled_from(["rectangle", "ellipse"]), st.tuples(POINTS, POINTS)),
    st.builds(shapes.Shape, st.just("polygon"), st.lists(POINTS, min_size=2, max_size=9).map(tuple)),
)


@given(st.lists(SHAPES, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_grammar_round_trips(found):
    again = shapes.parse(shapes.write(found))
    assert [shape.kind for shape in again] == [shape.kind for shape in found]
    for one, other in zip(again, found, strict=True):
        np.testing.assert_allclose(one.points, other.points, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("annotation", [None, "", "  ", ";", " ; "])
def test_no_object(annotation):
    assert shapes.parse(annotation) == ()


def test_three_kinds_in_one_cell():
    found = shapes.parse("0 1 2 3 4; 1 5 6 7 8;2 1 1 9 1 9 5 ;")
    assert [shape.kind for shape in found] == ["rectangle", "ellipse", "polygon"]
    assert found[2].points == ((1, 1), (9, 1), (9, 5))


NO_SHAPES = (
    *("3 1 2 3 4", "0.5 1 2 3 4"),
    *("0 1 2 3", "0 1 2 3 4 5 6", "2 1 2", "2 1 2 3 4 5"),
    *("0 a 2 3 4", "0 1 2 nan 4"),
)


@pytest.mark.parametrize("annotation", NO_SHAPES)
def test_what_is_no_shape_is_refused(annotation):
    with pytest.raises(DataError, match="an object is"):
        shapes.parse(annotation)


@given(st.lists(SHAPES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_painting_a_part_of_the_image_is_painting_the_image(found):
    whole = np.zeros((HEIGHT, WIDTH), bool)
    # Whole numbers, as in the release: halves would be rounded by where the part begins.
    found = [shapes.Shape(s.kind, tuple((int(x) % 90, int(y) % 90) for x, y in s.points)) for s in found]
    for shape in found:
        left, top, right, bottom = shape.sides
        if shape.kind == "rectangle":
            whole |= masks.from_boxes([(left, top, right - left, bottom - top)], HEIGHT, WIDTH)
        elif shape.kind == "ellipse":
            whole |= masks.from_ellipse(left, top, right, bottom, HEIGHT, WIDTH)
        else:
            whole |= masks.from_polygon(shape.points, HEIGHT, WIDTH)
    assert shapes.mask(found, HEIGHT, WIDTH) == run_lengths.encode(whole)


# --- as annotated, and as published


ANNOTATION = "0 10 12 30 20;1 5 24 25 36;2 40 4 60 4 60 10 40 10"


def test_boxes_are_the_extent_of_the_shapes(tmp_path):
    row = only(ObjectCXR().read(write(tmp_path, [f"a.jpg,{ANNOTATION}"])))
    assert sides(row) == [(10, 12, 20, 8), (5, 24, 20, 12), (40, 4, 20, 6)]
    assert row["foreign_object"] == 1
    assert (row["height"], row["width"]) == (HEIGHT, WIDTH)


def test_masks_are_the_shapes(tmp_path):
    mask = mask_of(only(ObjectCXR().read(write(tmp_path, [f"a.jpg,{ANNOTATION}"]))))
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[12:20, 10:30] = wanted[4:10, 40:60] = True
    np.testing.assert_array_equal(mask[:22], wanted[:22])
    assert mask[22:].sum() == pytest.approx(np.pi * 10 * 6, rel=0.03)


def test_published_boxes_have_their_sides_exchanged(tmp_path):
    root = write(tmp_path, [f"a.jpg,{ANNOTATION}"])
    release = ObjectCXR(published_boxes=True).read(root)
    assert sides(only(release)) == [(10, 12, 8, 20), (5, 24, 12, 20), (40, 4, 6, 20)]
    default = ObjectCXR().read(root)
    assert only(release)["mask"] == only(default)["mask"]
    assert release.card.fingerprint != default.card.fingerprint


def test_published_masks_fill_ellipses_as_rectangles_and_transpose_polygons(tmp_path):
    root = write(tmp_path, [f"a.jpg,{ANNOTATION}"])
    release = ObjectCXR(published_masks=True).read(root)
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[12:20, 10:30] = wanted[24:36, 5:25] = wanted[40:48, 4:10] = True  # the polygon is cut at row 48
    np.testing.assert_array_equal(mask_of(only(release)), wanted)
    assert sides(only(release)) == sides(only(ObjectCXR().read(root)))


def test_legacy_sets_both_switches(tmp_path):
    root = write(tmp_path, [f"a.jpg,{ANNOTATION}"])
    both = ObjectCXR(published_boxes=True, published_masks=True).read(root)
    legacy = ObjectCXR(legacy=True).read(root)
    assert legacy.rows.equals(both.rows)
    assert not legacy.rows.equals(ObjectCXR().read(root).rows)


def test_published_boxes_may_leave_their_image_and_reject_nothing(tmp_path):
    release = ObjectCXR(published_boxes=True).read(write(tmp_path, ["a.jpg,0 2 40 62 46"]))
    assert sides(only(release)) == [(2, 40, 6, 60)]  # ends at row 100 of 48
    assert release.rejected.is_empty()


def test_boxes_are_cut_to_the_image_and_those_beyond_it_are_rejected(tmp_path):
    release = ObjectCXR().read(write(tmp_path, ["a.jpg,0 50 -4 80 20", "b.jpg,0 70 1 90 9"]))
    assert sides(only(release)) == [(50, 0, 14, 20)]
    assert release.rejected.select("image_id", "reason").rows() == [("b.jpg", "box_outside")]


# --- the release


def test_the_fake_release(fake):
    release = fake[1]
    assert release.rejected.select("image_id", "reason").rows() == [
        ("09001.jpg", "bad_annotation"),
        ("09002.jpg", "missing"),
    ]
    assert {*release.rows.select("height", "width").rows()} == {(64, 56), (48, 64)}
    assert release.rows["path"].str.starts_with("input/").all()
    empty = release.rows.filter(pl.col("foreign_object") == 0)
    assert {len(cell) for cell in (*empty["boxes"].to_list(), *empty["mask"].to_list())} == {0}


def test_tables_at_the_root_are_found_as_well(tmp_path):
    release = ObjectCXR().read(write(tmp_path, ["a.jpg,", "b.jpg,"]))
    assert only(release)["path"] == "train/a.jpg"


def test_without_masks_no_image_is_looked_for(tmp_path):
    root = write(tmp_path, [f"a.jpg,{ANNOTATION}"])
    (root / "train" / "a.jpg").unlink()
    row = only(ObjectCXR(masks=False).read(root))
    assert "mask" not in row
    assert row["height"] is None
    assert len(row["boxes"]) == 3


def test_another_header_is_an_error(tmp_path):
    root = write(tmp_path, ["a.jpg,"])
    (root / "dev.csv").write_text("image_path,annotation\n")
    with pytest.raises(DataError, match=r"no column 'image_name'"):
        ObjectCXR().read(root)


def test_a_damaged_file_is_rejected_by_its_reason(tmp_path):
    root = write(tmp_path, ["a.jpg,", "b.jpg,"])
    (root / "train" / "a.jpg").write_bytes(b"")
    assert ObjectCXR().read(root).rejected["reason"].to_list() == ["empty_file"]


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """Tables with as many rows as the release, without images."""
    root = tmp_path_factory.mktemp("full")
    cells = _object_fake._CELLS
    for part, numbers in (("train", range(8000)), ("dev", range(8000, 9000))):
        lines = [f"{number + 1:05d}.jpg,{cells[number % 8]}" for number in numbers]
        (root / f"{part}.csv").write_text("\n".join(["image_name,annotation", *lines]) + "\n")
    return root


@pytest.mark.parametrize(("split", "sizes"), [("lovt", (6400, 1600, 1000)), ("mgca", (7200, 800, 1000))])
def test_split_sizes_of_a_release_of_full_size(full_size, split, sizes):
    release = ObjectCXR(split=split, masks=False).read(full_size)
    assert tuple(release.card.counts[name] for name in ("train", "validate", "test")) == sizes
    dev = release.rows.filter(pl.col("split") == "test")["image_id"].sort()
    assert (dev[0], dev[-1]) == ("08001.jpg", "09000.jpg")


def test_mgcas_split_is_scikit_learns_on_the_tables_order(full_size):
    from sklearn.model_selection import train_test_split

    rows = pl.read_csv(full_size / "train.csv")["image_name"].to_list()
    _, validate = train_test_split(rows, test_size=0.1, random_state=0)
    release = ObjectCXR(split="mgca", masks=False).read(full_size)
    assert {*release.rows.filter(pl.col("split") == "validate")["image_id"]} == {*validate}


def test_settings_are_checked():
    with pytest.raises(ConfigurationError, match=r"data\.split"):
        ObjectCXR(split="official")
    assert ObjectCXR(equalize=True).equalize
