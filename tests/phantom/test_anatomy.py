import numpy as np
import pytest

from radlearn.phantom import draw_patient, num_studies
from radlearn.phantom.chest import CHEST_HALF_WIDTH, silhouette_edges
from radlearn.phantom.study import draw_study


def test_a_patient_is_a_pure_function_of_seed_and_number():
    first = draw_patient(3, 17)
    draw_patient.cache_clear()
    again = draw_patient(3, 17)
    assert first is not again
    np.testing.assert_array_equal(first.elastic, again.elastic)
    assert (first.sex, first.age, first.vessel_seed) == (again.sex, again.age, again.vessel_seed)
    assert draw_patient(4, 17).vessel_seed != first.vessel_seed


def test_normal_hearts_are_narrower_than_half_the_chest():
    for number in range(100):
        patient = draw_patient(0, number)
        assert 0.40 <= patient.cardiothoracic_ratio <= 0.485


@pytest.mark.parametrize("ratio", [0.42, 0.55, 0.70])
def test_the_silhouette_has_the_ratio_asked_for(ratio):
    patient = draw_patient(0, 5)
    left, right = silhouette_edges(patient, ratio)
    heights = np.linspace(2, 9, 60)
    width = left(heights).max() + right(heights).max()
    assert width / (2 * CHEST_HALF_WIDTH * patient.chest_width) == pytest.approx(ratio, abs=0.02)


def test_patients_have_one_to_three_studies():
    counts = [num_studies(1, number) for number in range(300)]
    assert set(counts) == {1, 2, 3}


def test_a_missing_study_and_a_negative_number_are_refused():
    with pytest.raises(IndexError, match="has studies 0 to"):
        draw_study(0, 0, 3)
    with pytest.raises(ValueError, match="counted from 0"):
        draw_patient(-1, 0)
