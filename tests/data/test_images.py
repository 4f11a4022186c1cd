"""Pixels against Pillow and NumPy; every unusable file is refused by its reason."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from radlearn.data.images import (
    REASONS,
    ImageError,
    default_window,
    image_size,
    is_dicom_head,
    luma,
    read_image,
    read_image_and_size,
    resize_short,
    resolve_inside,
    target_size,
    to_uint8,
)
from radlearn.errors import DataError


def smooth(height=96, width=80, channels=None, seed=0):
    """Smooth 8-bit noise: survives JPEG."""
    generator = np.random.default_rng(seed)
    shape = (height // 8, width // 8) if channels is None else (height // 8, width // 8, channels)
    coarse = generator.integers(0, 256, shape).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def psnr(first, second):
    return 10 * np.log10(255**2 / max(np.mean((first.astype(float) - second) ** 2), 1e-9))


def png(height, width, depth, colour, rows, extra=b""):
    """A PNG file by hand, for kinds that Pillow does not write. `rows` are the packed bytes of each row."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def reason(call, *arguments, **keywords):
    with pytest.raises(ImageError) as caught:
        call(*arguments, **keywords)
    assert str(caught.value).startswith(f"{caught.value.path}: {caught.value.reason}: ")
    assert caught.value.reason in REASONS
    return caught.value.reason


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes_equal_pillow(tmp_path, mode, suffix):
    image = Image.fromarray(smooth(channels=3)).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    expected = np.asarray(Image.open(tmp_path / f"a.{suffix}").convert("L"))
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected)


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(smooth() > 128).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), (smooth() > 128) * 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_on_black(tmp_path, mode):
    image = Image.fromarray(smooth(channels=4, seed=1), "RGBA").convert(mode)
    image.save(tmp_path / "a.png")
    on_black = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    difference = read_image(tmp_path / "a.png").astype(int) - np.asarray(on_black.convert("L"))
    assert np.abs(difference).max() <= 1  # rounded once instead of twice


def test_palette_with_a_transparent_entry(tmp_path):
    indices = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16) % 4
    image = Image.fromarray(indices, "P")
    image.putpalette([200, 100, 50, 10, 20, 30, 255, 255, 255, 90, 90, 90])
    image.save(tmp_path / "a.png", transparency=2)
    grey = [
        round((200 * 19595 + 100 * 38470 + 50 * 7471) / 65536),
        round((10 * 19595 + 20 * 38470 + 30 * 7471) / 65536),
    ]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.array([*grey, 0, 90])[indices])


def test_transparent_grey_value(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png", transparency=int(smooth()[3, 3]))
    expected = np.where(smooth() == smooth()[3, 3], 0, smooth())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_two_and_four_bit_grey_fill_the_range(tmp_path):
    values = np.tile(np.arange(4), (16, 4))
    packed = [
        sum(v << s for v, s in zip(row[i : i + 4], (6, 4, 2, 0), strict=True))
        for row in values
        for i in range(0, 16, 4)
    ]
    (tmp_path / "a.png").write_bytes(png(16, 16, 2, 0, np.array(packed, np.uint8).reshape(16, 4)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values * 85)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_bits(tmp_path, suffix):
    values = np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16)
    values[0, :2] = 0, 65535
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    read = read_image(tmp_path / f"a.{suffix}")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("colour", [2, 4, 6], ids=["RGB", "grey and alpha", "RGBA"])
def test_sixteen_bit_colour_keeps_its_bits(tmp_path, colour):
    channels = {2: 3, 4: 2, 6: 4}[colour]
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 24, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(
        png(20, 24, 16, colour, pixels.astype(">u2").reshape(20, -1).view(np.uint8))
    )
    wide = pixels.astype(float)
    grey = wide[..., 0] if colour == 4 else wide[..., :3] @ [0.299, 0.587, 0.114]
    expected = grey * (wide[..., -1] / 65535 if colour != 2 else 1)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint16
    assert np.abs(read - expected).max() < 2


def test_sixteen_bit_white_is_zero(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16)
    for suffix, array in (("16.tif", values), ("8.tif", smooth())):
        Image.fromarray(array).save(tmp_path / suffix, tiffinfo={262: 0})
    np.testing.assert_array_equal(read_image(tmp_path / "16.tif"), 65535 - values)
    expected = np.asarray(Image.open(tmp_path / "8.tif"))
    np.testing.assert_array_equal(read_image(tmp_path / "8.tif"), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_modes(tmp_path, mode, progressive):
    source = Image.fromarray(smooth(channels=3))
    source.convert(mode).save(tmp_path / "a.jpg", quality=95, progressive=progressive, subsampling=0)
    read = read_image(tmp_path / "a.jpg")
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("L"))
    assert np.abs(read.astype(int) - expected).max() <= (0 if mode == "L" else 2)
    assert psnr(read, np.asarray(source.convert("L"))) > 35


def test_rgb_of_equal_channels_is_exactly_grey(tmp_path):
    grey = smooth()
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), grey)


@pytest.mark.parametrize("short_side", [256, 313, 400, 512, 625, 700])
def test_scaled_jpeg_decode_is_close_to_exact_area_averaging(tmp_path, short_side):
    # Structures of 40 px and detector noise; real radiographs reach 52 to 60 dB.
    image = cv2.resize(smooth(305, 250), (1250, 1525), interpolation=cv2.INTER_CUBIC)
    image = np.clip(image + np.random.default_rng(0).normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95)
    read = read_image(tmp_path / "a.jpg", short_side=short_side)
    exact = resize_short(read_image(tmp_path / "a.jpg"), short_side)
    assert min(read.shape) == short_side
    assert read.shape == exact.shape
    assert psnr(read, exact) > 48


def test_scaled_decode_keeps_the_geometry_of_sizes_that_are_no_multiple_of_eight(tmp_path):
    """A slope must arrive as the same slope: resizing the padded frame would shrink it by 3 %."""
    height, width = 257, 261
    slope = np.tile(np.linspace(0, 255, width), (height, 1)).round().astype(np.uint8)
    Image.fromarray(slope).save(tmp_path / "a.jpg", quality=100)
    read = read_image(tmp_path / "a.jpg", short_side=32).astype(float)
    exact = resize_short(slope, 32).astype(float)
    assert np.abs(read - exact)[:, 1:-1].max() <= 2


def test_a_smaller_image_is_not_enlarged(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.fromarray(smooth()).save(tmp_path / name)
        image, size = read_image_and_size(tmp_path / name, short_side=200)
        assert image.shape == size == (96, 80)
        image, size = read_image_and_size(tmp_path / name, short_side=40)
        assert image.shape == (48, 40)
        assert size == image_size(tmp_path / name) == (96, 80)


def test_target_size_rounds_the_long_side():
    assert target_size(3050, 2500, 256) == (312, 256)
    assert target_size(100, 200, 512) == (100, 200)


@pytest.mark.parametrize("kind", ["jpg", "progressive.jpg", "cmyk.jpg", "png", "tif"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path, kind):
    image = Image.fromarray(smooth(256, 256))
    options = {"quality": 95, "progressive": "progressive" in kind} if kind.endswith("jpg") else {}
    image.convert("CMYK" if "cmyk" in kind else "L").save(tmp_path / f"a.{kind}", **options)
    whole = (tmp_path / f"a.{kind}").read_bytes()
    for length in (4, 30, len(whole) // 3, len(whole) // 2, len(whole) - 200, len(whole) - 5):
        (tmp_path / f"b.{kind}").write_bytes(whole[:length])
        for short_side in (None, 64):
            assert reason(read_image, tmp_path / f"b.{kind}", short_side=short_side) in (
                "truncated",
                "corrupt",
                "unsupported_format",
            )


def test_a_jpeg_cut_in_the_middle_is_called_truncated(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(smooth(512, 512)).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert reason(read_image, tmp_path / "a.jpg") == "truncated"
    assert reason(read_image, tmp_path / "a.jpg", short_side=64) == "truncated"


def test_a_flipped_bit_in_a_png_is_corrupt(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    assert reason(read_image, tmp_path / "a.png") == "corrupt"


def test_reasons_of_files_that_are_no_image(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no image" * 20)
    (tmp_path / "dicom.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    (tmp_path / "dicom.png").write_bytes(b"\x08\0\x16\0" + b"\0" * 100)
    (tmp_path / "noise.jpg").write_bytes(b"\xff\xd8\xff" + np.random.default_rng(0).bytes(3000))
    Image.fromarray(smooth()[:8, :8]).save(tmp_path / "small.png")
    Image.fromarray(smooth()[:8, :8]).save(tmp_path / "small.jpg")
    assert reason(read_image, tmp_path / "absent.png") == "missing"
    assert reason(read_image, tmp_path / "text.png" / "below.png") == "missing"
    assert reason(read_image, tmp_path) == "unreadable"
    assert reason(read_image, tmp_path / "empty.png") == "empty_file"
    assert reason(read_image, tmp_path / "text.png") == "unsupported_format"
    assert reason(read_image, tmp_path / "dicom.dcm") == "no_pixels"
    assert reason(read_image, tmp_path / "dicom.png") == "no_pixels"
    assert reason(image_size, tmp_path / "dicom.dcm") == "no_pixels"
    assert reason(read_image, tmp_path / "noise.jpg") == "corrupt"
    assert reason(read_image, tmp_path / "small.png") == "too_small"
    assert reason(read_image, tmp_path / "small.jpg") == "too_small"
    assert reason(image_size, tmp_path / "absent.png") == "missing"
    assert reason(image_size, tmp_path / "empty.png") == "empty_file"


def test_a_header_that_claims_a_huge_image_is_refused_before_decoding(tmp_path):
    (tmp_path / "a.png").write_bytes(png(9000, 9000, 8, 0, [b"\0" * 9000]))
    assert reason(read_image, tmp_path / "a.png") == "too_large"


def test_float_and_nan_pixels_are_refused(tmp_path):
    values = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    assert reason(read_image, tmp_path / "float.tif") == "unsupported_mode"
    assert reason(read_image, tmp_path / "nan.tif") == "nan"
    with pytest.raises(DataError, match="nan"):
        to_uint8(values)
    with pytest.raises(DataError, match="float64"):
        to_uint8(np.zeros((4, 4)))


def test_integers_that_do_not_fit_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((20, 20), 70_000, np.int32)).save(tmp_path / "a.tif")
    assert reason(read_image, tmp_path / "a.tif") == "unsupported_mode"
    Image.fromarray(np.full((20, 20), 60_000, np.int32)).save(tmp_path / "b.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), np.full((20, 20), 60_000, np.uint16))


def test_several_images_in_one_file_are_refused(tmp_path):
    first = Image.fromarray(smooth())
    first.save(tmp_path / "a.tif", save_all=True, append_images=[first])
    assert reason(read_image, tmp_path / "a.tif") == "unsupported_mode"


def test_an_orientation_tag_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (96, 80)


def test_windowing_is_linear_clipped_and_never_wraps():
    values = np.array([[0, 99, 100, 150, 200, 201, 65535]], np.uint16)
    expected = np.clip((values.astype(float) - 100) / 100 * 255, 0, 255).round()
    np.testing.assert_array_equal(to_uint8(values, (100, 200)), expected)
    hounsfield = np.array([[-2000, -1350, -600, 150, 3000]], np.int16)
    np.testing.assert_array_equal(to_uint8(hounsfield, (-1350, 150)), [[0, 0, 128, 255, 255]])
    with pytest.raises(DataError, match="low to high"):
        to_uint8(values, (5, 5))


def test_default_window_is_a_percentile_range():
    generator = np.random.default_rng(0)
    values = generator.integers(1000, 5000, (200, 200)).astype(np.uint16)
    values[0, :10] = 65535  # a burnt-in marker
    low, high = default_window(values)
    expected = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    assert (low, high) == tuple(expected)
    assert high < 5000
    windowed = to_uint8(values)
    assert (windowed.min(), windowed.max()) == (0, 255)
    assert to_uint8(np.full((20, 20), 7, np.uint16)).max() == 0
    eight = smooth()
    assert to_uint8(eight) is eight


def test_luma_is_pillows(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(luma(colour), np.asarray(Image.fromarray(colour).convert("L")))
    wide = luma(colour.astype(np.uint16) * 257)
    assert wide.dtype == np.uint16
    assert np.abs(wide / 257 - colour @ [0.299, 0.587, 0.114]).max() < 0.01


def test_dicom_is_known_by_its_first_bytes():
    assert is_dicom_head(b"II*\0" + b"\0" * 124 + b"DICM")
    assert is_dicom_head(b"\x02\0\0\0UL\x04\0")
    assert is_dicom_head(b"\x08\0\x05\0CS\x0a\0")
    assert is_dicom_head(b"\0\x08\0\x05CS\0\x0a")
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"BM", b"\x08\0\x05\x7f", b"DICM"):
        assert not is_dicom_head(head)


def test_reading_other_images_needs_no_pydicom(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.png")
    code = f"""
import sys
sys.modules["pydicom"] = None
from radlearn.data.images import image_size, read_image
print(read_image({str(tmp_path / "a.png")!r}).shape, image_size({str(tmp_path / "a.png")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(96, 80) (96, 80)"


def test_paths_that_leave_the_root_are_refused(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.png").touch()
    (root / "link").symlink_to(outside)
    (root / "inner").symlink_to(root / "sub")
    for path in (
        "../outside/a.png",
        "sub/../../outside/a.png",
        "../../etc/passwd",
        str(outside / "a.png"),
        "link/a.png",
    ):
        assert reason(resolve_inside, root, path) == "path_escape"
    assert reason(resolve_inside, root, "a\0b") == "unreadable"
    assert resolve_inside(root, "sub/../sub/b.png") == root / "sub" / "b.png"
    assert resolve_inside(root, str(root / "sub" / "b.png")) == root / "sub" / "b.png"
    assert resolve_inside(root, "inner/b.png") == root / "sub" / "b.png"


def test_errors_survive_a_process_border():
    error = pickle.loads(pickle.dumps(ImageError("a.png", "corrupt", "why")))
    assert (error.path, error.reason, error.detail) == ("a.png", "corrupt", "why")
    assert str(error) == "a.png: corrupt: the file cannot be decoded (why)"
