"""Boxes and masks of a user's own table, in every form that people write."""

import json
import warnings

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radlearn import config, run_lengths
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests._table_cells import parse_boxes
from radlearn.manifests.table import Table

HEIGHT, WIDTH = 20, 30
TWO = [(1, 2, 10, 12.5, "mass"), (15, 3, 4, 5, "pleural effusion")]


def read(root, text, name="train.csv", **settings):
    """A training table with pictures `a.png` and `b.png` of 20 x 30 pixels beside it."""
    for image in ("a.png", "b.png"):
        cv2.imwrite(str(root / image), np.full((HEIGHT, WIDTH), 90, np.uint8))
    (root / name).write_text(text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tell no patient.*")
        return Table(train_manifest=name, require_text=False, views=[], **settings).read(root)


def boxes(release, image="a"):
    """Boxes of an image as tuples."""
    cell = release.rows.filter(pl.col("image_id") == image)["boxes"][0]
    return [tuple(box[side] for side in ("x", "y", "w", "h", "class")) for box in cell]


def masks(release, image="a"):
    """Masks of an image: class -> (H, W) bool."""
    row = release.rows.row(by_predicate=pl.col("image_id") == image, named=True)
    return {m["class"]: run_lengths.decode(m["rle"], row["height"], row["width"]) for m in row["mask"]}


# --- boxes


@pytest.mark.parametrize(
    "cell",
    [
        '[[1, 2, 10, 12.5, "mass"], [15, 3, 4, 5, "pleural effusion"]]',
        json.dumps([dict(zip(("x", "y", "w", "h", "class"), box, strict=True)) for box in TWO]),
        "1 2 10 12.5 mass|15 3 4 5 pleural effusion",
        "1 2 10 12.5 mass; 15 3 4 5 pleural effusion",
        " 1,2,10,12.5,mass ; 15, 3, 4, 5, pleural effusion ",
    ],
)
def test_all_boxes_of_an_image_in_one_cell(tmp_path, cell):
    frame = pl.DataFrame({"image_path": ["a.png", "b.png"], "findings at": [cell, None]})
    release = read(tmp_path, frame.write_csv(), boxes_col="findings at")
    assert boxes(release) == TWO
    assert boxes(release, "b") == []


def test_the_boxes_of_lovts_csv(tmp_path):
    text = "image_path,boxes,classes\na.png,1;2;10;12.5|15;3;4;5,mass|pleural effusion\nb.png,,\n"
    release = read(tmp_path, text, boxes_col="boxes", class_col="classes")
    assert boxes(release) == TWO
    assert boxes(release, "b") == []
    one_class = text.replace("mass|pleural effusion", "opacity")
    assert [box[4] for box in boxes(read(tmp_path, one_class, boxes_col="boxes", class_col="classes"))] == [
        "opacity"
    ] * 2
    unnamed = read(tmp_path, text, boxes_col="boxes", class_name="lesion")
    assert [box[4] for box in boxes(unnamed)] == ["lesion", "lesion"]


def test_typed_files_hold_lists(tmp_path):
    records = [
        {"image_path": "a.png", "b": [{"x": 1, "y": 2, "w": 10, "h": 12.5, "class": "mass"},
                                       {"x": 15, "y": 3, "w": 4, "h": 5, "class": "pleural effusion"}]},
        {"image_path": "b.png", "b": []},
    ]  # fmt: skip
    text = "".join(json.dumps(record) + "\n" for record in records)
    release = read(tmp_path, text, name="train.jsonl", boxes_col="b")
    assert boxes(release) == TWO
    nested = '{"image_path": "a.png", "b": [[1, 2, 10, 12.5], [15, 3, 4, 5]]}\n'
    assert [box[:4] for box in boxes(read(tmp_path, nested, name="train.jsonl", boxes_col="b"))] == [
        box[:4] for box in TWO
    ]


def test_one_box_a_row_and_several_rows_an_image(tmp_path):
    text = (
        "image_path,patient,left,top,wide,high,finding,Edema\n"
        "a.png,p1,1,2,10,12.5,mass,1\n"
        "a.png,p1,15,3,4,5,pleural effusion,1\n"
        "a.png,p1,15,3,4,5,pleural effusion,1\n"
        "b.png,p2,,,,,,0\n"
    )
    settings = {"box_cols": ["left", "top", "wide", "high"], "class_col": "finding", "patient_col": "patient"}
    release = read(tmp_path, text, label_cols=["Edema"], **settings)
    assert boxes(release) == TWO
    assert boxes(release, "b") == []
    assert release.rows.select("image_id", "patient_id", "Edema").rows() == [("a", "p1", 1), ("b", "p2", 0)]
    assert release.rejected.is_empty()


def test_boxes_by_their_corners(tmp_path):
    # The last two are right and bottom, as in VinDr-CXR's csv.
    text = "image_path,x_min,y_min,x_max,y_max\na.png,1,2,11,14.5\na.png,15,3,19,8\n"
    release = read(tmp_path, text, box_cols=["x_min", "y_min", "x_max", "y_max"], box_form="xyxy")
    assert [box[:4] for box in boxes(release)] == [box[:4] for box in TWO]
    cell = '[{"x1": 1, "y1": 2, "x2": 11, "y2": 14.5}]'
    frame = pl.DataFrame({"image_path": ["a.png"], "b": [cell]})
    assert boxes(read(tmp_path, frame.write_csv(), boxes_col="b", box_form="xyxy"))[0][:4] == TWO[0][:4]


def test_rows_of_an_image_that_disagree_are_set_aside(tmp_path):
    text = "image_path,fold,x,y,w,h\na.png,train,1,2,3,4\na.png,test,1,2,3,4\nb.png,train,1,2,3,4\n"
    release = read(tmp_path, text, split_col="fold", box_cols=["x", "y", "w", "h"])
    assert release.rows["image_id"].to_list() == ["b"]
    assert release.rejected.select("image_id", "reason").rows() == [("a", "conflicting_rows")] * 2


def test_without_boxes_the_same_image_twice_is_a_duplicate_as_ever(tmp_path):
    release = read(tmp_path, "image_path\na.png\na.png\n")
    assert release.rejected["reason"].to_list() == ["duplicate_id"]


def test_boxes_outside_the_image_are_rejected(tmp_path):
    text = "image_path,height,width,x,y,w,h\na.png,20,30,25,2,10,4\nb.png,20,30,2,2,0,4\n"
    with pytest.raises(DataError, match="box_outside 2"):
        read(tmp_path, text, box_cols=["x", "y", "w", "h"])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 2 3", r"'b' holds '1 2 3' in row 2: a box is x y w h and perhaps a class"),
        ("1 2 three 4", r"'1 2 three 4' in row 2: a box is four numbers x y w h"),
        ("[[1, 2, 3]]", "a box is x y w h and perhaps a class"),
        ('[{"x": 1, "y": 2, "w": 3}]', "h is missing"),
        ("[1, 2", r"'\[1, 2' in row 2"),
        ("[[1, 2, NaN, 4]]", "four finite numbers"),
        ("1;2;3;4|5;6;7", "a box is"),
    ],
)
def test_a_cell_that_is_no_box_is_named_with_its_row(tmp_path, cell, message):
    frame = pl.DataFrame({"image_path": ["a.png", "b.png"], "b": ["1 2 3 4", cell]})
    with pytest.raises(DataError, match=message):
        read(tmp_path, frame.write_csv(), boxes_col="b")


def test_other_cells_that_cannot_be(tmp_path):
    text = "image_path,x,y,w,h\na.png,1,2,3,4\nb.png,1,,3,4\n"
    with pytest.raises(DataError, match=r"'x,y,w,h' holds '1,,3,4' in row 2; a box is four numbers"):
        read(tmp_path, text, box_cols=["x", "y", "w", "h"])
    with pytest.raises(DataError, match=r"2 boxes have 3 classes in 'c'"):
        read(tmp_path, "image_path,b,c\na.png,1;2;3;4|1;2;3;4,p|q|r\n", boxes_col="b", class_col="c")
    with pytest.raises(DataError, match=r"no column 'box' \(data\.boxes_col\); did you mean 'boxes'"):
        read(tmp_path, "image_path,boxes\na.png,\n", boxes_col="box")
    with pytest.raises(DataError, match=r"no column 'v' \(data\.box_cols\)"):
        read(tmp_path, text, box_cols=["x", "y", "w", "v"])


NUMBERS = st.floats(0, 4000, allow_nan=False).map(lambda value: round(value, 2))


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=5))
def test_every_form_of_the_same_boxes_reads_alike(sides):
    forms = [
        json.dumps(sides),
        "|".join(";".join(map(str, box)) for box in sides),
        "|".join(" ".join(map(str, box)) for box in sides),
        "; ".join(" ".join(map(str, box)) for box in sides),
    ]
    for text in forms:
        read_back = [tuple(box[side] for side in "xywh") for box in parse_boxes(text)]
        assert read_back == sides


# --- masks


def painted(*values):
    """(20, 30) uint8 with a bar of each value."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, value in enumerate(values):
        picture[3 : 9 + place, 4 + 8 * place : 9 + 8 * place] = value
    return picture


@pytest.mark.parametrize("form", ["png 255", "png 1", "gif", "palette", "bmp"])
def test_images_of_masks(tmp_path, form):
    picture = painted(255)
    name = "mask.gif" if form == "gif" else "mask.bmp" if form == "bmp" else "mask.png"
    (tmp_path / "masks").mkdir()
    if form == "png 1":
        cv2.imwrite(str(tmp_path / "masks" / name), painted(1))
    elif form == "palette":
        Image.fromarray(picture).convert("P").save(tmp_path / "masks" / name)
    else:
        Image.fromarray(picture).save(tmp_path / "masks" / name)
    text = f"image_path,where\na.png,masks/{name}\nb.png,\n"
    release = read(tmp_path, text, mask_col="where", class_name="opacity")
    assert (masks(release)["opacity"] == (picture > 0)).all()
    assert masks(release, "b") == {}
    assert release.rows.select("height", "width").row(0) == (HEIGHT, WIDTH)


def test_a_gif_that_is_all_mask_is_all_mask(tmp_path):
    # Its palette has one colour, so the index is 0 everywhere.
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(tmp_path / "all.gif")
    release = read(tmp_path, "image_path,m\na.png,all.gif\n", mask_col="m")
    assert masks(release)["finding"].all()


@pytest.mark.parametrize("palette", [False, True])
def test_values_of_a_mask_are_classes(tmp_path, palette):
    picture = painted(1, 2, 7)
    image = Image.fromarray(picture)
    if palette:
        image = Image.frombytes("P", (WIDTH, HEIGHT), picture.tobytes())
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, *[9] * 15])
    image.save(tmp_path / "m.png")
    classes = {"1": "lung", 2: "heart", 7: "lung"}
    text = "image_path,m\na.png,m.png\n"
    found = masks(read(tmp_path, text, mask_col="m", mask_classes=classes))
    assert (found["lung"] == np.isin(picture, (1, 7))).all()
    assert (found["heart"] == (picture == 2)).all()
    with pytest.raises(DataError, match=r"m\.png holds the value 7; data\.mask_classes has 1, 2"):
        read(tmp_path, text, mask_col="m", mask_classes={1: "lung", 2: "heart"})


def test_several_masks_of_an_image_are_joined_by_class(tmp_path):
    first, second, third = painted(255), painted(0, 255), painted(0, 0, 255)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name, picture in (("1", first), ("2", second), ("3", third)):
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    text = "image_path,m,c\na.png,1.png,mass\na.png,2.png,mass\na.png,3.png,edema\nb.png,,\n"
    release = read(tmp_path, text, mask_col="m", class_col="c", mask_root="elsewhere")
    found = masks(release)
    assert (found["mass"] == ((first > 0) | (second > 0))).all()
    assert (found["edema"] == (third > 0)).all()


def test_masks_that_cannot_be_used_set_their_image_aside(tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.ones((16, 16), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    names = ["small.png", "broken.png", "gone.png", "../outside.png"]
    for number in range(len(names)):
        cv2.imwrite(str(tmp_path / f"i{number}.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    lines = [f"i{number}.png,{name}" for number, name in enumerate(names)]
    text = "\n".join(["image_path,m", *lines, "not-there.png,small.png", "b.png,"])
    release = read(tmp_path, text, mask_col="m")
    assert release.rows["image_id"].to_list() == ["b"]
    assert dict(release.rejected.select("image_id", "reason").rows()) == {
        "i0": "mask_size", "i1": "mask_corrupt", "i2": "mask_missing", "i3": "mask_path_escape",
        "not-there": "missing",
    }  # fmt: skip


def test_run_lengths_in_both_forms(tmp_path):
    picture = painted(1, 0, 1) > 0
    ours = run_lengths.encode(picture)
    found = masks(read(tmp_path, f"image_path,m\na.png,{ours}\nb.png,-1\n", mask_col="m", mask_form="rle"))
    assert (found["finding"] == picture).all()
    # SIIM-ACR: down the columns, each gap counted from the end of the last run.
    numbers = np.array(run_lengths.encode(picture.T).split(), int).reshape(-1, 2)
    ends = np.concatenate([[0], numbers.sum(axis=1)[:-1]])
    theirs = " ".join(map(str, np.stack([numbers[:, 0] - ends, numbers[:, 1]], axis=1).ravel()))
    text = f"ImageId,EncodedPixels\na.png,{theirs}\nb.png,-1\n"
    settings = {"image_col": "ImageId", "mask_col": "EncodedPixels", "mask_form": "relative_rle"}
    release = read(tmp_path, text, **settings, class_name="pneumothorax")
    assert (masks(release)["pneumothorax"] == picture).all()
    assert masks(release, "b") == {}
    twice = read(tmp_path, "ImageId,EncodedPixels\na.png,0 5\na.png,30 5\n", **settings)
    assert masks(twice)["finding"].sum() == 10


def test_run_lengths_that_cannot_be(tmp_path):
    for cell in ("1 2 3", "1.5 2", "start length"):
        with pytest.raises(DataError, match=rf"'m' holds '{cell}' in row 1; rle is pairs of whole numbers"):
            read(tmp_path, f"image_path,m\na.png,{cell}\n", mask_col="m", mask_form="rle")
    for form in ("rle", "relative_rle"):
        text = "image_path,m\na.png,590 20\nb.png,\n"
        release = read(tmp_path, text, mask_col="m", mask_form=form)
        assert release.rejected["reason"].to_list() == ["mask_outside"]
        assert release.rows["image_id"].to_list() == ["b"]


@pytest.mark.parametrize(
    "settings",
    [
        {"boxes_col": "a", "box_cols": ["x", "y", "w", "h"]}, {"box_cols": ["x", "y", "w"]},
        {"box_cols": ["x", "y", "w", "w"]}, {"boxes_col": "a", "box_form": "cxcywh"},
        {"mask_col": "m", "mask_form": "polygon"}, {"class_col": "c"},
        {"mask_col": "m", "mask_form": "rle", "mask_classes": {1: "a"}},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_once(settings):
    with pytest.raises(ConfigurationError, match=r"data\."):
        Table(train_manifest="t.csv", **settings)


def test_the_settings_are_keys_of_the_configuration():
    settings = {"name": "table", "boxes_col": "b", "mask_classes": {"1": "a"}, "size": 64}
    assert config.manifest_arguments(settings) == {"boxes_col": "b", "mask_classes": {"1": "a"}}
