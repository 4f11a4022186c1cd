"""What dense tasks share: the choice of the learning rate, repeats and their rows, and the shelf of finished
trainings.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from radlearn.data.views import EvaluationView, require_pixels
from radlearn.dense_heads import Trunk
from radlearn.encoders.base import Normalise
from radlearn.errors import ConfigurationError, DataError, TrainingError
from radlearn.records import Result
from radlearn.stats import FloatArray, interval_of_draws
from radlearn.tasks import _dense_training
from radlearn.tasks._dense_cases import Arrays, Cases, Problem, check_splits, few_shot, size_of_maps
from radlearn.tasks._dense_training import Recipe, Trained
from radlearn.tasks.base import Dense, DenseSplit, Inputs, Task

logger = logging.getLogger("radlearn")

CellsOf = Callable[[DenseSplit], Sequence[Collection[str]]]
Kept = TypeVar("Kept")
MACRO = "macro"
_FORMAT = 1
_GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """What one head scores.

    Attributes:
        draws: metric -> (1 + draws, C), on the data as they are, then on every draw of patients.
        chances: metric -> (C,) what chance scores; a metric without has none.
        num_positive: (C,) images that have each class.
    """

    draws: Mapping[str, FloatArray]
    chances: Mapping[str, FloatArray]
    num_positive: np.ndarray


class DenseTask(Task):
    """A task that trains heads on maps.

    Args:
        lr: learning rate, or several to choose from by the validation split.
        finetune, repeats, batch_size, max_epochs, patience, warmup_steps, warmup_lr, lr_reset, cache_gib: see
            `_dense_training.Recipe`.
        classes: names that are wanted; None takes all that are drawn.
        merge: one class, whatever is drawn.
        image_size: side of the images; None takes the encoder's.
        normalise: `encoder`, as the encoder was trained, or `data`: by the training split's mean and
            deviation, as published.
        fraction, draw: share of the training patients in (0, 1], and which subset.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("dense",)
    labelled: ClassVar[bool] = False
    merged: ClassVar[str]
    """The name of the one class."""

    def __init__(
        self,
        *,
        lr: float | Sequence[float],
        finetune: bool = False,
        repeats: int = 1,
        classes: Sequence[str] | None = None,
        merge: bool = False,
        batch_size: int = 64,
        max_epochs: int = 50,
        patience: int = 10,
        warmup_steps: int = 100,
        warmup_lr: float = 1e-3,
        lr_reset: bool = False,
        cache_gib: float = 4.0,
        image_size: int | None = None,
        normalise: str = "encoder",
        fraction: float = 1.0,
        draw: int = 0,
    ) -> None:
        if normalise not in ("encoder", "data"):
            raise ConfigurationError(f"task.normalise is encoder or data: got '{normalise}'")
        if not 0 < fraction <= 1:
            raise ConfigurationError(f"task.fraction is a share above 0 and at most 1: got {fraction}")
        self.recipe = Recipe(
            lr=lr, repeats=repeats, batch_size=batch_size, max_epochs=max_epochs, patience=patience,
            finetune=finetune, warmup_steps=warmup_steps, warmup_lr=warmup_lr, lr_reset=lr_reset,
            cache_gib=cache_gib,
        )  # fmt: skip
        self.merge, self.normalise = merge, normalise
        self.classes = None if classes is None else list(classes)
        self.image_size, self.fraction, self.draw = image_size, float(fraction), int(draw)

    def opened(self, inputs: Inputs) -> tuple[Dense, int]:
        """Encoder and images, with the share of the training patients; and the side of the images.

        Raises:
            ConfigurationError: if a split is missing, or the stored images have fewer pixels.
        """
        dense = check_splits(self.name, inputs.dense)
        size = self.image_size or dense.encoder.image_size
        if dense.short_side is not None:
            require_pixels(size, dense.short_side)
        if self.normalise == "data":
            dense = _with_statistics(dense)
        train = few_shot(dense.train, self.fraction, inputs.seed, self.draw)
        return dataclasses.replace(dense, train=train), size

    def wanted(
        self, dense: Dense, what: str, cells_of: CellsOf, join: Callable[[DenseSplit, list[str]], DenseSplit]
    ) -> tuple[Dense, list[str]]:
        """The classes to learn, and the inputs, with these as one class where they are merged.

        Args:
            dense: the images.
            what: is drawn: `mask` or `box`.
            cells_of: what is drawn on the images of a split, class by class.
            join: gives a split with some classes as one, `merged`.

        Raises:
            DataError: if a class that is asked for never is drawn, or nothing on a split: a head would learn
                nothing, or be chosen by chance.
        """
        splits = {name: getattr(dense, name) for name in ("train", "validate", "test")}
        there = sorted({name for split in splits.values() for cell in cells_of(split) for name in cell})
        if not there:
            raise DataError(f"no image has a {what}: {self.name} has nothing to learn")
        absent = [name for name in self.classes or () if name not in there]
        if absent:
            raise DataError(f"no image has a {what} of {', '.join(absent)}: there is {', '.join(there)}")
        classes = there if self.classes is None else self.classes
        for (name, split), does in zip(splits.items(), ("learn", "choose by", "find"), strict=True):
            if not any(wanted in cell for cell in cells_of(split) for wanted in classes):
                raise DataError(
                    f"nothing is drawn on any of the {len(split)} images of the {name} split: {self.name} "
                    f"has nothing to {does}"
                )
        if not self.merge:
            return dense, classes
        return dense.with_splits(lambda split: join(split, classes)), [self.merged]

    def kept(self, heads: Sequence[Trained], of: Callable[[Trained], Kept]) -> dict[str, Kept]:
        """The predictions of each head under its variant, as the report names such rows."""
        few = f"fraction={self.fraction:g}, draw={self.draw}" if self.fraction < 1 else ""
        repeats = [f"repeat={number}" if len(heads) > 1 else "" for number in range(1, len(heads) + 1)]
        variants = [", ".join(filter(None, (repeat, few))) for repeat in repeats]
        return {variant: of(head) for variant, head in zip(variants, heads, strict=True)}

    def rows(
        self,
        inputs: Inputs,
        test: DenseSplit,
        classes: Sequence[str],
        trained: Sequence[Trained],
        measure: Callable[[Trained, Sequence[str]], Measured],
    ) -> list[Result]:
        """For each metric a row of each class and of their mean: of every repeat, then of the repeats' mean.

        The mean over repeats is taken on the same draws of patients: its interval is that of new patients
        alone.

        Args:
            inputs: provenance.
            test: the scored split.
            classes: (C,) names.
            trained: the heads.
            measure: called with a head and the patients (N,) of what it predicts.
        """
        rows: list[Result] = []
        every: list[Measured] = []
        patients: Sequence[str] = []
        for number, head in enumerate(trained, 1):
            patients = test.take(head.places).patient_ids
            every.append(measure(head, patients))
            if len(trained) > 1:
                rows += self._rows(inputs, classes, every[-1], head, patients, f"repeat={number}")
        draws = {name: np.mean([found.draws[name] for found in every], axis=0) for name in every[0].draws}
        mean = dataclasses.replace(every[-1], draws=draws)
        return rows + self._rows(inputs, classes, mean, trained[-1], patients, "")

    def _rows(
        self,
        inputs: Inputs,
        classes: Sequence[str],
        measured: Measured,
        head: Trained,
        patients: Sequence[str],
        variant: str,
    ) -> list[Result]:
        labels = [(name, np.array([i])) for i, name in enumerate(classes)]
        if not self.merge:
            labels.insert(0, (MACRO, np.arange(len(classes))))
        found = []
        for metric, values in measured.draws.items():
            for label, columns in labels:
                if label == MACRO:  # of the classes that have a value
                    columns = np.flatnonzero(~np.isnan(values[0]))
                interval = interval_of_draws(values[:, columns].mean(1), 0.95)
                chance = measured.chances.get(metric)
                row = Result(
                    run="", task=self.name, data="", data_hash="", split="", metric=metric, label=label,
                    value=interval.value, low=interval.low, high=interval.high,
                    chance=None if chance is None else float(chance[columns].mean()),
                    num_cases=len(patients), num_patients=len(set(patients)),
                    num_positive=None if label == MACRO else int(measured.num_positive[columns[0]]),
                    variant=variant,
                )  # fmt: skip
                settings: dict[str, Any] = {"lr": head.lr, "fraction": self.fraction}
                settings["draw"] = self.draw if self.fraction < 1 else None
                settings["tuning_trials"] = len(self.recipe.rates)
                found.append(dataclasses.replace(row, **{**inputs.provenance, **settings}))
        return found


def _with_statistics(dense: Dense) -> Dense:
    """The inputs with an encoder that normalises by the data set's own training pixels."""
    if dense.statistics is None:
        raise ConfigurationError("task.normalise=data: the data set has no pixel statistics; prepare it")
    encoder = copy.deepcopy(dense.encoder)
    device = encoder.normalise.mean.device
    encoder.normalise = Normalise(dense.statistics, encoder.normalise.channels).to(device)
    return dataclasses.replace(
        dense, encoder=encoder, identity={**dense.identity, "normalise": list(dense.statistics)}
    )


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
        try:
            found = _dense_training.train(problem, dense, recipe, cases, lr, seed, what, predicts=predicts)
        except TrainingError as error:
            if predicts:
                raise
            logger.warning("%s; the other rates are tried", error)
            found = _dense_training.diverged(lr, seed)
            shelf.write(found)
            return found
        shelf.write(found)
        logger.info(
            "%s: validation %s %.4f at epoch %d of %d, %.0f s",
            what, problem.metric, found.best, found.best_epoch, found.epochs, found.seconds,
        )  # fmt: skip
        return found

    chosen = recipe.rates[0]
    if len(recipe.rates) > 1:
        trials = [train(lr, seed, f"lr={lr:g}", predicts=False) for lr in recipe.rates]
        best = max(trials, key=lambda trial: trial.best)
        if best.best == -math.inf:
            raise TrainingError(
                f"the loss is not finite with any of lr={list(recipe.rates)}: take lower rates"
            )
        chosen = best.lr
        logger.info("lr=%g has the best validation %s", chosen, problem.metric)
        if len(recipe.rates) > 2 and chosen in (max(recipe.rates), min(recipe.rates)):
            logger.warning("lr=%g is at the end of the candidates: give wider task.lr", chosen)
    return [
        train(chosen, each, f"lr={chosen:g}, head {i} of {recipe.repeats}", predicts=True)
        for i, each in enumerate(wanted, 1)
    ]


def _drawn(dense: Dense) -> str:
    """A hash of what is drawn: the same images with classes merged another way are other targets."""
    found = hashlib.sha256()
    for split in (dense.train, dense.validate, dense.test):
        for masks, boxes in zip(split.masks, split.boxes, strict=True):
            found.update(json.dumps(dict(masks), sort_keys=True).encode())
            for name in sorted(boxes):
                found.update(name.encode() + boxes[name].tobytes())
            found.update(b"\n")
    return found.hexdigest()


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
            "image_size": image_size, "data": dict(dense.identity), "drawn": _drawn(dense),
            "device": dense.device.partition(":")[0],  # accelerators train in lower precision
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
            np.savez_compressed(temporary, allow_pickle=False, **arrays)
            temporary.replace(path)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}; free space") from error
