"""Boxes on a grid of regions, regions as images of their own, and LoVT's similarity."""

import numpy as np
import pytest
import tiny
import torch

from radlearn.data.views import EvaluationView
from radlearn.errors import ConfigurationError
from radlearn.records import Encoded
from radlearn.regions import cover
from radlearn.training.inference import embed_regions, evaluating, features_and_embeddings


def test_boxes_cover_regions_by_area():
    # A 4 x 4 grid of 8 pixels; the source has twice the pixels of the view.
    coverage, positive = cover([(16, 0, 32, 16)], (64, 64), EvaluationView(32), num_regions=16)
    np.testing.assert_array_equal(coverage.reshape(4, 4)[0], [0, 1, 1, 0])
    assert coverage.sum() == 2
    np.testing.assert_array_equal(positive, coverage == 1)


def test_a_box_smaller_than_a_region_is_in_the_region_of_its_centre():
    coverage, positive = cover([(14, 20, 4, 2)], (32, 32), EvaluationView(32), num_regions=16)
    assert coverage.max() == pytest.approx(4 / 64)
    assert np.flatnonzero(positive).tolist() == [2 * 4 + 2]


def test_the_centre_crop_moves_boxes_and_cuts_them_off():
    # Wide: 32 x 64 becomes 32 x 64, of which columns 16 to 47 are seen.
    view = EvaluationView(32)
    coverage, _ = cover([(16, 0, 8, 8)], (32, 64), view, num_regions=16)
    assert np.flatnonzero(coverage).tolist() == [0]
    assert cover([(0, 0, 10, 10)], (32, 64), view, num_regions=16) is None
    coverage, positive = cover([(0, 0, 17, 4)], (32, 64), view, num_regions=16)
    assert np.flatnonzero(positive).tolist() == [0]  # its centre lies outside the view
    with pytest.raises(ConfigurationError, match="square grid"):
        cover([(0, 0, 1, 1)], (32, 32), view, num_regions=15)


@pytest.mark.parametrize("name", ["contrastive", "siglip", "nova", "lovt"])
def test_the_only_region_of_an_image_is_the_image(name):
    objective = tiny.objective(name)
    images = tiny.batch(4).views[0][0][:, :, :16, :16]
    with evaluating(objective):
        regions = embed_regions(objective, images)
        whole = objective.embed_image(images)
    assert regions.shape == (4, 1, whole.shape[1])
    torch.testing.assert_close(regions[:, 0], whole)


def test_each_region_is_embedded_by_itself():
    objective = tiny.objective("contrastive")
    images = tiny.batch(4).views[0][0]
    with evaluating(objective):
        regions = embed_regions(objective, images)
        local = objective.image_encoder(images).local
        expected = objective.predictor(torch.cat([local, local], -1).flatten(0, 1))
    torch.testing.assert_close(regions.flatten(0, 1), expected)
    assert objective.embed_image(images).shape == (4, 8)  # the hook is gone


def test_widths_that_do_not_fit_are_refused():
    objective = tiny.objective("contrastive")
    objective.image_encoder.local_width = 7
    with pytest.raises(ConfigurationError, match="cannot stand for pooled ones"):
        embed_regions(objective, tiny.batch(2).views[0][0])


def test_features_come_from_the_same_pass():
    objective = tiny.objective("contrastive")
    images, passes = tiny.batch(4).views[0][0], []
    objective.image_encoder.register_forward_hook(lambda *_: passes.append(1))
    with evaluating(objective):
        found = features_and_embeddings(objective, images)
        torch.testing.assert_close(found["embeddings"], objective.predictor(found["features"]))
    assert len(passes) == 1


def test_a_method_that_embeds_with_another_encoder_still_has_features():
    objective = tiny.objective("contrastive")
    objective.embed_image = lambda images: torch.zeros(len(images), 3)
    images = tiny.batch(4).views[0][0]
    with evaluating(objective):
        found = features_and_embeddings(objective, images)
        assert isinstance(objective.image_encoder(images), Encoded)
    assert found["features"].shape == (4, objective.image_encoder.width)


def test_lovt_s_similarity_is_its_cross_attention():
    objective = tiny.objective("lovt")
    batch = tiny.batch(6)
    with evaluating(objective):
        similarity, mask = objective.local_similarity(batch.views[0][0], batch.tokens)
        regions = objective.region_head(objective.image_encoder(batch.views[0][0]).local)
        report = objective.report_side(objective.text_encoder.encode_tokens(batch.tokens), batch.tokens)
        sentences = objective.sentence_head(report.local, report.mask)
        attention = objective.cross_attention
        _, a2b, _ = attention(regions, sentences, report.mask)
        attended = attention.norm(attention.out(similarity.softmax(-1) @ attention.value(regions))[mask])
    assert similarity.shape == (6, sentences.shape[1], 4)
    torch.testing.assert_close(attended, a2b[mask])
    torch.testing.assert_close(mask, report.mask)


def test_without_a_local_loss_there_is_no_local_similarity():
    objective = tiny.objective("lovt", image_loss=False, report_loss=False, local_attention=False)
    batch = tiny.batch(3)
    assert objective.local_similarity(batch.views[0][0], batch.tokens) is None
