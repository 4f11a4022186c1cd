"""The eight findings: how often and how each is drawn, and what it does to the chest.

Each `draw_<finding>` returns a `Finding`; each `apply_<finding>` changes the scene and returns its masks.
Sizes are centimetres of patient, so contrast and extent do not depend on the resolution.
"""

from collections.abc import Callable

import numpy as np

from radlearn.phantom.chest import CHEST_HALF_WIDTH, MU_SOFT
from radlearn.phantom.devices import apply_devices, draw_devices
from radlearn.phantom.frame import Field, Mask, fractal, sigmoid
from radlearn.phantom.scene import Finding, Scene, present

FINDINGS: tuple[str, ...] = (
    "cardiomegaly", "effusion", "pneumothorax", "consolidation", "atelectasis", "edema", "nodule", "devices",
)  # fmt: skip
COUNT_PROBABILITIES = (0.30, 0.35, 0.23, 0.12)  # no, one, two, three findings in an image

# Lobes and segments: side, v, y (cm), extent in v and y (cm).
LOBES: dict[str, tuple[str, float, float, float, float]] = {
    "right upper lobe": ("right", 0.52, -7.2, 0.36, 2.9),
    "right middle lobe": ("right", 0.36, 3.0, 0.28, 2.1),
    "right lower lobe": ("right", 0.55, 5.4, 0.36, 2.6),
    "left upper lobe": ("left", 0.55, -6.4, 0.34, 3.0),
    "lingula": ("left", 0.58, 2.2, 0.26, 2.1),
    "left lower lobe": ("left", 0.55, 5.4, 0.36, 2.7),
}


def _word(words: tuple[str, str, str], rank: int) -> str:
    return words[rank]


def _side(generator: np.random.Generator) -> str:
    return str(generator.choice(["right", "left"]))


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**62))


def draw_cardiomegaly(generator: np.random.Generator, view: str) -> Finding:
    """Heart wider than half the chest: ratio 0.55 to 0.74."""
    ratio = float(0.55 + 0.19 * generator.beta(1.2, 1.8))
    rank = 0 if ratio < 0.60 else 1 if ratio < 0.66 else 2
    return Finding(
        "cardiomegaly",
        "midline",
        _word(("mild", "moderate", "severe"), rank),
        rank,
        "heart",
        {"ratio": ratio},
        _seed(generator),
    )


def apply_cardiomegaly(scene: Scene, finding: Finding) -> list[Mask]:
    """The heart was drawn with its ratio before: only outline it, from the pulmonary trunk down."""
    frame = scene.frame
    right, left = scene.edges
    dome = np.where(frame.x < 0, scene.lungs[0].dome, scene.lungs[1].dome)
    inside = (frame.x < left) & (frame.x > -right) & (frame.y > -2.6) & (frame.y < dome + 0.4)
    return [inside]


def draw_effusion(generator: np.random.Generator, view: str) -> Finding:
    """Pleural fluid, small, moderate or large; in one of four cases on both sides."""
    rank = int(generator.choice(3, p=[0.55, 0.30, 0.15]))
    low, high = ((0.9, 1.7), (2.6, 4.6), (6.0, 10.0))[rank]
    side = "bilateral" if generator.random() < 0.25 else _side(generator)
    values = {"height": float(generator.uniform(low, high)), "other": float(generator.uniform(0.55, 1.0))}
    return Finding(
        "effusion",
        side,
        _word(("small", "moderate", "large"), rank),
        rank,
        "pleura",
        values,
        _seed(generator),
    )


def apply_effusion(scene: Scene, finding: Finding) -> list[Mask]:
    """Fluid below a meniscus that climbs the lateral wall; it takes 92 % of the lung's contrast."""
    masks = []
    sides = ("right", "left") if finding.side == "bilateral" else (finding.side,)
    for number, side in enumerate(sides):
        lung = scene.lung(side)
        height = finding.values["height"] * (finding.values["other"] if number else 1.0)
        level = lung.dome - height * (0.35 + 0.75 * np.clip(lung.v, 0, 1.2) ** 2.2)
        fluid = sigmoid((scene.frame.y - level) / 0.22)
        lung.density = lung.density + 0.92 * fluid * (MU_SOFT - lung.density)
        lung.vessels = lung.vessels * (1 - fluid)
        masks.append(present(fluid, 0.5) & (lung.full_depth > 0.4) & (scene.frame.y < lung.dome + 0.2))
    return masks


def draw_pneumothorax(generator: np.random.Generator, view: str) -> Finding:
    """Air between lung and chest wall, 0.9 to 6 cm deep at the apex."""
    depth = float(0.9 + 5.1 * generator.beta(1.0, 2.8))
    rank = 0 if depth < 1.8 else 1 if depth < 3.2 else 2
    values = {
        "depth": depth,
        "base": float(generator.uniform(0.05, 0.4)),
        "collapse": float(np.clip(0.05 + 0.75 * (depth / 6) * generator.uniform(0.6, 1.4), 0.05, 0.8)),
    }
    location = "apical" if values["base"] < 0.2 and rank < 2 else "pleural space"
    return Finding(
        "pneumothorax",
        _side(generator),
        _word(("small", "moderate", "large"), rank),
        rank,
        location,
        values,
        _seed(generator),
    )


def apply_pneumothorax(scene: Scene, finding: Finding) -> list[Mask]:
    """Outside the visceral line there is neither lung nor vessel; the lung behind it is denser."""
    lung = scene.lung(finding.side)
    y = scene.frame.y
    depth, base = finding.values["depth"], finding.values["base"]
    inward = np.clip((1 - lung.v) * lung.width, 1e-3, None)
    descent = np.clip((y - lung.apex) / 20.0, 0, 1)
    wobble = 1 + 0.10 * fractal(finding.generator(), scene.frame.size, 2.2, coarsest=3)
    profile = depth * (base + (1 - base) * (1 - descent) ** 1.6) * wobble
    below = np.clip((y - lung.apex) / (1.15 * depth), 1e-3, None)
    # A smooth minimum of the distances to the lateral wall and to the apex rounds the collapsed lung.
    distance = ((inward / np.maximum(profile, 0.05)) ** -3.0 + below**-3.0) ** (-1 / 3)
    signed = (distance - 1) * np.maximum(profile, 0.3)  # cm, negative in the air
    air = sigmoid(-signed / 0.05)
    inside = lung.full_depth > 0.3
    collapsed = lung.density * (1 + finding.values["collapse"])
    lung.density = (collapsed * (1 - air)).astype(np.float32)
    lung.vessels = lung.vessels * (1 - air)
    thickness = max(0.10, 0.45 * scene.frame.pixel)
    line = np.exp(-((signed / thickness) ** 2)) * (0.10 / thickness)
    scene.extra += (0.085 * line * np.clip(lung.depth / 2, 0, 1)).astype(np.float32)
    return [present(air, 0.5) & inside]


def draw_consolidation(generator: np.random.Generator, view: str) -> Finding:
    """Airspace filling of a lobe or segment, patchy or dense."""
    location = str(generator.choice(list(LOBES)))
    dense = bool(generator.random() < 0.5)
    size = float(generator.uniform(0.85, 1.25))
    rank = (1 if dense else 0) + (1 if dense and size > 1.0 else 0)
    values = {
        "fill": 0.62 if dense else 0.38,
        "size": size,
        "v": float(generator.normal(0, 0.06)),
        "y": float(generator.normal(0, 0.7)),
    }
    return Finding(
        "consolidation",
        LOBES[location][0],
        "dense" if dense else "patchy",
        rank,
        location,
        values,
        _seed(generator),
    )


def apply_consolidation(scene: Scene, finding: Finding) -> list[Mask]:
    """An irregular cloud over a lobe; dense ones leave the bronchi dark."""
    side, v0, y0, extent_v, extent_y = LOBES[finding.location]
    lung = scene.lung(side)
    values, generator = finding.values, finding.generator()
    size = values["size"]
    across = (lung.v - v0 - values["v"]) / (extent_v * size)
    down = (scene.frame.y - y0 - values["y"]) / (extent_y * size)
    noise = fractal(generator, scene.frame.size, 1.9, coarsest=7)
    cloud = sigmoid((1 - np.sqrt(across**2 + down**2) + 0.36 * noise) / 0.24)
    fill = values["fill"] * cloud
    if finding.severity == "dense":
        fill = fill * (1 - 0.32 * _bronchi(scene, finding, v0 + values["v"], y0 + values["y"], generator))
    lung.density = (lung.density + fill * (MU_SOFT - lung.density)).astype(np.float32)
    visible = (lung.full_depth > 1.0) & (scene.frame.y < lung.dome) & (lung.depth > 0.5)
    return [present(cloud, 0.5) & visible]


def _bronchi(scene: Scene, finding: Finding, v: float, y: float, generator: np.random.Generator) -> Field:
    """Air bronchograms: dark branching lines from the hilum into the cloud, 1 on the line."""
    sign = -1 if finding.side == "right" else 1
    target = np.array([1.25 + v * 10.5, y])
    hilum = np.array([3.6, -2.4])
    curves = []
    for _ in range(5):
        end = target + generator.normal(0, 1.6, 2)
        start = hilum + 0.45 * (target - hilum) + generator.normal(0, 0.35, 2)
        bend = (start + end) / 2 + generator.normal(0, 0.25, 2)
        curves.append(np.stack([start, bend, end]) * [sign, 1])
    return scene.lines(curves, width=0.18)


def draw_atelectasis(generator: np.random.Generator, view: str) -> Finding:
    """Volume loss at a base: plates or a wedge, always with a raised dome."""
    wedge = bool(generator.random() < 0.5)
    side = _side(generator)
    rise = float(generator.uniform(0.8, 2.6))
    rank = 0 if rise < 1.4 else 1 if rise < 2.0 else 2
    values = {
        "rise": rise,
        "wedge": float(wedge),
        "length": float(generator.uniform(4.0, 8.0)),
        "gap": float(generator.uniform(1.2, 3.0)),
        "slope": float(generator.normal(0, 0.14)),
        "count": float(generator.choice([1, 2], p=[0.6, 0.4])),
        "width": float(generator.uniform(0.28, 0.55)),
    }
    location = f"{side} lower lobe" if wedge else f"{side} lung base"
    return Finding(
        "atelectasis",
        side,
        _word(("mild", "moderate", "severe"), rank),
        rank,
        location,
        values,
        _seed(generator),
    )


def apply_atelectasis(scene: Scene, finding: Finding) -> list[Mask]:
    """Bands above the dome, or a triangle of collapsed lung beside the heart; the dome was raised before."""
    lung = scene.lung(finding.side)
    y, values = scene.frame.y, finding.values
    generator = finding.generator()
    opacity = np.zeros_like(y)
    if values["wedge"]:
        # From the hilum down to the dome; its lateral edge is the displaced fissure.
        top = -0.5 + float(generator.normal(0, 0.8))
        reach = 3.2 + values["length"] * 0.42 * np.clip((y - top) / (lung.dome - top), 0, 1.3)
        opacity = sigmoid((reach - lung.lateral) / 0.25) * sigmoid((y - top) / 0.6)
        opacity = opacity * np.clip(
            0.80 + 0.10 * fractal(generator, scene.frame.size, 1.7, coarsest=6), 0.5, 1
        )
    else:
        for number in range(int(values["count"])):
            centre = 6.6 + float(generator.normal(0, 0.9))
            line = (
                float(lung.dome.min())
                - values["gap"]
                - 1.5 * number
                + values["slope"] * (lung.lateral - centre)
            )
            half = values["length"] / 2 * (1 - 0.2 * number)
            along = sigmoid((half - np.abs(lung.lateral - centre)) / 0.3)
            band = np.exp(-(np.abs((y - line) / values["width"]) ** 2.5)) * along
            opacity = np.maximum(opacity, band * 0.85)
    # A plate is thin along the beam, a collapsed segment is not.
    share = 0.75 if values["wedge"] else 0.35
    opacity = opacity.astype(np.float32)
    lung.density = (lung.density + share * opacity * (MU_SOFT - lung.density)).astype(np.float32)
    return [present(opacity, 0.4) & (lung.depth > 0.3) & (y < lung.dome)]


def draw_edema(generator: np.random.Generator, view: str) -> Finding:
    """Fluid in the lung: perihilar haze, wide vessels and septal lines."""
    rank = int(generator.choice(3, p=[0.35, 0.4, 0.25]))
    return Finding(
        "edema",
        "bilateral",
        _word(("mild", "moderate", "severe"), rank),
        rank,
        "perihilar",
        {"haze": (0.022, 0.040, 0.065)[rank]},
        _seed(generator),
    )


def apply_edema(scene: Scene, finding: Finding) -> list[Mask]:
    """Haze that fades outwards, and Kerley B lines at the bases; the vessels were widened before."""
    generator = finding.generator()
    patchiness = 1 + 0.22 * fractal(generator, scene.frame.size, 1.8, coarsest=6)
    masks = []
    septa = []
    for lung in scene.lungs:
        strength = np.exp(-(((lung.v - 0.12) / 0.55) ** 2))
        haze = finding.values["haze"] * strength * np.clip(patchiness, 0.3, 1.8)
        lung.density = (lung.density + haze * np.clip(lung.v + 1, 0, 1)).astype(np.float32)
        for _ in range(4 + 3 * finding.rank):
            y = float(generator.uniform(3.5, 10.0))
            x = CHEST_HALF_WIDTH * scene.patient.chest_width - 0.15
            length = float(generator.uniform(1.0, 2.0))
            septa.append(
                np.array([[x, y], [x - length, y + float(generator.normal(0, 0.12))]]) * [lung.side, 1]
            )
        core = ((lung.v - 0.12) / 0.36) ** 2 + ((scene.frame.y + 0.8) / 8.0) ** 2 < 1
        masks.append(core & (lung.depth > 2.0) & (scene.frame.y < lung.dome))
    lines = scene.lines(septa, width=0.09)
    depth = np.maximum(scene.lungs[0].depth, scene.lungs[1].depth)
    scene.extra += 0.05 * lines * np.clip(depth / 2, 0, 1)
    return masks


def draw_nodule(generator: np.random.Generator, view: str) -> Finding:
    """A nodule (radius 0.55 to 1.4 cm) or a mass (1.6 to 2.8 cm) anywhere in a lung."""
    mass = bool(generator.random() < 0.5)
    radius = float(generator.uniform(1.6, 2.8) if mass else generator.uniform(0.55, 1.4))
    side = _side(generator)
    y = float(generator.uniform(-9.2, 6.0))
    zone = "upper" if y < -4.0 else "mid" if y < 1.5 else "lower"
    values = {
        "radius": radius,
        "v": float(generator.uniform(0.2, 0.85)),
        "y": y,
        "spiculation": float(generator.uniform(0.02, 0.16)),
    }
    return Finding(
        "nodule",
        side,
        "mass" if mass else "nodule",
        2 if mass else int(radius > 1.0),
        f"{side} {zone} lung zone",
        values,
        _seed(generator),
    )


def apply_nodule(scene: Scene, finding: Finding) -> list[Mask]:
    """A spiculated sphere of soft tissue, beside the heart's shadow."""
    lung, values = scene.lung(finding.side), finding.values
    radius, y = values["radius"], values["y"]
    generator = finding.generator()
    # The heart's border at this height, from the grid: the nodule lies in visible lung.
    edge = scene.edges[0 if lung.side < 0 else 1]
    border = float(np.median(edge[np.abs(scene.frame.y - y) < 0.6]))
    outer = CHEST_HALF_WIDTH * scene.patient.chest_width * (0.72 if y < -7.5 else 0.93)
    inner = min(border + 0.5 * radius, outer - 1.5 * radius)
    centre = inner + values["v"] * max(outer - radius - inner, 0.0)
    dx, dy = lung.lateral - centre, scene.frame.y - y
    angle = np.arctan2(dy, dx)
    outline = np.ones_like(angle)
    for frequency in (2, 3, 5, 7, 9):
        outline += (
            values["spiculation"]
            * generator.normal()
            / np.sqrt(frequency)
            * np.cos(frequency * angle + generator.uniform(0, 6.28))
        )
    # The surface is rough, the middle round.
    radial = np.hypot(dx, dy) / radius
    distance = radial / (1 + (np.clip(outline, 0.6, 1.5) - 1) * np.clip(radial, 0, 1) ** 2)
    thickness = 2 * radius * np.sqrt(np.clip(1 - distance**2, 0, None))
    scene.extra += ((MU_SOFT - lung.density) * np.minimum(thickness, lung.full_depth)).astype(np.float32)
    return [present(-distance, -1.0) & (lung.full_depth > 0.3)]


Draw = Callable[[np.random.Generator, str], Finding]
Apply = Callable[[Scene, Finding], list[Mask]]
DRAW: dict[str, Draw] = {
    "cardiomegaly": draw_cardiomegaly,
    "effusion": draw_effusion,
    "pneumothorax": draw_pneumothorax,
    "consolidation": draw_consolidation,
    "atelectasis": draw_atelectasis,
    "edema": draw_edema,
    "nodule": draw_nodule,
    "devices": draw_devices,
}
APPLY: dict[str, Apply] = {
    "cardiomegaly": apply_cardiomegaly,
    "effusion": apply_effusion,
    "pneumothorax": apply_pneumothorax,
    "consolidation": apply_consolidation,
    "atelectasis": apply_atelectasis,
    "edema": apply_edema,
    "nodule": apply_nodule,
    "devices": apply_devices,
}
# Fluid lies over lung changes, and air replaces everything: later ones see what earlier ones did.
ORDER: tuple[str, ...] = (
    "cardiomegaly", "edema", "consolidation", "atelectasis", "nodule", "effusion", "pneumothorax", "devices",
)  # fmt: skip


def draw_findings(generator: np.random.Generator, view: str) -> tuple[Finding, ...]:
    """Draw no to three different findings, in the order of FINDINGS."""
    count = int(generator.choice(4, p=COUNT_PROBABILITIES))
    chosen = set(generator.choice(len(FINDINGS), size=count, replace=False).tolist())
    # Every finding uses its own stream, so that the choice of one does not change the shape of another.
    seeds = generator.integers(2**62, size=len(FINDINGS))
    return tuple(
        DRAW[kind](np.random.Generator(np.random.PCG64(int(seeds[index]))), view)
        for index, kind in enumerate(FINDINGS)
        if index in chosen
    )
