"""Retrieval of reports by images and of images by reports, over the whole split and never inside a batch.

Every case with a report is one query in each direction. Identical texts are one report: an image looks for
its text among the distinct texts, a report for any image that has its text. What chance scores takes account
of that. The number depends on the size of the gallery, so compare runs on one split only.

Intervals redraw the patients whose cases ask; the gallery stays whole. Where a handful of cases hit, as a
random model does at rank 1, a bootstrap interval is too narrow, and without any hit it is a point at 0.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from radlearn.errors import ConfigurationError, DataError
from radlearn.metrics import per_case, retrieval
from radlearn.tasks.base import Evaluation, Inputs, Task, Values, summarise


class Retrieval(Task):
    """Recall@1, @5, @10 and median rank, both ways.

    Args:
        column: the data set's column that is the text; None takes the one the run was trained with.
    """

    name: ClassVar[str] = "retrieval"
    needs: ClassVar[tuple[str, ...]] = ("embeddings", "texts")
    labelled: ClassVar[bool] = False
    headline: ClassVar[tuple[str, str]] = ("recall@10", "image_to_report")

    def __init__(self, *, column: str | None = None) -> None:
        self.column = column

    def run(self, inputs: Inputs) -> Evaluation:
        """Rank both ways.

        Raises:
            DataError: if fewer than two cases have a text.
        """
        if inputs.embeddings is None or inputs.texts is None or inputs.text_index is None:
            raise ConfigurationError("retrieval needs a model with a text side, and reports")
        asking = np.flatnonzero(inputs.text_index >= 0)
        if len(asking) < 2:
            raise DataError(f"{len(asking)} cases have a text: retrieval needs at least two")
        text = inputs.text_index[asking]
        images = inputs.embeddings[torch.from_numpy(asking)]
        gallery = np.arange(len(inputs.texts))
        ranks = np.stack(
            [
                retrieval.ranks(images, inputs.texts, text, gallery, score=inputs.score),
                # A text that several cases share is ranked once.
                retrieval.ranks(inputs.texts, images, gallery, text, score=inputs.score)[text],
            ],
            axis=1,
        )
        values = Values(
            case_ids=[inputs.image_ids[i] for i in asking.tolist()],
            patient_ids=[inputs.patient_ids[i] for i in asking.tolist()],
            names=per_case.RANKS,
            values=ranks,
        )
        variant = "" if inputs.score == "cosine" else f"score={inputs.score}"
        chances = _chances(text, len(gallery))
        rows = summarise(inputs, values, task=self.name, chances=chances, variant=variant)
        return Evaluation(rows, values={variant: values})


def _chances(text: np.ndarray, num_texts: int) -> dict[tuple[str, str], float]:
    """What a random order of the gallery scores, by metric and direction."""
    found: dict[tuple[str, str], float] = {}
    one, many = np.ones(len(text)), retrieval.num_matches(text, text)
    for direction, (matches, size) in zip(per_case.RANKS, ((one, num_texts), (many, len(text))), strict=True):
        for metric, summary in per_case.RANK_SUMMARIES.items():
            found[metric, direction] = (
                retrieval.chance_median_rank(matches, size)
                if summary == "median"
                else retrieval.chance_recall(int(summary.removeprefix("at_most_")), matches, size)
            )
    return found
