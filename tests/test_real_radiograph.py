"""A real chest radiograph (16 bit, MONOCHROME1, pydicom-data) through a trained model, as a user would."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import torch

import radlearn as rl
from radlearn import composition
from radlearn.data.images import read_image, to_uint8
from radlearn.training.pretrain import pretrain

FOLDER = Path(importlib.util.find_spec("data_store").submodule_search_locations[0]) / "data"
RADIOGRAPH, JPEG_2000 = FOLDER / "RG1_UNCR.dcm", FOLDER / "RG1_J2KR.dcm"
PROMPTS = ["Multiple rounded opacities in both lungs.", "Pleural effusion."]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two steps on 16 phantoms."""
    folder = tmp_path_factory.mktemp("real")
    settings = [
        "data=phantom_cxr",
        "data.num_train=16",
        "data.num_validate=4",
        "data.num_test=8",
        "data.image_size=32",
        "data.size=32",
        "data.num_workers=1",
        "encoder=small_cnn",
        "encoder.image_size=64",
        "encoder.multiplier=0.25",
        "text.model=hashed",
        "embed_dim=8",
        "predictor_width=16",
        "batch_size=8",
        "max_steps=2",
        "warmup_steps=0",
        "precision=32-true",
        "accelerator=cpu",
        "num_workers=0",
        "global_crops_number=1",
        "global_size=32",
        "local_crops_number=0",
        "run_name=real",
        f"paths.runs={folder / 'runs'}",
        f"paths.cache={folder / 'cache'}",
    ]
    return rl.load(pretrain(composition.compose("pretrain", settings)).folder)


@pytest.fixture(scope="module")
def pixels():
    return read_image(RADIOGRAPH)


def test_it_is_windowed_and_inverted(pixels):
    dataset = pydicom.dcmread(RADIOGRAPH)
    assert (dataset.PhotometricInterpretation, dataset.WindowCenter, dataset.WindowWidth) == (
        "MONOCHROME1",
        15000,
        30000,
    )
    assert (pixels.shape, pixels.dtype) == ((1955, 1841), np.uint16)
    # PS3.3 C.11.2.1.2.1, written out; then the inversion.
    shown = np.clip((dataset.pixel_array - 14999.5) / 29999 + 0.5, 0, 1)
    assert np.abs(pixels - (1 - shown) * 65535).max() <= 0.5 + 1e-6
    assert np.unique(pixels).size == np.unique(dataset.pixel_array).size  # no grey value is lost


def test_lungs_are_dark_and_bones_bright(pixels):
    """Regions found by eye on the picture, in shares of height and width."""
    image = to_uint8(pixels).astype(float)

    def mean(top, bottom, left, right):
        rows, columns = (
            (np.array([top, bottom]) * 1955).astype(int),
            (np.array([left, right]) * 1841).astype(int),
        )
        return image[slice(*rows), slice(*columns)].mean()

    lungs = [mean(0.26, 0.34, 0.24, 0.38), mean(0.26, 0.34, 0.62, 0.76)]
    spine, below_diaphragm = mean(0.3, 0.6, 0.45, 0.54), mean(0.78, 0.9, 0.15, 0.35)
    beside_the_neck = mean(0.02, 0.08, 0.0, 0.06)
    assert max(lungs) < 150
    assert min(spine, below_diaphragm) > 200
    assert beside_the_neck < 60


def test_its_lossless_twin_has_the_same_pixels(pixels):
    np.testing.assert_array_equal(read_image(JPEG_2000), pixels)


def test_a_model_embeds_and_scores_it(model, pixels):
    embeddings = model.embed_image([RADIOGRAPH, JPEG_2000, to_uint8(pixels)])
    assert embeddings.isfinite().all()
    torch.testing.assert_close(embeddings[0], embeddings[1], rtol=0, atol=0)
    torch.testing.assert_close(embeddings[0], embeddings[2], rtol=0, atol=0)
    scores = model.zero_shot([RADIOGRAPH, JPEG_2000], PROMPTS)
    assert scores.shape == (2, 2)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0)


def test_the_wrong_way_round_would_be_noticed(model, pixels, tmp_path):
    cv2.imwrite(str(tmp_path / "same.png"), pixels)
    cv2.imwrite(str(tmp_path / "inverted.png"), 65535 - pixels)
    dicom, png, inverted = model.embed_image([RADIOGRAPH, tmp_path / "same.png", tmp_path / "inverted.png"])
    torch.testing.assert_close(dicom, png, rtol=0, atol=0)
    assert not torch.equal(dicom, inverted)
