"""Tables beside folders of CT slices: lesions by slice, splits by patient, labels by study."""

import pytest
from ct_root import column, png, read, table, volume

from radlearn.data.splits import check_patients
from radlearn.errors import DataError
from radlearn.manifests.ct_folders import CTFolders

# --- the table of lesions


def test_the_table_of_the_readme_marks_slices(tmp_path):
    png(tmp_path, "p1/1.png", "p1/2.png", "p1/3.png", "p2/1.png")
    name = table(tmp_path, "image,lesion_present,patient_id\np1/1.png,1,p1\np1/2.png,0,p1\np2_1.png,1,p2\n")
    release = read(tmp_path, table=name)
    assert column(release, "lesion_present") == {"p1/1.png": 1, "p1/2.png": 0, "p1/3.png": 0, "p2/1.png": 1}
    # A lesion without a box stays one; where there is none, there are no boxes.
    assert column(release, "boxes") == {"p1/1.png": None, "p1/2.png": [], "p1/3.png": [], "p2/1.png": None}
    unknown = read(tmp_path, table=name, unlisted="unknown")
    assert column(unknown, "lesion_present")["p1/3.png"] is None
    assert column(unknown, "boxes")["p1/3.png"] is None


@pytest.mark.parametrize(
    "text",
    [
        "image,lesion_present,bbox\np1/1.png,1,\"2, 3, 12, 20\"\np1/1,1,4 5 6 9\n",
        "image,bbox\np1/1.png,\"[2, 3, 12, 20]\"\np1/1.png,4;5;6;9\n",
        "image,x_min,y_min,x_max,y_max\np1/1.png,2,3,12,20\np1/1.png,4,5,6,9\n",
        "image,lesion_present,x_min,y_min,x_max,y_max\np1/1.png,1,2,3,12,20\np1/1.png,1,4,5,6,9\np1/2.png,0,,,,\n",
        "File_name,Bounding_boxes\np1_1.png,\"2, 3, 12, 20\"\np1_1.png,\"4, 5, 6, 9\"\np1_1.png,4;5;6;9\n",
    ],
    ids=["bbox", "bbox alone", "corners", "corners and blanks", "DeepLesion's headers"],
)  # fmt: skip
def test_boxes_in_every_form(tmp_path, text):
    png(tmp_path, "p1/1.png", "p1/2.png", "p2/1.png")
    release = read(tmp_path, table=table(tmp_path, text))
    boxes = column(release, "boxes")["p1/1.png"]
    assert [[box[side] for side in "xywh"] for box in boxes] == [[2, 3, 10, 17], [4, 5, 2, 4]]
    assert {box["class"] for box in boxes} == {"lesion"}
    assert column(release, "lesion_present") == {"p1/1.png": 1, "p1/2.png": 0, "p2/1.png": 0}


def test_boxes_beyond_the_border_are_cut_a_little_and_else_rejected(tmp_path):
    png(tmp_path, "p1/1.png", "p1/2.png", "p2/1.png")
    text = 'image,bbox\np1/1.png,"-0.6, 3, 32.5, 20"\np1/2.png,"20, 20, 60, 60"\np2/1.png,"1, 1, 9, 9"\n'
    release = read(tmp_path, table=table(tmp_path, text))
    assert column(release, "boxes")["p1/1.png"] == [{"x": 0, "y": 3, "w": 32, "h": 17, "class": "lesion"}]
    assert release.rejected.select("path", "reason").rows() == [("p1/2.png", "box_outside")]


def test_rows_that_disagree_about_an_image_set_it_aside(tmp_path):
    png(tmp_path, "p1/1.png", "p1/2.png", "p1/3.png", "p1/4.png")
    text = (
        "image,lesion_present,patient_id,bbox\n"
        "p1/1.png,1,A,\np1/1.png,0,A,\n"
        "p1/2.png,1,A,\np1/2.png,1,B,\n"
        'p1/3.png,0,A,"1, 2, 3, 4"\n'
        "p1/4.png,1,A,\np1/4.png,,,\n"
    )
    release = read(tmp_path, table=table(tmp_path, text))
    assert release.rows["path"].to_list() == ["p1/4.png"]
    assert release.rejected.select("path", "reason").rows() == [
        (f"p1/{i}.png", "conflicting_rows") for i in (1, 2, 3)
    ]


def test_unknown_images_are_counted_and_another_releases_table_is_refused(tmp_path):
    png(tmp_path, "p1/1.png", "p1/2.png")
    name = table(tmp_path, "image,lesion_present\np1/1.png,1\np1/2.png,0\np9/1.png,0\n")
    assert read(tmp_path, table=name).card.counts["rejected.unknown_image"] == 1
    name = table(tmp_path, "image,lesion_present\np1/1.png,1\nq.png,0\nr.png,0\n")
    with pytest.raises(DataError, match=r"2 of 3 rows name no slice.*'q\.png'.*table of these folders"):
        read(tmp_path, table=name)


def test_a_name_that_several_slices_have_means_none(tmp_path):
    png(tmp_path, "p1/1.png", "p2/1.png", "p2/unique.png")
    name = table(tmp_path, "image,lesion_present\nunique.png,1\n1.png,1\np1/1.png,0\n")
    release = read(tmp_path, table=name)
    assert column(release, "lesion_present") == {"p1/1.png": 0, "p2/1.png": 0, "p2/unique.png": 1}
    assert release.rejected["reason"].to_list() == ["unknown_image"]


def test_paths_in_the_table_may_begin_with_the_root(tmp_path):
    root = png(tmp_path / "scans", "p1/1.png", "p1/2.png", "p2/1.png")
    lines = f"image,lesion_present\nscans/p1/1.png,1\n{root}/p1/2.png,0\np2\\1.png,1\n"
    release = read(root, table=table(root, lines))
    assert release.rejected.is_empty()
    assert column(release, "lesion_present") == {"p1/1.png": 1, "p1/2.png": 0, "p2/1.png": 1}


def test_lesions_in_all_slices_or_in_none_are_worth_a_warning(tmp_path):
    png(tmp_path, "p1/1.png", "p1/2.png")
    for text, message in (
        ("image,lesion_present\np1/1.png,1\np1/2.png,1\n", "every slice holds a lesion"),
        ("image,lesion_present\np1/1.png,0\n", "no slice holds a lesion"),
    ):
        with pytest.warns(UserWarning, match=message):
            CTFolders(table=table(tmp_path, text)).read(tmp_path)


def test_a_patient_of_some_slices_is_that_of_the_folder(tmp_path):
    png(tmp_path, "scan1/1.png", "scan1/2.png", "scan2/1.png", "scan3/1.png",
        "flat/a.png", "flat/b.png", "flat/c.png", "mix/x/1.png", "mix/x/2.png", "mix/y/1.png")  # fmt: skip
    text = (
        "image,patient_id\nscan1/1.png,A\nscan2/1.png,A\nflat/a.png,B\nflat/b.png,C\n"
        "mix/x/1.png,D\nmix/y/1.png,E\n"
    )
    release = read(tmp_path, table=table(tmp_path, text))
    assert column(release, "patient_id") == {
        "scan1/1.png": "A", "scan1/2.png": "A", "scan2/1.png": "A", "scan3/1.png": "scan3",
        "flat/a.png": "B", "flat/b.png": "C", "mix/x/1.png": "D", "mix/x/2.png": "D", "mix/y/1.png": "E",
    }  # fmt: skip
    # Nothing tells whose flat/c.png is, and a guess would leak a patient into another split.
    assert release.rejected.select("path", "reason").rows() == [("flat/c.png", "no_patient_id")]


def test_series_and_index_name_a_slice_too(tmp_path):
    volume(tmp_path / "p1" / "scan.nii.gz")
    volume(tmp_path / "p2" / "scan.nii.gz")
    text = (
        "image,slice_index,lesion_present\np1/scan.nii.gz,1,1\np2/scan,0,1\np2/scan.nii.gz#2,,1\np1,2.0,0\n"
    )
    release = read(tmp_path, table=table(tmp_path, text))
    assert column(release, "lesion_present", by="image_id") == {
        "p1/scan#0000": 0, "p1/scan#0001": 1, "p1/scan#0002": 0,
        "p2/scan#0000": 1, "p2/scan#0001": 0, "p2/scan#0002": 1,
    }  # fmt: skip
    assert release.rejected.is_empty()


def test_ids_and_order_may_stand_in_the_table(tmp_path):
    png(tmp_path, "p1/a.png", "p1/b.png", "p1/c.png", "p2/a.png")
    lines = ("image,study_id,series_id,slice_index", "p1/a.png,S,X,7", "p1/b.png,S,X,5", "p1/c.png,S,Y,0")
    text = "\n".join([*lines, "p2/a.png,T,Z,"])
    release = read(tmp_path, table=table(tmp_path, text))
    assert release.rows.select("study_id", "series_id", "slice_index").rows() == [
        ("S", "X", 7), ("S", "X", 5), ("S", "Y", 0), ("T", "Z", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("img,lesion_present\np1/1.png,1\n", r"no column 'image'.*did you mean 'img'"),
        ("image,lesion_present\np1/1.png,-1\n", "'lesion_present' holds '-1' in row 1; it is 1, 0 or blank"),
        ("image,lesion_present\np1/1.png,0\np1/1.png,x\n", "'x' in row 2"),
        ("image,bbox\np1/1.png,\"1, 2, 3\"\n", "'bbox' holds '1, 2, 3' in row 1"),
        ("image,bbox\np1/1.png,\"5, 2, 3, 4\"\n", "x_min, y_min, x_max, y_max"),
        ("image,x_min,y_min,x_max,y_max\np1/1.png,1,2,3,\n", "'1, 2, 3' in row 1"),
        ("image,x_min,y_min\np1/1.png,1,2\n", "there is only x_min, y_min"),
        ("image,slice_index\np1/1.png,1.5\n", "'1.5' in row 1; it is a whole number from 0"),
        ("image,split\np1/1.png,training set\n", "'training set' in row 1; a split is one of train"),
    ],
)  # fmt: skip
def test_cells_that_cannot_be_are_named(tmp_path, text, message):
    png(tmp_path, "p1/1.png")
    with pytest.raises(DataError, match=message):
        read(tmp_path, table=table(tmp_path, text))


# --- splits


def test_patients_are_split_by_hash_unless_the_table_splits_them(tmp_path):
    png(tmp_path, *(f"p{i:02d}/{j}.png" for i in range(60) for j in range(2)))
    drawn = read(tmp_path)
    check_patients(drawn.rows)
    assert (drawn.card.split, drawn.card.split_seed) == ("patient", 0)
    shares = {split: drawn.card.counts[split] / 120 for split in ("train", "validate", "test")}
    assert shares == pytest.approx({"train": 0.7, "validate": 0.1, "test": 0.2}, abs=0.12)
    assert read(tmp_path, split_seed=1).card.split_hash != drawn.card.split_hash
    # Another order, other files and other rows move nobody.
    png(tmp_path, "p99/1.png", "p00/3.png")
    again = read(tmp_path)
    before = dict(drawn.rows.select("patient_id", "split").rows())
    assert {patient: split for patient, split in again.rows.select("patient_id", "split").rows()
            if patient != "p99"} == before  # fmt: skip
    name = table(tmp_path, "image,split\np00/0.png,val\np01/0.png,TEST\np02/0.png,train\n")
    told = read(tmp_path, table=name)
    assert (told.card.split, told.card.split_seed) == ("table", None)
    assert dict(told.rows.select("path", "split").rows()) == {
        "p00/0.png": "validate", "p00/1.png": "validate", "p00/3.png": "validate",
        "p01/0.png": "test", "p01/1.png": "test", "p02/0.png": "train", "p02/1.png": "train",
    }  # fmt: skip
    assert told.card.counts["left_out.in_no_split"] == 115
    assert read(tmp_path, table=name, split="patient").card.split_hash == again.card.split_hash


def test_a_table_that_tears_a_patient_apart_is_refused(tmp_path):
    png(tmp_path, "p1/1.png", "p1/2.png")
    name = table(tmp_path, "image,split\np1/1.png,train\np1/2.png,test\n")
    with pytest.raises(DataError, match="1 of 1 patients lie in several splits"):
        read(tmp_path, table=name)


# --- the table of labels


def test_labels_of_studies_and_patients_reach_their_slices(tmp_path):
    png(tmp_path, "000001_01_01/1.png", "000001_02_01/1.png", "000002_01_01/1.png", "000002_01_01/2.png",
        "000003_01_01/1.png")  # fmt: skip
    text = (
        "image,liver,bone metastasis,all\n000001_01_01,1,0,1_0\n000001_02_01.h5,0,,0_\n000002,1,-1,1_1\n"
        "000009_01_01,0,0,0_0\n000002,0,0,0_0\n"
    )
    release = read(tmp_path, labels=table(tmp_path, text))
    assert release.card.label_names == ("liver", "bone metastasis")
    assert column(release, "liver") == {
        "000001_01_01/1.png": 1, "000001_02_01/1.png": 0, "000002_01_01/1.png": 1,
        "000002_01_01/2.png": 1, "000003_01_01/1.png": None,
    }  # fmt: skip
    assert column(release, "bone metastasis")["000002_01_01/2.png"] == -1
    assert release.rejected.select("image_id", "reason").rows() == [
        ("000002", "duplicate_id"), ("000009_01_01", "unknown_image"),
    ]  # fmt: skip
    assert {*column(release, "patient_id").values()} == {"000001", "000002", "000003"}


def test_the_nearest_label_counts_and_columns_can_be_chosen(tmp_path):
    png(tmp_path, "p1/a/1.png", "p1/a/2.png", "p1/b/1.png", "p2/a/1.png")
    text = "image,stage,grade,note\np1,0,1,x\np1/a,1,0,y\np1/a/2.png,0,0,z\nb,1,1,z\n"
    release = read(tmp_path, labels=table(tmp_path, text), label_cols=["stage"])
    assert release.card.label_names == ("stage",)
    # `a` names folders of two patients; `b` is one of one.
    assert column(release, "stage") == {
        "p1/a/1.png": 1, "p1/a/2.png": 0, "p1/b/1.png": 1, "p2/a/1.png": None,
    }  # fmt: skip
    with pytest.raises(DataError, match=r"label column 'note' holds 'x' in row 1"):
        read(tmp_path, labels="lesions.csv")
    with pytest.raises(DataError, match=r"no column 'stages' \(data\.label_cols\); did you mean 'stage'"):
        read(tmp_path, labels="lesions.csv", label_cols=["stages"])


def test_labels_may_tell_patients_and_splits(tmp_path):
    png(tmp_path, "s1/1.png", "s1/2.png", "s2/1.png", "s3/1.png")
    text = "image,patient_id,split,tumour\ns1,A,train,1\ns2,A,train,0\ns3,B,test,1\n"
    release = read(tmp_path, labels=table(tmp_path, text))
    assert column(release, "patient_id") == {
        "s1/1.png": "A", "s1/2.png": "A", "s2/1.png": "A", "s3/1.png": "B",
    }  # fmt: skip
    assert column(release, "split")["s2/1.png"] == "train"
    assert release.card.label_names == ("tumour",)
