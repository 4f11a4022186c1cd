"""Store -> 2 views of 224 px and 6 of 96 px, in source images per CPU-second of one thread.

    python benchmarks/views.py [--images 64 --rounds 7]          albumentations: uv run --group bench

Images are 256 px (short side). What each form does:

| form | source | resampling | output |
|---|---|---|---|
| torchvision v1 | JPEG file, Pillow, RGB | bicubic, antialiased | float32 RGB, normalised |
| albumentations | array in memory, grey | area when shrinking, cubic when enlarging | uint8 grey |
| albumentations, linear | the same | linear: aliases | uint8 grey |
| radlearn | store, grey | `resize_into`: does not alias | uint8 grey, normalised on the device |
| radlearn, float32 | the same | the same | float32 grey, normalised |

All draw crops, brightness and contrast (0.4, p = 0.8) from the same distributions; the second table adds blur
(p = 1.0 and 0.1 for the global views, 0.5 for the local ones, sigma 0.1 to 2). Drawing is part of the time.
Before timing, the crops of all three are compared on the same boxes with Pillow's antialiased bicubic.
"""

import argparse
import importlib.util
import itertools
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from measure import header, interleaved
from PIL import Image
from store import decibels, radiograph, table
from torchvision import transforms

from radlearn.data.images import resize_short
from radlearn.data.store import Store, encode_image, shard_name, write_shard
from radlearn.data.views import Views, ViewSpec, resize_into

TORCHVISION, ALBUMENTATIONS, LINEAR = "torchvision v1", "albumentations", "albumentations, linear"
OURS, OURS_FLOAT = "radlearn", "radlearn, float32"
RATIO, MEAN, STD = (3 / 4, 4 / 3), 0.5, 0.25
HAS_ALBUMENTATIONS = importlib.util.find_spec("albumentations") is not None
# size, how many, crop scale, largest blur kernel, probability of blur by view
KINDS = ((224, 2, (0.4, 1.0), 23, (1.0, 0.1)), (96, 6, (0.05, 0.4), 9, (0.5,) * 6))


def torchvision_form(folder, count, blur):
    def pipeline(size, scale, kernel, probability):
        steps = [
            transforms.RandomResizedCrop(size, scale, RATIO, transforms.InterpolationMode.BICUBIC),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4)], p=0.8),
        ]
        if blur:
            steps.append(transforms.RandomApply([transforms.GaussianBlur(kernel, (0.1, 2.0))], p=probability))
        return transforms.Compose(
            [*steps, transforms.ToTensor(), transforms.Normalize([MEAN] * 3, [STD] * 3)]
        )

    views = [pipeline(size, scale, kernel, p) for size, _, scale, kernel, each in KINDS for p in each]

    def run():
        for n in range(count):
            with Image.open(folder / f"{n}.jpg") as file:
                image = file.convert("RGB")
            for view in views:
                view(image)

    return run


def albumentations_form(images, blur, linear):
    import albumentations as A

    def pipeline(size, scale, kernel, probability):
        resampling = {"interpolation": cv2.INTER_LINEAR}
        if not linear:
            resampling = {"interpolation": cv2.INTER_CUBIC, "area_for_downscale": "image"}
        steps = [
            A.RandomResizedCrop((size, size), scale, RATIO, **resampling),
            A.ColorJitter((0.6, 1.4), (0.6, 1.4), (1, 1), (0, 0), p=0.8),
        ]
        if blur:
            steps.append(A.GaussianBlur(blur_limit=(3, kernel), sigma_limit=(0.1, 2.0), p=probability))
        return A.Compose(steps)

    views = [pipeline(size, scale, kernel, p) for size, _, scale, kernel, each in KINDS for p in each]

    def run():
        for image in images:
            for view in views:
                view(image=image)["image"]

    return run


def our_form(store, blur, as_float):
    off = 0.0
    views = Views(
        [
            ViewSpec(count, size, scale, RATIO, blur_probability=each if blur else off, blur_kernel=kernel)
            for size, count, scale, kernel, each in KINDS
        ]
    )
    indices, draws = np.arange(len(store)), itertools.count()

    def run():
        images = store.gather(indices)
        rendered = views.render(images, views.draw(next(draws), indices, store.heights, store.widths))
        if as_float:
            rendered = [torch.from_numpy(v).float().mul_(1 / (255 * STD)).sub_(MEAN / STD) for v in rendered]
        return rendered

    return run


def compare_crops(images):
    """Decibels of the resampled crops against Pillow's, mean over crops."""
    generator, forms = np.random.default_rng(0), {OURS: ours_resized, LINEAR: linear_resized}
    if HAS_ALBUMENTATIONS:
        forms[ALBUMENTATIONS] = albumentations_resized()
    for size, *_ in KINDS:
        values = {name: [] for name in forms}
        for image in images[:16]:
            side = generator.integers(size // 2, 256)
            crop = np.ascontiguousarray(image[:side, 10 : 10 + side])
            pillow = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
            for name, form in forms.items():
                values[name].append(decibels(form(crop, size), pillow))
        means = ", ".join(f"{name} {np.mean(value):.1f}" for name, value in values.items())
        print(f"crops of {size} px against Pillow's antialiased bicubic, dB: {means}")


def ours_resized(crop, size):
    out = np.empty((size, size), np.uint8)
    resize_into(out, crop)
    return out


def linear_resized(crop, size):
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)


def albumentations_resized():
    import albumentations as A

    def resized(crop, size):
        resize = A.Resize(size, size, interpolation=cv2.INTER_CUBIC, area_for_downscale="image")
        return resize(image=crop)["image"]

    return resized


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="albumentations")
    print(header(1))
    if not HAS_ALBUMENTATIONS:
        print("albumentations is not installed, so its rows are missing: uv run --group bench brings it")
    base = [resize_short(radiograph(seed, 1525, 1250), 256) for seed in range(8)]
    images = [np.roll(base[n % 8], 7 * n, axis=1) for n in range(arguments.images)]
    compare_crops(images)
    print("images per CPU-second: median [lowest, highest round]; ratio: median of the ratios within a round")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shard(
            folder / shard_name(0), [encode_image(str(n), i, "raw") for n, i in enumerate(images)], {}
        )
        for n, image in enumerate(images):
            (folder / f"{n}.jpg").write_bytes(simplejpeg.encode_jpeg(image[..., None], 95, "GRAY"))
        store = Store(folder)
        for blur in (False, True):
            forms = {TORCHVISION: torchvision_form(folder, len(images), blur)}
            if HAS_ALBUMENTATIONS:
                forms[ALBUMENTATIONS] = albumentations_form(images, blur, linear=False)
                forms[LINEAR] = albumentations_form(images, blur, linear=True)
            forms[OURS] = our_form(store, blur, as_float=False)
            forms[OURS_FLOAT] = our_form(store, blur, as_float=True)
            timings = interleaved(forms, arguments.rounds)
            print(f"\n{'with' if blur else 'without'} blur")
            table(timings, len(images), TORCHVISION, dict.fromkeys(forms, ""))
            if HAS_ALBUMENTATIONS:
                for name in (ALBUMENTATIONS, LINEAR):
                    print(f"  {OURS} / {name}: {timings[OURS].times_faster_than(timings[name]):.2f}x")


if __name__ == "__main__":
    main()
