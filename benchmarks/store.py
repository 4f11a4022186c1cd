"""Random reads from the store, in images per CPU-second of one thread.

    python benchmarks/store.py [--images 2000 --batch 256 --rounds 7]

Shuffled batches of 256 px images into one uint8 buffer. Baselines are loose JPEG files with simplejpeg, and
an array in memory that holds the same bytes. Store and array are compared exactly, JPEG in decibels.

Everything is read from a warm page cache: this is no benchmark of a disk.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from measure import Timing, header, interleaved

from radlearn.data.images import resize_short
from radlearn.data.store import Store, encode_image, shard_name, write_shard

LOOSE, MEMORY, STORE = "loose JPEG, simplejpeg", "array in memory", "radlearn store"


def radiograph(seed, height=3050, width=2500):
    """Soft shapes of many sizes with detector noise: 1.8 MB as JPEG of quality 95."""
    generator = np.random.default_rng(seed)
    image = np.full((height, width), 120, np.float32)
    for side, contrast in ((600, 35), (200, 16), (60, 7), (20, 3)):
        coarse = generator.standard_normal((height // side + 4, width // side + 4)).astype(np.float32)
        image += contrast * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image += 2.2 * generator.standard_normal((height, width), dtype=np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def decibels(first, second):
    error = np.mean((first.astype(float) - second) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def read_benchmark(folder, arguments):
    base = [resize_short(radiograph(seed, 1525, 1250), 256) for seed in range(8)]
    images = np.stack([np.roll(base[n % 8], 7 * n, axis=1) for n in range(arguments.images)])
    rows = [encode_image(str(n), image, "raw") for n, image in enumerate(images)]
    for number, start in enumerate(range(0, len(rows), 512)):
        write_shard(folder / shard_name(number), rows[start : start + 512], {})
    for n, image in enumerate(images):
        (folder / f"{n}.jpg").write_bytes(simplejpeg.encode_jpeg(image[..., None], 95, "GRAY"))
    store, generator = Store(folder), np.random.default_rng(0)
    out = np.empty((arguments.batch, *images.shape[1:]), np.uint8)
    batches = generator.permutation(len(images))[: len(images) // arguments.batch * arguments.batch]
    batches = batches.reshape(-1, arguments.batch)

    def from_files(indices):
        for row, index in enumerate(indices):
            out[row] = simplejpeg.decode_jpeg((folder / f"{index}.jpg").read_bytes(), "GRAY")[..., 0]

    readers = {
        LOOSE: from_files,
        MEMORY: lambda indices: np.take(images, indices, axis=0, out=out, mode="clip"),
        STORE: lambda indices: store.gather_into(indices, out),
    }
    worst = {}
    for name, read in readers.items():
        read(batches[0])
        worst[name] = decibels(out, images[batches[0]])
    assert worst[STORE] == worst[MEMORY] > 100, "the store must return the bytes it was given"

    forms = {name: lambda read=read: [read(batch) for batch in batches] for name, read in readers.items()}
    timings = interleaved(forms, arguments.rounds)
    print(
        f"\nread: {len(images)} images of {images.shape[1]} x {images.shape[2]}, batches of {arguments.batch}"
    )
    notes = {LOOSE: f"{worst[LOOSE]:.1f} dB", MEMORY: "exact", STORE: "exact"}
    table(timings, batches.size, LOOSE, notes)
    print(f"  store / array in memory: {timings[STORE].times_faster_than(timings[MEMORY]):.2f}x")


def table(timings: dict[str, Timing], count, baseline, notes):
    for name, timing in timings.items():
        low, high = (1e3 * count / value for value in (max(timing.rounds), min(timing.rounds)))
        ratio = timing.times_faster_than(timings[baseline])
        speed = f"{1e3 * count / timing.median:9.1f} [{low:.1f}, {high:.1f}] images/s"
        print(f"  {name:24s}{speed:42s}{ratio:7.2f}x   {notes[name]}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(header(1))
    print("images per CPU-second: median [lowest, highest round]; ratio: median of the ratios within a round")
    with tempfile.TemporaryDirectory() as folder:
        read_benchmark(Path(folder), arguments)


if __name__ == "__main__":
    main()
