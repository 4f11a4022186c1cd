"""Tissues of the CT phantom and their attenuation in Hounsfield units, by contrast phase."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from radlearn.phantom.frame import Field

PHASES = ("none", "arterial", "portal", "delayed")


class Tissue(IntEnum):
    """What a pixel is; 0 is the air outside."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    GLAND = 4
    LUNG = 5
    LUNG_VESSEL = 6
    AIRWAY_WALL = 7
    AIRWAY = 8
    HEART_MUSCLE = 9
    HEART_BLOOD = 10
    RIGHT_HEART_BLOOD = 11
    ARTERY = 12
    VEIN = 13
    PULMONARY_ARTERY = 14
    OESOPHAGUS = 15
    CORTICAL_BONE = 16
    MARROW = 17
    CARTILAGE = 18
    DISC = 19
    SPINAL_CANAL = 20
    LIVER = 21
    LIVER_VESSEL = 22
    GALLBLADDER = 23
    SPLEEN = 24
    STOMACH_WALL = 25
    STOMACH_FLUID = 26
    GAS = 27
    PANCREAS = 28
    ADRENAL = 29
    RENAL_CORTEX = 30
    RENAL_MEDULLA = 31
    RENAL_PELVIS = 32
    BOWEL_WALL = 33
    BOWEL_FLUID = 34
    BOWEL_CONTRAST = 35
    STOOL = 36
    BLADDER = 37
    BLADDER_WALL = 38
    PELVIC_ORGAN = 39
    CALCIFICATION = 40
    TABLE = 41
    FOAM = 42


# Hounsfield units without contrast, in the arterial, portal venous and delayed phase: textbook means
# (W. A. Kalender, Computed Tomography, ch. 1; Brant & Helms, Fundamentals of Diagnostic Radiology).
_HU: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.SKIN: (20, 25, 30, 30),
    Tissue.FAT: (-103, -102, -101, -101),
    Tissue.MUSCLE: (50, 54, 60, 58),
    Tissue.GLAND: (15, 22, 30, 30),
    Tissue.LUNG: (-848, -845, -842, -842),
    Tissue.LUNG_VESSEL: (38, 170, 120, 90),
    Tissue.AIRWAY_WALL: (-60, -50, -50, -50),
    Tissue.AIRWAY: (-985, -985, -985, -985),
    Tissue.HEART_MUSCLE: (46, 90, 105, 92),
    Tissue.HEART_BLOOD: (42, 280, 150, 112),
    Tissue.RIGHT_HEART_BLOOD: (42, 210, 148, 112),
    Tissue.ARTERY: (42, 310, 152, 112),
    Tissue.VEIN: (42, 95, 142, 110),
    Tissue.PULMONARY_ARTERY: (42, 240, 146, 110),
    Tissue.OESOPHAGUS: (38, 48, 60, 58),
    Tissue.CORTICAL_BONE: (950, 950, 950, 950),
    Tissue.MARROW: (215, 222, 230, 226),
    Tissue.CARTILAGE: (105, 105, 110, 110),
    Tissue.DISC: (85, 85, 88, 88),
    Tissue.SPINAL_CANAL: (28, 30, 34, 34),
    Tissue.LIVER: (57, 68, 106, 90),
    Tissue.LIVER_VESSEL: (40, 92, 158, 112),
    Tissue.GALLBLADDER: (8, 8, 9, 10),
    Tissue.SPLEEN: (48, 118, 118, 95),
    Tissue.STOMACH_WALL: (40, 70, 82, 72),
    Tissue.STOMACH_FLUID: (14, 14, 16, 18),
    Tissue.GAS: (-940, -940, -940, -940),
    Tissue.PANCREAS: (40, 98, 90, 76),
    Tissue.ADRENAL: (28, 62, 68, 58),
    Tissue.RENAL_CORTEX: (33, 172, 178, 150),
    Tissue.RENAL_MEDULLA: (32, 78, 158, 150),
    Tissue.RENAL_PELVIS: (6, 8, 18, 420),
    Tissue.BOWEL_WALL: (42, 72, 82, 72),
    Tissue.BOWEL_FLUID: (18, 20, 24, 24),
    Tissue.BOWEL_CONTRAST: (210, 210, 215, 215),
    Tissue.STOOL: (-20, -20, -18, -18),
    Tissue.BLADDER: (5, 5, 8, 60),
    Tissue.BLADDER_WALL: (35, 45, 60, 58),
    Tissue.PELVIC_ORGAN: (45, 68, 85, 78),
    Tissue.CALCIFICATION: (620, 620, 620, 620),
    Tissue.TABLE: (-180, -180, -180, -180),
    Tissue.FOAM: (-930, -930, -930, -930),
}


def attenuation(phase: str, offsets: dict[Tissue, float]) -> Field:
    """(256,) mean attenuation in HU by tissue number, with a patient's own offsets added."""
    table = np.full(256, -1000, np.float32)
    for tissue, values in _HU.items():
        table[tissue] = values[PHASES.index(phase)] + offsets.get(tissue, 0.0)
    return table
