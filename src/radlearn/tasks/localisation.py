"""Localisation: does a sentence find the region that it is about?

For each sentence that points to boxes: `pointing`, whether the region most similar to it lies in a box;
`attention`, the share of its attention over the regions that falls into the boxes; `region_auc`, the chance
that a region in a box is more similar than one outside, which no temperature changes. Chance is the share of
the regions in a box, the share of the area, and one half.

What is similar to what is the model's affair: where it has local heads the headline is their cross-attention;
the variant `global` puts each region, and the sentence by itself, through the heads of the global loss (after
MaskCLIP, Zhou et al. 2022, arXiv:2112.01071), which every method with a text side has. Compare methods with
and without local losses on that one, too.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from radlearn.errors import ConfigurationError
from radlearn.tasks.base import Evaluation, Inputs, Regions, Task, Values, summarise

METRICS = ("pointing", "attention", "region_auc")


class Localisation(Task):
    """Pointing accuracy, attention inside the boxes, and region AUC of sentences."""

    name: ClassVar[str] = "localisation"
    needs: ClassVar[tuple[str, ...]] = ("regions",)
    labelled: ClassVar[bool] = False
    headline: ClassVar[tuple[str, str]] = ("region_auc", "all")

    def run(self, inputs: Inputs) -> Evaluation:
        """Measure every variant, over all sentences."""
        if inputs.regions is None:
            raise ConfigurationError("localisation needs sentences that point to boxes, and a text side")
        regions = inputs.regions
        chances = {
            ("pointing", "all"): float(regions.positive.mean()),
            ("attention", "all"): float(regions.coverage.mean()),
            ("region_auc", "all"): 0.5,
        }
        rows, kept = [], {}
        for variant, similarity in regions.similarity.items():
            values = Values(regions.case_ids, regions.patient_ids, METRICS, localise(similarity, regions))
            rows += summarise(inputs, values, task=self.name, chances=chances, variant=variant)
            kept[variant] = values
        return Evaluation(rows, values=kept)


def localise(similarity: np.ndarray, regions: Regions) -> np.ndarray:
    """(M, 3) of each sentence: hit, share of attention inside, region AUC (NaN where all regions lie inside).

    Regions that tie for the first place share the hit.
    """
    first = similarity == similarity.max(1, keepdims=True)
    hit = (first & regions.positive).sum(1) / first.sum(1)
    inside = (softmax(similarity, axis=1) * regions.coverage).sum(1)
    num_positive = regions.positive.sum(1)
    num_pairs = num_positive * (regions.positive.shape[1] - num_positive)
    ranks = (rankdata(similarity, axis=1) * regions.positive).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.where(num_pairs > 0, (ranks - num_positive * (num_positive + 1) / 2) / num_pairs, np.nan)
    return np.stack([hit, inside, area], axis=1)
