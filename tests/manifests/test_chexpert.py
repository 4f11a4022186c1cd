"""CheXpert: its paths, views, labels and splits, and its real train.csv."""

import csv
import gzip
import importlib.util
import logging
from pathlib import Path

import polars as pl
import pytest

from radlearn.data.splits import check_patients
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.chexpert import COMPETITION, LABELS, CheXpert

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(LABELS)
REAL = Path(importlib.util.find_spec("torchxrayvision").origin).parent / "data" / "chexpert_train.csv.gz"


def line(path, view="Frontal", projection="AP", **labels):
    cells = [labels.get(name.replace(" ", "_"), "") for name in LABELS]
    return ",".join([path, "Female", "60", view, projection, *cells])


def write(root, *lines, name="train.csv", header=HEADER):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([header, *lines]) + "\n")
    return root


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("chexpert")
    CheXpert.fake(root)
    return root


# --- paths


ONE = "train/patient00001/study1/view1_frontal.jpg"


@pytest.mark.parametrize(
    ("table", "cell", "file"),
    [
        ("", f"CheXpert-v1.0-small/{ONE}", ONE),
        ("", f"CheXpert-v1.0/{ONE}", ONE),
        ("", ONE, ONE),
        ("", f"/elsewhere/CheXpert-v1.0/{ONE}", ONE),
        ("", f"../up/{ONE}", ONE),
        ("", f"CheXpert-v1.0/{ONE}", f"CheXpert-v1.0/{ONE}"),
        ("", f"CheXpert-v1.0/{ONE}", f"CheXpert-v1.0-small/{ONE}"),
        ("", f"mine/{ONE}", f"mine/{ONE}"),
        ("CheXpert-v1.0-small", f"CheXpert-v1.0-small/{ONE}", f"CheXpert-v1.0-small/{ONE}"),
        (
            "CheXpert-v1.0 batch 1 (validate & csv)",
            f"CheXpert-v1.0/{ONE}",
            "CheXpert-v1.0 batch 3 (train 2)/patient00001/study1/view1_frontal.jpg",
        ),
    ],
)
def test_the_image_is_found_where_a_copy_has_it(tmp_path, table, cell, file):
    write(tmp_path / table, line(cell))
    image(tmp_path / file)
    (row,) = CheXpert().read(tmp_path).rows.iter_rows(named=True)
    assert row["path"] == file
    # Ids are the same whatever the copy looks like.
    assert row["image_id"] == "train/patient00001/study1/view1_frontal"
    assert (row["patient_id"], row["study_id"]) == ("patient00001", "patient00001-study1")


def test_the_release_of_2021_spreads_its_parts_over_folders(tmp_path):
    batch = tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)"
    two = "train/patient40000/study2/view1_frontal.jpg"
    valid = "valid/patient64541/study1/view1_frontal.jpg"
    write(batch, line(f"CheXpert-v1.0/{ONE}"), line(f"CheXpert-v1.0/{two}"))
    write(batch, line(f"CheXpert-v1.0/{valid}"), name="valid.csv")
    image(batch / valid)
    image(tmp_path / "CheXpert-v1.0 batch 2 (train 1)" / ONE.removeprefix("train/"))
    image(tmp_path / "CheXpert-v1.0 batch 3 (train 2)" / two.removeprefix("train/"))
    paths = CheXpert().read(tmp_path).rows["path"].to_list()
    assert all((tmp_path / path).is_file() for path in paths)
    assert len({*paths}) == 3


def test_the_test_set_of_2022_lies_beside_with_labels_in_its_own_order(tmp_path):
    write(tmp_path, line(ONE))
    header = ",".join(["Path", *LABELS[::-1]])
    cells = ["1.0" if name == "Edema" else "0.0" for name in LABELS[::-1]]
    path = "test/patient64741/study1/view2_lateral.jpg"
    write(tmp_path / "CheXpert", ",".join([path, *cells]), name="test_labels.csv", header=header)
    image(tmp_path / "CheXpert" / path)
    rows = CheXpert(views="all").read(tmp_path).rows.filter(pl.col("split") == "test")
    assert rows.select("path", "view", "Edema", "Cardiomegaly").rows() == [
        (f"CheXpert/{path}", "LATERAL", 1.0, 0.0)
    ]


def test_rows_without_a_chexpert_path_are_rejected_by_name(tmp_path):
    write(tmp_path, line(ONE), line("somewhere/else.jpg"), line(""))
    release = CheXpert().read(tmp_path)
    assert len(release.rows) == 1
    assert release.rejected["reason"].to_list() == ["no_chexpert_path"] * 2


# --- views and labels


def views_of(root, **settings):
    return dict(CheXpert(**settings).read(root).rows.select("image_id", "view").iter_rows())


def test_views(tmp_path):
    stem = "train/patient00001/study1/view"
    write(
        tmp_path,
        line(f"{stem}1_frontal.jpg"),
        line(f"{stem}2_frontal.jpg", projection="PA"),
        line(f"{stem}3_frontal.jpg", projection="LL"),
        line(f"{stem}4_frontal.jpg", projection="RL"),
        line(f"{stem}5_frontal.jpg", projection=""),
        line(f"{stem}6_lateral.jpg", view="Lateral", projection=""),
    )
    frontal = {f"{stem}{k}_frontal": v for k, v in enumerate(["AP", "PA", None, None, None], start=1)}
    assert views_of(tmp_path) == frontal
    assert views_of(tmp_path, views="lateral") == {f"{stem}6_lateral": "LATERAL"}
    assert views_of(tmp_path, views="all") == frontal | {f"{stem}6_lateral": "LATERAL"}
    assert CheXpert().read(tmp_path).card.counts["left_out.other_view"] == 1


CODES = {"Atelectasis": "-1.0", "Cardiomegaly": "-1.0", "Edema": "", "Consolidation": "1.0"}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, (-1, -1, 1, None)),
        ({"blank": "zeros"}, (-1, -1, 1, 0)),
        ({"uncertain": "zeros"}, (0, 0, 1, None)),
        ({"uncertain": "ones", "blank": "zeros"}, (1, 1, 1, 0)),
        ({"uncertain": "ignore"}, (None, None, 1, None)),
        ({"uncertain": "soft"}, (0.5, 0.5, 1, None)),
        ({"uncertain": "mgca", "blank": "zeros"}, (1, 0, 1, 0)),
    ],
)
def test_label_policies(tmp_path, settings, wanted):
    write(tmp_path, line(ONE, **CODES))
    release = CheXpert(label_set="competition5", **settings).read(tmp_path)
    assert release.card.label_names == COMPETITION
    assert release.rows.select(COMPETITION[:4]).row(0) == wanted


def test_label_sets_and_their_macro_means(fake):
    release = CheXpert().read(fake)
    assert release.card.label_names == LABELS
    assert CheXpert().macro_labels() == {"macro_competition5": COMPETITION}
    assert CheXpert(label_set="competition5").macro_labels() == {}


def test_the_validation_set_has_neither_blank_nor_uncertain_labels(fake):
    rows = CheXpert().read(fake).rows
    assert rows.filter(pl.col("split") == "train")["Edema"].null_count() > 0
    labels = rows.filter(pl.col("split") != "train").select(LABELS)
    assert labels.unpivot()["value"].unique().sort().to_list() == [0.0, 1.0]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigurationError, match="five competition labels"):
        CheXpert(uncertain="mgca")
    with pytest.raises(ConfigurationError, match="did you mean 'official'"):
        CheXpert(split="offical")
    with pytest.raises(ConfigurationError, match="views"):
        CheXpert(subset="5x200", views="lateral")
    with pytest.raises(ConfigurationError, match="num_validate"):
        CheXpert(num_validate=-1)


def test_a_header_of_another_table_is_refused(tmp_path):
    write(tmp_path, line(ONE), header=HEADER.replace("Lung Lesion", "Lung lesion"))
    with pytest.raises(DataError, match="no column 'Lung Lesion'; did you mean 'Lung lesion'"):
        CheXpert().read(tmp_path)


# --- splits


def test_a_copy_without_a_test_table_says_so(tmp_path, caplog):
    write(tmp_path, line(ONE))
    with caplog.at_level(logging.WARNING, "radlearn"):
        card = CheXpert().read(tmp_path).card
    assert "no test.csv or test_labels.csv" in caplog.text
    assert "no table of validate and test" in card.split_rule
    assert card.counts["test"] == 0


def test_a_test_table_alone_is_enough_to_score_on(fake, tmp_path):
    (tmp_path / "test.csv").symlink_to(fake / "test.csv")
    counts = CheXpert().read(tmp_path).card.counts
    assert (counts["train"], counts["test"]) == (0, CheXpert().read(fake).card.counts["test"])


def test_the_mgca_split_shares_no_patient_with_itself_or_the_5x200_set(fake):
    official, mgca, balanced = (
        CheXpert(per_label=2, num_validate=6, **settings).read(fake)
        for settings in ({}, {"split": "mgca"}, {"subset": "5x200"})
    )
    check_patients(mgca.rows)
    assert not {*balanced.rows["patient_id"]} & {*mgca.rows["patient_id"]}
    assert mgca.card.counts["validate"] == 6
    # The official validation images are its test images, the official test images are not used.
    wanted = official.rows.filter(pl.col("split") == "validate")["image_id"]
    assert mgca.rows.filter(pl.col("split") == "test")["image_id"].to_list() == wanted.to_list()
    assert (mgca.card.split, mgca.card.split_seed, mgca.card.split_unit) == ("mgca", 0, "patient")
    assert len({official.card.split_hash, mgca.card.split_hash, balanced.card.split_hash}) == 3


def test_the_mgca_split_is_the_same_for_all_views(fake):
    frontal, every = (
        CheXpert(split="mgca", per_label=2, num_validate=6, views=views).read(fake).rows
        for views in ("frontal", "all")
    )
    assert frontal.equals(every.filter(pl.col("image_id").is_in(frontal["image_id"].implode())))


def test_the_5x200_set_is_all_test_and_names_a_label_that_it_cannot_fill(fake):
    release = CheXpert(subset="5x200", per_label=2).read(fake)
    assert release.card.split == "5x200"
    assert release.rows["split"].to_list() == ["test"] * 10
    assert release.rows.select(pl.col(COMPETITION) == 1).sum().row(0) == (2,) * 5
    with pytest.raises(DataError, match=r"label '.*' has \d images"):
        CheXpert(subset="5x200").read(fake)


def test_a_missing_table_that_the_split_needs_is_named(tmp_path):
    write(tmp_path, line(ONE))
    with pytest.raises(DataError, match=r"CheXpert table of the validate images.*valid\.csv"):
        CheXpert(split="mgca").read(tmp_path)


# --- the real train.csv


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    (root / "train.csv.gz").symlink_to(REAL)
    return root


@pytest.fixture(scope="module")
def real_cells():
    """The file through the standard library: a second reader."""
    with gzip.open(REAL, "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_the_real_table_reads_in_full(real, real_cells):
    release = CheXpert(views="all").read(real)
    rows = release.rows
    assert len(rows) == len(real_cells) == 223_414  # CheXpert v1.0, as published
    assert rows["patient_id"].n_unique() == 64_540
    assert len(release.rejected) == 0
    assert len(rows.filter(pl.col("view").ne_missing("LATERAL"))) == 191_027
    assert dict(rows["view"].value_counts().iter_rows()) == {
        "AP": 161_590, "PA": 29_420, "LATERAL": 32_387, None: 17,
    }  # fmt: skip
    assert rows["study_id"].n_unique() == len({cell["Path"].rpartition("/")[0] for cell in real_cells})
    for name in LABELS:
        for word, value in (("1.0", 1), ("0.0", 0), ("-1.0", -1)):
            assert (rows[name] == value).sum() == sum(cell[name] == word for cell in real_cells)
        assert rows[name].null_count() == sum(cell[name] == "" for cell in real_cells)


@pytest.fixture(scope="module")
def real_5x200(real):
    return CheXpert(subset="5x200").read(real)


def test_the_5x200_set_of_the_real_table(real_5x200, real_cells):
    release = real_5x200
    chosen = {*release.rows["image_id"]}
    counts = dict.fromkeys(COMPETITION, 0)
    for cell in real_cells:
        if cell["Path"].removeprefix("CheXpert-v1.0-small/").removesuffix(".jpg") in chosen:
            (label,) = (name for name in LABELS if cell[name] in ("1.0", "-1.0"))
            assert (cell["Frontal/Lateral"], cell[label]) == ("Frontal", "1.0")
            counts[label] += 1
    assert counts == dict.fromkeys(COMPETITION, 200)
    assert release.rows["patient_id"].n_unique() == 1000
    # Pinned: another hash is another set, and scores on it do not compare.
    assert "94b6ba0bfd5526eed614fb1a9c9b25baa2f36711fec7174d38feecfd9eb9f42d" in release.card.split_rule


@pytest.mark.slow
def test_the_mgca_split_of_the_real_table(real, real_5x200, fake):
    (real / "valid.csv").symlink_to(fake / "valid.csv")
    try:
        release = CheXpert(split="mgca").read(real)
    finally:
        (real / "valid.csv").unlink()
    assert release.card.counts["validate"] == 5000
    assert not {*real_5x200.rows["patient_id"]} & {*release.rows["patient_id"]}
