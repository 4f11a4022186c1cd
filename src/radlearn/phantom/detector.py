"""From line integrals to grey values: beam, scatter, quantum noise, processing, burnt-in marks."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.frame import Field, Frame, Pose, blur

HEEL = 0.06  # the beam is weaker on the anode side
SCATTER_WIDTH = 3.2  # cm
DETAIL_WIDTH = 1.6  # cm, scale of the dynamic range compression


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How one study was taken and processed.

    Attributes:
        view: "PA" standing, tube behind; "AP" in bed, magnified, noisier.
        pose: where the patient stands.
        lift: how much higher (cm) the diaphragm is than at full inspiration.
        rotation: turn of the patient, as a shift (cm) of what lies in front.
        scatter: scattered over primary radiation.
        photons: quanta per square cm in the direct beam.
        blur: focal spot and detector, cm.
        compression, sharpening, gamma, sigmoid: the processing chain.
        collimation: margins (left, top, right, bottom) in fractions of the side.
        marker: side letter's corner position and size in fractions.
        leads: monitoring electrodes drawn on bed-side images.
    """

    view: str
    pose: Pose
    lift: float
    rotation: float
    magnification: float
    scatter: float
    photons: float
    blur: float
    compression: float
    sharpening: float
    gamma: float
    sigmoid: float
    window: tuple[float, float]
    collimation: tuple[float, float, float, float]
    marker: tuple[float, float, float]
    leads: tuple[tuple[float, float], ...]
    seed: int


def draw_acquisition(generator: np.random.Generator, view: str, scale: float, elastic: Field) -> Acquisition:
    """Draw exposure and processing of one study of a patient with this `scale` and `elastic` displacement."""
    uniform, normal = generator.uniform, generator.normal
    bedside = view == "AP"
    moved = (elastic + generator.standard_normal(elastic.shape) * 0.10).astype(np.float32)
    pose = Pose(
        scale=scale * (1.03 if bedside else 1.0) * float(np.clip(normal(1, 0.015), 0.95, 1.05)),
        shift=(float(normal(0, 0.6)), float(normal(0, 0.6))),
        tilt=float(np.deg2rad(normal(0, 3.0 if bedside else 1.8))),
        elastic=moved,
    )
    leads = []
    if bedside and generator.random() < 0.55:
        leads = [
            (float(x + normal(0, 0.7)), float(y + normal(0, 0.8))) for x, y in ((-9, -7), (9, -7), (8.5, 7))
        ]
    margins = uniform(-0.03, 0.025, 4).clip(0)
    return Acquisition(
        view=view,
        pose=pose,
        lift=float(np.clip(normal(0.0, 0.55), -0.9, 1.6)) + (1.0 if bedside else 0.0),
        rotation=float(normal(0, 0.5 if bedside else 0.25)),
        magnification=float(uniform(1.10, 1.20)) ** 0.6 if bedside else 1.0,
        scatter=float(uniform(0.5, 1.1) if bedside else uniform(0.25, 0.6)),
        photons=float(uniform(0.7, 1.4)) * 9.0e6 * (0.5 if bedside else 1.0),
        blur=0.10 if bedside else 0.05,
        compression=float(uniform(0.25, 0.55)),
        sharpening=float(uniform(0.8, 1.8)),
        gamma=float(uniform(0.75, 1.35)),
        sigmoid=float(uniform(3.0, 5.0)) if generator.random() < 0.5 else 0.0,
        window=(float(uniform(0.2, 2.0)), float(uniform(96.5, 99.7))),
        collimation=(float(margins[0]), float(margins[1]), float(margins[2]), float(margins[3])),
        marker=(float(uniform(0.05, 0.12)), float(uniform(0.05, 0.16)), float(uniform(0.032, 0.045))),
        leads=tuple(leads),
        seed=int(generator.integers(2**62)),
    )


def monitoring_leads(frame: Frame, acquisition: Acquisition) -> Field:
    """Line integral of electrodes and their cables."""
    canvas = frame.canvas()
    for x, y in acquisition.leads:
        end = 18.0 if x > 0 else -18.0
        cable = np.array(
            [[x, y], [x + 0.25 * (end - x), y + 1.2], [x + 0.6 * (end - x), y + 0.6], [end, y + 2.2]]
        )
        frame.strokes(canvas, [frame.place(cable)], 0.12, 150.0)
        button = np.array([[x - 0.02, y], [x + 0.02, y]])
        frame.strokes(canvas, [frame.place(button)], 0.95, 90.0)
        frame.strokes(canvas, [frame.place(button)], 0.45, 220.0)
    return frame.sample(canvas, 0.8)


def expose(frame: Frame, integral: Field, acquisition: Acquisition, generator: np.random.Generator) -> Field:
    """Detected signal as -log intensity (size, size): beam hardening, scatter, blur, quantum noise."""
    pixel = frame.pixel
    hardened = integral * (1 - 0.012 * integral)
    primary = np.exp(-hardened)
    heel = 1 + HEEL * np.linspace(-1, 1, frame.size, dtype=np.float32)[:, None]
    primary = primary * heel
    # An anti-scatter grid leaves a part of the wide-angle background; normalised where the chest is thick.
    wide = blur(np.minimum(primary, 0.35), SCATTER_WIDTH / pixel)
    signal = primary + acquisition.scatter * 0.55 * wide
    if acquisition.blur / pixel > 0.15:
        signal = blur(signal, acquisition.blur / pixel)
    quanta = acquisition.photons * pixel**2
    noise = generator.standard_normal(signal.shape, dtype=np.float32)
    signal = signal + noise * np.sqrt(signal / quanta)
    result: Field = -np.log(np.maximum(signal, 1e-4))
    return result


def process(frame: Frame, signal: Field, acquisition: Acquisition) -> Field:
    """The console's work: dynamic range compression, sharpening, window, tone curve. Gives 0 to 1."""
    local = blur(signal, DETAIL_WIDTH / frame.pixel)
    enhanced = signal - acquisition.compression * local
    # Two bands: ribs and vessels first, then edges.
    enhanced = enhanced + acquisition.sharpening * (enhanced - blur(enhanced, 0.9 / frame.pixel))
    enhanced = enhanced + 0.25 * acquisition.sharpening * (enhanced - blur(enhanced, 0.3 / frame.pixel))
    inside = signal > 0.55  # the direct beam does not set the window
    values = enhanced[inside] if inside.sum() > 64 else enhanced.ravel()
    low, high = np.percentile(values[:: max(1, values.size // 8192)], acquisition.window)
    scaled = np.clip((enhanced - low) / max(high - low, 1e-3), 0, 1)
    if acquisition.sigmoid:
        slope = acquisition.sigmoid
        ends = 1 / (1 + np.exp(slope * 0.5))
        scaled = (1 / (1 + np.exp(-slope * (scaled - 0.5))) - ends) / (1 - 2 * ends)
    result: Field = np.clip(scaled, 0, 1).astype(np.float32) ** np.float32(acquisition.gamma)
    return result


def annotate(image: Field, acquisition: Acquisition) -> Field:
    """Collimate and burn in the side marker and, at the bed side, the view."""
    size = image.shape[0]
    left, top, right, bottom = acquisition.collimation
    axis = (np.arange(size) + 0.5) / size
    across = np.clip((axis - left) * size, 0, 1) * np.clip((1 - right - axis) * size, 0, 1)
    down = np.clip((axis - top) * size, 0, 1) * np.clip((1 - bottom - axis) * size, 0, 1)
    image = image * (down[:, None] * across[None, :]).astype(np.float32)
    x, y, height = acquisition.marker
    # Written once at a fixed size and shrunk, so that small images show the same letter.
    stamp: NDArray[np.uint8] = np.zeros((512, 512), np.uint8)
    text = "R" if acquisition.view == "PA" else "R AP"
    origin = (round(x * 512), round(y * 512) + round(height * 512))
    cv2.putText(stamp, text, origin, cv2.FONT_HERSHEY_SIMPLEX, height * 512 / 22, 255, 2, cv2.LINE_AA)
    method = cv2.INTER_AREA if size < 512 else cv2.INTER_LINEAR
    ink = cv2.resize(stamp, (size, size), interpolation=method).astype(np.float32) / 255
    result: Field = np.maximum(image, 0.95 * ink).astype(np.float32)
    return result
