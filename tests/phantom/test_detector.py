import dataclasses

import numpy as np
import pytest

from radlearn.phantom.detector import annotate, draw_acquisition, expose, process
from radlearn.phantom.frame import Frame


@pytest.fixture
def acquisition():
    drawn = draw_acquisition(np.random.default_rng(0), "PA", 1.0, np.zeros((2, 8, 8), np.float32))
    return dataclasses.replace(drawn, scatter=0.0, blur=0.0)


def test_without_scatter_the_signal_is_the_hardened_line_integral(acquisition):
    frame = Frame(64, acquisition.pose)
    integral = np.full((64, 64), 2.0, np.float32)
    bright = dataclasses.replace(acquisition, photons=1e12)
    signal = expose(frame, integral, bright, np.random.default_rng(0))
    # The middle rows: the heel effect is zero there.
    np.testing.assert_allclose(signal[31:33].mean(), 2.0 * (1 - 0.012 * 2.0), atol=1e-3)


def test_quantum_noise_follows_poisson_counts(acquisition):
    frame = Frame(128, acquisition.pose)
    photons = 1e5
    dim = dataclasses.replace(acquisition, photons=photons)
    for value in (1.0, 3.0):
        signal = expose(frame, np.full((128, 128), value, np.float32), dim, np.random.default_rng(1))
        counts = photons * frame.pixel**2 * np.exp(-value)
        assert np.std(signal - signal.mean(axis=1, keepdims=True)) == pytest.approx(counts**-0.5, rel=0.1)


def test_scatter_lowers_contrast(acquisition):
    frame = Frame(64, acquisition.pose)
    integral = np.full((64, 64), 2.0, np.float32)
    integral[:, 32:] = 4.0
    bright = dataclasses.replace(acquisition, photons=1e12)
    spans = []
    for ratio in (0.0, 1.0):
        signal = expose(frame, integral, dataclasses.replace(bright, scatter=ratio), np.random.default_rng(0))
        spans.append(signal[:, 40].mean() - signal[:, 20].mean())
    assert spans[1] < 0.95 * spans[0]


def test_processing_keeps_dense_bright_and_ends_within_the_range(acquisition):
    frame = Frame(64, acquisition.pose)
    signal = np.tile(np.linspace(1, 4, 64, dtype=np.float32), (64, 1))
    image = process(frame, signal, acquisition)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image[:, 50].mean() > image[:, 12].mean()


def test_bedside_views_are_marked_noisier_and_magnified():
    elastic = np.zeros((2, 8, 8), np.float32)
    pairs = [
        [draw_acquisition(np.random.default_rng(seed), view, 1.0, elastic) for view in ("PA", "AP")]
        for seed in range(40)
    ]
    standing, bedside = zip(*pairs, strict=True)
    assert np.mean([a.photons for a in bedside]) < 0.7 * np.mean([a.photons for a in standing])
    assert min(a.magnification for a in bedside) > 1.0 == max(a.magnification for a in standing)
    blank = np.zeros((256, 256), np.float32)
    assert annotate(blank, bedside[0]).sum() > annotate(blank, standing[0]).sum() > 0
