"""Round trips, zero copies, damage, and plain folders behind the same protocol."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from radlearn.data.images import ImageError
from radlearn.data.store import (
    CODECS,
    FolderSource,
    ImageSource,
    Store,
    encode_image,
    read_metadata,
    shard_name,
    write_shard,
)
from radlearn.errors import DataError


def pixels(dtype, shape=(33, 21), seed=0):
    limits = np.iinfo(dtype)
    image = np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)
    image[0, :2] = limits.min, limits.max
    return image


def write(folder, *shards, codec="raw"):
    """Shards of {id: image}."""
    for number, images in enumerate(shards):
        rows = [encode_image(image_id, image, codec) for image_id, image in images.items()]
        write_shard(folder / shard_name(number), rows, {"settings": "s", "shard": number})
    return Store(folder)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_round_trip_of_every_codec_and_depth(tmp_path, codec, dtype):
    images = {f"i{n}": pixels(dtype, (33 + n, 21), n) for n in range(3)}
    if codec == "jpeg":
        if dtype != np.uint8:
            with pytest.raises(DataError, match="as 'jpeg'"):
                write(tmp_path, images, codec=codec)
            return
        images = {key: np.full_like(image, 90) for key, image in images.items()}
    store = write(tmp_path, images, codec=codec)
    assert isinstance(store.ids, list)
    for row, (image_id, image) in enumerate(images.items()):
        read = store.image(row)
        assert (store.index_of(image_id), store.size(row), read.dtype) == (row, image.shape, dtype)
        np.testing.assert_array_equal(read, image)
    store.verify()


def test_a_shard_is_a_plain_arrow_file(tmp_path):
    image = pixels(np.uint8)
    write(tmp_path, {"a": image})
    with pa.memory_map(str(tmp_path / "images-00000.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
        assert table.column_names == ["image_id", "codec", "height", "width", "bits", "crc", "data"]
        row = table.to_pylist()[0]
    assert table.schema.field("data").type == pa.large_binary()
    assert (row["codec"], row["height"], row["width"], row["bits"]) == ("raw", 33, 21, 8)
    assert row["data"][: image.size] == image.tobytes()


def test_raw_images_are_views_of_the_mapped_file(tmp_path):
    store = write(tmp_path, {f"i{n}": pixels(np.uint16, seed=n) for n in range(100)})
    first, again, last = store.image(0), store.image(0), store.image(99)
    assert np.shares_memory(first, again)
    assert np.shares_memory(first, store._bytes[0])
    assert np.shares_memory(last, store._bytes[0])
    assert first.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_rows_run_through_the_shards_in_order(tmp_path):
    shards = [
        {f"{s}-{n}": pixels(np.uint8, seed=10 * s + n) for n in range(n_rows)}
        for s, n_rows in enumerate((3, 0, 2))
    ]
    store = write(tmp_path, *shards)
    assert store.ids == ["0-0", "0-1", "0-2", "2-0", "2-1"]
    assert len(store) == 5
    assert store.metadata == {"settings": "s", "shard": 0}
    assert read_metadata(tmp_path / "images-00002.arrow")["shard"] == 2
    gathered = store.gather([4, 0, 4])
    np.testing.assert_array_equal(gathered[0], shards[2]["2-1"])
    np.testing.assert_array_equal(gathered[1], shards[0]["0-0"])
    out = np.empty((2, 33, 21), np.uint8)
    store.gather_into([1, 3], out)
    np.testing.assert_array_equal(out, np.stack([shards[0]["0-1"], shards[2]["2-0"]]))
    with pytest.raises(DataError, match="no image 'x'"):
        store.index_of("x")


def test_a_pickled_store_is_small_and_maps_the_same_files(tmp_path):
    store = write(tmp_path, {f"i{n}": pixels(np.uint8, (64, 64), n) for n in range(50)})
    data = pickle.dumps(store)
    assert len(data) < 500
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy.image(7), store.image(7))


def test_mixed_codecs_in_one_shard_stay_aligned(tmp_path):
    grey, deep = np.full((17, 19), 7, np.uint8), pixels(np.uint16, (17, 19))
    rows = [
        encode_image(f"{codec}", image, codec)
        for codec, image in (("jpeg", grey), ("raw", deep), ("png", grey))
    ]
    rows.insert(0, encode_image("odd", pixels(np.uint8, (17, 19)), "raw"))
    write_shard(tmp_path / shard_name(0), rows, {})
    store = Store(tmp_path)
    assert store.image(2).flags.aligned
    np.testing.assert_array_equal(store.image(2), deep)


def test_damage_is_found_and_named(tmp_path):
    store = write(tmp_path, {"good": pixels(np.uint8), "bad": pixels(np.uint8, seed=1)})
    path = tmp_path / "images-00000.arrow"
    data = bytearray(path.read_bytes())
    position = data.find(store.image(1).tobytes())
    data[position + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"images-00000\.arrow: the checksum of image 'bad'"):
        Store(tmp_path).verify()


def test_a_damaged_jpeg_is_an_error_when_read(tmp_path):
    write(tmp_path, {"a": np.full((64, 64), 9, np.uint8)}, codec="jpeg")
    path = tmp_path / "images-00000.arrow"
    data = bytearray(path.read_bytes())
    start = data.find(b"\xff\xd8\xff")
    data[start + 40 : start + 200] = bytes(160)
    path.write_bytes(data)
    with pytest.raises(DataError, match="'a' is damaged"):
        Store(tmp_path).image(0)


def test_unusable_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="radlearn prepare"):
        Store(tmp_path)
    write(tmp_path, {"a": pixels(np.uint8)}, {"b": pixels(np.uint8)})
    whole = (tmp_path / "images-00001.arrow").read_bytes()
    (tmp_path / "images-00001.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"images-00001\.arrow is no image shard"):
        Store(tmp_path)
    (tmp_path / "images-00001.arrow").write_bytes(b"")
    with pytest.raises(DataError, match=r"images-00001\.arrow is no image shard"):
        Store(tmp_path)
    (tmp_path / "images-00001.arrow").write_bytes(whole)
    (tmp_path / "images-00000.arrow").unlink()
    with pytest.raises(DataError, match=r"lacks images-00000\.arrow"):
        Store(tmp_path)
    table = pa.table({"image_id": ["a"]})
    with pa.ipc.new_file(str(tmp_path / "images-00000.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="wanted the columns"):
        Store(tmp_path)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("radlearn.data.store.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, {"a": pixels(np.uint8)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_files_offers_the_same_protocol(tmp_path):
    (tmp_path / "sub").mkdir()
    first, second = np.full((40, 60), 9, np.uint8), pixels(np.uint8, (30, 20))
    Image.fromarray(first).save(tmp_path / "sub" / "a.png")
    Image.fromarray(second).save(tmp_path / "b.png")
    source: ImageSource = FolderSource(tmp_path, ["sub/a.png", "b.png"], short_side=20)
    assert (len(source), source.ids, source.index_of("b.png")) == (2, ["sub/a.png", "b.png"], 1)
    assert (
        [source.size(row) for row in range(2)]
        == [image.shape for image in source.gather([0, 1])]
        == [(20, 30), (30, 20)]
    )
    np.testing.assert_array_equal(source.image(1), second)
    assert pickle.loads(pickle.dumps(source)).size(0) == (20, 30)
    assert FolderSource(tmp_path, ["sub/a.png"], ["x"]).index_of("x") == 0


def test_a_folder_of_files_refuses_what_it_must(tmp_path):
    with pytest.raises(ImageError, match="path_escape"):
        FolderSource(tmp_path, ["../../etc/passwd"])
    with pytest.raises(DataError, match="distinct ids"):
        FolderSource(tmp_path, ["a.png", "b.png"], ["x", "x"])
    source = FolderSource(tmp_path, ["a.png"])
    with pytest.raises(ImageError, match="missing"):
        source.image(0)
    with pytest.raises(DataError, match="no image 'b'"):
        source.index_of("b")
