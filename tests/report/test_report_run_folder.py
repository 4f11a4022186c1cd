import dataclasses
import json

import fake_run
import pytest

from radlearn import results
from radlearn.errors import DataError
from radlearn.records import Result
from radlearn.report import run_folder


def test_a_folder_is_read_whole(run):
    read = run_folder.read(run)
    assert read.name == "nova_phantom"
    assert read.card.label_names == fake_run.LABELS
    assert read.metrics.height == 300
    assert read.config["encoder"]["name"] == "small_cnn"
    assert set(read.results.columns) == {field.name for field in dataclasses.fields(Result)}
    assert list(read.cases) == list(read.embeddings) == ["phantom_cxr"]
    assert read.synthetic


def test_predictions_are_found_by_what_they_are_about(tmp_path):
    run = fake_run.write(tmp_path / "run", data="my data-set")
    predictions = results.read_predictions(next((run / "predictions").iterdir()))
    written = results.write_predictions(
        run, predictions, task="linear_probe", data="my data-set", split="validate", variant="fraction=0.1"
    )
    read = run_folder.read(run)
    assert read.predictions_of("linear_probe", "my data-set", "validate", "fraction=0.1") == written
    assert read.predictions_of("zero_shot", "my data-set", "test") is not None
    assert read.predictions_of("zero_shot", "my data-set", "train") is None
    assert read.access("my_data_set") == "synthetic"


def test_predictions_under_another_name_are_found_by_the_version_of_the_data(tmp_path):
    run = fake_run.write(tmp_path / "run", data="chexpert", access="open", data_hash="abc")
    (run / "predictions" / "zero_shot-chexpert.parquet").rename(
        run / "predictions" / "zero_shot-table.parquet"
    )
    read = run_folder.read(run)
    assert read.predictions_of("zero_shot", "chexpert", "test").stem == "zero_shot-table"
    assert read.access("table") == "open"
    assert read.access("other") == "credentialed"


def test_a_name_shared_with_the_card_does_not_open_another_version_of_the_data(tmp_path):
    run = fake_run.write(tmp_path / "run", data="table", access="open", data_hash="abc")
    predictions = results.read_predictions(run / "predictions" / "zero_shot-table.parquet")
    closed = dataclasses.replace(predictions, data_hash="other")
    results.write_predictions(run, closed, task="zero_shot", data="table")
    assert run_folder.read(run).access("table") == "credentialed"


def test_numbers_that_are_not_finite_are_not_known(tmp_path):
    row = Result(
        "r", "t", "d", "h", "test", "auc", "x", float("nan"), low=float("nan"), high=float("inf"), num_cases=3
    )
    results.append(tmp_path / "results.parquet", [row])
    (read,) = run_folder.read(tmp_path).results.to_dicts()
    assert (read["value"], read["low"], read["high"], read["num_cases"]) == (None, None, None, 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"- 1\n- 2\n"),
        ("config.yaml", b"\xff\xfe\x00"),
        ("card.json", b"{"),
        ("card.json", b"[1]"),
        ("card.json", b'{"name": "x"}'),
        ("metrics.parquet", b"no parquet"),
        ("results.parquet", b"no parquet"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        run_folder.read(tmp_path)


def test_unknown_keys_of_a_newer_card_are_ignored(tmp_path):
    card = {"name": "x", "source": "s", "licence": "l", "access": "open", "release": "1", "new": 3}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert run_folder.read(tmp_path).card.name == "x"
