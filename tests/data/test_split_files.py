"""Lists of ids as users bring them: matched, refused by name; LoVT's csv files read and written."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest

from radlearn.data import split_files
from radlearn.errors import DataError

BOXES = pl.List(pl.Struct({**dict.fromkeys("xywh", pl.Float32), "class": pl.String}))


def rows(*ids, boxes=None):
    table = pl.DataFrame({"image_id": list(ids), "split": ["train"] * len(ids)})
    return table if boxes is None else table.with_columns(pl.Series("boxes", boxes, dtype=BOXES))


def box(x, y, w, h, name="Lung Opacity"):
    return {"x": x, "y": y, "w": w, "h": h, "class": name}


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def warned(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("radlearn"), "propagate", True)
    caplog.set_level(logging.WARNING, "radlearn")
    return caplog


# --- reading lists


@pytest.mark.parametrize(
    "text",
    [
        "a.png\nb.png\n",
        "a.png\r\nb.png",  # Windows, the last line without its end
        "\ufeffa.png\n\n  b.png  \n",
        "ID\na.png\nb.png\n",
        "\ufeffID,boxes,classes\r\na.png,,\r\nb.png,1;2;3;4|5;6;7;8,x|x\r\n",
        '\n\nimage index,Finding\na.png,"Mass, large"\n   \nb.png,None\n',
        "split\tpatientId\ntrain\ta.png\ntrain\tb.png\n",
        '"ImageId"\n"a.png"\n"b.png"\n',
        "filename, score\na.png,1\nb.png,\n,\n",
    ],
)
def test_ids_of_every_form_of_list(tmp_path, text):
    assert split_files.read_ids(write(tmp_path / "list.csv", text)) == ["a.png", "b.png"]


def test_ids_that_stand_twice_count_once_and_are_reported(tmp_path, warned):
    path = write(tmp_path / "list.txt", "a\nb\na\na\n")
    assert split_files.read_ids(path) == ["a", "b"]
    assert "names 2 ids more than once" in warned.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\r\n", "is empty"),
        (b"ID\n\n", "has a header and no ids"),
        (b"name,age\na,3\n", "no column of ids among"),
        (b"\xff\xfea\x00\n\x00", "cannot be read as UTF-8 text"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path, content, words):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        split_files.read_ids(path)


def test_a_list_is_looked_for_below_the_root_and_beside_the_user(tmp_path, monkeypatch):
    (tmp_path / "release").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    own = write(tmp_path / "here" / "own.txt", "a")
    shipped = write(tmp_path / "release" / "shipped.txt", "a")
    assert split_files.locate("shipped.txt", tmp_path / "release") == shipped
    assert split_files.locate("own.txt", tmp_path / "release").resolve() == own
    assert split_files.locate(str(own), tmp_path / "release") == own
    with pytest.raises(
        DataError, match=r"no split file 'none.txt': looked for .*release/none.txt and .*here/no"
    ):
        split_files.locate("none.txt", tmp_path / "release")


# --- matching


UID = "1.2.276.0.7230010.3.1.4.8323329.300.1517875162.258081"


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("a", "a"),
        ("a.PNG", "a"),
        ("a", "a.jpeg"),
        ("images_001/images/00000001_000.png", "00000001_000"),
        ("00000001_000", "images_001/00000001_000.png"),
        ("CheXpert-v1.0-small/train/p1/study1/view1.jpg", "train/p1/study1/view1"),
        ("study1/view1", "train/p1/study1/view1"),
        ("./p\\s\\i.dcm", "p/s/i"),
        ("/data/mimic/files/p10/i.jpg", "files/p10/i"),
        # Identifiers of DICOM objects hold points, which are no suffixes.
        (f"folder/{UID}", UID),
        (f"{UID}.dcm", UID),
    ],
)
def test_two_spellings_of_one_id(name, image_id):
    ids = pl.Series(["other", image_id, "train/p2/study9/view9"])
    assert split_files.match([name, "absent"], ids).to_list() == [1, None]


def test_names_that_other_patients_use_too_need_their_folders():
    ids = pl.Series(["p1/001", "p1/002", "p2/001"])
    assert split_files.match(["p2/001", "scans/p1/002.png", "002"], ids).to_list() == [2, 1, 1]
    with pytest.raises(DataError, match=r"'001' names 2 images of this release .* write their folders too"):
        split_files.match(["001"], ids)
    # Another folder is another image, even where only one bears the name.
    assert split_files.match(["dev/002"], ids).to_list() == [None]


def test_matching_is_fast_enough_for_the_largest_release():
    ids = pl.Series([f"p{n % 100}/p{n}/s{n}/{n:08d}" for n in range(200_000)])
    names = [f"{n:08d}.jpg" for n in range(0, 200_000, 2)]
    assert split_files.match(names, ids).to_list() == list(range(0, 200_000, 2))


def test_rows_get_the_split_that_lists_them_and_others_are_left_out(tmp_path, warned):
    lists = {
        "train": write(tmp_path / "train.csv", "ID\nd.png\na\n"),
        "test": write(tmp_path / "test.txt", "b.png\nnot_there.png\nc\n"),
    }
    listed, unlisted = split_files.apply(rows("a", "b", "c", "d", "e"), lists)
    assert listed.select("image_id", "split").rows() == [
        ("a", "train"),
        ("b", "test"),
        ("c", "test"),
        ("d", "train"),
    ]
    assert unlisted == 1
    assert "names 1 images that are not in this release" in warned.text


def test_one_image_in_two_lists_is_refused(tmp_path):
    lists = {"train": write(tmp_path / "a", "a\nb\nc\n"), "validate": write(tmp_path / "b", "c.png\nb\n")}
    with pytest.raises(DataError, match="2 images stand in the lists of train and of validate: b"):
        split_files.apply(rows("a", "b", "c"), lists)
    twice = {"train": write(tmp_path / "c", "a\nfolder/a.png\n")}
    assert split_files.apply(rows("a", "b"), twice)[0]["split"].to_list() == ["train"]


def test_the_list_of_another_data_set_is_refused(tmp_path):
    path = write(tmp_path / "list", "x\ny\na\n")
    with pytest.raises(DataError, match=r"list: 2 of 3 ids are not in this release, for example 'x'"):
        split_files.apply(rows("a", "b"), {"train": path})


def test_a_table_without_splits_gets_them(tmp_path):
    listed, _ = split_files.apply(rows("a").drop("split"), {"test": write(tmp_path / "list", "a")})
    assert listed.rows() == [("a", "test")]


# --- LoVT's csv files

CELLS = [
    [box(264.0, 152.0, 213.0, 379.0), box(562.1, 152.25, 256.3333, 453.0, "x y")],
    [],
    None,
    [box(0.1, 1e-3, 1023.999, 7.0, "")],
]


def test_the_csv_for_detection_comes_back_as_it_was(tmp_path):
    table = rows("a", "b", "c", "d", boxes=CELLS)
    path = tmp_path / "train.csv"
    split_files.write_lovt(path, table)
    lines = path.read_text().splitlines()
    assert lines[0] == "ID,boxes,classes"
    assert lines[2] == "b,,"
    assert lines[1].startswith("a,264;152;213;379|562.099976;152.25;256.3333")
    assert split_files.read_ids(path) == ["a", "b", "c", "d"]
    assert split_files.has_boxes(path)
    listed = split_files.listed_boxes(table["image_id"], split_files.read_lovt_boxes(path))
    assert listed.dtype == BOXES
    assert listed.to_list() == table["boxes"].fill_null([]).to_list()
    assert split_files.differing_boxes(table["boxes"], listed, tolerance=0) == []


def test_the_csv_for_segmentation_holds_ids_only(tmp_path):
    for table, with_boxes in ((rows("a", "b"), True), (rows("a", "b", boxes=[[], []]), False)):
        split_files.write_lovt(tmp_path / "list.csv", table, with_boxes=with_boxes)
        assert (tmp_path / "list.csv").read_text() == "ID\na\nb\n"
        assert not split_files.has_boxes(tmp_path / "list.csv")
        with pytest.raises(DataError, match="wanted the header ID,boxes,classes"):
            split_files.read_lovt_boxes(tmp_path / "list.csv")


def test_a_csv_from_windows_and_one_without_classes(tmp_path):
    path = write(tmp_path / "list.csv", "\ufeffID,boxes,classes\r\na,1;2;3;4|5.5;6;7;8,\r\n\r\nb,,\r\n")
    boxes = split_files.read_lovt_boxes(path)
    assert boxes == {"a": [box(1, 2, 3, 4, ""), box(5.5, 6, 7, 8, "")], "b": []}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,1;2;3,x", "a box is x;y;w;h, got '1;2;3' for 'a'"),
        ("a,1;2;3;four,x", "got '1;2;3;four'"),
        ("a,1;2;0;4,x", "has a width and a height, got '1;2;0;4'"),
        ("a,nan;2;3;4,x", "got 'nan;2;3;4'"),
        ("a,1;2;3;4|5;6;7;8,x", "'a' has 2 boxes and 1 classes"),
        ("a,1;2;3;4,x\na,1;2;3;5,x", "'a' stands twice, with different boxes"),
    ],
)
def test_a_faulty_box_is_named(tmp_path, line, words):
    with pytest.raises(DataError, match=words):
        split_files.read_lovt_boxes(write(tmp_path / "list.csv", f"ID,boxes,classes\n{line}\n"))


def test_boxes_differ_by_place_and_number_and_not_by_order_or_rounding():
    own = pl.Series("boxes", [CELLS[0], CELLS[0], CELLS[0], [], None, CELLS[0], []], dtype=BOXES)
    moved = [{**CELLS[0][0], "x": 266.0}, CELLS[0][1]]
    rounded = [{**b, "y": b["y"] + 0.9, "class": ""} for b in CELLS[0]]
    cells = [CELLS[0][::-1], rounded, moved, [box(1, 2, 3, 4)], [], CELLS[0][:1], None]
    listed = pl.Series("boxes", cells, dtype=BOXES)
    assert split_files.differing_boxes(own, listed) == [2, 3, 5]
    # Two boxes nearly on each other need two partners.
    twins = pl.Series("boxes", [[box(1, 1, 9, 9), box(1.5, 1, 9, 9)]], dtype=BOXES)
    far = pl.Series("boxes", [[box(1, 1, 9, 9), box(50, 1, 9, 9)]], dtype=BOXES)
    assert split_files.differing_boxes(twins, far) == [0]


def test_swapped_boxes_have_width_and_height_exchanged():
    swapped = split_files.swapped_boxes(pl.Series("boxes", CELLS, dtype=BOXES))
    assert swapped.dtype == BOXES
    assert swapped.to_list()[0][0] == box(264, 152, 379, 213)
    assert swapped.to_list()[1:3] == [[], None]
    assert np.isclose(swapped.to_list()[3][0]["h"], 1023.999)


def test_names_that_differ_in_their_suffix_alone_are_two_images():
    ids = pl.Series(["000004.jpg", "000004.png", "b.png"])
    assert split_files.match(["000004.png", " 000004.jpg"], ids).to_list() == [1, 0]
