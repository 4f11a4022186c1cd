"""Sources of images by row number: `Store`, the prepared shards, and `FolderSource`, plain files.

A store is a folder of Arrow IPC files `images-00000.arrow` with the columns

| column | type | |
|---|---|---|
| image_id | string | unique over the store |
| codec | string | raw, jpeg or png |
| height, width | int32 | stored pixels |
| bits | int8 | 8, 16, or -16 for signed 16 bit (Hounsfield units) |
| crc | uint32 | CRC-32 of `data` |
| data | large_binary | row-major pixels, or a JPEG or PNG file; of even length, which aligns 16 bits |

The schema's metadata holds a JSON object under `radlearn`. Shards are mapped into memory: raw images are
views of the page cache, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg

from radlearn.data.images import target_size
from radlearn.data.pixels import GREY, read_pixels, resolve_inside, source_size
from radlearn.errors import DataError
from radlearn.records import Pixels

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("codec", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("bits", pa.int8()),
        ("crc", pa.uint32()),
        ("data", pa.large_binary()),
    ]
)
CODECS = ("raw", "jpeg", "png")
DTYPES = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), -16: np.dtype(np.int16)}
JPEG_QUALITY = 95
_ROWS_A_BATCH = 64
_METADATA_KEY = b"radlearn"


class ImageSource(Protocol):
    """Grey images by row number, 0 to len - 1."""

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Sequence[str]:
        """The image ids, by row."""

    def image(self, index: int) -> np.ndarray:
        """(H, W) uint8, uint16 or int16."""

    def gather(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Several images in one call."""

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of `image(index)`, without decoding it."""

    def index_of(self, image_id: str) -> int:
        """The row of an image id."""


# --- writing


@dataclass(frozen=True)
class StoredImage:
    """One row of a shard; fields as in the table above."""

    image_id: str
    codec: str
    height: int
    width: int
    bits: int
    data: bytes

    @property
    def crc(self) -> int:
        """CRC-32 of the data."""
        return zlib.crc32(self.data)


def encode_image(image_id: str, image: np.ndarray, codec: str) -> StoredImage:
    """Encode (H, W) uint8, uint16 or int16 pixels: raw and png are exact, jpeg takes 8 bits only."""
    bits = next((b for b, dtype in DTYPES.items() if dtype == image.dtype), None)
    if bits is None or image.ndim != 2 or codec not in CODECS or (codec == "jpeg" and bits != 8):
        raise DataError(f"{image_id}: cannot store {image.dtype} {image.shape} as '{codec}'")
    data = _encode(np.ascontiguousarray(image), codec)
    height, width = image.shape
    return StoredImage(image_id, codec, height, width, bits, data + b"\0" * (len(data) % 2))


def _encode(image: np.ndarray, codec: str) -> bytes:
    if codec == "raw":
        return image.tobytes()
    if codec == "jpeg":
        return bytes(simplejpeg.encode_jpeg(image[..., None], JPEG_QUALITY, "GRAY"))
    unsigned = image.view(np.uint16) ^ np.uint16(0x8000) if image.dtype == np.int16 else image
    return cv2.imencode(".png", unsigned, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def shard_name(number: int) -> str:
    """`images-00000.arrow`."""
    return f"images-{number:05d}.arrow"


def write_shard(path: Path, images: Sequence[StoredImage], metadata: Mapping[str, Any]) -> None:
    """Write one shard under a temporary name, read it back against its checksums, then rename it.

    Raises:
        OSError: if the disk is full or read-only.
        DataError: if what is on disk is not what was written.
    """
    schema = SCHEMA.with_metadata({_METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with pa.ipc.new_file(file, schema) as writer:
                for start in range(0, len(images), _ROWS_A_BATCH):
                    writer.write_batch(_record_batch(images[start : start + _ROWS_A_BATCH], schema))
            file.flush()
            os.fsync(file.fileno())
        _Shard(temporary).verify()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _record_batch(images: Sequence[StoredImage], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array([getattr(image, name) for image in images], SCHEMA.field(name).type) for name in SCHEMA.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON object of one shard's schema.

    Raises:
        DataError: if the file is no whole shard of this form.
    """
    return _Shard(path).metadata


# --- reading


class _Shard:
    """One mapped file: its columns, all its bytes, and where in them each row's data start and stop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path)) as source:
                # Both views hold the mapping, which outlives the file handle.
                whole = source.read_buffer()
                table = pa.ipc.open_file(pa.BufferReader(whole)).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{path} is no image shard ({error}): delete it and run `radlearn prepare`"
            ) from error
        if table.schema.remove_metadata() != SCHEMA:
            raise DataError(f"{path}: wanted the columns {SCHEMA.names}, got {table.schema.names}")
        self.metadata: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
        self.bytes = np.frombuffer(whole, np.uint8)
        self.start, self.stop = _extents(table["data"], whole.address)
        self.ids: list[str] = table["image_id"].to_pylist()
        self.codec = np.array([CODECS.index(codec) for codec in table["codec"].to_pylist()], np.int8)
        self.height, self.width, self.bits, self.crc = (
            table[name].to_numpy() for name in ("height", "width", "bits", "crc")
        )

    def verify(self) -> None:
        for row, image_id in enumerate(self.ids):
            if zlib.crc32(self.bytes[self.start[row] : self.stop[row]].data) != self.crc[row]:
                raise DataError(
                    f"{self.path}: the checksum of image '{image_id}' differs; delete the file, prepare again"
                )


def _extents(column: pa.ChunkedArray, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each value of a large_binary column starts and stops, in bytes after the address `base`."""
    starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        within = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        starts.append(within[:-1] + (data.address - base))
        stops.append(within[1:] + (data.address - base))
    return np.concatenate(starts), np.concatenate(stops)


class Store:
    """The images of a prepared folder.

    A pickled store is its folder's name: DataLoader workers map the same files, so all share one page cache.

    Raises:
        DataError: if the folder holds no shards, a shard is damaged, or one is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        paths = sorted(self.folder.glob("images-*.arrow"))
        if not paths:
            raise DataError(f"no images-*.arrow in {self.folder}: run `radlearn prepare` first")
        wanted = [shard_name(number) for number in range(len(paths))]
        missing = sorted({*wanted} - {path.name for path in paths})
        if missing:
            raise DataError(f"{self.folder} lacks {missing[0]}: run `radlearn prepare` again, it continues")
        self._shards = [_Shard(path) for path in paths]
        lengths = [len(shard.ids) for shard in self._shards]
        self._shard_of = np.repeat(np.arange(len(paths)), lengths)
        self._bytes = [shard.bytes for shard in self._shards]
        self._start, self._stop, self.heights, self.widths, self._bits, self._codec = (
            np.concatenate([getattr(shard, name) for shard in self._shards])
            for name in ("start", "stop", "height", "width", "bits", "codec")
        )
        self.ids = [image_id for shard in self._shards for image_id in shard.ids]
        self.metadata = self._shards[0].metadata

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.folder,)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def index_of(self, image_id: str) -> int:
        """The row of an image id.

        Raises:
            DataError: if the store has none.
        """
        try:
            return self._index[image_id]
        except KeyError:
            raise DataError(
                f"no image '{image_id}' in {self.folder}, which holds {len(self)} images"
            ) from None

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the stored image."""
        return int(self.heights[index]), int(self.widths[index])

    def image(self, index: int) -> np.ndarray:
        """(H, W) uint8, uint16 or int16; raw images are read-only views of the mapped file, not copies."""
        shard = self._bytes[self._shard_of[index]]
        data = shard[self._start[index] : self._stop[index]]
        height, width, bits = int(self.heights[index]), int(self.widths[index]), int(self._bits[index])
        codec = self._codec[index]
        if codec == 0:
            pixels: np.ndarray = data[: height * width * (abs(bits) // 8)].view(DTYPES[bits])
            return pixels.reshape(height, width)
        image = self._decode_jpeg(data, index) if codec == 1 else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.shape != (height, width):
            raise self._damaged(index)
        return (image ^ np.uint16(0x8000)).view(np.int16) if bits == -16 else image

    def _decode_jpeg(self, data: np.ndarray, index: int) -> np.ndarray:
        try:
            return np.asarray(simplejpeg.decode_jpeg(data, "GRAY"))[..., 0]
        except ValueError as error:
            raise self._damaged(index) from error

    def _damaged(self, index: int) -> DataError:
        shard = self._shards[self._shard_of[index]].path
        return DataError(f"{shard}: image '{self.ids[index]}' is damaged; delete the file and prepare again")

    def gather(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Several images in one call, in the order of `indices`."""
        return [self.image(index) for index in np.asarray(indices, np.int64)]

    def gather_into(self, indices: Sequence[int], out: np.ndarray) -> None:
        """Copy images that all have one size into `out` (B, H, W), which may be pinned memory."""
        for row, index in enumerate(np.asarray(indices, np.int64)):
            out[row] = self.image(index)

    def verify(self) -> None:
        """Compare every image with its checksum.

        Raises:
            DataError: names the first shard and image that differ.
        """
        for shard in self._shards:
            shard.verify()


class FolderSource:
    """Plain image files below a root, read when asked for: slower than a store, and nothing to prepare.

    Args:
        root: folder that the paths are relative to; a path that leads out of it is refused.
        paths: one file a row.
        ids: image ids, by default the paths.
        short_side: shrink to this short side; None keeps the size of the file.
        pixels: how the files are read.
    """

    def __init__(
        self,
        root: str | Path,
        paths: Sequence[str],
        ids: Sequence[str] | None = None,
        *,
        short_side: int | None = None,
        pixels: Pixels = GREY,
    ) -> None:
        self.root, self.short_side, self.pixels = Path(root), short_side, pixels
        self.paths = [resolve_inside(root, path) for path in paths]
        self.ids = list(ids) if ids is not None else [str(path) for path in paths]
        self._index = {image_id: row for row, image_id in enumerate(self.ids)}
        if len(self._index) != len(self.paths):
            raise DataError(f"{len(self.paths)} paths need as many distinct ids, got {len(self._index)}")

    def __len__(self) -> int:
        return len(self.paths)

    def index_of(self, image_id: str) -> int:
        """The row of an image id.

        Raises:
            DataError: if there is none.
        """
        if image_id not in self._index:
            raise DataError(f"no image '{image_id}' among the {len(self)} files below {self.root}")
        return self._index[image_id]

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of `image(index)`, from the file's header."""
        height, width = source_size(self.paths[index])
        return (height, width) if self.short_side is None else target_size(height, width, self.short_side)

    def image(self, index: int) -> np.ndarray:
        """(H, W) uint8, uint16, or int16 Hounsfield units.

        Raises:
            ImageError: if the file cannot be used.
        """
        return read_pixels(self.paths[index], self.pixels, short_side=self.short_side)[0]

    def gather(self, indices: Sequence[int]) -> list[np.ndarray]:
        """Several images in one call, in the order of `indices`."""
        return [self.image(index) for index in indices]
