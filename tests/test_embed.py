"""The verb `embed`: what is in the file, that it is found again, goes on after a kill, and is shared out."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import cv2
import h5py
import numpy as np
import polars as pl
import pytest
import torch

from radlearn import composition, embed, extract
from radlearn.data import feature_parts
from radlearn.data.feature_file import FeatureFile
from radlearn.datasets import open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.training.model import load
from radlearn.training.pretrain import pretrain

SETTINGS = [
    "data=phantom_cxr", "data.num_train=24", "data.num_validate=8", "data.num_test=16", "data.image_size=32",
    "data.num_workers=1", "data.size=32", "encoder=small_cnn", "encoder.image_size=32",
    "encoder.multiplier=0.25", "text.model=hashed", "batch_size=8", "max_steps=2", "save_every_n_steps=1",
    "precision=32-true", "accelerator=cpu", "num_workers=0", "global_crops_number=1", "global_size=32",
    "local_crops_number=0", "embed_dim=8", "predictor_width=16", "run_name=small",
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("embed")
    return [f"paths.runs={root / 'runs'}", f"paths.cache={root / 'cache'}"]


@pytest.fixture(scope="module")
def run(folders):
    return pretrain(composition.compose("pretrain", [*SETTINGS, *folders]))


def settings(folders, *overrides):
    return composition.compose("embed", ["num_workers=0", "device=cpu", *folders, *overrides])


def phantom(folders, run):
    config = load(run.folder).config
    return open_dataset(config["data"], config["paths"])


def test_a_run_s_features_and_embeddings_are_those_of_its_model(run, folders, capsys):
    made = embed.main(settings(folders, "run=small", "batch_size=7"))
    model, data = load(run.folder), phantom(folders, run)
    ids = data.rows["image_id"].to_list()
    images = [data.source.image(row) for row in data.source_rows.tolist()]
    np.testing.assert_allclose(made.vectors("embeddings", ids), model.embed_image(images), atol=1e-5)
    pixels = torch.from_numpy(model.view.batch(images)).unsqueeze(1)
    with torch.no_grad():
        pooled = model.objective.image_encoder(pixels).pooled
    np.testing.assert_allclose(made.vectors("features", ids), pooled, atol=1e-5)
    assert made.features.shape == (48, model.objective.image_encoder.width)
    assert sorted(made.columns["image_id"].tolist()) == sorted(ids)
    where = dict(zip(ids, data.rows["split"], strict=True))
    assert all(where[i] == s for i, s in zip(made.columns["image_id"], made.columns["split"], strict=True))
    assert made.about["data_hash"] == data.card.fingerprint
    assert made.about["preprocessing"]["size"] == 32
    assert json.loads(json.dumps(made.about["versions"]))["torch"]
    out = capsys.readouterr().out
    assert "48 images" in out
    assert "(synthetic)" in out
    assert str(made.path) in out.replace("\n", "")


def test_the_second_call_finds_the_file_and_reads_no_image(run, folders, monkeypatch):
    first = embed.embed(settings(folders, "run=small"))
    monkeypatch.setattr(extract, "work", lambda *_, **__: pytest.fail("it embeds again"))
    assert embed.embed(settings(folders, "run=small", "batch_size=3")).path == first.path
    # One split is a part of the file of all.
    assert embed.embed(settings(folders, "run=small", "split=test")).path == first.path


def test_another_checkpoint_dtype_or_version_of_the_data_is_another_file(run, folders):
    first = embed.embed(settings(folders, "run=small"))
    steps = sorted((run.folder / "checkpoints").glob("step-*"))
    others = [
        embed.embed(settings(folders, f"run={steps[0]}")),
        embed.embed(settings(folders, "run=small", "dtype=float16")),
        embed.embed(settings(folders, "run=small", "precision=bf16-mixed")),
        embed.embed(settings(folders, "run=small", "data.num_test=15")),
    ]
    assert len({made.path.parent for made in (first, *others)}) == 5
    assert others[0].about["step"] == 1
    assert not np.allclose(others[0].features, first.features)
    np.testing.assert_allclose(others[1].features, first.features, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(others[2].features, first.features, rtol=0.1, atol=0.1)
    assert len(others[3]) == 47


def test_replaced_images_are_embedded_anew(tmp_path, run, folders):
    table(tmp_path, 6)
    given = ["run=small", *of_table(tmp_path)]
    first = embed.embed(settings(folders, *given))
    cv2.imwrite(str(tmp_path / "0.png"), np.full((40, 40), 200, np.uint8))
    second = embed.embed(settings(folders, *given))
    assert first.path != second.path
    changed = (first.features != second.features).any(1)
    assert changed.tolist() == [True, *[False] * 5]


def table(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), random.integers(0, 255, (40, 40), dtype=np.uint8))
    rows = {
        "image_path": [f"{i}.png" for i in range(count)],
        "impression": [f"text {i // 2}" for i in range(count)],
    }
    pl.DataFrame(rows).write_csv(folder / "t.csv")


def of_table(folder: Path) -> list[str]:
    return ["data=table", f"data.train_manifest={folder / 't.csv'}", f"data.image_root={folder}"]


def test_unreadable_images_are_absent_and_counted(tmp_path, run, folders, caplog):
    import logging

    logging.getLogger("radlearn").propagate = True
    table(tmp_path, 6)
    (tmp_path / "3.png").write_bytes(b"no image")
    given = ["run=small", *of_table(tmp_path)]
    with caplog.at_level(logging.WARNING, logger="radlearn"):
        made = embed.embed(settings(folders, *given, "batch_size=1"))
    assert len(made) == 5
    assert made.about["num_unreadable"] == 1
    assert "1 of 6 images of table could not be read and are absent" in caplog.text
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="no image of table could be read"):
        embed.embed(settings(folders, *given))


class KilledError(Exception):
    pass


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of ten rows instead of a thousand."""
    original = feature_parts.Parts.__init__
    monkeypatch.setattr(
        feature_parts.Parts,
        "__init__",
        lambda self, folder, count: original(self, folder, count, rows_a_part=10),
    )


def test_a_killed_call_goes_on_where_it_was(run, folders, tmp_path, monkeypatch, small_parts):
    whole = embed.embed(settings(folders, "run=small"))
    config = settings(folders, "run=small", "batch_size=4") | {
        "paths": {**paths(folders), "cache": str(tmp_path)}
    }
    embedded = []
    original = extract.features_and_embeddings

    def counted(module, images, *, limit):
        if sum(embedded) >= limit:
            raise KilledError
        embedded.append(len(images))
        return original(module, images)

    monkeypatch.setattr(extract, "features_and_embeddings", lambda m, i: counted(m, i, limit=25))
    with pytest.raises(KilledError):
        embed.embed(config)
    assert sum(embedded) >= 25
    embedded.clear()
    monkeypatch.setattr(extract, "features_and_embeddings", lambda m, i: counted(m, i, limit=1000))
    again = embed.embed(config)
    assert sum(embedded) == 48 - 20  # two parts were done
    assert again.path.is_relative_to(tmp_path)
    assert again.path.parent.name == whole.path.parent.name
    np.testing.assert_allclose(again.features, whole.features, atol=1e-6)
    assert again.columns["image_id"].tolist() == whole.columns["image_id"].tolist()
    assert not list(again.path.parent.glob("*.parts"))


def paths(folders):
    return {key.removeprefix("paths."): value for key, value in (f.split("=") for f in folders)} | {
        "data": "data"
    }


def test_parts_of_another_process_are_waited_for_and_never_made_twice(run, folders, tmp_path, small_parts):
    """A second process has made one part and holds another until it gives it up."""
    import threading

    config = settings(folders, "run=small") | {"paths": {**paths(folders), "cache": str(tmp_path)}}
    job = embed._job(config)
    parts = extract.open_parts(job)
    first, second = parts.take(0), parts.take(1)
    parts.write(
        0, {"positions": np.arange(10), "features": np.ones((10, 96)), "embeddings": np.ones((10, 8))}
    )
    first.close()
    threading.Timer(1.0, second.close).start()
    made = extract.embed_data(job, batch_size=4)
    assert len(made) == 48
    assert (made.features[:10] == 1).all()
    assert not (made.features[10:] == 1).all(1).any()


@pytest.mark.slow
def test_two_processes_share_the_work(run, folders, tmp_path):
    alone = embed.embed(settings(folders, "run=small"))
    config = settings(folders, "run=small", "devices=2", "num_workers=1") | {
        "paths": {**paths(folders), "cache": str(tmp_path)}
    }
    together = embed.embed(config)
    assert together.columns["image_id"].tolist() == alone.columns["image_id"].tolist()
    np.testing.assert_allclose(together.features, alone.features, atol=1e-6)
    np.testing.assert_allclose(together.embeddings, alone.embeddings, atol=1e-6)


def work_slowly(config, number, started):
    """One of two processes: small parts, each of which takes a while; tells which ones it made."""
    import time

    original, made = feature_parts.Parts.__init__, []
    feature_parts.Parts.__init__ = lambda self, folder, count: original(self, folder, count, rows_a_part=4)
    write = feature_parts.Parts.write

    def slow_write(self, part, arrays):
        made.append(part)
        write(self, part, arrays)
        time.sleep(0.2)

    feature_parts.Parts.write = slow_write
    job = embed._job(config)
    started.wait(60)
    parts = extract.open_parts(job)
    extract.work(job, parts, batch_size=4, num_workers=0)
    extract.join(job, parts)
    Path(config["paths"]["cache"], f"made-{number}.json").write_text(json.dumps(made))


@pytest.mark.slow
def test_two_calls_at_once_make_each_part_once_and_one_file(run, folders, tmp_path):
    alone = embed.embed(settings(folders, "run=small"))
    config = settings(folders, "run=small") | {"paths": {**paths(folders), "cache": str(tmp_path)}}
    embed._job(config)  # the phantom is there
    context = multiprocessing.get_context("spawn")
    started = context.Barrier(2)
    processes = [context.Process(target=work_slowly, args=(config, n, started)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    first, second = (json.loads((tmp_path / f"made-{n}.json").read_text()) for n in range(2))
    assert sorted(first + second) == list(range(12))
    assert first
    assert second
    (path,) = tmp_path.glob("embeddings/*/features.h5")
    np.testing.assert_allclose(FeatureFile(path).features, alone.features, atol=1e-6)
    assert not list(path.parent.glob("*.parts"))


def test_an_encoder_without_a_run_has_features_alone(run, folders):
    given = [
        "encoder=small_cnn",
        "encoder.image_size=32",
        "encoder.multiplier=0.25",
        "split=test",
        *SETTINGS[:7],
    ]
    made = embed.embed(settings(folders, *given))
    assert made.path.name == "features-test.h5"
    assert (len(made), made.embeddings) == (16, None)
    again, other = (embed.embed(settings(folders, *given, f"seed={seed}")) for seed in (1, 2))
    assert again.path == made.path
    assert other.path != made.path


def test_reports_are_embedded_once_a_text_and_joined_by_image(run, folders):
    made = embed.embed(settings(folders, "text_model=hashed", "text_column=impression", *SETTINGS[:7]))
    data = phantom(folders, run)
    ids, texts = data.rows["image_id"].to_list(), data.rows["impression"].to_list()
    assert len(made.features) == len(set(texts)) < len(texts)
    from radlearn.encoders.hashed_text import HashedText

    np.testing.assert_allclose(made.vectors("features", ids), HashedText().encode(texts), atol=1e-6)
    assert made.about["text_model"].startswith("hashed_text")


def test_clear_s_layout(run, folders, tmp_path):
    made = embed.embed(settings(folders, "run=small", "layout=per_patient", f"output_dir={tmp_path}"))
    files = sorted(tmp_path.glob("*.h5"))
    assert len(files) == len(made.patients)
    with h5py.File(files[0]) as file:
        rows = slice(*made.offset[:2])
        assert files[0].stem == made.patients[0]
        np.testing.assert_array_equal(file["feats"][:], made.features[rows])


def test_clear_s_layout_of_a_split_holds_its_patients_alone(run, folders, tmp_path):
    made = embed.embed(settings(folders, "run=small"))  # a file of all splits, which is taken below
    embed.embed(settings(folders, "run=small", "split=test", "layout=per_patient", f"output_dir={tmp_path}"))
    splits = np.asarray(made.columns["split"][:])
    wanted = {*np.asarray(made.columns["patient_id"][:])[splits == "test"]}
    assert {path.stem for path in tmp_path.glob("*.h5")} == wanted < {*made.patients}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run=small", "text_model=hashed"], "one thing at a time: got run and text_model"),
        (["run=small", "layout=per_patient"], "needs output_dir"),
        (["run=small", "output_dir=here"], "under its hash"),
        (["text_model=hashed", "data=phantom_cxr", "devices=2"], "for images, not for text_model"),
        (["text_model=hashed"], "say which data"),
        ([], "say which run"),
        (["run=nope"], "no run 'nope'"),
        (["encoder=hashed_text", *SETTINGS[:7]], "encodes texts"),
    ],
)
def test_what_cannot_be_done_says_why(run, folders, overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        embed.main(settings(folders, *overrides))


def test_an_empty_split_says_what_there_is(run, folders):
    with pytest.raises(DataError, match=r"no rows in split=validate.*'test': 16"):
        embed.embed(settings(folders, "run=small", "data.num_validate=0", "split=validate"))


def test_the_order_is_by_patient_and_slice():
    rows = pl.DataFrame(
        {
            "image_id": list("abcdef"), "patient_id": ["2", "1", "2", "1", "1", "1"],
            "split": ["test"] * 5 + ["train"], "series_id": ["s", "t", "s", "r", "t", "t"],
            "slice_index": [5, 1, 4, 9, 0, 2],
        }
    )  # fmt: skip
    assert "".join(rows["image_id"][extract.in_order(rows).tolist()]) == "debfca"
    assert "".join(rows["image_id"][extract.in_order(rows, "test").tolist()]) == "debca"


def test_the_verb_is_a_function_that_stays_callable(run, folders):
    import radlearn

    given = {f.partition("=")[0].removeprefix("paths."): f.partition("=")[2] for f in folders}
    for _ in range(2):
        made = radlearn.embed(run="small", paths=given, num_workers=0, device="cpu")
        assert isinstance(made, FeatureFile)
    assert callable(radlearn.evaluate)
