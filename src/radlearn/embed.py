"""The verb `embed`: frozen features and embeddings of a data set, made once and found again by their content.

The work itself is in `extract.py`; here stand texts, several processes and what the terminal shows.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from radlearn import extract, terminal
from radlearn.data import feature_file
from radlearn.data.feature_file import FeatureFile
from radlearn.data.feature_parts import Parts
from radlearn.data.text_cache import identity_hash
from radlearn.datasets import Dataset, open_dataset
from radlearn.errors import ConfigurationError, DataError
from radlearn.prepare.fan_out import fan_out
from radlearn.prepare.terminal import Progress, bar
from radlearn.subject import Subject, device, open_run
from radlearn.training.text import open_text, report_texts

logger = logging.getLogger("radlearn")

_TEXTS_A_BLOCK = 16_384
_SECONDS_A_LOOK = 0.5


# --- texts


def embed_texts(config: Mapping[str, Any], data: Dataset) -> FeatureFile:
    """Features of the reports of a data set by a frozen text encoder, each distinct text once.

    Rows without a text are left out. Images and texts are joined by image id, never by order.
    """
    cache = Path(config["paths"]["cache"])
    names = {
        "text_model": "model",
        "pooling": "pooling",
        "max_length": "max_length",
        "lower_case": "lower_case",
    }
    settings = {ours: config[key] for key, ours in names.items()}
    side = open_text(settings, cache, synthetic=data.card.synthetic)
    column, split, dtype = config["text_column"], config["split"], config["dtype"]
    positions = extract.in_order(data.rows, split)
    texts = report_texts(data.rows[positions.tolist()], column)
    kept = [place for place, text in enumerate(texts) if text]
    if not kept:
        raise DataError(f"no row of split={split} has a text in '{column}': set text_column")
    identity = {"format": extract.FORMAT, "text": side.encoder.identity, "column": column, "dtype": dtype,
                "data": data.card.fingerprint}  # fmt: skip
    key = identity_hash(json.loads(json.dumps(identity, default=str)))
    path = extract.file_of(cache / "embeddings" / key, split)
    if not path.exists():
        unique: dict[str, int] = {}
        row = np.array([unique.setdefault(texts[place], len(unique)) for place in kept], dtype=np.int64)
        distinct = list(unique)
        starts = range(0, len(distinct), _TEXTS_A_BLOCK)
        blocks = ({"features": side.features(distinct[s : s + _TEXTS_A_BLOCK]).numpy()} for s in starts)
        about = extract.about_data(data, key, dtype) | {
            "text_model": side.name, "column": column, "preprocessing": side.encoder.identity,
            "num_without_text": len(texts) - len(kept),
        }  # fmt: skip
        columns = {**extract.columns_of(data.rows[positions[kept].tolist()]), "row": row}
        feature_file.write(path, blocks, columns, about=about, dtype=dtype, num_vectors=len(distinct))
    return FeatureFile(path)


# --- the verb


def embed(config: dict[str, Any], progress: Progress | None = None) -> FeatureFile:
    """Embed a data set.

    Args:
        config: a resolved and validated configuration of the verb `embed`.
        progress: see `embed_data`.
    """
    made = embed_texts(config, _data_of(config, None)) if config["text_model"] else _images(config, progress)
    if config["layout"] == "per_patient":
        feature_file.write_per_patient(made, Path(config["output_dir"]).expanduser(), split=config["split"])
    return made


def _images(config: dict[str, Any], progress: Progress | None) -> FeatureFile:
    number = int(config["devices"])
    job = _job(config)
    if job.path.exists():
        return extract.tell_absent(FeatureFile(job.path))
    if number == 1:
        return extract.embed_data(
            job, batch_size=config["batch_size"], num_workers=config["num_workers"], progress=progress
        )
    with bar(progress) as advance:
        parts = extract.open_parts(job)
        with _watched(parts, advance):
            shares = [(config, share) for share in range(number)]
            for _ in fan_out(_share, shares, num_workers=number):
                pass
        return extract.tell_absent(extract.join(job, parts))


def _share(argument: tuple[dict[str, Any], int]) -> None:
    """What one of several processes does: build everything for itself and make parts until none is left."""
    config, share = argument
    terminal.set_up(speaks=False)
    # joblib's own way to start processes cannot start those of the image loader.
    ways = multiprocessing.get_all_start_methods()
    multiprocessing.set_start_method("fork" if "fork" in ways else "spawn", force=True)
    on = device(config["device"])
    if on.startswith("cuda"):
        on = f"cuda:{share % torch.cuda.device_count()}"
    else:
        torch.set_num_threads(max((os.cpu_count() or 1) // int(config["devices"]), 1))
    job = _job({**config, "device": on})
    if not job.path.exists():
        extract.work(
            job, extract.open_parts(job), batch_size=config["batch_size"], num_workers=config["num_workers"]
        )


@contextlib.contextmanager
def _watched(parts: Parts, progress: Progress) -> Iterator[None]:
    """Tell how far other processes are."""
    finished = threading.Event()

    def look() -> None:
        while not finished.wait(_SECONDS_A_LOOK):
            progress(parts.rows_done(), parts.count, "images")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _job(config: Mapping[str, Any]) -> extract.Job:
    if config["encoder"] is not None:
        data = _data_of(config, None)
        extractor = extract.of_encoder(config, data)
        extractor.module.to(device(config["device"]))
    else:
        subject = open_run(config)
        extractor, data = extract.of_run(subject), _data_of(config, subject)
    return extract.plan(
        extractor,
        data,
        Path(config["paths"]["cache"]),
        split=config["split"],
        dtype=config["dtype"],
        precision=config["precision"],
    )


def _data_of(config: Mapping[str, Any], subject: Subject | None) -> Dataset:
    settings = dict(config["data"] or {})
    if "name" not in settings:
        if subject is None:
            raise ConfigurationError("say which data: data=NAME")
        settings = {**subject.model.config["data"], **settings}
    return open_dataset(settings, config["paths"], num_workers=config["num_workers"])


def _check(config: Mapping[str, Any]) -> None:
    """Refuse what cannot go together."""
    given = [key for key in ("run", "encoder", "text_model") if config[key]]
    if len(given) > 1:
        raise ConfigurationError(f"embed one thing at a time: got {' and '.join(given)}")
    if config["layout"] == "per_patient" and not config["output_dir"]:
        raise ConfigurationError("layout=per_patient needs output_dir=FOLDER for its files")
    if config["output_dir"] and config["layout"] == "flat":
        raise ConfigurationError(
            "output_dir is for layout=per_patient; the flat file lies in paths.cache, under its hash"
        )
    if config["text_model"] and (config["layout"] == "per_patient" or int(config["devices"]) > 1):
        raise ConfigurationError("layout=per_patient and devices are for images, not for text_model")


def main(config: dict[str, Any]) -> FeatureFile:
    """The verb `embed`: prints what there is now, and where."""
    _check(config)
    started = time.monotonic()
    made = embed(config)
    _print(made, config, time.monotonic() - started)
    return made


def _print(made: FeatureFile, config: Mapping[str, Any], seconds: float) -> None:
    about = made.about
    synthetic = " (synthetic)" if about["access"] == "synthetic" else ""
    widths = f"features {made.features.shape[1]}"
    if made.embeddings is not None:
        widths += f", embeddings {made.embeddings.shape[1]}"
    absent = about.get("num_unreadable", about.get("num_without_text", 0))
    lines = [
        f"{about['data']}{synthetic}: {len(made):,} images of {len(made.patients):,} patients, {widths}, "
        f"{about['dtype']}" + (f"; {absent:,} absent" if absent else ""),
        f"{made.path}, made {about['date']}; {seconds:.1f} s",
    ]
    if config["layout"] == "per_patient":
        lines.append(f"one file a patient in {config['output_dir']}")
    for line in lines:
        terminal.console().print(line, soft_wrap=True, highlight=False, markup=False)
