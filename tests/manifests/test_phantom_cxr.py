"""The synthetic data set: generated once, resumable, the same for any number of processes."""

import json

import cv2
import polars as pl
import pytest

from radlearn import run_lengths
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests import phantom_cxr
from radlearn.manifests.base import REQUIRED
from radlearn.manifests.phantom_cxr import PhantomCXR
from radlearn.phantom import FINDINGS, render_case

SMALL = {"num_train": 10, "num_validate": 3, "num_test": 5, "image_size": 32, "num_workers": 1}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    return root, PhantomCXR(**SMALL).read(root)


def test_counts_are_exact_and_patients_look_synthetic(small):
    _, release = small
    assert {s: release.card.counts[s] for s in ("train", "validate", "test")} == {
        "train": 10,
        "validate": 3,
        "test": 5,
    }
    assert release.rows["patient_id"].str.contains(r"^phantom-\d{5}$").all()
    assert release.card.synthetic
    assert release.rejected.is_empty()


def test_each_row_describes_the_image_that_the_phantom_renders(small):
    root, release = small
    for row in release.rows.head(4).iter_rows(named=True):
        patient, study = (int(n) for n in row["image_id"].split("-")[1:])
        case = render_case(0, patient, study, 32)
        assert (cv2.imread(str(root / row["path"]), cv2.IMREAD_UNCHANGED) == case.image).all()
        assert {name: row[name] for name in FINDINGS} == case.labels
        assert row["impression"] == case.impression
        assert [box["class"] for box in row["boxes"]] == [box.finding for box in case.boxes]
        assert {m["class"]: m["rle"] for m in row["mask"]} == {
            k: run_lengths.encode(m) for k, m in case.masks.items()
        }
        assert [s["text"] for s in row["sentences"]] == [s.text for s in case.sentences]


def test_more_training_images_change_no_test_image(small, tmp_path):
    more = PhantomCXR(**{**SMALL, "num_train": 14}).read(tmp_path).rows
    columns = ["image_id", "impression", *FINDINGS]
    for split in ("validate", "test"):
        one, two = (rows.filter(pl.col("split") == split).select(columns) for rows in (small[1].rows, more))
        assert one.equals(two)
    assert {*small[1].rows["image_id"]} < {*more["image_id"]}


def test_the_table_has_its_own_columns_alone(small):
    """A further optional column of the contract would change the fingerprint of every prepared phantom."""
    texts = ("report", "findings", "impression", "sentences", "boxes", "mask")
    assert {*small[1].rows.columns} == {*REQUIRED, *texts, *FINDINGS}


def test_another_seed_is_other_data(small, tmp_path):
    other = PhantomCXR(**SMALL, seed=1).read(tmp_path)
    assert other.card.fingerprint != small[1].card.fingerprint


def test_a_second_read_generates_nothing(small, monkeypatch):
    root, release = small
    monkeypatch.setattr(phantom_cxr, "render_case", None)
    assert PhantomCXR(**SMALL).read(root).rows.equals(release.rows)


def test_a_killed_generation_goes_on_with_the_missing_chunks(small, tmp_path, monkeypatch):
    monkeypatch.setattr(phantom_cxr, "_CHUNK", 5)
    rendered = []

    def render(seed, patient, study, size):
        rendered.append((patient, study))
        if len(rendered) == 12:
            raise KeyboardInterrupt
        return render_case(seed, patient, study, size)

    monkeypatch.setattr(phantom_cxr, "render_case", render)
    with pytest.raises(KeyboardInterrupt):
        PhantomCXR(**SMALL).read(tmp_path)
    assert sorted(p.name for p in (tmp_path / "chunks").iterdir()) == ["00000", "00001"]
    assert not (tmp_path / "rows.parquet").exists()
    steps = []
    release = PhantomCXR(**SMALL).read(tmp_path, lambda *step: steps.append(step))
    assert len(rendered) == 12 + 8
    assert steps == [(15, 18, "synthetic images"), (18, 18, "synthetic images")]
    assert release.card.fingerprint == small[1].card.fingerprint


def test_processes_make_the_same_release(small, tmp_path, monkeypatch):
    monkeypatch.setattr(phantom_cxr, "_CHUNK", 9)
    release = PhantomCXR(**{**SMALL, "num_workers": 2}).read(tmp_path)
    assert release.card.fingerprint == small[1].card.fingerprint
    for row in release.rows.iter_rows(named=True):
        twin = small[1].rows.row(by_predicate=pl.col("image_id") == row["image_id"], named=True)
        assert (tmp_path / row["path"]).read_bytes() == (small[0] / twin["path"]).read_bytes()


def test_a_root_of_other_settings_is_refused(small):
    with pytest.raises(DataError, match=r"'seed': 0.*wanted.*'seed': 3"):
        PhantomCXR(**SMALL, seed=3).read(small[0])


def test_an_older_phantom_is_refused(tmp_path):
    PhantomCXR(num_train=1, num_validate=0, num_test=0, image_size=32).read(tmp_path)
    settings_file = tmp_path / "phantom.json"
    settings_file.write_text(json.dumps({**json.loads(settings_file.read_text()), "version": "0"}))
    with pytest.raises(DataError, match="version"):
        PhantomCXR(num_train=1, num_validate=0, num_test=0, image_size=32).read(tmp_path)


def test_no_images_at_all_are_refused():
    with pytest.raises(ConfigurationError, match="num_train"):
        PhantomCXR(num_train=0, num_validate=0, num_test=0)


def test_prompts_and_the_further_mean_name_the_labels():
    manifest = PhantomCXR()
    assert tuple(manifest.prompts()) == FINDINGS
    (labels,) = manifest.macro_labels().values()
    assert {*FINDINGS} - {*labels} == {"nodule", "devices"}
