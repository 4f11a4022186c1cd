"""A whole dense task on a frozen encoder: maps kept in memory, and computed again in every epoch.

    python benchmarks/frozen_tasks.py [--arch resnet18 --size 224 --images 64 --epochs 8 --rounds 2]

The task is LoVT's linear segmentation: four learning rates are tried, then a head is trained and scored. Both
ways run the same heads on the same images; their Dice are compared first (kept maps have half precision).
Reading and decoding images is not counted: they lie in memory.
"""

import argparse
import logging
import platform

import numpy as np
import torch
from measure import interleaved

from radlearn import run_lengths
from radlearn.encoders.resnet_levels import ResNetLevels
from radlearn.tasks.base import Dense, DenseSplit, Inputs
from radlearn.tasks.segmentation import Segmentation

KEPT, AGAIN = "maps kept", "maps computed in every epoch"


class InMemory:
    """Images as an image source."""

    def __init__(self, images):
        self.images, self.ids = images, [str(i) for i in range(len(images))]

    def gather(self, indices):
        """The images of these rows."""
        return [self.images[i] for i in indices]


def split(count, size, seed):
    """Noise with a bright rectangle, which is the mask."""
    random = np.random.default_rng(seed)
    images = random.integers(60, 120, (count, size, size), dtype=np.uint8)
    masks = []
    for image in images:
        top, left = random.integers(0, size // 2, 2)
        mask = np.zeros((size, size), bool)
        mask[top : top + size // 3, left : left + size // 3] = True
        image[mask] += 100
        masks.append({"rectangle": run_lengths.encode(mask)})
    ids = [f"{seed}-{i}" for i in range(count)]
    sizes = np.full((count, 2), size)
    return DenseSplit(ids, ids, InMemory(images), np.arange(count), sizes, masks, [{}] * count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    logging.getLogger("radlearn").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = ResNetLevels(arch=given.arch, image_size=given.size).eval()
    splits = [split(n, given.size, i) for i, n in enumerate((given.images, *[given.images // 2] * 2))]

    def run(cache_gib):
        inputs = Inputs(
            image_ids=splits[2].image_ids, patient_ids=splits[2].patient_ids, labels=np.zeros((0, 0)),
            label_names=(), dense=Dense(encoder, *splits), num_bootstrap=10,
        )  # fmt: skip
        task = Segmentation(
            batch_size=16, max_epochs=given.epochs, patience=given.epochs, cache_gib=cache_gib
        )
        return task.run(inputs).results[0].value

    dice = {name: run(gib) for name, gib in ((KEPT, 4.0), (AGAIN, 0.0))}
    if abs(dice[KEPT] - dice[AGAIN]) > 0.05:
        raise SystemExit(f"the two ways give other numbers: {dice}")
    times = interleaved({KEPT: lambda: run(4.0), AGAIN: lambda: run(0.0)}, given.rounds)
    print(
        f"{given.arch}, {given.size} px, {given.images} training images, {given.epochs} epochs, 5 trainings; "
        f"torch {torch.__version__}, {platform.machine()}; Dice {dice[KEPT]:.3f} and {dice[AGAIN]:.3f}"
    )
    for name, timing in times.items():
        print(f"  {name:<32}{timing} CPU ms")
    print(f"  {times[KEPT].times_faster_than(times[AGAIN]):.1f}x")


if __name__ == "__main__":
    main()
