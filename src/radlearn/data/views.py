"""Views of an image: parameters are drawn first, pixels second, so any augmentation can be replayed.

Every number is a hash of (seed, draw, image index, view, parameter): it depends neither on the batch nor on
the worker that holds the image. Crops are shares of the image, so they mean the same at any stored
resolution. Order on the pixels: crop and affine (one resampling), flip, brightness, contrast, blur,
solarisation, noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from radlearn.data.images import to_uint8
from radlearn.errors import ConfigurationError

# Columns of a view's parameters, float32. Crop edges are shares of the image's height and width; shifts are
# shares of the crop; blur_sigma is in pixels of the view; noise is a share of the grey range; noise_seed is
# below 2**24, where float32 is exact.
PARAMETERS = (
    "top", "left", "height", "width", "flip", "brightness", "contrast", "blur_sigma", "solarise",
    "degrees", "shift_y", "shift_x", "zoom", "noise", "noise_seed",
)  # fmt: skip
_COLUMN = {name: column for column, name in enumerate(PARAMETERS)}
_CROP_ATTEMPTS = 10  # as torchvision.transforms.RandomResizedCrop
# Hash counters of one view: two a crop attempt, then one a parameter, and room for more of them.
_COUNTERS = 40
_GREYS = np.arange(256, dtype=np.float32)
_SOLARISE = np.where(_GREYS >= 128, 255 - _GREYS, _GREYS).astype(np.uint8)
# Shrinking by more than this, linear interpolation aliases (below 47 dB against antialiased bicubic).
_LINEAR_TO = 1.2


@dataclass(frozen=True)
class ViewSpec:
    """What is drawn for the views of one size. The defaults are a global view for X-rays.

    A probability is one number, or one a view where the views of a size differ.

    Args:
        count: how many views; size: their side in pixels.
        scale: the crop's share of the image's area; ratio: its width over its height. Drawn as torchvision's
            RandomResizedCrop does: area uniform, ratio log-uniform, ten attempts, then the largest that fits.
        flip: probability of a left-right flip. 0: reports say left and right, and a heart lies on one side.
        brightness, contrast: factors are uniform in 1 +- this; jitter_probability: of applying both.
        blur_probability: of a Gaussian blur; blur_sigma: its range in pixels; blur_kernel: its largest side.
        solarise_probability: of inverting grey values from 128.
        degrees: largest rotation; shift: largest shift as a share of the crop; zoom: range of magnification.
        noise: standard deviation of additive Gaussian noise as a share of the grey range.
    """

    count: int
    size: int
    scale: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float | tuple[float, ...] = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    jitter_probability: float | tuple[float, ...] = 0.8
    blur_probability: float | tuple[float, ...] = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int = 23
    solarise_probability: float | tuple[float, ...] = 0.0
    degrees: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        def want(good: bool, key: str, rule: str) -> None:
            if not good:
                raise ConfigurationError(f"views of {self.size} px: {key} {rule}: got {getattr(self, key)}")

        want(self.count >= 1 and self.size >= 1, "count", "and size are at least 1")
        want(0 < self.scale[0] <= self.scale[1] <= 1, "scale", "is a range of shares in (0, 1]")
        for key in ("ratio", "zoom"):
            low, high = getattr(self, key)
            want(0 < low <= high, key, "is a range (low, high) above 0")
        want(0 < self.blur_sigma[0] <= self.blur_sigma[1], "blur_sigma", "is a range (low, high) above 0")
        want(self.blur_kernel % 2 == 1 and self.blur_kernel >= 1, "blur_kernel", "is an odd number of pixels")
        for key in ("flip", "jitter_probability", "blur_probability", "solarise_probability"):
            chances = self.chances(key)
            want(len(chances) == self.count, key, f"is one number or {self.count}, one a view")
            want(bool(np.all((chances >= 0) & (chances <= 1))), key, "is a probability")
        for key in ("brightness", "contrast"):
            want(0 <= getattr(self, key) <= 1, key, "lies in [0, 1]")
        for key in ("degrees", "shift", "noise"):
            want(getattr(self, key) >= 0, key, "is not negative")

    def chances(self, key: str) -> np.ndarray:
        """A probability by view, (count,)."""
        value = getattr(self, key)
        return np.asarray(value if isinstance(value, tuple | list) else [value] * self.count, np.float64)


def global_views(count: int = 2, size: int = 224) -> ViewSpec:
    """The global views of NOVA: the first always blurred, later ones rarely (LeVLJEPA's asymmetry)."""
    return ViewSpec(count, size, blur_probability=(1.0, *[0.1] * (count - 1)))


def local_views(count: int = 6, size: int = 96) -> ViewSpec:
    """The local views of NOVA."""
    return ViewSpec(count, size, scale=(0.05, 0.4), blur_probability=0.5, blur_kernel=9)


# --- drawing


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose counters pass BigCrush."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed


def uniforms(seed: int, draw: int, indices: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) for every (counter, index): counters (...,), indices (B,) -> (..., B) float64."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.array([seed], np.uint64) + golden) ^ np.array([draw], np.uint64))
        streams = _mix(_mix(key + golden) ^ np.asarray(indices).astype(np.uint64))
        counted = (np.asarray(counters, np.uint64)[..., None] + np.uint64(1)) * golden
        return (_mix(streams + counted) >> np.uint64(11)) * 2.0**-53


def _first_fitting(u: np.ndarray, spec: ViewSpec, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Crop heights and widths in pixels, (2, V, B), from (V, 2 * attempts, B) uniforms."""
    share, shape = u[:, :_CROP_ATTEMPTS], u[:, _CROP_ATTEMPTS:]
    area = (spec.scale[0] + share * (spec.scale[1] - spec.scale[0])) * (heights * widths)
    low, high = np.log(spec.ratio)
    ratio = np.exp(low + shape * (high - low))
    tall, wide = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
    fits = (tall >= 1) & (wide >= 1) & (tall <= heights) & (wide <= widths)
    first = fits.argmax(axis=1)[:, None]
    tall, wide = (np.take_along_axis(value, first, axis=1)[:, 0] for value in (tall, wide))
    # None fits: the largest crop whose ratio is allowed. torchvision centres it, here its place is drawn.
    fallback_tall = np.minimum(heights, np.rint(widths / spec.ratio[0]))
    fallback_wide = np.minimum(widths, np.rint(heights * spec.ratio[1]))
    fitting = fits.any(axis=1)
    return np.stack([np.where(fitting, tall, fallback_tall), np.where(fitting, wide, fallback_wide)])


def _draw_spec(spec: ViewSpec, u: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(V, _COUNTERS, B) uniforms -> (V, B, P) float32."""
    tall, wide = _first_fitting(u[:, : 2 * _CROP_ATTEMPTS], spec, heights, widths)
    rest = iter(np.moveaxis(u[:, 2 * _CROP_ATTEMPTS :], 1, 0))

    def chance(key: str) -> Any:
        return next(rest) < spec.chances(key)[:, None]

    def within(low: float, high: float) -> Any:
        return low + next(rest) * (high - low)

    values = {
        "top": np.floor(next(rest) * (heights - tall + 1)) / heights,
        "left": np.floor(next(rest) * (widths - wide + 1)) / widths,
        "height": tall / heights,
        "width": wide / widths,
        "flip": chance("flip"),
    }
    jitter = chance("jitter_probability")
    values["brightness"] = np.where(jitter, within(1 - spec.brightness, 1 + spec.brightness), 1)
    values["contrast"] = np.where(jitter, within(1 - spec.contrast, 1 + spec.contrast), 1)
    values["blur_sigma"] = np.where(chance("blur_probability"), within(*spec.blur_sigma), 0)
    values["solarise"] = chance("solarise_probability")
    values["degrees"] = within(-spec.degrees, spec.degrees)
    values["shift_y"], values["shift_x"] = within(-spec.shift, spec.shift), within(-spec.shift, spec.shift)
    values["zoom"] = within(*spec.zoom)
    values["noise"] = np.full_like(tall, spec.noise)
    values["noise_seed"] = np.floor(next(rest) * 2**24)
    return np.stack([values[name] for name in PARAMETERS], axis=-1).astype(np.float32)


class Views:
    """Draws and renders the views of a batch.

    Args:
        specs: one entry a view size; a later entry leaves the draws of the earlier ones as they are.
        seed: of every draw.
        window: grey range of 16-bit images; None takes each image's own `default_window`.
    """

    def __init__(
        self, specs: Sequence[ViewSpec], seed: int = 0, *, window: tuple[float, float] | None = None
    ) -> None:
        if not specs:
            raise ConfigurationError("wanted at least one view specification, got none")
        self.specs, self.seed, self.window = tuple(specs), seed, window

    def draw(
        self, draw: int, indices: Sequence[int] | np.ndarray, heights: np.ndarray, widths: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Draw parameters.

        Args:
            draw: which draw, for instance the epoch.
            indices: (B,) rows of the images; each has a stream of its own.
            heights: (B,) of the images in pixels.
            widths: (B,) of the images in pixels.

        Returns:
            for each specification (V, B, P) float32, columns `PARAMETERS`.
        """
        tall, wide = np.asarray(heights, np.float64), np.asarray(widths, np.float64)
        drawn, first = [], 0
        for spec in self.specs:
            counters = np.arange(first * _COUNTERS, (first + spec.count) * _COUNTERS).reshape(
                spec.count, _COUNTERS
            )
            drawn.append(
                _draw_spec(spec, uniforms(self.seed, draw, np.asarray(indices), counters), tall, wide)
            )
            first += spec.count
        return tuple(drawn)

    def render(self, images: Sequence[np.ndarray], parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Render (H, W) images: for each specification (V, B, size, size) uint8."""
        out = [
            np.empty((*p.shape[:2], s.size, s.size), np.uint8)
            for s, p in zip(self.specs, parameters, strict=True)
        ]
        for position, image in enumerate(images):
            self.render_into(
                [views[:, position] for views in out], image, [p[:, position] for p in parameters]
            )
        return out

    def render_into(
        self, out: Sequence[np.ndarray], image: np.ndarray, parameters: Sequence[np.ndarray]
    ) -> None:
        """Render one image: `out` is for each specification (V, size, size) uint8, `parameters` (V, P)."""
        grey = to_uint8(image, self.window) if image.dtype != np.uint8 or self.window else image
        for spec, views, rows in zip(self.specs, out, parameters, strict=True):
            _render(views, grey, rows, spec.blur_kernel)

    def upsampled_share(
        self, parameters: Sequence[np.ndarray], heights: np.ndarray, widths: np.ndarray
    ) -> float:
        """Share of the views whose crop has fewer pixels than the view, along either side."""
        upsampled = [
            (p[..., _COLUMN["height"]] * heights < s.size - 0.5)
            | (p[..., _COLUMN["width"]] * widths < s.size - 0.5)
            for s, p in zip(self.specs, parameters, strict=True)
        ]
        return float(np.concatenate([u.ravel() for u in upsampled]).mean())


# --- rendering


def _render(out: np.ndarray, image: np.ndarray, rows: np.ndarray, blur_kernel: int) -> None:
    """The views of one size: `out` (V, size, size) uint8 from `rows` (V, P)."""
    views = [dict(zip(PARAMETERS, row, strict=True)) for row in rows.tolist()]
    for view, drawn in zip(out, views, strict=True):
        _crop(view, image, drawn)
    means = np.array([cv2.mean(view)[0] for view in out], np.float32)
    jitter = jitter_tables(rows[:, _COLUMN["brightness"]], rows[:, _COLUMN["contrast"]], means)
    for view, drawn, table in zip(out, views, jitter, strict=True):
        _grey_levels(view, drawn, table, blur_kernel)


def _crop(out: np.ndarray, image: np.ndarray, drawn: dict[str, float]) -> None:
    height, width = image.shape
    # Shares were drawn as whole pixels, so rounding only undoes float32.
    y, x = round(drawn["top"] * height), round(drawn["left"] * width)
    tall = min(max(round(drawn["height"] * height), 1), height - y)
    wide = min(max(round(drawn["width"] * width), 1), width - x)
    if drawn["degrees"] or drawn["shift_y"] or drawn["shift_x"] or drawn["zoom"] != 1:
        _warp(out, image, (y, x, tall, wide), drawn)
    else:
        resize_into(out, image[y : y + tall, x : x + wide])
    if drawn["flip"]:
        cv2.flip(out, 1, dst=out)


def _grey_levels(out: np.ndarray, drawn: dict[str, float], jitter: np.ndarray, blur_kernel: int) -> None:
    """Jitter, blur, solarisation, noise, in place. With no blur between, two are one table."""
    jittered = drawn["brightness"] != 1 or drawn["contrast"] != 1
    if drawn["solarise"] and not drawn["blur_sigma"]:
        cv2.LUT(out, _SOLARISE[jitter], dst=out)
    elif jittered:
        cv2.LUT(out, jitter, dst=out)
    if drawn["blur_sigma"]:
        blur_into(out, drawn["blur_sigma"], blur_kernel)
        if drawn["solarise"]:
            cv2.LUT(out, _SOLARISE, dst=out)
    if drawn["noise"]:
        bits = np.random.SFC64(int(drawn["noise_seed"]))
        noise = np.random.Generator(bits).standard_normal(out.shape, np.float32) * np.float32(
            drawn["noise"] * 255
        )
        out[:] = np.clip(np.rint(out + noise), 0, 255)


def resize_into(out: np.ndarray, crop: np.ndarray) -> None:
    """Resample a crop to the shape of `out` without aliasing: about 48 dB to Pillow's antialiased bicubic.

    On 224 px views, shrinking by 1.5 takes 118 us where INTER_AREA takes 379, at 50 dB against its 49.
    """
    height, width = out.shape
    shrink = max(crop.shape[0] / height, crop.shape[1] / width)
    if shrink <= _LINEAR_TO:
        enlarges = crop.shape[0] < height and crop.shape[1] < width
        cv2.resize(
            crop, (width, height), dst=out, interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_LINEAR
        )
    elif shrink <= 4:
        # Two samples a pixel, at most two pixels apart: every pixel counts; averaging pairs is vectorised.
        double = cv2.resize(crop, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        cv2.resize(double, (width, height), dst=out, interpolation=cv2.INTER_AREA)
    else:
        cv2.resize(crop, (width, height), dst=out, interpolation=cv2.INTER_AREA)


def jitter_tables(brightness: np.ndarray, contrast: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Brightness and contrast of V views as tables: (V,) factors and mean grey values -> (V, 256) uint8.

    A grey value becomes min(brightness * grey, 255), then moves away from the view's mean by `contrast`. The
    mean after brightness is taken as brightness * mean, capped at 255: exact unless single pixels saturate.
    """
    bright = np.minimum(_GREYS * brightness[:, None], 255)
    pivot = np.minimum(brightness * means, 255)[:, None]
    tables = np.clip(bright * contrast[:, None] + pivot * (1 - contrast[:, None]), 0, 255)
    return np.asarray(np.rint(tables), np.uint8)


def blur_into(out: np.ndarray, sigma: float, largest_kernel: int) -> None:
    """Gaussian blur in place, 3 sigma to each side but at most `largest_kernel` pixels wide."""
    side = min(2 * int(np.ceil(3 * sigma)) + 1, largest_kernel)
    kernel = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
    # 2 to 4 times faster than cv2.GaussianBlur, which differs by one grey level.
    cv2.sepFilter2D(out, -1, kernel, kernel, dst=out, borderType=cv2.BORDER_REFLECT_101)


def _warp(
    out: np.ndarray,
    image: np.ndarray,
    box: tuple[int, int, int, int],
    drawn: dict[str, float],
) -> None:
    """Crop, rotate about the crop's centre (positive: counter-clockwise), shift and zoom in one resampling.

    What lies outside the crop but inside the image is shown; outside the image is black.
    """
    size = out.shape[0]
    top, left, tall, wide = box
    zoom = drawn["zoom"]
    # Source position of a view's pixel: the crop's centre + step * rotation * (offset from the view's
    # centre).
    radians, half = np.deg2rad(drawn["degrees"]), (size - 1) / 2
    cosine, sine = np.cos(radians) / zoom, np.sin(radians) / zoom
    step_x, step_y = wide / size, tall / size
    linear = np.array([[cosine * step_x, -sine * step_x], [sine * step_y, cosine * step_y]])
    centre = np.array(
        [left + wide * (0.5 - drawn["shift_x"]) - 0.5, top + tall * (0.5 - drawn["shift_y"]) - 0.5]
    )
    origin = centre - linear @ [half, half]
    shrink = max(min(step_x, step_y) / zoom, 1.0)
    if shrink > 1:
        # Linear interpolation would alias: average over areas first, over the part of the image that is seen.
        corners = origin[:, None] + linear @ np.array(
            [[0, size - 1, 0, size - 1], [0, 0, size - 1, size - 1]]
        )
        low = np.clip(np.floor(corners.min(1)) - 1, 0, np.array(image.shape[::-1]) - 1).astype(int)
        high = np.clip(np.ceil(corners.max(1)) + 2, low + 1, image.shape[::-1]).astype(int)
        part = image[low[1] : high[1], low[0] : high[0]]
        small = np.maximum(np.rint(np.array(part.shape[::-1]) / shrink), 1).astype(int)
        factor = small / np.array(part.shape[::-1])
        image = cv2.resize(part, small.tolist(), interpolation=cv2.INTER_AREA)
        origin = (origin - low + 0.5) * factor - 0.5
        linear = linear * factor[:, None]
    matrix = np.column_stack([linear, origin])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(
        image, matrix, (size, size), dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )


# --- evaluation


@dataclass(frozen=True)
class Placement:
    """An image is resized to `tall` x `wide`; its first row and column lie at `top`, `left` of the view."""

    tall: int
    wide: int
    top: int
    left: int


@dataclass(frozen=True)
class EvaluationView:
    """One deterministic view an image.

    Args:
        size: side of the view in pixels.
        fit: `centre_crop` (short side to `resize`, then the centre), `pad_square` (long side to `size`, black
            around: keeps the costophrenic angles) or `stretch` (both sides to `size`).
        resize: short side before the centre crop, by default `size`.
        window: grey range of 16-bit images; None takes each image's own `default_window`.
    """

    size: int
    fit: str = "centre_crop"
    resize: int | None = None
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        fits = ("centre_crop", "pad_square", "stretch")
        if self.fit not in fits:
            raise ConfigurationError(f"no fit '{self.fit}': there is {', '.join(fits)}")
        if self.resize is not None and (self.fit != "centre_crop" or self.resize < self.size):
            raise ConfigurationError(
                f"resize={self.resize} needs fit=centre_crop and at least size={self.size}"
            )

    @property
    def pixels(self) -> int:
        """The short side that a stored image needs, for `require_pixels`."""
        return self.resize or self.size

    def placement(self, height: int, width: int) -> Placement:
        """Where an image of this size comes to lie in the view."""
        if self.fit == "stretch":
            return Placement(self.size, self.size, 0, 0)
        sides = np.array([height, width])
        scale = self.size / sides.max() if self.fit == "pad_square" else self.pixels / sides.min()
        tall, wide = (max(round(side * scale), 1) for side in (height, width))
        if self.fit == "pad_square":
            return Placement(tall, wide, (self.size - tall) // 2, (self.size - wide) // 2)
        return Placement(tall, wide, -((tall - self.size) // 2), -((wide - self.size) // 2))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W) -> (size, size) uint8."""
        grey = to_uint8(image, self.window) if image.dtype != np.uint8 or self.window else image
        place = self.placement(*grey.shape)
        resized = np.empty((place.tall, place.wide), np.uint8)
        resize_into(resized, grey)
        return self._placed(resized, place)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) of a source image -> (size, size) bool, by the nearest pixel."""
        place = self.placement(*mask.shape)
        nearest = cv2.resize(
            mask.astype(np.uint8), (place.wide, place.tall), interpolation=cv2.INTER_NEAREST_EXACT
        )
        return self._placed(nearest, place).astype(bool)

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes (M, 4), x, y, w, h in pixels of a source image of this size -> in pixels of the view.

        They may reach beyond it.
        """
        place = self.placement(height, width)
        across, down = place.wide / width, place.tall / height
        x, y, w, h = np.asarray(boxes, np.float64).reshape(-1, 4).T
        return np.stack([x * across + place.left, y * down + place.top, w * across, h * down], axis=1)

    def _placed(self, resized: np.ndarray, place: Placement) -> np.ndarray:
        """The view of an image that was resized as `place` says; what it does not cover is 0."""
        out = np.zeros((self.size, self.size), np.uint8)
        top, left = max(place.top, 0), max(place.left, 0)
        seen = resized[max(-place.top, 0) :, max(-place.left, 0) :][: self.size - top, : self.size - left]
        out[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
        return out

    def batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Several images -> (B, size, size) uint8."""
        return np.stack([self(image) for image in images])


def require_pixels(size: int, short_side: int) -> None:
    """Refuse views with more pixels than the stored images have.

    Raises:
        ConfigurationError: names `data.size`.
    """
    if size > short_side:
        raise ConfigurationError(
            f"views of {size} px ask for more than the stored short side of {short_side} px: "
            f"run `radlearn prepare` with data.size={size} or more, or ask for smaller views"
        )
