"""Hounsfield units: the rescale, and a check by the image itself that it was done once.

Headers do not settle it: files converted by other programs hold Hounsfield units and still state an intercept
of -1024, so a second rescale puts water at -1024; files without a rescale hold values that start at 0. Both
errors are silent and ruin every window. Air, tissue and bone in the image tell.
"""

from __future__ import annotations

import numpy as np

from radlearn.errors import DataError

# Air is -1000 by definition; noise and calibration leave it within these.
AIR = (-1200, -900)
# Above this lie soft tissue and fat; below it lung and air, and all but bone after one rescale too many.
_TISSUE = -300
# Above this lies dense bone, or, where the rescale is missing, all soft tissue (near 1000).
_DENSE = 700
# No scanner reports less, so a single value there is padding (-2000, -3024), often undeclared.
_LOWEST = -1500

# Shares of the pixels of the real slices in pydicom and pydicom-data (head, neck, chest, abdomen), rescaled
# once, never and twice: tissue 30 to 84 %, 78 to 100 %, 0.4 to 4 %; dense 0.1 to 4.4 %, 32 to 85 %, 0 %.
_LEAST_TISSUE, _LITTLE_TISSUE, _MUCH_BELOW_AIR = 0.01, 0.10, 0.10
_LEAST_AIR, _MOST_DENSE, _MOST_DENSE_WITHOUT_AIR = 0.01, 0.20, 0.05
# A slice beside the patient holds air and padding alone. Narrow: of a body from which 1024 was taken once too
# often water lies at -1024, tissue at -984, fat at -1124.
_AIR_ALONE, _AIR_MEDIAN, _NOTHING_BUT_AIR = (-1080, -920), (-1020, -990), 0.98


def to_hounsfield(values: np.ndarray, slope: float = 1, intercept: float = 0) -> np.ndarray:
    """`slope * values + intercept` as int16: rounded, and held at the ends of the type.

    Args:
        values: stored integers, any shape.
        slope, intercept: RescaleSlope and RescaleIntercept; DeepLesion's PNG files have 1 and -32768.
    Source: DICOM PS3.3 C.11.1.1.2.
    """
    if slope == 1 and float(intercept).is_integer():
        units = values.astype(np.int32) + int(intercept)
    else:
        units = np.rint(values.astype(np.float64) * slope + intercept)
    limits = np.iinfo(np.int16)
    return np.asarray(np.clip(units, limits.min, limits.max), np.int16)


def check_hounsfield(pixels: np.ndarray) -> None:
    """Refuse a CT slice whose values are not Hounsfield units.

    A slice that lies wholly inside the body needs no air, but may then hold little that is as dense as bone.
    One that lies beside the body holds air alone.

    Args:
        pixels: values of a slice, any shape and number type.

    Raises:
        DataError: what is wrong with the scale, and what to do.
    """
    problem = hounsfield_problem(pixels)
    if problem:
        raise DataError(f"not Hounsfield units: {problem}")


def hounsfield_problem(pixels: np.ndarray) -> str | None:
    """What `check_hounsfield` objects to, or None."""
    if pixels.size == 0:
        return "no pixels"
    lowest, highest = pixels.min(), pixels.max()

    def share(selected: np.ndarray) -> float:
        return float(np.count_nonzero(selected)) / pixels.size

    if _is_air_alone(pixels[pixels != lowest] if lowest < _LOWEST else pixels):
        return None
    spread = f"values {lowest:g} to {highest:g}"
    air = share((pixels >= AIR[0]) & (pixels <= AIR[1]))
    tissue, dense = share(pixels > _TISSUE), share(pixels > _DENSE)
    below_air = share((pixels < AIR[0]) & (pixels != lowest if lowest < _LOWEST else True))
    if dense > (_MOST_DENSE if air >= _LEAST_AIR else _MOST_DENSE_WITHOUT_AIR):
        return (
            f"{spread}, {dense:.0%} above {_DENSE} and {air:.0%} near air (-1000); the rescale intercept "
            "(often -1024) seems not to be applied"
        )
    if tissue < _LEAST_TISSUE or (tissue < _LITTLE_TISSUE and below_air > _MUCH_BELOW_AIR):
        return (
            f"{spread}, {tissue:.1%} above {_TISSUE}, where tissue lies, and {below_air:.0%} below air; the "
            "rescale seems to be applied twice, or the slice holds only air"
        )
    return None


def _is_air_alone(pixels: np.ndarray) -> bool:
    near = np.count_nonzero((pixels >= _AIR_ALONE[0]) & (pixels <= _AIR_ALONE[1]))
    if pixels.size == 0 or near < _NOTHING_BUT_AIR * pixels.size:
        return False
    return bool(_AIR_MEDIAN[0] <= np.median(pixels) <= _AIR_MEDIAN[1])
