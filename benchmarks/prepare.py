"""Full-size JPEG -> prepared shards, in images per CPU-second of one thread; then one process against two.

    python benchmarks/prepare.py [--radiographs 4 --images 128 --rounds 7]

read: 2500 x 3050 JPEG files of quality 95 to a short side of 256 and 512 px, soft shapes and radiographs of
the phantom, whose edges are sharp. The baseline is Pillow: open, make grey, resize (bicubic, antialiased
there). The outputs differ by their filters; each is compared with the exact area average of the fully decoded
image, in decibels.

shard: the same with all that `prepare` does to an image: sums of its pixels, encoding, checksum, writing,
reading back.

processes: the whole of `prepare` to 256 px with one and with two workers, the pool warm: wall time, which
other work on the machine lengthens (it says how busy it was), and CPU time of all processes together.

Everything is read from a warm page cache: this is no benchmark of a disk.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import simplejpeg
from measure import header, interleaved
from PIL import Image
from store import decibels, radiograph, table

from radlearn.data.images import read_image, resize_short
from radlearn.manifests.table import Table
from radlearn.phantom.full_size import render_full_size
from radlearn.prepare import prepare
from radlearn.prepare.shards import Task, make_shard
from radlearn.records import Pixels

PILLOW, OURS, SHARD = "Pillow grey, resize", "radlearn", "radlearn, into a shard"


def with_pillow(path, short_side):
    with Image.open(path) as image:
        grey = image.convert("L")
    scale = short_side / min(grey.size)
    size = (round(grey.width * scale), round(grey.height * scale))
    return np.asarray(grey.resize(size, Image.Resampling.BICUBIC))


def with_radlearn(path, short_side):
    return read_image(path, short_side=short_side)


def write_files(folder, name, images):
    folder.mkdir()
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number}.jpg")
        paths[-1].write_bytes(simplejpeg.encode_jpeg(image[..., None], 95, "GRAY"))
    megabytes = np.mean([path.stat().st_size for path in paths]) / 1e6
    print(f"\n{name}: {len(paths)} files of 2500 x 3050, {megabytes:.2f} MB each")
    return paths


def read_benchmark(paths, rounds):
    readers = {PILLOW: with_pillow, OURS: with_radlearn}
    for short_side in (256, 512):
        exact = [resize_short(read_image(path), short_side) for path in paths]
        notes = {}
        for name, read in readers.items():
            quality = [decibels(read(p, short_side), e) for p, e in zip(paths, exact, strict=True)]
            notes[name] = f"{np.mean(quality):.1f} dB to exact area averaging"
        rows = tuple((path.stem, path.name) for path in paths)
        with tempfile.TemporaryDirectory() as out:
            task = Task(0, Path(out), paths[0].parent, short_side, Pixels(), "", rows)
            forms = {
                name: lambda read=read, side=short_side: [read(path, side) for path in paths]
                for name, read in readers.items()
            }
            forms[SHARD] = lambda task=task: make_shard(task)
            notes[SHARD] = "written, read back"
            timings = interleaved(forms, rounds)
        print(f"  to {short_side} px")
        table(timings, len(paths), PILLOW, notes)


def process_benchmark(folder, paths, images, rounds):
    root = folder / "release"
    root.mkdir()
    for number in range(images):
        os.link(paths[number % len(paths)], root / f"{number}.jpg")
    names = [f"{number}.jpg" for number in range(images)]
    table = {"image_path": names, "impression": ["none"] * images, "patient": names}
    pl.DataFrame(table).write_csv(root / "table.csv")
    manifest = Table(
        train_manifest=str(root / "table.csv"), patient_col="patient", view_col="patient", views=[]
    )
    wall, work = {1: [], 2: []}, {1: [], 2: []}
    for turn in range(rounds + 1):
        for workers in wall:
            start, before = time.perf_counter(), cpu_seconds()
            prepare(manifest, root, folder / f"{turn}-{workers}", size=256, num_workers=workers, shard_rows=8)
            if turn:  # the first round starts the pool
                wall[workers].append(time.perf_counter() - start)
                work[workers].append(cpu_seconds() - before)
    print(f"\nprocesses: {images} images to 256 px, all of `prepare`")
    for workers, found in wall.items():
        middle, spread = statistics.median(found), f"[{min(found):.2f}, {max(found):.2f}]"
        cpu = f"CPU {1e3 * statistics.median(work[workers]) / images:.1f} ms an image"
        print(f"  {workers} worker(s) {middle:6.2f} s {spread}, {images / middle:.1f} images/s; {cpu}")
    busy = f"{os.cpu_count()} cores at a load of {os.getloadavg()[0]:.1f}"
    print(f"  two against one, wall time: {median_ratio(wall):.2f}x on {busy}")
    print(f"  two against one, CPU time: {median_ratio(work):.2f}x, 1 if working side by side costs nothing")


def median_ratio(seconds):
    return statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))


def cpu_seconds():
    """Of this process and those that it has started."""
    me = Path("/proc/self/task")
    children = [pid for thread in me.iterdir() for pid in (thread / "children").read_text().split()]
    ticks = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in children]
    return time.process_time() + sum(int(t) for pair in ticks for t in pair) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--radiographs", type=int, default=4)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(header(1))
    print("images per CPU-second: median [lowest, highest round]; ratio: median of the ratios within a round")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = range(arguments.radiographs)
        soft = write_files(folder / "soft", "soft shapes", map(radiograph, seeds))
        read_benchmark(soft, arguments.rounds)
        chests = (render_full_size(0, patient, 0) for patient in seeds)
        paths = write_files(folder / "phantom", "phantom", chests)
        read_benchmark(paths, arguments.rounds)
        process_benchmark(folder, paths, arguments.images, max(arguments.rounds // 2, 1))


if __name__ == "__main__":
    main()
