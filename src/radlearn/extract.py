"""Images to vectors: what a run or an encoder gives for every image of a data set, in one file.

A feature file lies in `<paths.cache>/embeddings/<key>/`, where the key is a hash of everything that its
vectors depend on: weights, method and encoder settings, view, table and image files, precision. So a second
call returns at once, and vectors of another checkpoint or another version of the data are never taken for
these.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from radlearn import registry
from radlearn.config import encoder_arguments
from radlearn.data import feature_file
from radlearn.data.dataset import EvaluationDataset
from radlearn.data.feature_file import VECTORS, FeatureFile
from radlearn.data.feature_parts import Parts
from radlearn.data.loading import evaluation_loader
from radlearn.data.store import FolderSource, ImageSource, Store
from radlearn.data.text_cache import identity_hash
from radlearn.data.views import EvaluationView
from radlearn.data.windows import WindowedSource
from radlearn.datasets import Dataset
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError, DataError
from radlearn.objectives.base import Objective
from radlearn.prepare.terminal import Progress, bar
from radlearn.subject import Subject
from radlearn.training import checkpoint
from radlearn.training.inference import evaluating, features_and_embeddings
from radlearn.training.model import with_statistics

logger = logging.getLogger("radlearn")

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Extractor:
    """What turns images into vectors.

    Attributes:
        module: an objective, or an image encoder alone.
        view: of each image.
        identity: everything that the vectors depend on besides images and view.
        about: what the file says of it.
    """

    module: Objective | Encoder
    view: EvaluationView
    identity: Mapping[str, Any]
    about: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Job:
    """One feature file.

    Attributes:
        extractor: what makes its vectors.
        data: the data set.
        positions: (N,) rows of the data set's table, in the order of the file.
        path: the file; key: names its folder.
        dtype, precision: of the vectors, and of the arithmetic.
    """

    extractor: Extractor
    data: Dataset
    positions: np.ndarray
    path: Path
    key: str
    dtype: str
    precision: str


def of_run(subject: Subject) -> Extractor:
    """The extractor of a loaded run."""
    config, about = subject.model.config, subject.model.about
    weights = checkpoint.file_hash(subject.weights)
    return Extractor(
        module=subject.model.objective,
        view=subject.model.view,
        identity={"weights": weights, "method": config["method"], "encoder": config["encoder"]},
        about={"run": subject.name, "step": int(about["step"]), "method": config["method"]["name"],
               "encoder": config["encoder"]["name"], "weights": weights},
    )  # fmt: skip


def of_encoder(config: Mapping[str, Any], data: Dataset) -> Extractor:
    """The extractor of an image encoder without a run, seeded where it starts from random weights.

    Raises:
        ConfigurationError: if it encodes no images, or its normalisation is that of a data set that nobody
            has measured.
    """
    config = {**config, "encoder": with_statistics(config["encoder"], data.card)}
    torch.manual_seed(config["seed"])
    encoder: Encoder = registry.find("encoders", config["encoder"]["name"])(**encoder_arguments(config))
    if encoder.kind != "image":
        raise ConfigurationError(
            f"encoder={config['encoder']['name']} encodes texts: name it as text_model=NAME"
        )
    if not (config["encoder"].get("weights") or config["encoder"].get("pretrained")):
        logger.warning(
            "encoder=%s has no weights: these are features of a random network (seed %d)",
            config["encoder"]["name"],
            config["seed"],
        )
    weights = _state_hash(encoder)
    return Extractor(
        module=encoder.eval(),
        view=EvaluationView(encoder.image_size),
        identity={"weights": weights, "encoder": config["encoder"]},
        about={"encoder": config["encoder"]["name"], "weights": weights},
    )


def _state_hash(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# --- one file


def plan(
    extractor: Extractor,
    data: Dataset,
    cache: Path,
    *,
    split: str = "all",
    dtype: str = "float32",
    precision: str = "32-true",
) -> Job:
    """Which file the vectors of these images belong in.

    Args:
        extractor: what makes them.
        data: the data set.
        cache: `paths.cache`.
        split: `all`, or one split, which is taken from the file of all where there is one.
        dtype: `float32`, or `float16` for half the size.
        precision: `32-true`, or `bf16-mixed`, which is faster on an accelerator.

    Raises:
        DataError: if the split is empty.
    """
    positions = in_order(data.rows, split)
    if not len(positions):
        there = {name: int((data.rows["split"] == name).sum()) for name in ("train", "validate", "test")}
        raise DataError(f"{data.card.name} has no rows in split={split}: there is {there}")
    identity = {
        "format": FORMAT, **extractor.identity, "view": dataclasses.asdict(extractor.view),
        "data": data.card.fingerprint, "images": images_state(data.source), "dtype": dtype,
        "precision": precision,
    }  # fmt: skip
    key = identity_hash(json.loads(json.dumps(identity, default=str)))
    path = file_of(cache / "embeddings" / key, split)
    return Job(extractor, data, positions, path, key, dtype, precision)


def file_of(folder: Path, split: str) -> Path:
    """The file of a split, or the one of all splits where that is there."""
    whole = folder / "features.h5"
    return whole if split == "all" or whole.exists() else folder / f"features-{split}.h5"


def in_order(rows: pl.DataFrame, split: str = "all") -> np.ndarray:
    """Positions (N,) of a split's rows, patient by patient; slices in their anatomical order."""
    by = ["patient_id", *(name for name in ("series_id", "slice_index") if name in rows.columns), "_row"]
    numbered = rows.with_row_index("_row")
    if split != "all":
        numbered = numbered.filter(pl.col("split") == split)
    return numbered.sort(by)["_row"].to_numpy().astype(np.int64)


def images_state(source: ImageSource) -> str:
    """A hash of the images: replaced ones are not those that were embedded.

    Of a store it is that of the images' checksums; of plain files that of their names, sizes and times.
    """
    digest = hashlib.sha256()
    if isinstance(source, WindowedSource):
        digest.update(images_state(source.source).encode() + source.low.tobytes() + source.high.tobytes())
    elif isinstance(source, Store):
        for path in sorted(source.folder.glob("images-*.arrow")):
            with pa.memory_map(str(path)) as file:
                digest.update(pa.ipc.open_file(file).read_all()["crc"].to_numpy().tobytes())
    elif isinstance(source, FolderSource):
        digest.update(str(source.short_side).encode())
        for path in source.paths:
            with contextlib.suppress(OSError):  # a missing file is found when it is read
                state = path.stat()
                digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def embed_data(
    job: Job, *, batch_size: int = 256, num_workers: int = 0, progress: Progress | None = None
) -> FeatureFile:
    """Make the file of a job, or find it; several processes that are given the same job share the work.

    Args:
        job: see `plan`.
        batch_size: images at a time.
        num_workers: processes that read images.
        progress: called with (done, total, what); by default a bar where the error stream is a terminal.

    Raises:
        DataError: if no image can be read, a vector is not finite, or the disk is full.
    """
    if job.path.exists():
        return tell_absent(FeatureFile(job.path))
    with bar(progress) as advance:
        parts = open_parts(job)
        work(job, parts, batch_size=batch_size, num_workers=num_workers, progress=advance)
        return tell_absent(join(job, parts))


def open_parts(job: Job) -> Parts:
    """The parts of a job, some of which may be there."""
    return Parts(job.path.with_suffix(".parts"), len(job.positions))


def work(
    job: Job, parts: Parts, *, batch_size: int, num_workers: int, progress: Progress | None = None
) -> None:
    """Make the parts that nobody has made, until all are there."""
    options: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "progress": progress}
    _make(job, parts, _free_parts(parts), **options)
    for number in parts.open():
        # One at a time: whoever waits holds nothing that another might wait for.
        lock = parts.take(number, wait=True)
        if lock is not None:
            _make(job, parts, iter([(number, lock)]), **options)


def _free_parts(parts: Parts) -> Iterator[tuple[int, IO[str]]]:
    for number in range(len(parts)):
        lock = None if parts.done(number) else parts.take(number)
        if lock is not None:
            yield number, lock


def _make(
    job: Job,
    parts: Parts,
    taken: Iterator[tuple[int, IO[str]]],
    *,
    batch_size: int,
    num_workers: int,
    progress: Progress | None,
) -> None:
    """Make parts one after another with one loader, which takes the next one as it needs its images."""
    under_way: deque[tuple[int, IO[str], int]] = deque()  # part, its lock, its batches

    def batches() -> Iterator[range]:
        for number, lock in taken:
            rows = parts.rows(number)
            starts = range(rows.start, rows.stop, batch_size)
            under_way.append((number, lock, len(starts)))
            for start in starts:
                yield range(start, min(start + batch_size, rows.stop))

    module = job.extractor.module
    on = next(module.parameters()).device
    loader = evaluation_loader(
        EvaluationDataset(job.data.source, job.data.source_rows[job.positions], job.extractor.view),
        batch_size=batch_size,
        num_workers=num_workers,
        batches=batches(),
        pin_memory=on.type == "cuda",
    )
    low = torch.autocast(on.type, torch.bfloat16, enabled=job.precision == "bf16-mixed")
    made: list[dict[str, np.ndarray]] = []
    try:
        with evaluating(module), low:
            for images, positions in loader:
                made.append(_vectors(module, images.to(on, non_blocking=True), positions, job.dtype))
                number, lock, num_batches = under_way[0]
                done = parts.rows_done() + min(len(made) * batch_size, len(parts.rows(number)))
                if len(made) == num_batches:
                    parts.write(number, _joined(made))
                    under_way.popleft()
                    lock.close()
                    made = []
                if progress is not None:
                    progress(done, parts.count, "images")
    finally:
        for _, lock, _ in under_way:
            lock.close()


def _vectors(
    module: Objective | Encoder, images: Tensor, positions: Tensor, dtype: str
) -> dict[str, np.ndarray]:
    found = features_and_embeddings(module, images) if len(images) else {}
    arrays = {
        name: feature_file.finite(value.float().cpu().numpy(), dtype, name) for name, value in found.items()
    }
    return {"positions": positions.numpy().astype(np.int64), **arrays}


def _joined(made: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The batches of a part; batches without a readable image have no vectors."""
    full = [arrays for arrays in made if len(arrays) > 1] or made[:1]
    return {name: np.concatenate([arrays[name] for arrays in full]) for name in full[0]}


def join(job: Job, parts: Parts) -> FeatureFile:
    """Join the parts to the file, whoever comes first.

    Raises:
        DataError: if no image could be read.
    """
    with parts.locked():
        if not job.path.exists():
            read = np.concatenate(list(parts.read("positions")))
            if not len(read):
                raise DataError(
                    f"no image of {job.data.card.name} could be read: run `radlearn check "
                    f"data={job.data.card.name}`"
                )
            blocks = (b for b in parts.blocks(*VECTORS) if b)
            about = about_data(job.data, job.key, job.dtype) | {
                **job.extractor.about,
                "preprocessing": dataclasses.asdict(job.extractor.view),
                "precision": job.precision,
                "num_unreadable": len(job.positions) - len(read),
            }
            columns = columns_of(job.data.rows[job.positions[read].tolist()])
            feature_file.write(job.path, blocks, columns, about=about, dtype=job.dtype)
        parts.remove()
    return FeatureFile(job.path)


def tell_absent(made: FeatureFile) -> FeatureFile:
    """Warn of images that could not be read; returns the file."""
    if absent := made.about.get("num_unreadable"):
        logger.warning(
            "%d of %d images of %s could not be read and are absent",
            absent,
            absent + len(made),
            made.about["data"],
        )
    return made


def columns_of(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a feature file."""
    names = ["image_id", "patient_id", "study_id", "split"]
    names += [name for name in ("series_id", "slice_index") if name in rows.columns]
    return {
        name: rows[name].fill_null("" if rows[name].dtype == pl.String else -1).to_numpy() for name in names
    }


def about_data(data: Dataset, key: str, dtype: str) -> dict[str, Any]:
    """Attributes that every feature file has."""
    return {
        "key": key, "data": data.card.name, "data_hash": data.card.fingerprint, "access": data.card.access,
        "dtype": dtype, "versions": checkpoint.versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
