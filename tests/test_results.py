import dataclasses
import fcntl
import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radlearn import results, stats
from radlearn.errors import DataError
from radlearn.records import Result

ROW = Result(
    run="nova",
    task="zero_shot",
    data="phantom_cxr",
    data_hash="aaaa1111bbbb",
    split="test",
    metric="auc",
    label="macro",
    value=0.8125,
    low=0.79,
    high=0.834,
    chance=0.5,
    num_cases=1200,
    num_patients=400,
    num_positive=90,
    seed=0,
    synthetic=True,
    date="2026-01-31T12:00:00Z",
)


def row(**changes):
    return dataclasses.replace(ROW, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "results.parquet"


def test_rows_come_back_as_they_went_in(path):
    rows = [ROW, row(label="nodule", value=float("nan"), low=None, high=None, seed=None), row(label="édème")]
    results.append(path, rows[:1])
    results.append(path, rows[1:])
    assert [repr(found) for found in results.read(path)] == [repr(written) for written in rows]


def test_every_field_has_its_own_column_and_type(path):
    results.append(path, [ROW])
    schema = pq.read_schema(path)
    assert schema.names == [field.name for field in dataclasses.fields(Result)]
    assert schema.field("value").type == pa.float64()
    assert schema.field("seed").type == pa.int64()
    assert schema.field("lr").type == pa.float64(), "a column without a value keeps its type"
    assert schema.field("synthetic").type == pa.bool_()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"fraction": 0.1},
        {"draw": 2},
        {"label": "nodule"},
        {"metric": "average_precision"},
        {"split": "validate"},
        {"variant": "prompts=no_x"},
        {"task": "linear_probe"},
        {"run": "infonce"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_repeated_measurement_replaces_its_row_and_another_does_not(path, change):
    results.append(path, [ROW, row(**change)])
    results.append(path, [row(value=0.9, lr=0.1)])
    assert results.read(path) == [row(**change), row(value=0.9, lr=0.1)]


def test_two_versions_of_the_data_are_refused_by_name(path):
    results.append(path, [ROW])
    with pytest.raises(DataError, match="aaaa1111bbbb and now cccc") as caught:
        results.append(path, [row(label="nodule", data_hash="cccc")])
    for part in ("phantom_cxr", "run 'nova'", "another results file", str(path)):
        assert part in str(caught.value)
    assert results.read(path) == [ROW]


def test_two_versions_are_refused_even_where_every_row_would_be_replaced_or_is_new(path):
    results.append(path, [ROW])
    with pytest.raises(DataError, match="mix two versions"):
        results.append(path, [row(data_hash="cccc")])
    other = path.with_name("other.parquet")
    with pytest.raises(DataError, match="mix two versions"):
        results.append(other, [ROW, row(label="nodule", data_hash="cccc")])
    assert not other.exists()


def test_another_run_task_or_data_set_may_have_its_own_version(path):
    rows = [
        ROW,
        row(run="b", data_hash="c"),
        row(task="knn", data_hash="d"),
        row(data="chexpert", data_hash="e"),
    ]
    results.append(path, rows)
    assert results.read(path) == rows


def test_nothing_to_add_writes_nothing(path):
    results.append(path, [])
    assert not path.exists()


def test_no_temporary_file_is_left(path):
    results.append(path, [ROW])
    results.append(path, [row(seed=1)])
    assert {entry.name for entry in path.parent.iterdir()} == {"results.parquet", ".results.parquet.lock"}


def test_a_failed_write_leaves_the_old_table(path, monkeypatch):
    results.append(path, [ROW])

    def full_disk(table, file):
        file.write(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.pq, "write_table", full_disk)
    with pytest.raises(DataError, match=r"cannot write .*No space left"):
        results.append(path, [row(seed=1)])
    assert results.read(path) == [ROW]
    assert not list(path.parent.glob(".results.parquet.[0-9]*"))


WRITER = """
import sys
from pathlib import Path
from radlearn import results
from radlearn.records import Result
for seed in range(10):
    row = Result(sys.argv[2], "task", "data", "hash", "test", "auc", "macro", 0.5, seed=seed)
    results.append(Path(sys.argv[1]), [row])
"""


def test_concurrent_writers_lose_no_row(path):
    runs = ("a", "b")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), run]) for run in runs]
    assert [writer.wait() for writer in writers] == [0, 0]
    found = {(result.run, result.seed) for result in results.read(path)}
    assert found == {(run, seed) for run in runs for seed in range(10)}


def test_a_lock_that_is_held_too_long_is_named(path, monkeypatch):
    results.append(path, [ROW])
    monkeypatch.setattr(results, "LOCK_TIMEOUT", 0.05)
    lock = path.with_name(".results.parquet.lock")
    with lock.open("a") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"\.results\.parquet\.lock.*end that process"):
            results.append(path, [row(seed=1)])
    results.append(path, [row(seed=1)])
    assert len(results.read(path)) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="choose a folder that can be written"):
        results.append(blocked / "runs" / "results.parquet", [ROW])


def test_older_tables_read_and_newer_ones_say_so(path):
    results.append(path, [ROW])
    older = pq.read_table(path).drop_columns(["versions", "tuning_trials"])
    pq.write_table(older.append_column("retired", pa.array(["x"])), path)
    assert results.read(path) == [ROW]
    pq.write_table(older.replace_schema_metadata({"radlearn.results": "2"}), path)
    with pytest.raises(DataError, match=r"schema version 2.*reads up to 1: update radlearn"):
        results.read(path)


def test_what_is_no_table_of_results_is_refused(path, tmp_path):
    with pytest.raises(DataError, match=r"there is no .*evaluate the run first"):
        results.read(path)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"value": [1.0]}), other)
    with pytest.raises(DataError, match="is no table of results"):
        results.read(other)
    other.write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match="cannot read"):
        results.append(other, [ROW])


def predictions(cases=120, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, size=(cases, 2)).astype(float)
    scores = generator.normal(size=(cases, 2)) + labels
    labels[::7, 1] = np.nan
    return results.Predictions(
        image_id=[f"image{case}" for case in range(cases)],
        patient_id=[f"patient{case // 3}" for case in range(cases)],
        label_names=("Pleural Effusion", "nodule"),
        scores=scores,
        labels=labels,
        data_hash="aaaa",
    )


def test_predictions_come_back_as_they_went_in(tmp_path):
    written = predictions()
    path = results.write_predictions(tmp_path, written, task="zero_shot", data="phantom_cxr")
    assert path == tmp_path / "predictions" / "zero_shot-phantom_cxr.parquet"
    table = pq.read_table(path)
    names = ["score_Pleural Effusion", "label_Pleural Effusion", "score_nodule", "label_nodule"]
    assert table.column_names == ["image_id", "patient_id", *names]
    assert table["label_nodule"].null_count == np.isnan(written.labels[:, 1]).sum()
    found = results.read_predictions(path)
    np.testing.assert_array_equal(found.scores, written.scores)
    np.testing.assert_array_equal(found.labels, written.labels)
    assert (found.image_id, found.patient_id) == (written.image_id, written.patient_id)
    assert (found.label_names, found.data_hash) == (written.label_names, "aaaa")


def test_an_interval_can_be_computed_again_from_the_predictions(tmp_path):
    first = predictions()
    expected = stats.patient_bootstrap(first.scores, first.labels, first.patient_id, draws=50)
    path = results.write_predictions(tmp_path, first, task="zero_shot", data="phantom_cxr")
    found = results.read_predictions(path)
    assert stats.patient_bootstrap(found.scores, found.labels, found.patient_id, draws=50) == expected


def test_other_splits_and_variants_get_their_own_file_inside_the_folder(tmp_path):
    def write(**options):
        return results.write_predictions(tmp_path, predictions(), task="zero_shot", **options).name

    assert write(data="a", split="validate") == "zero_shot-a-validate.parquet"
    assert write(data="a", variant="prompts=no x") == "zero_shot-a-prompts=no_x.parquet"
    assert write(data="../../etc/passwd") == "zero_shot-.._.._etc_passwd.parquet"
    assert len(list((tmp_path / "predictions").iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((120, 3))}, r"shape \(120, 2\) and 120 patients: got \(120, 3\)"),
        ({"patient_id": ["p"]}, "and 1$"),
        ({"label_names": ("nodule", "nodule")}, "label names must differ"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        results.write_predictions(tmp_path, dataclasses.replace(predictions(), **change), task="t", data="d")


def test_what_holds_no_predictions_is_refused(path):
    results.append(path, [ROW])
    with pytest.raises(DataError, match="holds no predictions"):
        results.read_predictions(path)


def test_text_rows_show_interval_chance_and_synthetic():
    header, rows = results.text_rows([ROW, row(label="nodule", low=None, high=None)])
    first = dict(zip(header, rows[0], strict=True))
    assert first["value"] == "0.812"
    assert first["95 % interval"] == "[0.790, 0.834]"
    assert (first["chance"], first["cases"], first["patients"]) == ("0.500", "1200", "400")
    assert first["data"] == "phantom_cxr (synthetic)"
    assert "fraction" not in header, "empty throughout"
    assert dict(zip(header, rows[1], strict=True))["95 % interval"] == ""


def test_text_rows_tell_versions_of_one_data_set_apart():
    header, rows = results.text_rows([ROW, row(run="b", data_hash="cccc2222dddd", synthetic=False)])
    column = header.index("data")
    assert [cells[column] for cells in rows] == ["phantom_cxr@aaaa1111 (synthetic)", "phantom_cxr@cccc2222"]


def test_table_prints_every_cell_and_reads_no_markup():
    from rich.console import Console

    shown = io.StringIO()
    Console(file=shown, width=200).print(results.table([row(label="[red]nodule")], title="Zero-shot"))
    for cell in ("Zero-shot", "[red]nodule", "0.812", "[0.790, 0.834]", "phantom_cxr (synthetic)"):
        assert cell in shown.getvalue()
    assert results.table([]).row_count == 0


def test_a_long_variant_has_a_file_name_that_fits():
    stems = {
        results.predictions_stem("segmentation", "phantom_cxr", variant=f"classes={i}" + "é" * 300)
        for i in "ab"
    }
    assert len(stems) == 2
    assert all(len(stem.encode()) < 200 for stem in stems)
