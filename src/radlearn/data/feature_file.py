"""Frozen features of a data set in one flat HDF5 file, rows grouped by patient; read without torch.

| dataset | type | |
|---|---|---|
| features | (N, W) float16 or float32 | what the image encoder gives, before any projection |
| embeddings | (N, D) the same | the space in which images and texts are compared; only of an objective |
| image_id, patient_id, study_id, split | (N,) UTF-8 | |
| series_id, slice_index | (N,) | where the data set tells them; a patient's rows are then in this order |
| patient, offset | (P,), (P + 1,) | rows offset[i] to offset[i + 1] are those of patient[i] |
| row | (N,) int64 | in files of texts, whose `features` hold each distinct text once: the row of each image |

All datasets are contiguous and uncompressed, so that they are mapped into memory. The attributes of the file
say what made it: numbers and texts as they are, anything else as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from radlearn.errors import DataError

VECTORS = ("features", "embeddings")
_IDS = ("image_id", "patient_id", "study_id", "split")
_OPTIONAL = ("series_id", "slice_index", "row")


class FeatureFile:
    """A feature file, mapped.

    Attributes:
        path: the file.
        about: its attributes.
        features: (N, W), a read-only map; of texts (U, W), one row a distinct text.
        embeddings: (N, D), or None.
        patients: (P,) patient ids; offset: (P + 1,) where the rows of each begin.

    Raises:
        DataError: if there is no such file, or it is no feature file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as file:
                self.about = {key: _plain(value) for key, value in file.attrs.items()}
                self.features = _mapped(self.path, file["features"])
                self.embeddings = _mapped(self.path, file["embeddings"]) if "embeddings" in file else None
                self.offset: NDArray[np.int64] = file["offset"][:]
                self.patients = _text(file["patient"][:])
                names = [*_IDS, *(name for name in _OPTIONAL if name in file)]
                self._raw = {name: file[name][:] for name in names}
        except FileNotFoundError as error:
            raise DataError(f"no feature file {self.path}: `radlearn embed` writes it") from error
        except (OSError, KeyError) as error:
            raise DataError(
                f"{self.path} is no whole feature file ({error}): remove it and run `radlearn embed` again"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureFile, (self.path,)

    def __len__(self) -> int:
        return len(self._raw["image_id"])

    @cached_property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Name -> (N,) `image_id`, `patient_id`, `study_id`, `split` and what else the data set told."""
        return {name: _text(values) for name, values in self._raw.items()}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: place for place, image_id in enumerate(self.columns["image_id"].tolist())}

    def places(self, image_ids: Iterable[str], *, missing_ok: bool = False) -> NDArray[np.int64]:
        """Where these images are in the columns; images are joined by id, never by order.

        Args:
            image_ids: n of them.
            missing_ok: -1 for images that the file does not hold, instead of an error.

        Raises:
            DataError: names the first image that is missing.
        """
        places = [self._places.get(image_id, -1) for image_id in image_ids]
        if not missing_ok and -1 in places:
            missing = places.count(-1)
            raise DataError(
                f"{missing} of {len(places)} images are not in {self.path}: it is of other data, or their "
                "files could not be read"
            )
        return np.array(places, dtype=np.int64)

    def vectors(self, name: str, image_ids: Iterable[str]) -> NDArray[np.float32]:
        """(n, W) float32 `features` or `embeddings` of these images, in their order.

        Raises:
            DataError: if the file has no such vectors, or not all of these images.
        """
        found = self.features if name == "features" else self.embeddings
        if found is None:
            raise DataError(f"{self.path} has no {name}: it was made from an encoder without an objective")
        places = self.places(image_ids)
        if "row" in self.columns:
            places = self.columns["row"][places]
        return np.asarray(found[places], dtype=np.float32)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return json.loads(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def _mapped(path: Path, dataset: Any) -> NDArray[Any]:
    offset = dataset.id.get_offset()
    if offset is None or not dataset.size:
        whole: NDArray[Any] = dataset[:]
        return whole
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


def _text(values: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


# --- writing


def write(
    path: Path,
    vectors: Iterable[Mapping[str, NDArray[Any]]],
    columns: Mapping[str, Sequence[Any] | NDArray[Any]],
    *,
    about: Mapping[str, Any],
    dtype: str = "float32",
    num_vectors: int | None = None,
) -> None:
    """Write a feature file, whole or not at all; memory holds one block of vectors.

    Args:
        path: the file; an older one is replaced.
        vectors: blocks of rows, each `features` and perhaps `embeddings`.
        columns: `image_id`, `patient_id`, `study_id`, `split` and the optional ones, (N,); the rows of a
            patient stand together.
        about: the attributes.
        dtype: `float16` or `float32`.
        num_vectors: rows of the vectors, N unless `row` is among the columns.

    Raises:
        DataError: if a value is not finite in `dtype`, rows do not fit, or the disk is full.
    """
    patients, starts = _runs(np.asarray(columns["patient_id"], dtype=str))
    count = len(columns["image_id"]) if num_vectors is None else num_vectors
    try:
        with _replacing(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
            for name, values in {**columns, "patient": patients, "offset": starts}.items():
                _write_column(file, name, np.asarray(values))
            written = 0
            for block in vectors:
                for name, values in block.items():
                    if name not in file:
                        file.create_dataset(name, (count, values.shape[1]), dtype)
                    file[name][written : written + len(values)] = finite(values, dtype, name)
                written += len(block["features"])
            if written != count:
                raise DataError(f"{path}: {written} rows of vectors for {count} in the table")
            for key, value in about.items():
                file.attrs[key] = value if isinstance(value, str | int | float) else json.dumps(value)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}. Free space, or set paths.cache") from error


def finite(values: NDArray[Any], dtype: str, name: str = "features") -> NDArray[Any]:
    """The values as `dtype`.

    Raises:
        DataError: if one is not finite, or too large for float16.
    """
    with np.errstate(over="ignore"):
        cast: NDArray[Any] = np.asarray(values).astype(dtype)
    if not np.isfinite(cast).all():
        broken = not np.isfinite(values).all()
        why = "the weights are broken" if broken else "dtype=float16 ends at 65504: set dtype=float32"
        raise DataError(f"{name} hold values that are not finite: {why}")
    return cast


def _write_column(file: Any, name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind not in "OU":
        file.create_dataset(name, data=values)
        return
    encoded = np.char.encode(values.astype(str), "utf-8")
    # Fixed length: variable-length texts lie scattered in the file and are read one by one.
    fixed = h5py.string_dtype("utf-8", length=max(encoded.dtype.itemsize, 1))
    file.create_dataset(name, data=encoded.astype(fixed), dtype=fixed)


def _runs(patients: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The patients in order, and where the rows of each begin."""
    new = np.append(True, patients[1:] != patients[:-1]) if len(patients) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    if len(np.unique(patients[starts])) != len(starts):
        raise DataError("the rows of a patient must stand together: sort them by patient")
    return patients[starts], np.append(starts, len(patients)).astype(np.int64)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name, renamed at the end: readers see a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- other layouts


def write_per_patient(source: FeatureFile, folder: Path, *, split: str = "all") -> int:
    """Write CLEAR's layout: `<patient>.h5` with `feats` (n, W) float32, a patient's images in their order.

    Files that this feature file wrote already are kept; the rest is made, so an interrupted call goes on.

    Args:
        source: the feature file, which may hold more splits than are wanted.
        folder: where to.
        split: whose patients are written.

    Returns:
        How many files there are.

    Raises:
        DataError: if a file there is of other features, or two patients would share a name.
    Source: CLEAR's feature extraction, one file a patient.
    """
    names = [_file_name(patient) for patient in source.patients.tolist()]
    if len(set(names)) < len(names):
        raise DataError(
            "two patients have the same file name: use the flat layout, which keeps ids as they are"
        )
    key, written = str(source.about["key"]), 0
    in_split = np.ones(int(source.offset[-1]), bool)
    if split != "all":
        in_split = np.asarray(source.columns["split"][:]) == split
    for number, name in enumerate(names):
        start, stop = (int(bound) for bound in source.offset[number : number + 2])
        path, rows = folder / f"{name}.h5", start + np.flatnonzero(in_split[start:stop])
        if len(rows) == 0:
            continue
        written += 1
        if path.exists():
            _check_origin(path, key)
            continue
        with _replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("feats", data=np.asarray(source.features[rows], dtype=np.float32))
            for column in ("image_id", "slice_index"):
                if column in source.columns:
                    _write_column(file, column, source.columns[column][rows])
            for attribute in ("key", "encoder", "weights", "data", "data_hash", "date"):
                if attribute in source.about:
                    file.attrs[attribute] = source.about[attribute]
    return written


def _file_name(patient: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-=" else "_" for letter in patient)


def _check_origin(path: Path, key: str) -> None:
    try:
        with h5py.File(path, "r") as file:
            there = str(file.attrs.get("key", "another program"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): remove it") from error
    if there != key:
        raise DataError(
            f"{path} holds other features (key {there}, now {key}): choose another output_dir, features of "
            "two encoders are never mixed"
        )
