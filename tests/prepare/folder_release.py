"""A small release of ordinary image files, and what several tests of `prepare` do with it."""

from __future__ import annotations

import hashlib
import io
import os
import signal

import numpy as np
import polars as pl
from PIL import Image

from radlearn.manifests.base import Manifest
from radlearn.prepare.shards import make_shard
from radlearn.records import Card, Release

COUNT = 40
LENIENT = {"size": 32, "shard_rows": 8, "max_bad_fraction": 0.5}


class Folder(Manifest):
    """Reads table.csv; radlearn.manifests.base says what it owes."""

    card = Card("folder", "a test", "none", "synthetic", "1", label_names=("opaque",))

    def read(self, root, progress=None):
        schema = {"image_id": pl.String, "path": pl.String, "patient_id": pl.String, "split": pl.String}
        rows = pl.read_csv(root / "table.csv", schema=schema).with_columns(
            study_id="image_id",
            view=pl.lit("PA"),
            height=pl.lit(None, pl.Int32),
            width=pl.lit(None, pl.Int32),
            opaque=pl.lit(1.0, pl.Float32),
        )
        return Release(rows, pl.DataFrame(), self.card, str(root))

    @classmethod
    def fake(cls, root):
        """40 images of 20 patients, 8-bit JPEG and PNG; the last two of 16 bits."""
        (root / "files").mkdir(parents=True)
        lines = ["image_id,path,patient_id,split"]
        for number in range(COUNT):
            deep = number >= COUNT - 2
            path = f"files/{number:03d}.{'jpg' if number % 2 and not deep else 'png'}"
            Image.fromarray(pixels(number)).save(root / path, quality=95)
            split = ("train", "train", "validate", "test")[number // 2 % 4]
            lines.append(f"i{number:03d},{path},p{number // 2},{split}")
        (root / "table.csv").write_text("\n".join(lines) + "\n")
        return cls()


def pixels(number):
    """64 x (48 + number) smooth pixels."""
    rows, columns = np.mgrid[:64, : 48 + number]
    grey = 127 + 120 * np.sin(rows / 9 + number) * np.cos(columns / 11)
    return (grey * 200).astype(np.uint16) if number >= COUNT - 2 else grey.astype(np.uint8)


def hashes(folder):
    """Content of every visible file."""
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def replace_row(root, number, text):
    lines = (root / "table.csv").read_text().splitlines()
    lines[number + 1] = text
    (root / "table.csv").write_text("\n".join(lines) + "\n")


def spoil(root):
    """One of each: missing, empty, truncated, outside, text; and a repeated id."""
    (root / "files" / "000.png").unlink()
    (root / "files" / "002.png").write_bytes(b"")
    whole = (root / "files" / "003.jpg").read_bytes()
    (root / "files" / "003.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "files" / "004.png").write_text("no image")
    replace_row(root, 5, "i005,../../etc/passwd,p2,validate")
    replace_row(root, 7, "i006,files/007.jpg,p3,test")
    return {
        "i000": "missing",
        "i002": "empty_file",
        "i003": "truncated",
        "i004": "unsupported_format",
        "i005": "path_escape",
        "i006": "duplicate_id",
    }


def write_many(root, count):
    """A release of `count` images of 64 x 64 pixels, each its own patient."""
    (root / "files").mkdir(parents=True)
    content = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(content, "PNG")
    lines = ["image_id,path,patient_id,split"]
    for number in range(count):
        (root / "files" / f"{number}.png").write_bytes(content.getvalue())
        lines.append(f"i{number},files/{number}.png,p{number},{('train', 'validate', 'test')[number % 3]}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")


def make_shard_and_die(task):
    """As `make_shard`, but the worker of the fourth shard is killed."""
    if task.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return make_shard(task)
