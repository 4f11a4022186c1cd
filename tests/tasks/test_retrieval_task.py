"""The retrieval task: who asks, what is shared, and what chance scores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from radlearn.errors import ConfigurationError, DataError
from radlearn.tasks.base import Inputs
from radlearn.tasks.retrieval import Retrieval


def inputs(num_cases=300, num_texts=100, noise=0.0, **changes):
    """Three cases share a text and a patient."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(num_texts, 16, generator=generator)
    index = np.arange(num_cases) % num_texts
    made = Inputs(
        image_ids=[f"image-{i}" for i in range(num_cases)],
        patient_ids=[f"patient-{i}" for i in index],
        labels=np.zeros((num_cases, 0)),
        label_names=(),
        embeddings=texts[index] + noise * torch.randn(num_cases, 16, generator=generator),
        texts=texts,
        text_index=index,
        num_bootstrap=200,
        provenance={"run": "r", "data": "d"},
    )
    return replace(made, **changes)


def of(evaluation):
    return {(row.metric, row.label): row for row in evaluation.results}


def test_a_perfect_model_ranks_every_report_and_image_first():
    rows = of(Retrieval().run(inputs()))
    assert len(rows) == 8
    for (metric, _), row in rows.items():
        assert row.value == 1
        assert (row.num_cases, row.num_patients) == (300, 100)
        assert metric == "median_rank" or row.low == row.high == 1


def test_random_models_score_chance_within_their_intervals():
    held = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        rows = of(Retrieval().run(inputs(embeddings=torch.randn(300, 16, generator=generator))))
        # Recall at 1 has one hit in expectation, too few for a bootstrap.
        held += [
            row.low < row.chance < row.high for (metric, _), row in rows.items() if not metric.endswith("@1")
        ]
    assert np.mean(held) > 0.8
    # One text of 100 matches an image; three images of 300 match a text.
    assert rows["recall@10", "image_to_report"].chance == pytest.approx(0.1)
    assert rows["recall@10", "report_to_image"].chance == pytest.approx(
        1 - 290 * 289 * 288 / (300 * 299 * 298)
    )


def test_cases_without_a_text_do_not_ask():
    index = np.where(np.arange(300) < 30, -1, np.arange(300) % 100)
    evaluation = Retrieval().run(inputs(noise=0.5, text_index=index))
    assert {row.num_cases for row in evaluation.results} == {270}
    assert evaluation.values[""].case_ids[0] == "image-30"


def test_the_ranks_of_all_cases_are_kept():
    evaluation = Retrieval().run(inputs(noise=1.5))
    values = evaluation.values[""]
    rows = of(evaluation)
    for column, direction in enumerate(values.names):
        ranks = values.values[:, column]
        assert rows["recall@5", direction].value == pytest.approx((ranks <= 5).mean())
        assert rows["median_rank", direction].value == np.median(ranks)


def test_another_score_is_another_variant():
    evaluation = Retrieval().run(inputs(score="dot"))
    assert {row.variant for row in evaluation.results} == {"score=dot"} == {*evaluation.values}


def test_what_is_missing_is_named():
    with pytest.raises(ConfigurationError, match="needs a model with a text side"):
        Retrieval().run(inputs(texts=None))
    with pytest.raises(DataError, match="1 cases have a text"):
        Retrieval().run(inputs(text_index=np.where(np.arange(300) == 4, 0, -1)))
