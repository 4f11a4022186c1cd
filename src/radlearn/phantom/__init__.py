"""Procedural chest radiographs with findings, masks, boxes and reports: synthetic and seeded.

Numbers measured on it say that a pipeline learns; they say nothing about patients.
"""

from radlearn.phantom.anatomy import Patient, draw_patient, num_studies
from radlearn.phantom.case import VERSION, Box, Case, render_case
from radlearn.phantom.findings import FINDINGS
from radlearn.phantom.full_size import render_full_size
from radlearn.phantom.report import Sentence

__all__ = [
    "FINDINGS",
    "VERSION",
    "Box",
    "Case",
    "Patient",
    "Sentence",
    "draw_patient",
    "num_studies",
    "render_case",
    "render_full_size",
]
