import polars as pl
import pytest

from radlearn.report import run_folder, scores

SUBJECT = ("zero_shot", "phantom_cxr", "test")


@pytest.fixture(scope="module")
def rows(run):
    return run_folder.read(run).results


def test_references_are_no_subjects(rows):
    assert scores.subjects(rows) == [SUBJECT]


def test_columns_are_measures_then_variants_then_references(rows):
    table = scores.one_run(rows, SUBJECT)
    headings = [column.heading for column in table.columns]
    assert headings == [
        "AUC",
        "Average precision",
        "Negative prompt “No X”",
        "Untrained network",
        "Pixel probe",
    ]


def test_labels_follow_the_order_asked_for_and_means_come_last(rows):
    table = scores.one_run(rows, SUBJECT, order=("nodule", "edema", "not there"))
    labels = [line.label for line in table.lines]
    assert labels[:2] == ["nodule", "edema"]
    assert labels[-2:] == ["macro", "macro_without_nodule_and_devices"]
    assert [line.mean for line in table.lines] == [False] * 6 + [True] * 2


def test_cells_are_the_rows_of_results(rows):
    table = scores.one_run(rows, SUBJECT)
    line = next(line for line in table.lines if line.label == "edema")
    expected = rows.filter((pl.col("label") == "edema") & (pl.col("variant") == "negative=no_x"))
    assert line.cells[2]["value"] == expected["value"][0]
    assert line.counts["num_cases"] == 400


def test_fraction_and_draw_are_part_of_the_variant(rows):
    row = rows.row(0, named=True)
    assert scores.variant_of(row) == ""
    assert scores.variant_of(row | {"fraction": 1.0}) == ""
    assert (
        scores.variant_of(row | {"fraction": 0.01, "draw": 2, "variant": "v"}) == "v, fraction=0.01, draw=2"
    )


def test_without_a_plain_variant_the_first_is_the_main_one(rows):
    few = rows.with_columns(variant=pl.lit("prompts=many"))
    assert scores.main_variant(few) == "prompts=many"
    assert scores.main_variant(rows) == ""


def test_runs_stand_side_by_side_with_holes_where_one_lacks_a_label(rows):
    fewer = rows.filter(pl.col("label") != "nodule")
    table = scores.several_runs({"a": rows, "b": fewer}, SUBJECT)
    line = next(line for line in table.lines if line.label == "nodule")
    assert [column.heading for column in table.columns] == ["a", "b"]
    assert line.cells[0] is not None
    assert line.cells[1] is None


def other(rows, task, metric, label, value, variant=""):
    changed = {"task": task, "metric": metric, "label": label, "value": value, "variant": variant}
    return rows.head(1).with_columns(**{k: pl.lit(v) for k, v in changed.items()}).select(rows.columns)


def test_other_metrics_have_tables_of_their_own(rows):
    found = [
        other(rows, "segmentation", metric, label, value)
        for metric, label, value in (("dice", "macro", 0.3), ("dice", "mass", 0.4), ("iou", "mass", 0.2))
    ]
    found += [other(rows, "segmentation", "dice", "mass", 0.6, "head=unet")]
    (plain, table), (unet, _) = scores.other_tables(pl.concat([rows, *found]))
    assert plain == "Segmentation on phantom_cxr, test split"
    assert unet == f"{plain}, head=unet"
    assert [column.heading for column in table.columns] == ["dice", "iou"]
    values = {line.label: [c and c["value"] for c in line.cells] for line in table.lines}
    assert values == {"mass": [0.4, 0.2], "macro": [0.3, None]}
    assert scores.other_tables(rows) == []


def test_other_metrics_of_runs_stand_side_by_side(rows):
    runs = {
        name: pl.concat(
            [rows, *(other(rows, "retrieval", m, "image_to_report", v) for m in ("recall@1", "recall@10"))]
        )
        for name, v in (("a", 0.2), ("b", 0.3))
    }
    ((title, table),) = scores.others_together({**runs, "c": rows})
    assert title.endswith("test split: recall@10")
    assert [column.heading for column in table.columns] == ["a", "b"]
    assert [cell["value"] for cell in table.lines[0].cells] == [0.2, 0.3]


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("macro", "Mean of all labels (macro)"),
        ("macro_without_nodule", "Mean without nodule"),
        ("pleural_effusion", "Pleural effusion"),
        ("macroscopic", "Macroscopic"),
    ],
)
def test_label_titles(label, title):
    assert scores.label_title(label) == title
