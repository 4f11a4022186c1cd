"""Draws: distributions, independence, replay. Pixels: Pillow and NumPy references."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from radlearn.data.views import (
    PARAMETERS,
    EvaluationView,
    Views,
    ViewSpec,
    blur_into,
    global_views,
    jitter_tables,
    local_views,
    require_pixels,
    resize_into,
    uniforms,
)
from radlearn.errors import ConfigurationError

PLAIN = {"jitter_probability": 0.0, "blur_probability": 0.0}


def picture(height=256, width=308, seed=0):
    """Structures of 8 px."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def psnr(first, second):
    return 10 * np.log10(255**2 / max(np.mean((first.astype(float) - second) ** 2), 1e-9))


def sizes(count, height=256, width=308):
    return np.full(count, height), np.full(count, width)


def column(parameters, name):
    return parameters[..., PARAMETERS.index(name)]


def fixed(views=1, **values):
    """Parameters of the whole image without augmentation, (V, 1, P), but for `values`."""
    neutral = {"height": 1, "width": 1, "brightness": 1, "contrast": 1, "zoom": 1} | values
    row = np.array([neutral.get(name, 0) for name in PARAMETERS], np.float32)
    return np.broadcast_to(row, (views, 1, len(PARAMETERS)))


def render_one(image, size=64, **values):
    return Views([ViewSpec(1, size)]).render([image], [fixed(**values)])[0][0, 0]


# --- draws


def test_defaults_are_the_recommended_recipe_for_radiographs():
    first, second = global_views(), local_views()
    assert (first.count, first.size, first.scale, first.ratio) == (2, 224, (0.4, 1.0), (3 / 4, 4 / 3))
    assert (second.count, second.size, second.scale, second.ratio) == (6, 96, (0.05, 0.4), (3 / 4, 4 / 3))
    for spec in (first, second):
        assert (spec.flip, spec.brightness, spec.contrast, spec.jitter_probability) == (0, 0.4, 0.4, 0.8)
        assert (spec.solarise_probability, spec.degrees, spec.shift, spec.zoom, spec.noise) == (
            0,
            0,
            0,
            (1, 1),
            0,
        )
        assert spec.blur_sigma == (0.1, 2.0)
    assert (first.blur_probability, first.blur_kernel) == ((1.0, 0.1), 23)
    assert (second.blur_probability, second.blur_kernel) == (0.5, 9)


def test_uniforms_are_uniform_and_uncorrelated():
    u = uniforms(0, 0, np.arange(500), np.arange(200))
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    for other in (
        uniforms(1, 0, np.arange(500), np.arange(200)),
        uniforms(0, 1, np.arange(500), np.arange(200)),
        uniforms(0, 0, np.arange(1, 501), np.arange(200)),
        uniforms(0, 0, np.arange(500), np.arange(1, 201)),
    ):
        assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(u.size)
    by_index = np.corrcoef(u)
    assert np.abs(by_index - np.eye(200)).max() < 6 / np.sqrt(500)
    assert len(np.unique(u)) == u.size


def test_drawn_parameters_follow_their_distributions():
    spec = ViewSpec(
        1,
        224,
        flip=0.3,
        solarise_probability=0.2,
        degrees=10,
        shift=0.1,
        zoom=(0.8, 1.1),
        blur_probability=0.4,
    )
    count = 20_000
    drawn = Views([spec], 3).draw(0, np.arange(count), *sizes(count, 3000, 3000))[0][0]
    for name, probability in (("flip", 0.3), ("solarise", 0.2)):
        assert set(np.unique(column(drawn, name))) == {0, 1}
        assert abs(column(drawn, name).mean() - probability) < 4 * np.sqrt(probability / count)
    blur = column(drawn, "blur_sigma")
    assert abs((blur > 0).mean() - 0.4) < 0.015
    jittered = column(drawn, "brightness") != 1
    assert abs(jittered.mean() - 0.8) < 0.012
    assert np.array_equal(jittered, column(drawn, "contrast") != 1)
    for values, low, high in (
        (blur[blur > 0], 0.1, 2.0),
        (column(drawn, "brightness")[jittered], 0.6, 1.4),
        (column(drawn, "contrast")[jittered], 0.6, 1.4),
        (column(drawn, "degrees"), -10, 10),
        (column(drawn, "shift_x"), -0.1, 0.1),
        (column(drawn, "shift_y"), -0.1, 0.1),
        (column(drawn, "zoom"), 0.8, 1.1),
        (column(drawn, "noise_seed"), 0, 2**24),
    ):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert not column(drawn, "noise").any()


def test_crops_have_the_asked_areas_and_ratios():
    # Small enough that every first attempt fits: then the area is uniform and the ratio log-uniform.
    spec = ViewSpec(1, 96, scale=(0.05, 0.4))
    drawn = Views([spec]).draw(0, np.arange(20_000), *sizes(20_000, 4000, 4000))[0][0].astype(float)
    tall, wide = column(drawn, "height"), column(drawn, "width")
    assert stats.kstest(tall * wide, stats.uniform(0.05, 0.35).cdf).pvalue > 1e-3
    assert stats.kstest(np.log(wide / tall), stats.uniform(np.log(3 / 4), np.log(16 / 9)).cdf).pvalue > 1e-3
    assert stats.kstest(column(drawn, "top") / (1 - tall), "uniform").pvalue > 1e-3
    assert stats.kstest(column(drawn, "left") / (1 - wide), "uniform").pvalue > 1e-3


def test_crops_agree_with_torchvision_where_attempts_fail():
    transforms = pytest.importorskip("torchvision.transforms")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    blank = torch.zeros(1, 200, 260)
    boxes = np.array(
        [transforms.RandomResizedCrop.get_params(blank, (0.4, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)]
    )
    drawn = Views([ViewSpec(1, 224)]).draw(0, np.arange(2000), *sizes(2000, 200, 260))[0][0].astype(float)
    ours = np.rint(drawn[:, :4] * [200, 260, 200, 260])
    for position in range(4):
        assert stats.ks_2samp(ours[:, position], boxes[:, position]).pvalue > 1e-3


def test_crops_lie_inside_images_of_any_shape():
    heights, widths = np.array([16, 3000, 17, 256, 20]), np.array([3000, 16, 17, 308, 200])
    for spec in (ViewSpec(8, 96, scale=(0.01, 1)), ViewSpec(8, 32, ratio=(3.0, 4.0), scale=(0.9, 1.0))):
        drawn = Views([spec]).draw(0, np.arange(5), heights, widths)[0].astype(float)
        top, left, tall, wide = (column(drawn, name) for name in ("top", "left", "height", "width"))
        assert np.all((top >= 0) & (left >= 0) & (tall > 0) & (wide > 0))
        assert np.all((top + tall <= 1 + 1e-6) & (left + wide <= 1 + 1e-6))
        assert np.all(np.abs(tall * heights - np.rint(tall * heights)) < 1e-3)


def test_parameters_of_a_sample_do_not_depend_on_its_batch():
    views = Views([global_views(), local_views()], seed=5)
    heights, widths = np.array([256, 300, 280, 256]), np.array([308, 256, 256, 400])
    together = views.draw(7, [10, 11, 12, 13], heights, widths)
    shuffled = views.draw(7, [13, 11], heights[[3, 1]], widths[[3, 1]])
    for whole, part in zip(together, shuffled, strict=True):
        np.testing.assert_array_equal(whole[:, [3, 1]], part)
    assert [p.shape for p in together] == [(2, 4, len(PARAMETERS)), (6, 4, len(PARAMETERS))]
    assert all(p.dtype == np.float32 for p in together)


def test_draws_differ_by_seed_draw_and_image_and_extra_specs_change_nothing():
    one = Views([global_views()], seed=5).draw(7, [1], *sizes(1))[0]
    assert not np.array_equal(one, Views([global_views()], seed=6).draw(7, [1], *sizes(1))[0])
    assert not np.array_equal(one, Views([global_views()], seed=5).draw(8, [1], *sizes(1))[0])
    assert not np.array_equal(one, Views([global_views()], seed=5).draw(7, [2], *sizes(1))[0])
    assert not np.array_equal(one[0], one[1])
    np.testing.assert_array_equal(
        one, Views([global_views(), local_views()], seed=5).draw(7, [1], *sizes(1))[0]
    )


def test_a_probability_for_each_view():
    spec = ViewSpec(3, 96, blur_probability=(1.0, 0.0, 0.5), flip=(0.0, 1.0, 0.0))
    drawn = Views([spec]).draw(0, np.arange(400), *sizes(400))[0]
    shares = (column(drawn, "blur_sigma") > 0).mean(axis=1)
    assert (shares[0], shares[1]) == (1, 0)
    assert 0.4 < shares[2] < 0.6
    np.testing.assert_array_equal(column(drawn, "flip").mean(axis=1), [0, 1, 0])


def test_left_right_flips_are_off_by_default():
    drawn = Views([global_views(), local_views()]).draw(0, np.arange(500), *sizes(500))
    assert not any(column(p, "flip").any() for p in drawn)


def test_a_specification_that_means_nothing_is_refused():
    for wrong in (
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 0.4)},
        {"flip": 1.5},
        {"blur_probability": (0.5,)},
        {"blur_kernel": 4},
        {"degrees": -1},
        {"zoom": (0, 1)},
        {"brightness": 2},
        {"count": 0},
    ):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            ViewSpec(**({"count": 2, "size": 96} | wrong))
    with pytest.raises(ConfigurationError, match="at least one"):
        Views([])


# --- pixels


def test_rendering_the_same_parameters_gives_the_same_bytes():
    spec = dataclasses.replace(local_views(), noise=0.05, degrees=10, shift=0.1, zoom=(0.9, 1.1), flip=0.5)
    views, images = Views([global_views(), spec], seed=1), [picture(seed=n) for n in range(3)]
    parameters = views.draw(0, [4, 5, 6], *sizes(3))
    first, second = views.render(images, parameters), Views(views.specs, seed=99).render(images, parameters)
    assert [v.shape for v in first] == [(2, 3, 224, 224), (6, 3, 96, 96)]
    for left, right in zip(first, second, strict=True):
        assert left.dtype == np.uint8
        np.testing.assert_array_equal(left, right)
    alone = views.render(images[1:2], [p[:, 1:2] for p in parameters])
    np.testing.assert_array_equal(alone[1][:, 0], first[1][:, 1])


@pytest.mark.parametrize("size", [224, 96, 40])
def test_crops_equal_pillows_antialiased_crops(size):
    image = cv2.GaussianBlur(picture(512, 640), (0, 0), 8)
    views = Views([ViewSpec(6, size, scale=(0.05, 1.0), **PLAIN)])
    parameters = views.draw(0, [0], *sizes(1, 512, 640))
    rendered = views.render([image], parameters)[0]
    for view, row in zip(rendered[:, 0], parameters[0][:, 0], strict=True):
        top, left, tall, wide = np.rint(row[:4] * [512, 640, 512, 640]).astype(int)
        box = (left, top, left + wide, top + tall)
        expected = Image.fromarray(image).crop(box).resize((size, size), Image.Resampling.BICUBIC)
        assert psnr(view, np.asarray(expected)) > 44


@pytest.mark.parametrize("shrink", [0.5, 0.9, 1.0, 1.15, 1.3, 1.7, 2.0, 2.6, 3.5, 5.0])
def test_resampling_is_close_to_pillow_and_does_not_alias(shrink):
    size = 64
    side = round(size * shrink)
    generator = np.random.default_rng(0)
    noise = generator.normal(128, 6, (side, side))  # white noise is what aliases first
    crop = np.clip(picture(512, 512)[:side, :side] * 0.5 + noise * 0.5, 0, 255).astype(np.uint8)
    out = np.empty((size, size), np.uint8)
    resize_into(out, crop)
    expected = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
    assert psnr(out, expected) > 43
    if shrink == 1.0:
        np.testing.assert_array_equal(out, crop)


def test_flip_mirrors_left_and_right():
    image = picture(64, 64)
    np.testing.assert_array_equal(render_one(image, flip=1), image[:, ::-1])


def test_brightness_and_contrast_equal_the_formula():
    image = picture(64, 64)
    bright = np.minimum(image * 1.2, 255)
    pivot = min(1.2 * image.mean(), 255)
    expected = np.clip(bright * 0.7 + pivot * 0.3, 0, 255)
    assert np.abs(render_one(image, brightness=1.2, contrast=0.7) - expected).max() <= 0.51
    identity = jitter_tables(
        np.ones(2, np.float32), np.ones(2, np.float32), np.array([3.0, 200.0], np.float32)
    )
    np.testing.assert_array_equal(identity, np.tile(np.arange(256), (2, 1)))


def test_contrast_agrees_with_torchvision_where_nothing_saturates():
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = (picture(64, 64) // 2 + 40).astype(np.uint8)
    pil = functional.adjust_contrast(functional.adjust_brightness(Image.fromarray(image), 1.1), 0.8)
    assert (
        np.abs(render_one(image, brightness=1.1, contrast=0.8).astype(int) - np.asarray(pil)).max() <= 2
    )  # it truncates twice


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_equals_the_float_convolution(sigma):
    from scipy.ndimage import gaussian_filter

    image = picture(64, 64)
    expected = gaussian_filter(image.astype(float), sigma, mode="mirror", radius=int(np.ceil(3 * sigma)))
    assert np.abs(render_one(image, blur_sigma=sigma) - expected).max() <= 1
    truncated = image.copy()
    blur_into(truncated, 2.0, 3)  # three taps: weights exp(-1/8), 1, exp(-1/8)
    middle = image.astype(float)
    weights = np.exp([-1 / 8, 0, -1 / 8]) / np.exp([-1 / 8, 0, -1 / 8]).sum()
    rows = sum(w * middle[i : 62 + i] for i, w in enumerate(weights))
    both = sum(w * rows[:, i : 62 + i] for i, w in enumerate(weights))
    assert np.abs(truncated[1:-1, 1:-1] - both).max() <= 1


def test_solarisation_inverts_from_128_after_jitter_and_blur():
    image = picture(64, 64)
    np.testing.assert_array_equal(render_one(image, solarise=1), np.where(image >= 128, 255 - image, image))
    for before in ({"brightness": 0.8, "contrast": 1.3}, {"brightness": 0.8, "blur_sigma": 1.0}):
        plain = render_one(image, **before)
        np.testing.assert_array_equal(
            render_one(image, solarise=1, **before), np.where(plain >= 128, 255 - plain, plain)
        )


def test_noise_has_the_asked_spread_and_its_seed_decides_it():
    image = np.full((128, 128), 128, np.uint8)
    first = render_one(image, 128, noise=0.05, noise_seed=7)
    assert abs(first.std() / 255 - 0.05) < 0.002
    assert abs(first.mean() - 128) < 0.5
    np.testing.assert_array_equal(first, render_one(image, 128, noise=0.05, noise_seed=7))
    assert not np.array_equal(first, render_one(image, 128, noise=0.05, noise_seed=8))


def spot(y, x, size=129):
    """A Gaussian spot of sigma 3 px."""
    rows, columns = np.mgrid[:size, :size]
    return (220 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)).round().astype(np.uint8)


def centre(image):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image.astype(float)
    return np.array([(rows * weight).sum(), (columns * weight).sum()]) / weight.sum()


def test_rotation_shift_and_zoom_move_a_spot_where_they_should():
    image = spot(64, 94)  # 30 px right of the centre
    np.testing.assert_allclose(centre(render_one(image, 129, degrees=90)), [34, 64], atol=0.2)  # to the top
    np.testing.assert_allclose(centre(render_one(image, 129, degrees=-90)), [94, 64], atol=0.2)
    moved = centre(render_one(image, 129, shift_x=-0.1, shift_y=0.2))
    np.testing.assert_allclose(moved, [64 + 0.2 * 129, 94 - 0.1 * 129], atol=0.2)
    np.testing.assert_allclose(centre(render_one(image, 129, zoom=0.5)), [64, 79], atol=0.2)
    np.testing.assert_allclose(centre(render_one(spot(64, 84), 129, zoom=2.0)), [64, 104], atol=0.2)


@pytest.mark.parametrize("size", [32, 64, 100])
def test_an_affine_of_almost_nothing_is_the_plain_crop(size):
    """The warp and the plain path share one geometry, at every scale."""
    image = cv2.GaussianBlur(picture(256, 256), (0, 0), 8)
    crop = {"top": 0.125, "left": 0.25, "height": 0.5, "width": 0.5}
    plain, warped = render_one(image, size, **crop), render_one(image, size, degrees=1e-4, **crop)
    assert np.abs(plain.astype(int) - warped).mean() < 0.6


def test_an_affine_shows_the_image_around_the_crop_and_black_outside_the_image():
    image = np.full((128, 128), 200, np.uint8)
    inner = {"top": 0.25, "left": 0.25, "height": 0.5, "width": 0.5}
    assert render_one(image, 64, shift_x=0.3, degrees=5, **inner).min() == 200
    assert (render_one(image, 64, shift_x=0.5)[:, :30] == 0).all()


def test_sixteen_bit_images_are_windowed_first():
    image = picture(64, 64).astype(np.uint16) * 100 + 1000
    spec = ViewSpec(1, 64)
    fixed_window = Views([spec], window=(1000, 26500)).render([image], [fixed()])[0][0, 0]
    np.testing.assert_array_equal(fixed_window, picture(64, 64))
    own_window = Views([spec]).render([image], [fixed()])[0][0, 0]
    assert (own_window.min(), own_window.max()) == (0, 255)


def test_read_only_images_are_rendered():
    image = picture()
    image.flags.writeable = False
    views = Views([dataclasses.replace(global_views(), degrees=5)])
    views.render([image], views.draw(0, [0], *sizes(1)))


def test_share_of_upsampled_crops():
    views = Views([ViewSpec(1, 64), ViewSpec(1, 200)])
    parameters = [np.repeat(fixed(height=h, width=0.5), 2, axis=1) for h in (0.25, 1.0)]
    # 64 px from (64 or 32) x 128: the second is upsampled; 200 px from 256 x 128 or 128 x 128: both are.
    share = views.upsampled_share(parameters, np.array([256, 128]), np.array([256, 256]))
    assert share == 0.75


# --- evaluation views


def test_centre_crop():
    image = picture(64, 100)
    np.testing.assert_array_equal(EvaluationView(64)(image), image[:, 18:82])
    np.testing.assert_array_equal(EvaluationView(40, resize=64)(image), image[12:52, 30:70])
    image = cv2.GaussianBlur(picture(256, 308), (0, 0), 8)
    out = EvaluationView(32)(image)
    expected = Image.fromarray(image).resize((38, 32), Image.Resampling.BICUBIC).crop((3, 0, 35, 32))
    assert psnr(out, np.asarray(expected)) > 40


def test_pad_square_keeps_everything_between_black_bars():
    image = picture(64, 128)
    out = EvaluationView(128, fit="pad_square")(image)
    np.testing.assert_array_equal(out[32:96], image)
    assert not out[:32].any()
    assert not out[96:].any()


def test_stretch_and_batches():
    images = [picture(64, 128), picture(128, 64), picture(64, 64).astype(np.uint16)]
    out = EvaluationView(32, fit="stretch").batch(images)
    assert (out.shape, out.dtype) == ((3, 32, 32), np.uint8)


def test_evaluation_views_refuse_nonsense():
    with pytest.raises(ConfigurationError, match="no fit 'crop'"):
        EvaluationView(32, fit="crop")
    with pytest.raises(ConfigurationError, match="resize=16"):
        EvaluationView(32, resize=16)


def test_more_pixels_than_stored_is_an_error_that_names_the_key():
    require_pixels(512, 512)
    assert EvaluationView(224, resize=256).pixels == 256
    with pytest.raises(ConfigurationError, match=r"data\.size=896"):
        require_pixels(896, 512)
