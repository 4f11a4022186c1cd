import dataclasses

import numpy as np
import pytest

from radlearn.phantom.ct_patient import draw_ct_patient
from radlearn.phantom.ct_scanner import OFFSET, acquire, noise
from radlearn.phantom.ct_tissue import Tissue


def disc(side, share=0.6):
    axis = (np.arange(side) + 0.5) / side - 0.5
    return np.hypot(axis[None], axis[:, None]) < share / 2


@pytest.mark.parametrize(("sharp", "factor"), [(False, 1.0), (True, 1.9)])
def test_noise_has_the_level_asked_for_in_the_middle_of_a_round_body(sharp, factor):
    field = noise(disc(512), 12.0, sharp, np.random.default_rng(0))
    assert field[216:296, 216:296].std() == pytest.approx(12.0 * factor, rel=0.12)
    assert abs(field.mean()) < 0.2
    assert field[:40, :40].std() < 0.5 * field[216:296, 216:296].std()


def test_a_smaller_image_is_a_mean_and_less_noisy():
    stds = [
        noise(disc(side), 12.0, False, np.random.default_rng(0))[
            side // 2 - side // 8 : side // 2 + side // 8
        ][:, side // 2 - side // 8 : side // 2 + side // 8].std()
        for side in (512, 256, 128)
    ]
    assert stds[0] > stds[1] > stds[2] > 3


def test_wide_sections_have_streaks_along_their_width():
    wide = np.zeros((256, 256), bool)
    wide[90:170, 8:248] = True
    field = noise(wide, 12.0, False, np.random.default_rng(1))[100:160, 40:216]

    def alike(axis):
        return np.corrcoef(field.ravel(), np.roll(field, 6, axis).ravel())[0, 1]

    assert alike(1) > alike(0) + 0.2


def test_a_flat_body_comes_out_at_its_attenuation():
    patient = draw_ct_patient(0, 0)
    for kernel in ("soft", "sharp"):
        person = dataclasses.replace(patient, scan=dataclasses.replace(patient.scan, kernel=kernel))
        body = disc(256)
        hu = np.where(body, 50, -1000).astype(np.float32)
        image = acquire(
            hu, np.where(body, Tissue.LIVER, 0).astype(np.uint8), person, np.random.default_rng(2)
        )
        assert image.dtype == np.int16
        assert image[108:148, 108:148].mean() == pytest.approx(50, abs=1.5)


def test_stored_numbers_fit_sixteen_bits_without_a_sign():
    assert OFFSET == 32768
    assert 0 <= -1024 + OFFSET < 3071 + OFFSET < 2**16
