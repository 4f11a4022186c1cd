import cv2
import numpy as np
import pytest

from radlearn.phantom import ct
from radlearn.phantom.ct import render_slice
from radlearn.phantom.ct_lesion_shape import KINDS
from radlearn.phantom.ct_lesions import draw_lesions
from radlearn.phantom.ct_patient import COARSE_TYPES, draw_ct_patient
from radlearn.phantom.ct_tissue import Tissue

SEED = 0
# Organs as an anatomist names them, stated apart from the generator's own rules.
ORGANS = {
    "bone": {Tissue.MARROW, Tissue.CORTICAL_BONE},
    "liver": {Tissue.LIVER, Tissue.LIVER_VESSEL},
    "lung": {Tissue.LUNG, Tissue.LUNG_VESSEL, Tissue.AIRWAY, Tissue.AIRWAY_WALL},
    "kidney": {Tissue.RENAL_CORTEX, Tissue.RENAL_MEDULLA, Tissue.RENAL_PELVIS},
}
# Heights in cm from the apices of the lungs: carina 8, dome of the liver 17, L4 37, femoral heads 51.
HEIGHTS = {"mediastinum": (0, 18), "abdomen": (22, 43), "pelvis": (42, 56)}


@pytest.fixture(scope="module")
def lesions():
    return [(patient, lesion) for patient in range(90) for lesion in draw_lesions(SEED, patient)]


def middle(patient, lesion):
    """The slice on which the lesion is marked nearest to its centre, rendered, and the lesion's mask."""
    person = draw_ct_patient(SEED, patient)
    index = min(lesion.slices, key=lambda i: abs(person.z(i) - lesion.centre[2]))
    piece = render_slice(SEED, patient, index, 128)
    marked = [other for other in draw_lesions(SEED, patient) if index in other.slices]
    return piece, piece.masks[[other.centre for other in marked].index(lesion.centre)]


def test_all_eight_types_occur_with_several_looks(lesions):
    assert {lesion.kind for _, lesion in lesions} == set(COARSE_TYPES) == set(KINDS)
    assert {lesion.look for _, lesion in lesions} >= {"solid", "cyst", "rim", "necrotic", "sclerotic"}


def test_lesions_lie_in_their_organ(lesions):
    inside = {kind: [] for kind in ORGANS}
    for patient, lesion in lesions:
        if lesion.kind in ORGANS:
            piece, mask = middle(patient, lesion)
            inside[lesion.kind].append(np.isin(piece.tissue[mask], list(ORGANS[lesion.kind])).mean())
    assert min(np.mean(v) for v in inside.values()) > 0.7, {k: np.mean(v) for k, v in inside.items()}
    assert min(min(inside[kind]) for kind in ("bone", "liver", "lung")) > 0.9


def test_lesions_without_an_organ_of_their_own_lie_at_their_height(lesions):
    for _, lesion in lesions:
        low, high = HEIGHTS.get(lesion.kind, (-5, 60))
        assert low <= lesion.centre[2] <= high


def test_lesions_measure_millimetres_to_centimetres(lesions):
    sizes = []
    for patient, lesion in lesions:
        piece, mask = middle(patient, lesion)
        sizes.append(2 * np.sqrt(mask.sum() / np.pi) * piece.pixel_spacing)
    assert min(sizes) > 3
    assert max(sizes) < 70
    assert 12 < np.median(sizes) < 35


def test_lesions_span_slices_that_follow_each_other(lesions):
    counts = [len(lesion.slices) for _, lesion in lesions]
    assert np.mean(counts) > 2
    for patient, lesion in lesions:
        person = draw_ct_patient(SEED, patient)
        reach = max(lesion.radii[2], 0.6 * person.scan.spacing / person.scale)
        assert all(abs(person.z(i) - lesion.centre[2]) <= reach for i in lesion.slices)


def test_lesions_differ_from_what_is_around_them(lesions):
    contrasts = {kind: [] for kind in COARSE_TYPES}
    for patient, lesion in lesions:
        piece, mask = middle(patient, lesion)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))).astype(bool) & ~mask
        near &= ~np.any(piece.masks, axis=0)
        contrasts[lesion.kind].append(abs(np.median(piece.hu[mask]) - np.median(piece.hu[near])))
    medians = {kind: np.median(values) for kind, values in contrasts.items()}
    assert min(medians.values()) > 15, medians


def test_only_the_lung_has_spicules(lesions):
    spiculated = {lesion.kind for _, lesion in lesions if lesion.spikes}
    assert spiculated == {"lung"}


def test_slices_without_a_lesion_are_as_if_the_patient_had_none(lesions, monkeypatch):
    patient, lesion = lesions[0]
    away = next(
        i
        for i in range(draw_ct_patient(SEED, patient).scan.num_slices)
        if all(i not in other.slices for other in draw_lesions(SEED, patient))
    )
    sick = render_slice(SEED, patient, away, 64)
    marked = render_slice(SEED, patient, lesion.slices[0], 64)
    monkeypatch.setattr(ct, "draw_lesions", lambda *_: ())
    np.testing.assert_array_equal(render_slice(SEED, patient, away, 64).hu, sick.hu)
    healthy = render_slice(SEED, patient, lesion.slices[0], 64)
    changed = healthy.hu != marked.hu
    assert changed.any()
    np.testing.assert_array_equal(healthy.tissue, marked.tissue)
    # Blur and spicules reach a little further than the mask.
    rows, columns = np.nonzero(changed)
    box = marked.boxes[0]
    if len(marked.boxes) == 1:
        reach = max(box.w, box.h) + 4
        assert np.all(np.abs(columns - (box.x + box.w / 2)) <= reach)
        assert np.all(np.abs(rows - (box.y + box.h / 2)) <= reach)
