"""Tables of any format and column names, and every policy of NOVA's tables."""

import gzip
import json
import warnings

import polars as pl
import pytest

from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.table import Table, read_eval

HEADER = "image_path,impression,ViewPosition,Edema\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(root, text, name="train.csv", **settings):
    """Read one training table below a root without images."""
    write(root / name, text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tell no patient.*")
        return Table(train_manifest=name, **settings).read(root)


def ids(release):
    return release.rows["image_id"].to_list()


# --- formats


RECORDS = [
    {"image_path": "a.png", "impression": "No, \"acute\"\nedema.", "ViewPosition": "PA", "Edema": -1.0},
    {"image_path": "b.png", "impression": "Édema µ.", "ViewPosition": "AP", "Edema": None},
    {"image_path": "c.png", "impression": "Edema.", "ViewPosition": "LATERAL", "Edema": 1.0},
]  # fmt: skip


@pytest.fixture(params=["csv", "csv.gz", "tsv", "tsv.gz", "parquet", "jsonl", "ndjson", "CSV"])
def any_format(request, tmp_path):
    """One table in every format -> its file name."""
    frame, name = pl.DataFrame(RECORDS), f"train.{request.param}"
    kind = request.param.lower()
    if kind == "parquet":
        frame.write_parquet(tmp_path / name)
    elif kind in ("jsonl", "ndjson"):
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
        write(tmp_path / name, "\ufeff" + lines.replace("\n", "\n\n", 1))
    else:
        content = ("\ufeff" + frame.write_csv(separator="\t" if "tsv" in kind else ",")).encode()
        write(tmp_path / name, gzip.compress(content) if kind.endswith("gz") else content)
    return name


def test_every_format_reads_the_same(any_format, tmp_path):
    manifest = Table(
        train_manifest=any_format, label_cols=["Edema"], uncertain="keep", blank="ignore", views=["pa", "ap"]
    )
    with pytest.warns(UserWarning, match="2 of 2 images tell no patient"):
        rows = manifest.read(tmp_path).rows
    assert rows.select("image_id", "impression", "view", "Edema", "split").rows() == [
        ("a", 'No, "acute" edema.', "PA", -1.0, "train"),
        ("b", "Édema µ.", "AP", None, "train"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a.png,x,PA,1\nb.png,y,AP,0\n",
        HEADER + "a.png,x,PA,1\nb.png,y,AP,0",
        "\ufeff" + HEADER.replace("\n", "\r\n") + "a.png,x,PA,1\r\n\r\nb.png,y,AP,0\r\n\r\n",
        HEADER + "\n\n,,,\na.png,x,PA,1.0\n  , ,,\nb.png, y ,AP,0.0\n",
        'Edema,image_path,other,ViewPosition,impression\n1,"a.png",é,PA,"x"\n0,b.png,"p\nq",AP,y\n',
    ],
    ids=["plain", "no last newline", "windows", "blank lines", "other order, quoted newline"],
)
def test_odd_csv_files_read_alike(tmp_path, text):
    rows = read(tmp_path, text, label_cols=["Edema"]).rows
    assert rows.select("image_id", "impression", "Edema").rows() == [("a", "x", 1.0), ("b", "y", 0.0)]


def test_a_delimiter_can_be_given_and_is_guessed_in_the_message(tmp_path):
    text = "image_path;impression;ViewPosition\na.png;x;PA\n"
    assert ids(read(tmp_path, text, delimiter=";")) == ["a"]
    with pytest.raises(DataError, match=r"one column: is data\.delimiter=';'"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", b"", "is empty"),
        ("train.csv", b"image_path,impression\n\xe9,2\n", "save it as UTF-8"),
        ("train.csv", b"image_path,impression\na.png,b,c,d\n", "cannot be read as .csv"),
        ("train.csv.gz", b"no gzip", r"cannot be read|no column"),
        ("train.parquet", b"no parquet", "cannot be read as .parquet"),
        ("train.jsonl", b'{"image_path": "a"}\nno json\n', "cannot be read as .jsonl"),
        ("train.jsonl", b"", "is empty|cannot be read"),
        ("train.csv", HEADER.encode(), "no usable row"),
    ],
)
def test_a_broken_table_is_named_with_what_is_wrong(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, content, name=name)
    assert str(tmp_path) in str(error.value)


def test_missing_tables_and_unknown_suffixes(tmp_path):
    with pytest.raises(DataError, match=r"set data\.train_manifest"):
        Table().read(tmp_path)
    with pytest.raises(DataError, match=r"no 'gone\.csv': looked for .*gone\.csv and"):
        Table(train_manifest="gone.csv").read(tmp_path)
    with pytest.raises(ConfigurationError, match=r"ends in \.csv"):
        read(tmp_path, "x", name="train.xlsx")


def test_an_unknown_column_names_the_nearest_and_lists_all(tmp_path):
    with pytest.raises(
        DataError, match=r"no column 'imagepath' \(data.image_col\); did you mean 'image_path'\?; there is"
    ):
        read(tmp_path, HEADER + "a.png,x,PA,1\n", image_col="imagepath")
    for settings, key in (
        ({"label_cols": ["Oedema"]}, "label_cols"),
        ({"patient_col": "subject_id"}, "patient_col"),
        ({"study_col": "study"}, "study_col"),
        ({"id_col": "dicom_id"}, "id_col"),
        ({"split_col": "fold"}, "split_col"),
        ({"report_col": "report"}, "report_col"),
        ({"text_col": "text"}, "text_col"),
    ):
        with pytest.raises(DataError, match=rf"data\.{key}\b.*image_path, impression, ViewPosition, Edema"):
            read(tmp_path, HEADER + "a.png,x,PA,1\n", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"uncertain": "zero"}, {"blank": "ones"}, {"impression_fallback": "finding"}, {"deid": "drop"},
        {"access": "public"}, {"label_cols": ["view"]}, {"label_cols": ["a", "a"]},
        {"train_manifest": "a.csv", "test_manifest": "b.csv", "split_col": "fold"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_once(settings):
    with pytest.raises(ConfigurationError):
        Table(**settings)


# --- rows


def test_views_are_filtered_whatever_their_case_and_counted(tmp_path):
    views = ["PA", " pa ", "ap", "AP", "LL", "Lateral", "", "PA LLD"]
    text = HEADER + "".join(f"{i}.png,x,{view},1\n" for i, view in enumerate(views))
    release = read(tmp_path, text)
    assert release.rows.select("image_id", "view").rows() == [
        ("0", "PA"),
        ("1", "PA"),
        ("2", "AP"),
        ("3", "AP"),
    ]
    assert release.card.counts["left_out.other_view"] == 4
    assert release.rejected.is_empty()
    everything = read(tmp_path, text, views=[]).rows
    assert everything["view"].to_list() == ["PA", "PA", "AP", "AP", "LATERAL", "LATERAL", None, None]


def test_chexpert_frontals(tmp_path):
    text = "Path,Frontal/Lateral\na.jpg,Frontal\nb.jpg,Lateral\n"
    settings = {
        "image_col": "Path",
        "view_col": "Frontal/Lateral",
        "views": ["Frontal"],
        "require_text": False,
    }
    release = read(tmp_path, text, **settings)
    assert release.rows.select("image_id", "view").rows() == [("a", None)]


def test_a_table_without_views_keeps_all_and_warns_with_the_nearest(tmp_path):
    write(tmp_path / "train.csv", "image_path,impression,View Position\na.png,x,LL\n")
    with pytest.warns(
        UserWarning, match=r"no column 'ViewPosition'.*did you mean 'View Position'.*all views are kept"
    ):
        assert len(Table(train_manifest="train.csv").read(tmp_path).rows) == 1


def test_the_impression_comes_from_the_report_where_it_is_blank(tmp_path):
    text = (
        "image_path,impression,report\n"
        'a.png,Own.,"IMPRESSION: Other."\n'
        'b.png, ,"FINDINGS: Clear.\nIMPRESSION:\n1. No edema.\n"\n'
        'c.png,,"FINDINGS: Clear."\n'
        "d.png,,\n"
    )
    release = read(tmp_path, text, report_col="report", views=[])
    assert release.rows.select("image_id", "impression", "findings").rows() == [
        ("a", "Own.", None),
        ("b", "1. No edema.", "Clear."),
    ]
    assert release.rows["report"][1].startswith("FINDINGS: Clear.\nIMPRESSION")
    assert release.card.counts["left_out.no_text"] == 2
    release = read(
        tmp_path, text, report_col="report", views=[], impression_fallback="findings", strip_enumeration=True
    )
    assert release.rows["impression"].to_list() == ["Own.", "No edema.", "Clear."]
    reports_only = read(tmp_path, text, report_col="report", views=[], text_col="absent")
    assert reports_only.rows["impression"].to_list() == ["Other.", "1. No edema."]


def test_text_options_hold_for_the_impression_column_too(tmp_path):
    text = HEADER + "a.png,1. Seen by ___. Unchanged edema.,PA,\nb.png,___,PA,\n"
    release = read(tmp_path, text, deid="remove", strip_enumeration=True, drop_comparison=True)
    assert release.rows["impression"].to_list() == ["Seen by."]


def test_text_is_needed_in_training_rows_only(tmp_path):
    write(tmp_path / "train.csv", HEADER + "a.png,,PA,1\nb.png,x,PA,1\n")
    write(tmp_path / "test.csv", "image_path,ViewPosition,Edema\nc.png,PA,0\n")
    settings = {"train_manifest": "train.csv", "test_manifest": "test.csv", "patient_col": "image_path"}
    assert ids(Table(**settings).read(tmp_path)) == ["b", "c"]
    assert ids(Table(**settings, require_text=False).read(tmp_path)) == ["a", "b", "c"]


def test_progress_is_reported_while_reports_are_read(tmp_path):
    write(tmp_path / "train.csv", 'image_path,report\na.png,"IMPRESSION: x"\nb.png,"IMPRESSION: y"\n')
    steps = []
    with pytest.warns(UserWarning, match="tell no patient"):
        Table(train_manifest="train.csv", report_col="report", views=[]).read(
            tmp_path, lambda *s: steps.append(s)
        )
    assert steps[-1] == (2, 2, "reports")


# --- labels


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 0, 0, 0]),
        ({"uncertain": "ones"}, [1, 0, 1, 0]),
        ({"uncertain": "ignore", "blank": "ignore"}, [1, 0, None, None]),
        ({"uncertain": "keep", "blank": "ignore"}, [1, 0, -1, None]),
        ({"uncertain": "soft"}, [1, 0, 0.5, 0]),
    ],
)
def test_label_policies(tmp_path, settings, expected):
    text = HEADER + "a.png,x,PA,1.0\nb.png,x,PA,0\nc.png,x,PA,-1.0\nd.png,x,PA,\n"
    release = read(tmp_path, text, label_cols=["Edema"], **settings)
    assert release.rows["Edema"].to_list() == expected
    assert release.card.label_names == ("Edema",)


def test_an_undefined_label_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.csv: label column 'Edema' holds 'maybe' in row 2"):
        read(tmp_path, HEADER + "a.png,x,PA,1\nb.png,x,PA,maybe\n", label_cols=["Edema"])


# --- ids and splits


def test_patients_and_studies_come_from_mimic_and_chexpert_paths(tmp_path):
    paths = [
        "p10/p10000001/s50000001/x-1.jpg",
        "files/p10/p10000001/s50000002/x-2.jpg",
        "train/patient00007/study3/view1.jpg",
    ]
    release = read(tmp_path, "image_path,impression\n" + "".join(f"{p},x\n" for p in paths), views=[])
    assert release.rows.select("image_id", "patient_id", "study_id").rows() == [
        ("p10/p10000001/s50000001/x-1", "p10000001", "s50000001"),
        ("p10/p10000001/s50000002/x-2", "p10000001", "s50000002"),
        ("train/patient00007/study3/view1", "patient00007", "patient00007-study3"),
    ]


def test_columns_of_ids_win_and_studies_are_unique_over_patients(tmp_path):
    cells = "a.png,x,7,1,u1\nb.png,x,7,2,u2\nc.png,x,8,1,u3\nd.png,x,,1,u4\ne.png,x,9,3,\n"
    text = f"image_path,impression,who,visit,uid\n{cells}"
    release = read(tmp_path, text, views=[], patient_col="who", study_col="visit", id_col="uid")
    assert release.rows.select("image_id", "patient_id", "study_id").rows() == [
        ("u1", "7", "7-1"),
        ("u2", "7", "7-2"),
        ("u3", "8", "8-1"),
    ]
    assert release.rejected.select("image_id", "reason").rows() == [
        (None, "no_image_id"),
        ("u4", "no_patient_id"),
    ]


def test_numeric_ids_of_typed_files_lose_their_fraction(tmp_path):
    frame = pl.DataFrame({"image_path": ["a.png", "b.png"], "subject": [10000032.0, 10000033.0], "n": [1, 2]})
    frame.write_parquet(tmp_path / "train.parquet")
    settings = {"patient_col": "subject", "study_col": "n", "require_text": False, "views": ()}
    rows = Table(train_manifest="train.parquet", **settings).read(tmp_path).rows
    assert rows.select("patient_id", "study_id").rows() == [("10000032", "1"), ("10000033", "2")]


def test_one_table_with_a_split_column(tmp_path):
    words = ["train", " Training", "val", "valid", "VALIDATE", "dev", "test", ""]
    text = "image_path,impression,fold\n" + "".join(f"{i}.png,x,{word}\n" for i, word in enumerate(words))
    release = read(tmp_path, text, views=[], split_col="fold")
    assert release.rows["split"].to_list() == ["train"] * 2 + ["validate"] * 4 + ["test"]
    assert release.rejected["reason"].to_list() == ["no_split"]
    with pytest.raises(DataError, match=r"column 'fold' holds 'holdout' in row 2"):
        read(
            tmp_path,
            "image_path,impression,fold\na.png,x,test\nb.png,x,holdout\n",
            views=[],
            split_col="fold",
        )


def test_a_patient_in_two_tables_is_refused(tmp_path):
    for name, image in (("train.csv", "a.png"), ("test.csv", "b.png")):
        write(tmp_path / name, f"image_path,impression,who\n{image},x,7\n")
    manifest = Table(train_manifest="train.csv", test_manifest="test.csv", patient_col="who", views=())
    with pytest.raises(DataError, match="1 of 1 patients lie in several splits"):
        manifest.read(tmp_path)


def test_one_image_in_two_tables_is_refused_even_without_patients(tmp_path):
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name, "image_path,impression\na.png,x\n")
    manifest = Table(train_manifest="train.csv", test_manifest="test.csv", views=())
    with pytest.warns(UserWarning, match="tell no patient"), pytest.raises(DataError, match="several splits"):
        manifest.read(tmp_path)


# --- paths


def test_paths_are_joined_as_releases_and_users_write_them(tmp_path):
    root = tmp_path / "CheXpert-v1.0"
    write(root / "train/a.jpg", b"x")
    cells = [
        "CheXpert-v1.0/train/a.jpg",
        "./train/b.jpg",
        str(root / "train/c.jpg"),
        "train//d.jpg",
        "train/x/../e.jpg",
    ]
    text = "image_path,impression\n" + "".join(f"{cell},x\n" for cell in cells)
    assert read(root, text, views=[]).rows["path"].to_list() == [f"train/{name}.jpg" for name in "abcde"]


@pytest.mark.parametrize(
    ("folders", "cell", "path"),
    [
        ("root/files/p10", "p10/a.jpg", "files/p10/a.jpg"),
        ("root/files/p10", "files/p10/a.jpg", "files/p10/a.jpg"),
        ("root/p10", "files/p10/a.jpg", "p10/a.jpg"),
        ("root/p10", "p10/a.jpg", "p10/a.jpg"),
        ("root", "p10/a.jpg", "p10/a.jpg"),
        ("root", "files/p10/a.jpg", "files/p10/a.jpg"),
        ("root/root", "root/a.jpg", "root/a.jpg"),
        ("root", "root/a.jpg", "a.jpg"),
        ("root", "a.jpg", "a.jpg"),
    ],
)
def test_a_doubled_or_missing_leading_folder_is_forgiven(tmp_path, folders, cell, path):
    (tmp_path / folders).mkdir(parents=True)
    release = read(tmp_path / "root", f"image_path,impression\n{cell},x\n", views=[])
    assert release.rows["path"].to_list() == [path]
    assert release.rows["image_id"].to_list() == [path.removeprefix("files/").removesuffix(".jpg")]


def test_paths_that_leave_the_root_are_rejected(tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    write(tmp_path / "out/a.png", b"x")
    (root / "link").symlink_to(tmp_path / "out")
    (root / "link.png").symlink_to(tmp_path / "out/a.png")
    (root / "fine.png").symlink_to(root / "in")
    cells = [
        "../../etc/passwd",
        "/etc/passwd",
        "in/../../out/a.png",
        "link/a.png",
        "link.png",
        "fine.png",
        "in/b.png",
        " ",
    ]
    release = read(root, "image_path,impression\n" + "".join(f"{c},x\n" for c in cells), views=[])
    assert release.rows["path"].to_list() == ["fine.png", "in/b.png"]
    assert release.rejected["reason"].to_list() == ["no_path"] + 5 * ["path_escape"]


def test_the_image_root_may_lie_elsewhere(tmp_path, monkeypatch):
    write(tmp_path / "images/a.png", b"x")
    write(tmp_path / "tables/train.csv", "image_path,impression\na.png,x\nb.png,x\n")
    manifest = Table(
        train_manifest=str(tmp_path / "tables/train.csv"), image_root=str(tmp_path / "images"), views=(),
        patient_col="image_path", check_files=True,
    )  # fmt: skip
    assert manifest.default_root() == tmp_path / "images"
    release = manifest.read(manifest.default_root())
    assert release.root == str(tmp_path / "images")
    assert ids(release) == ["a"]
    assert release.rejected["reason"].to_list() == ["missing"]
    monkeypatch.chdir(tmp_path)
    relative = Table(
        train_manifest="tables/train.csv", image_root="images", views=(), patient_col="image_path"
    )
    assert ids(relative.read(relative.default_root())) == ["a", "b"]
    alone = Table(train_manifest="tables/train.csv", views=(), patient_col="image_path")
    assert str(alone.default_root()) == "tables"


def test_image_ids_do_not_depend_on_where_the_root_is(tmp_path):
    table = "image_path,impression\np10/p10000001/s50000001/a.jpg,x\n"
    for root, below in ((tmp_path / "one", "files/p10"), (tmp_path / "two", "p10")):
        (root / below).mkdir(parents=True)
    one, two = (read(tmp_path / name, table, views=[]) for name in ("one", "two"))
    assert one.rows["path"][0] != two.rows["path"][0]
    assert one.card.fingerprint == two.card.fingerprint


# --- further columns, evaluation sets, the fake release


def test_sizes_boxes_and_masks_are_taken_along(tmp_path):
    boxes = [{"x": 1, "y": 2, "w": 3, "h": 4.5, "class": "edema"}]
    masks = [{"class": "edema", "rle": "3 2"}]
    record = {
        "image_path": "a.png",
        "impression": "x",
        "height": 9,
        "width": 8,
        "boxes": boxes,
        "mask": masks,
    }
    jsonl = read(tmp_path, json.dumps(record) + "\n", name="train.jsonl", views=[]).rows
    cells = {
        key: json.dumps(value) if isinstance(value, list) else str(value) for key, value in record.items()
    }
    csv = read(tmp_path, pl.DataFrame([cells]).write_csv(), views=[]).rows
    assert csv.equals(jsonl)
    assert csv["boxes"].to_list() == [boxes]
    assert csv["mask"].to_list() == [masks]
    assert csv.select("height", "width").rows() == [(9, 8)]
    with pytest.raises(DataError, match="'boxes' cannot be read as"):
        read(tmp_path, "image_path,impression,boxes\na.png,x,1 2 3 4\n", views=[])


def test_a_lone_height_is_a_patients(tmp_path):
    assert read(tmp_path, "image_path,impression,height\na.png,x,1.80 m\n", views=[]).rows[
        "height"
    ].to_list() == [None]


def test_an_entry_of_evals_is_a_test_set(tmp_path):
    write(
        tmp_path / "chexpert.csv",
        "Path,Edema\na/patient00001/study1/v.jpg,1.0\na/patient00002/study1/v.jpg,\n",
    )
    entry = {
        "name": "chexpert", "enabled": True, "manifest": "chexpert.csv", "image_col": "Path",
        "label_cols": ["Edema"], "positive_prompts": ["edema"], "negative_prompts": ["no edema"], "views": [],
    }  # fmt: skip
    release = read_eval(entry, tmp_path)
    assert release.rows.select("split", "Edema", "patient_id").rows() == [
        ("test", 1.0, "patient00001"),
        ("test", 0.0, "patient00002"),
    ]
    assert release.card.name == "chexpert"


def test_a_users_table_counts_as_credentialed_unless_told_otherwise(tmp_path):
    text = "image_path,impression\na.png,x\n"
    assert read(tmp_path, text, views=[]).card.access == "credentialed"
    assert read(tmp_path, text, views=[], access="open").card.access == "open"


def test_the_fake_release_holds_what_it_says(tmp_path):
    manifest = Table.fake(tmp_path)
    raw = (tmp_path / "train.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b"\r\n\r\n" in raw
    release = manifest.read(tmp_path)
    assert len(release.rows) >= 40
    assert {*release.rejected["reason"]} == {"duplicate_id", "missing", "no_path", "path_escape"}
    assert release.card.counts["left_out.no_text"] == 1
    assert release.card.counts["left_out.other_view"] > 10
    assert {*release.rows["Edema"]} == {1.0, 0.0, -1.0, None}
    assert release.rows.filter(pl.col("impression") == "No edema.").height == 1
    assert release.rows["patient_id"].str.contains(r"^p100000\d\d$").all()
