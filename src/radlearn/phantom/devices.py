"""Lines, tubes and implants: what a patient carries, as strokes of metal or radiopaque plastic."""

import cv2
import numpy as np
from numpy.typing import NDArray

from radlearn.phantom.bones import smooth_curve
from radlearn.phantom.frame import Field, Mask
from radlearn.phantom.scene import Finding, Scene, present

# How often each is drawn. Upright patients (PA) carry implants; those too ill to stand (AP) lines and tubes.
DEVICES: dict[str, dict[str, float]] = {
    "PA": {"pacemaker": 0.26, "port catheter": 0.34, "sternotomy wires": 0.40},
    "AP": {
        "endotracheal tube": 0.22,
        "central venous catheter": 0.28,
        "nasogastric tube": 0.20,
        "chest tube": 0.14,
        "pacemaker": 0.08,
        "sternotomy wires": 0.08,
    },
}


def draw_devices(generator: np.random.Generator, view: str) -> Finding:
    """One device, or two in three of ten cases; `location` names them, joined by " and "."""
    kinds, probabilities = list(DEVICES[view]), list(DEVICES[view].values())
    count = 2 if generator.random() < 0.3 else 1
    chosen = [
        kinds[i]
        for i in sorted(generator.choice(len(kinds), size=count, replace=False, p=probabilities).tolist())
    ]
    side = str(generator.choice(["right", "left"]))
    return Finding("devices", side, "present", 0, " and ".join(chosen), {}, int(generator.integers(2**62)))


def _curve(points: list[tuple[float, float]], sign: int = 1) -> NDArray[np.float64]:
    return smooth_curve(np.array(points, np.float64)) * [sign, 1]


def _endotracheal_tube(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    tip = -4.9 - float(generator.uniform(1.8, 5.0))
    curve = _curve([(0.3, -18.0), (0.0, -14.0), (-0.15, tip)])
    wall = scene.lines([curve], 0.85) - scene.lines([curve], 0.6)
    stripe = scene.lines([curve + np.array([0.28, 0.0])], 0.10)
    return 0.16 * np.clip(wall, 0, 1) + 0.42 * stripe, scene.lines([curve], 0.85)


def _central_line(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    del (
        sign
    )  # the tip lies in the superior vena cava, on the right; the entry is the jugular or subclavian vein
    tip = float(generator.uniform(-4.5, 0.5))
    if generator.random() < 0.5:
        points = [(-4.4, -17.5), (-4.0, -14.5), (-3.0, -10.5), (-2.2, -7.0), (-2.3, tip)]
    else:
        points = [(-11.5, -10.2), (-7.5, -10.2), (-4.4, -9.6), (-2.5, -7.6), (-2.2, -5.4), (-2.3, tip)]
    jitter = generator.normal(0, 0.25, 2)
    curve = _curve(points) + jitter
    line = scene.lines([curve], 0.22)
    return 0.42 * line, line


def _port(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    tip = float(generator.uniform(-3.5, 0.5))
    reservoir = np.array([-8.2, -5.6]) + generator.normal(0, 0.5, 2)
    curve = _curve(
        [
            (float(reservoir[0]), float(reservoir[1])),
            (-7.0, -8.4),
            (-4.6, -9.9),
            (-2.5, -7.8),
            (-2.2, -5.4),
            (-2.3, tip),
        ]
    )
    distance = np.hypot(scene.frame.x - reservoir[0], scene.frame.y - reservoir[1])
    disc = np.clip((1.25 - distance) / 0.08, 0, 1) * 0.55 + np.exp(-(((distance - 1.1) / 0.12) ** 2)) * 0.6
    line = scene.lines([curve], 0.22)
    return 0.42 * line + disc.astype(np.float32), np.maximum(line, np.clip(disc, 0, 1)).astype(np.float32)


def _pacemaker(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    centre = np.array([sign * 9.0, -6.6]) + generator.normal(0, 0.5, 2)
    across, down = (scene.frame.x - centre[0]) / 2.2, (scene.frame.y - centre[1]) / 2.0
    radial = np.abs(across) ** 2.6 + np.abs(down) ** 2.6
    can = (1 / (1 + np.exp(np.clip((radial - 1) / 0.06, -30, 30)))).astype(np.float32)
    header = np.clip(can * np.clip((-down - 0.45) / 0.1, 0, 1), 0, 1)
    apex = (float(generator.uniform(4.0, 6.0)), float(generator.uniform(5.2, 6.8)))
    exit_point = (float(centre[0] - sign * 1.2), float(centre[1] - 1.8))
    leads = [
        _curve(
            [
                exit_point,
                (sign * 6.0, -10.0),
                (sign * 2.4, -9.6),
                (-1.9, -6.6),
                (-2.6, -1.0),
                (-2.4, 3.2),
                (0.6, 5.4),
                apex,
            ]
        ),
    ]
    if generator.random() < 0.6:
        leads.append(
            _curve(
                [
                    exit_point,
                    (sign * 5.6, -9.7),
                    (sign * 2.2, -9.2),
                    (-2.1, -6.2),
                    (-2.9, -1.0),
                    (-3.2, 1.2),
                    (-2.4, 0.2),
                ]
            )
        )
    line = scene.lines(leads, 0.16)
    tips = scene.lines([lead[-2:] for lead in leads], 0.30)
    return 1.8 * (can - 0.45 * header) + 0.55 * np.maximum(line, tips), np.maximum(can, line)


def _nasogastric_tube(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    end = (float(generator.uniform(3.5, 8.5)), float(generator.uniform(11.0, 14.0)))
    curve = _curve([(0.5, -18.0), (0.3, -10.0), (0.5, -4.0), (0.7, 2.0), (1.6, 8.0), (3.0, 11.0), end])
    line = scene.lines([curve], 0.42)
    return 0.14 * line + 0.36 * scene.lines([curve], 0.10), line


def _chest_tube(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    tip = (float(generator.uniform(4.0, 7.5)), float(generator.uniform(-9.0, -4.0)))
    curve = _curve(
        [(17.0, float(generator.uniform(2.0, 6.0))), (13.2, 1.5), (11.0, -2.5), (9.2, -5.0), tip], sign
    )
    line = scene.lines([curve], 0.80)
    wall = np.clip(line - scene.lines([curve], 0.52), 0, 1)
    return 0.16 * wall + 0.45 * scene.lines([curve], 0.12), line


def _sternotomy(scene: Scene, generator: np.random.Generator, sign: int) -> tuple[Field, Field]:
    loops = []
    angle = np.linspace(0, 2 * np.pi, 13)
    for number in range(int(generator.integers(5, 8))):
        centre = np.array([0.0, -8.2 + 2.0 * number]) + generator.normal(0, 0.12, 2)
        turn = generator.normal(0, 0.25)
        loop = np.stack([0.75 * np.cos(angle), 0.42 * np.sin(angle)], axis=1)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        loops.append(loop @ rotation + centre)
        loops.append(np.array([[0.0, 0.0], generator.normal(0, 0.35, 2)]) + centre + [0.0, 0.45])
    line = scene.lines(loops, 0.10)
    return 0.75 * line, line


_DRAWN = {
    "endotracheal tube": _endotracheal_tube,
    "central venous catheter": _central_line,
    "port catheter": _port,
    "pacemaker": _pacemaker,
    "nasogastric tube": _nasogastric_tube,
    "chest tube": _chest_tube,
    "sternotomy wires": _sternotomy,
}


def apply_devices(scene: Scene, finding: Finding) -> list[Mask]:
    """Add each device's line integral; one mask a device, at least a pixel wide."""
    generator = finding.generator()
    sign = -1 if finding.side == "right" else 1
    masks = []
    for name in finding.location.split(" and "):
        integral, outline = _DRAWN[name](scene, generator, sign)
        scene.extra += integral.astype(np.float32)
        visible = present(outline.astype(np.float32), 0.12 if scene.frame.pixel > 0.15 else 0.3)
        if scene.frame.pixel < 0.1:  # an outline of thin wires is useful only with a margin of about 1 mm
            reach = 2 * round(0.1 / scene.frame.pixel) + 1
            visible = cv2.dilate(visible.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
        masks.append(visible)
    return masks
