import dataclasses

import numpy as np
import pytest

from radlearn.phantom import FINDINGS, case
from radlearn.phantom.findings import COUNT_PROBABILITIES, DRAW, draw_findings
from radlearn.phantom.frame import FIELD_OF_VIEW
from radlearn.phantom.study import Study, draw_study

SIZE = 192


def scene_of(study: Study):
    return case.compose(0, 4, study, SIZE)


def with_finding(kind: str, seed: int, view: str = "PA") -> Study:
    finding = DRAW[kind](np.random.default_rng(seed), view)
    return dataclasses.replace(draw_study(0, 4, 0), view=view, findings=(finding,))


def test_counts_and_frequencies_follow_the_given_mix():
    generator = np.random.default_rng(0)
    drawn = [draw_findings(generator, "PA") for _ in range(2500)]
    shares = np.bincount([len(findings) for findings in drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, COUNT_PROBABILITIES, atol=0.03)
    for kind in FINDINGS:
        assert 0.12 < np.mean([any(f.kind == kind for f in findings) for findings in drawn]) < 0.17


# How the line integral inside the mask changes: denser, or (air) thinner.
@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ("effusion", 1),
        ("pneumothorax", -1),
        ("consolidation", 1),
        ("edema", 1),
        ("nodule", 1),
        ("devices", 1),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_finding_changes_the_image_where_its_mask_is(kind, sign, seed):
    study = with_finding(kind, seed)
    _, changed, regions = scene_of(study)
    _, plain, _ = scene_of(dataclasses.replace(study, findings=()))
    mask = np.any([mask for _, mask in regions], axis=0)
    difference = sign * (changed - plain)
    assert mask.any()
    assert difference[mask].mean() > 0.05
    assert difference[mask].mean() > 5 * np.abs(difference[~mask]).mean()


def test_cardiomegaly_widens_the_heart_beyond_half_the_chest():
    study = with_finding("cardiomegaly", 0)
    scene, _, regions = scene_of(study)
    ((_, mask),) = regions
    columns = np.flatnonzero(mask.any(axis=0))
    width = (
        (columns[-1] - columns[0] + 1) * scene.frame.pixel / (scene.patient.scale * scene.frame.pose.scale)
    )
    assert width > 0.5 * 26.0 * scene.patient.chest_width


def test_atelectasis_raises_the_dome_of_its_side():
    study = with_finding("atelectasis", 2)
    (finding,) = study.findings
    scene, _, _ = scene_of(study)
    plain, _, _ = scene_of(dataclasses.replace(study, findings=()))
    rise = plain.lung(finding.side).dome.min() - scene.lung(finding.side).dome.min()
    assert rise == pytest.approx(finding.values["rise"], abs=0.05)


def test_a_nodule_has_the_size_it_is_reported_with():
    for seed in range(6):
        study = with_finding("nodule", seed)
        scene, _, regions = scene_of(study)
        radius = study.findings[0].values["radius"] * scene.frame.pose.scale
        area = regions[0][1].sum() * (FIELD_OF_VIEW / SIZE) ** 2
        assert area == pytest.approx(np.pi * radius**2, rel=0.35)


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_devices_suit_the_view(view):
    names = {
        name
        for seed in range(200)
        for name in DRAW["devices"](np.random.default_rng(seed), view).location.split(" and ")
    }
    assert ("endotracheal tube" in names) == (view == "AP")
    assert "pacemaker" in names


def test_sizes_stay_within_the_ranges_of_the_specification():
    for seed in range(200):
        generator = np.random.default_rng(seed)
        assert 0.55 <= DRAW["cardiomegaly"](generator, "PA").values["ratio"] <= 0.74
        assert 0.9 <= DRAW["pneumothorax"](generator, "PA").values["depth"] <= 6.0
        assert 0.9 <= DRAW["effusion"](generator, "PA").values["height"] <= 10.0
        assert 0.8 <= DRAW["atelectasis"](generator, "PA").values["rise"] <= 2.6
        assert 0.55 <= DRAW["nodule"](generator, "PA").values["radius"] <= 2.8
        assert DRAW["edema"](generator, "PA").values["haze"] in (0.022, 0.040, 0.065)
