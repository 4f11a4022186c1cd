"""Bright and striped squares on grey images, and an encoder that sees brightness and contrast of patches."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from radlearn import run_lengths
from radlearn.encoders.base import Encoder, Normalise
from radlearn.errors import DataError
from radlearn.records import Encoded
from radlearn.tasks.base import Dense, DenseSplit, Inputs

HEIGHT, WIDTH, SIDE = 48, 64, 64


class ArraySource:
    """Images in memory; those of `broken` rows cannot be read."""

    def __init__(self, images, broken=()):
        self.images, self.broken = images, set(broken)
        self.ids = [f"image-{i}" for i in range(len(images))]

    def __len__(self):
        return len(self.images)

    def image(self, index):
        if index in self.broken:
            raise DataError(f"image-{index} is broken")
        return self.images[index]

    def gather(self, indices):
        return [self.image(i) for i in indices]

    def size(self, index):
        return self.images[index].shape

    def index_of(self, image_id):
        return self.ids.index(image_id)


class Patches(Encoder):
    """Mean and spread of patches of 8 pixels, each times a weight that can learn."""

    def __init__(self):
        super().__init__()
        self.image_size = SIDE
        self.normalise = Normalise("half", 1)
        self.local_width = 2
        self.width = 2
        self.level_widths = (2, 2, 2, 2)
        self.gain = nn.Parameter(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1))
        self.passes = 0

    def forward(self, images):
        self.passes += 1
        x = self._patches(images, 8)
        return Encoded(x.mean((2, 3)), x.flatten(2).mT)

    def pyramid(self, images):
        return tuple(self._patches(images, stride) for stride in (4, 8, 16, 32))

    def _patches(self, images, side):
        x = self.normalise(images)
        mean = F.avg_pool2d(x, side)
        spread = (F.avg_pool2d(x.square(), side) - mean.square()).clamp_min(0).sqrt()
        return self.gain * torch.cat([mean, spread], dim=1)


def split(num, seed, *, shuffled=False, broken=(), name="image"):
    """Images with a bright square of 16 pixels at most, half of them with a striped one; two a patient."""
    random = np.random.default_rng(seed)
    images, masks, boxes = [], [], []
    for _ in range(num):
        image = random.integers(110, 130, (HEIGHT, WIDTH), dtype=np.uint8)
        drawn, of_boxes = {}, {}
        for kind, there in (("bright", True), ("striped", random.random() < 0.5)):
            y, x = 8 * random.integers(0, 5), 8 * random.integers(0, 7)
            if not there:
                continue
            stripes = np.where(np.arange(16) % 2, 20, 220)[: WIDTH - x]
            image[y : y + 16, x : x + 16] = 250 if kind == "bright" else stripes
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[y : y + 16, x : x + 16] = True
            drawn[kind] = mask
            of_boxes[kind] = np.array([[x, y, min(16, WIDTH - x), min(16, HEIGHT - y)]], float)
        if "striped" in drawn:  # drawn later, it covers the bright one
            drawn["bright"] &= ~drawn["striped"]
        images.append(image)
        masks.append({kind: run_lengths.encode(mask) for kind, mask in drawn.items() if mask.any()})
        boxes.append(of_boxes)
    order = random.permutation(num) if shuffled else np.arange(num)
    return DenseSplit(
        image_ids=[f"{name}-{i}" for i in range(num)],
        patient_ids=[f"patient-{i // 2}" for i in range(num)],
        source=ArraySource(images, broken),
        rows=np.arange(num),
        sizes=np.tile([HEIGHT, WIDTH], (num, 1)),
        masks=[masks[i] for i in order],
        boxes=[boxes[i] for i in order],
    )


def dense(*, shuffled=False, folder=None, broken=(), num=48):
    splits = {
        "train": split(num, 0, shuffled=shuffled, broken=broken),
        "validate": split(24, 1, shuffled=shuffled, broken=broken),
        "test": split(40, 2, shuffled=shuffled, broken=broken),
    }
    return Dense(encoder=Patches(), **splits, folder=folder, identity={"weights": "0"})


def inputs(of, *, num_bootstrap=200, seed=0):
    return Inputs(
        image_ids=of.test.image_ids,
        patient_ids=of.test.patient_ids,
        labels=np.zeros((len(of.test), 0)),
        label_names=(),
        dense=of,
        provenance={"run": "r", "data": "squares", "data_hash": "0", "split": "test"},
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
