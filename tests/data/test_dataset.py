"""Training items: rows, or studies of which each draw takes one row; texts as tokens beside them."""

import numpy as np
import torch

from radlearn.data.dataset import StudyDataset
from radlearn.data.report_tokens import ReportTokens, Vocabulary
from radlearn.data.views import Views, ViewSpec


class Flat:
    """Images of one grey each: the grey is the row."""

    def gather(self, indices):
        return [np.full((16, 16), index, np.uint8) for index in indices]


PLAIN = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "jitter_probability": 0.0, "blur_probability": 0.0}
# Studies of one, three and two rows.
STARTS = np.array([0, 1, 4, 6])


def dataset(**settings):
    return StudyDataset(Flat(), np.arange(6), Views([ViewSpec(1, 16, **PLAIN)], seed=3), **settings)


def test_an_item_is_a_row_unless_studies_are_sampled():
    rows = dataset()
    assert len(rows) == 6
    batch = rows.__getitems__([(0, 4), (0, 1)])
    assert batch.index.tolist() == [4, 1]
    assert [int(view.float().mean()) for view in batch.views[0][0]] == [4, 1]


def test_a_study_gives_one_of_its_rows_anew_in_each_draw():
    studies = dataset(studies=STARTS)
    assert len(studies) == 3
    seen = [studies.__getitems__([(draw, s) for s in range(3)]).index.tolist() for draw in range(300)]
    assert seen == [studies.__getitems__([(draw, s) for s in range(3)]).index.tolist() for draw in range(300)]
    assert {row[0] for row in seen} == {0}
    for column, members in ((1, (1, 2, 3)), (2, (4, 5))):
        counts = [sum(row[column] == m for row in seen) for m in members]
        share = 1 / len(members)
        # Four standard deviations of 300 fair draws.
        assert all(abs(c - 300 * share) < 4 * (300 * share * (1 - share)) ** 0.5 for c in counts)


def test_a_studys_row_does_not_depend_on_the_batch():
    studies = dataset(studies=STARTS)
    together = studies.__getitems__([(7, 0), (7, 1), (7, 2)]).index
    assert studies.__getitems__([(7, 2)]).index[0] == together[2]


def test_texts_and_labels_follow_the_drawn_row():
    def tokenise(sentences):
        return [[int(s)] for s in sentences]

    reports = ReportTokens(
        [["10"], ["11"], ["12"]], np.array([0, 1, 1, 1, 2, 2]), tokenise, Vocabulary(1, 2, 0, 8)
    )
    labels = np.arange(6, dtype=np.float32)[:, None]
    batch = dataset(studies=STARTS, reports=reports, labels=labels).__getitems__([(5, 1), (5, 2)])
    assert batch.tokens.ids[:, 1].tolist() == [11, 12]
    assert batch.text_id.tolist() == [1, 2]
    assert torch.equal(batch.labels[:, 0], batch.index.float())
