"""What dense tasks share: the choice of the learning rate, repeats, and finished trainings that are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np

from radlearn.data.views import EvaluationView
from radlearn.dense_heads import Trunk
from radlearn.errors import DataError
from radlearn.tasks import _dense_training
from radlearn.tasks._dense_cases import Arrays, Cases, Problem, size_of_maps
from radlearn.tasks._dense_training import Recipe, Trained
from radlearn.tasks.base import Dense

logger = logging.getLogger("radlearn")

_FORMAT = 1
_GIB = 2**30


def learn(problem: Problem, dense: Dense, recipe: Recipe, *, image_size: int, seed: int) -> list[Trained]:
    """Choose the learning rate by the validation split, then train `repeats` heads and predict.

    Args:
        problem: what to learn.
        dense: encoder and images.
        recipe: how.
        image_size: side of the images.
        seed: of the first head; further ones have seeds made of it.

    Raises:
        DataError: if a split has no image that can be read.
    """
    view = EvaluationView(image_size, fit="pad_square")
    shelf = _Shelf(problem, dense, recipe, image_size)
    wanted = [_seed_of(seed, repeat) for repeat in range(recipe.repeats)]
    cases: dict[str, Cases] = {}

    def train(lr: float, seed: int, what: str, *, predicts: bool) -> Trained:
        kept = shelf.read(lr, seed, predicts=predicts)
        if kept is not None:
            return kept
        if not cases:
            cases.update(_open(problem, dense, recipe, view))
        found = _dense_training.train(problem, dense, recipe, cases, lr, seed, what, predicts=predicts)
        shelf.write(found)
        logger.info(
            "%s: validation %s %.4f at epoch %d of %d, %.0f s",
            what, problem.metric, found.best, found.best_epoch, found.epochs, found.seconds,
        )  # fmt: skip
        return found

    chosen = recipe.lr[0]
    if len(recipe.lr) > 1:
        trials = [train(lr, seed, f"lr={lr:g}", predicts=False) for lr in recipe.lr]
        chosen = max(trials, key=lambda trial: trial.best).lr
        logger.info("lr=%g has the best validation %s", chosen, problem.metric)
        if len(recipe.lr) > 2 and chosen in (max(recipe.lr), min(recipe.lr)):
            logger.warning("lr=%g is at the end of the candidates: give wider task.lr", chosen)
    return [
        train(chosen, each, f"lr={chosen:g}, head {i} of {recipe.repeats}", predicts=True)
        for i, each in enumerate(wanted, 1)
    ]


def _seed_of(seed: int, repeat: int) -> int:
    """The seed of a repeat: the published runs repeated one seed, and with it their results."""
    drawn: int = np.random.default_rng([seed, repeat]).integers(2**31).item()
    return drawn if repeat else seed


def _open(problem: Problem, dense: Dense, recipe: Recipe, view: EvaluationView) -> dict[str, Cases]:
    trunk = None
    if not recipe.finetune:
        trunk = Trunk(dense.encoder, problem.head(dense.encoder, view.size).names).to(dense.device)
        if size_of_maps(trunk, dense, view) > recipe.cache_gib * _GIB:
            logger.info("maps of the encoder are larger than task.cache_gib=%g: images are read every epoch",
                        recipe.cache_gib)  # fmt: skip
            trunk = None
    found = {
        name: Cases(getattr(dense, name), problem, view, trunk, dense, name)
        for name in ("train", "validate", "test")
    }
    for name, cases in found.items():
        if not len(cases):
            raise DataError(f"no image of the {name} split could be read: run `radlearn check`")
    return found


class _Shelf:
    """Finished trainings on disk, so that an interrupted evaluation goes on where it was."""

    def __init__(self, problem: Problem, dense: Dense, recipe: Recipe, image_size: int) -> None:
        settings = dataclasses.asdict(recipe)
        for name in ("lr", "repeats", "cache_gib"):  # they change no single training
            del settings[name]
        identity = {
            "format": _FORMAT, "problem": [type(problem).__name__, vars(problem)], "recipe": settings,
            "image_size": image_size, "data": dict(dense.identity),
            "images": [list(split.image_ids) for split in (dense.train, dense.validate, dense.test)],
        }  # fmt: skip
        text = json.dumps(identity, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = dense.folder / key if dense.folder is not None else None

    def _path(self, lr: float, seed: int, predicts: bool) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"lr={lr:g},seed={seed}{'' if predicts else ',tried'}.npz"

    def read(self, lr: float, seed: int, *, predicts: bool) -> Trained | None:
        """A training of this rate and seed, if it was finished."""
        path = self._path(lr, seed, predicts)
        if path is None or not path.exists():
            return None
        with np.load(path, allow_pickle=False) as held:
            about = json.loads(str(held["about"]))
            starts = {name: held[f"{name}/start"] for name in about["names"]}
            values = {name: held[name] for name in about["names"]}
            places = held["places"]
        predicted = [
            {name: values[name][starts[name][i] : starts[name][i + 1]] for name in about["names"]}
            for i in range(len(places))
        ]
        del about["names"]
        return Trained(**about, places=places, predicted=predicted)

    def write(self, trained: Trained) -> None:
        """Keep it: arrays of all images behind each other, and where each image's begin."""
        path = self._path(trained.lr, trained.seed, bool(len(trained.places)))
        if path is None:
            return
        names = list(trained.predicted[0]) if trained.predicted else []
        fields = ("lr", "seed", "best", "best_epoch", "epochs", "seconds")
        about = {name: getattr(trained, name) for name in fields} | {"names": names}
        arrays: Arrays = {"about": np.array(json.dumps(about)), "places": trained.places}
        for name in names:
            each = [predicted[name] for predicted in trained.predicted]
            arrays[name] = np.concatenate(each)
            arrays[f"{name}/start"] = np.concatenate([[0], np.cumsum([len(a) for a in each])])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}; free space") from error
