"""Feature files and the parts they are made of: layout, joins by id, damage, interruption, two processes."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest

from radlearn.data import feature_file
from radlearn.data.feature_file import FeatureFile
from radlearn.data.feature_parts import Parts
from radlearn.errors import DataError

PATIENTS = ["p1", "p1", "p2", "pä/3", "pä/3", "pä/3"]
FEATURES = np.arange(24, dtype=np.float32).reshape(6, 4) / 8


def written(path, *, key="abc", **changes):
    columns = {
        "image_id": [f"image-{i}" for i in range(6)],
        "patient_id": PATIENTS,
        "study_id": ["s"] * 6,
        "split": ["train"] * 3 + ["test"] * 3,
        **changes.pop("columns", {}),
    }
    blocks = [
        {"features": FEATURES[:4], "embeddings": -FEATURES[:4, :2]},
        {"features": FEATURES[4:], "embeddings": -FEATURES[4:, :2]},
    ]
    about = {"key": key, "weights": "0" * 64, "preprocessing": {"size": 96}, "step": 7, "num_unreadable": 0}
    feature_file.write(path, blocks, columns, about=about, **changes)
    return FeatureFile(path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read_and_mapped(tmp_path, dtype):
    made = written(tmp_path / "f.h5", dtype=dtype)
    assert isinstance(made.features, np.memmap)
    assert (made.features.dtype, made.features.shape) == (np.dtype(dtype), (6, 4))
    np.testing.assert_array_equal(made.features, FEATURES)
    np.testing.assert_array_equal(made.embeddings, -FEATURES[:, :2])
    assert made.columns["patient_id"].tolist() == PATIENTS
    assert made.patients.tolist() == ["p1", "p2", "pä/3"]
    assert made.offset.tolist() == [0, 2, 3, 6]
    assert made.about["preprocessing"] == {"size": 96}
    assert made.about["step"] == 7
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.features, FEATURES)


def test_any_hdf5_program_reads_it(tmp_path):
    written(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["features"].chunks is None
        assert file["features"].compression is None
        assert file["image_id"][5].decode() == "image-5"
        assert file.attrs["weights"] == "0" * 64


def test_images_are_joined_by_id(tmp_path):
    made = written(tmp_path / "f.h5")
    wanted = ["image-5", "image-0", "image-5"]
    np.testing.assert_array_equal(made.vectors("features", wanted), FEATURES[[5, 0, 5]])
    assert made.vectors("embeddings", wanted).dtype == np.float32
    assert made.places(["image-2", "nope"], missing_ok=True).tolist() == [2, -1]
    with pytest.raises(DataError, match="1 of 2 images are not in"):
        made.vectors("features", ["image-2", "nope"])


def test_texts_stand_once_and_are_found_by_image(tmp_path):
    columns = {
        "image_id": ["a", "b", "c"], "patient_id": ["1", "1", "2"], "study_id": ["1"] * 3,
        "split": ["test"] * 3, "row": np.array([1, 0, 1]),
    }  # fmt: skip
    feature_file.write(tmp_path / "t.h5", [{"features": FEATURES[:2]}], columns, about={}, num_vectors=2)
    made = FeatureFile(tmp_path / "t.h5")
    assert made.features.shape == (2, 4)
    np.testing.assert_array_equal(made.vectors("features", ["c", "b"]), FEATURES[[1, 0]])
    with pytest.raises(DataError, match="has no embeddings"):
        made.vectors("embeddings", ["a"])


def test_values_that_a_number_cannot_hold_are_refused(tmp_path):
    with pytest.raises(DataError, match="float16 ends at 65504"):
        feature_file.finite(np.array([1e6]), "float16")
    with pytest.raises(DataError, match="weights are broken"):
        feature_file.finite(np.array([np.nan]), "float32")
    with pytest.raises(DataError, match="must stand together"):
        written(tmp_path / "f.h5", columns={"patient_id": ["a", "b", "a", "c", "c", "c"]})
    with pytest.raises(DataError, match="6 rows of vectors for 7"):
        written(tmp_path / "f.h5", num_vectors=7)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no feature file"):
        FeatureFile(tmp_path / "f.h5")
    path = tmp_path / "f.h5"
    written(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match="no whole feature file"):
        FeatureFile(path)


def test_reading_imports_no_torch():
    code = "import sys, radlearn.data.feature_file; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_one_file_a_patient_as_clear_has_it(tmp_path):
    made = written(tmp_path / "f.h5", dtype="float16", columns={"slice_index": np.array([0, 1, 0, 0, 1, 2])})
    out = tmp_path / "out"
    assert feature_file.write_per_patient(made, out) == 3
    assert sorted(path.name for path in out.iterdir()) == ["p1.h5", "p2.h5", "pä_3.h5"]
    with h5py.File(out / "pä_3.h5") as file:
        np.testing.assert_array_equal(file["feats"][:], FEATURES[3:])
        assert file["feats"].dtype == np.float32
        assert file["slice_index"][:].tolist() == [0, 1, 2]
    before = (out / "p1.h5").stat().st_mtime_ns
    (out / "p2.h5").unlink()
    assert feature_file.write_per_patient(made, out) == 3
    assert (out / "p1.h5").stat().st_mtime_ns == before
    other = written(tmp_path / "g.h5", key="other")
    with pytest.raises(DataError, match="holds other features"):
        feature_file.write_per_patient(other, out)


# --- parts


def test_parts_are_taken_once_and_left_whole(tmp_path):
    parts = Parts(tmp_path / "parts", 10, rows_a_part=4)
    assert [list(parts.rows(n)) for n in range(len(parts))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    lock = parts.take(0)
    assert lock is not None
    assert parts.take(0) is None
    parts.write(0, {"positions": np.arange(4)})
    lock.close()
    assert parts.take(0) is None  # done
    assert parts.open() == [1, 2]
    assert parts.rows_done() == 4
    with parts.take(1):
        pass
    assert parts.take(1, wait=True) is not None  # let go without a result


def hold(folder, taken, ended):
    lock = Parts(folder, 10, rows_a_part=4).take(1)
    taken.set()
    ended.wait(30)
    assert lock is not None


def test_a_killed_process_loses_its_part_and_no_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    taken, ended = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "parts", taken, ended))
    process.start()
    assert taken.wait(60)
    parts = Parts(tmp_path / "parts", 10, rows_a_part=4)
    assert parts.take(1) is None
    assert parts.take(2) is not None
    process.kill()
    process.join(30)
    lock = parts.take(1, wait=True)
    assert lock is not None
    lock.close()


def test_arrays_come_back_in_order_whoever_wrote_first(tmp_path):
    parts = Parts(tmp_path / "parts", 5, rows_a_part=2)
    for number in (2, 0, 1):
        parts.write(number, {"positions": np.array(parts.rows(number))})
    assert np.concatenate(list(parts.read("positions"))).tolist() == [0, 1, 2, 3, 4]
    assert [list(block) for block in parts.blocks("positions", "features")] == [["positions"]] * 3
    parts.remove()
    assert parts.take(0) is None  # somebody joined them meanwhile
