"""Reports as tokens: joined sentence by sentence, cut at the limit, drawn by (seed, draw, row)."""

from collections import Counter

import numpy as np
import pytest
import torch

from radlearn.data.report_tokens import ReportTokens, Vocabulary
from radlearn.errors import ConfigurationError, DataError

BEGIN, END, PAD = 101, 102, 0


def letters(sentences):
    """One token a letter: its place in the alphabet."""
    return [[ord(c) - 96 for c in s if c.isalpha()] for s in sentences]


def reports(texts, *, index=None, max_length=12, **settings):
    vocabulary = Vocabulary(BEGIN, END, PAD, max_length)
    return ReportTokens(
        texts, np.arange(len(texts)) if index is None else index, letters, vocabulary, **settings
    )


def test_sentences_are_joined_between_begin_and_end_and_padded():
    tokens = reports([["ab", "c"], ["d"]]).batch([0, 1])
    assert tokens.ids.tolist() == [[BEGIN, 1, 2, 3, END], [BEGIN, 4, END, PAD, PAD]]
    assert tokens.mask.tolist() == [[True] * 5, [True, True, True, False, False]]
    assert tokens.sentence.tolist() == [[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1]]
    assert tokens.ids.dtype == tokens.sentence.dtype == torch.int64


def test_the_first_sentence_that_does_not_fit_and_all_later_ones_are_dropped():
    tokens = reports([["abc", "defgh", "i"]], max_length=9).batch([0])
    # 3 + 5 > 7 tokens: the short third sentence goes too.
    assert tokens.ids.tolist() == [[BEGIN, 1, 2, 3, END]]
    exactly = reports([["abc", "defg", "i"]], max_length=9).batch([0])
    assert exactly.ids.tolist() == [[BEGIN, 1, 2, 3, 4, 5, 6, 7, END]]


def test_a_sentence_longer_than_the_limit_is_cut():
    assert reports([["abcdef"]], max_length=6).batch([0]).ids.tolist() == [[BEGIN, 1, 2, 3, 4, END]]


def test_sentences_without_tokens_are_dropped_and_texts_without_any_refused():
    assert reports([["...", "a"]]).batch([0]).sentence.tolist() == [[-1, 0, -1]]
    with pytest.raises(DataError, match="text 1 of 2 has no sentence"):
        reports([["a"], ["..."]])


def test_rows_share_texts():
    shared = reports([["a"], ["b"]], index=np.array([1, 0, 1]))
    assert len(shared) == 3
    assert shared.batch([0, 1, 2]).ids[:, 1].tolist() == [2, 1, 2]


def test_swaps_keep_the_sentences_and_average_one_and_a_half():
    text = ["a", "b", "c", "d", "e"]
    drawn = reports([text] * 400, augment="swaps", seed=1)
    orders = [tuple(row[1:-1].tolist()) for row in drawn.batch(range(400), draw=0).ids]
    assert all(sorted(order) == [1, 2, 3, 4, 5] for order in orders)
    # Geometric with success .4: no swap at all with .4, and two places of five may coincide with .2.
    unmoved = sum(order == (1, 2, 3, 4, 5) for order in orders) / 400
    expected = sum(0.4 * 0.6**k * _returns(k) for k in range(12))
    assert abs(unmoved - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def _returns(swaps: int) -> float:
    """Share of sequences of so many random swaps of five places that move nothing, by counting a sample."""
    random, moved = np.random.default_rng(0), 0
    for _ in range(2000):
        order = list(range(5))
        for i, j in random.integers(5, size=(swaps, 2)):
            order[i], order[j] = order[j], order[i]
        moved += order != list(range(5))
    return 1 - moved / 2000


def test_one_sentence_is_drawn_uniformly():
    drawn = reports([["a", "b", "c"]] * 600, augment="one", seed=2).batch(range(600), draw=3)
    assert drawn.ids.shape == (600, 3)
    counts = Counter(drawn.ids[:, 1].tolist())
    assert all(abs(count - 200) < 4 * (600 * 2 / 9) ** 0.5 for count in counts.values())


def test_a_crop_is_a_run_of_most_of_the_sentences():
    text = [chr(97 + i) for i in range(10)]
    drawn = reports([text] * 100, augment="crop").batch(range(100), draw=0)
    for row, mask in zip(drawn.ids, drawn.mask, strict=True):
        kept = row[mask][1:-1].tolist()
        assert 6 <= len(kept) <= 10
        assert kept == list(range(kept[0], kept[0] + len(kept)))


def test_draws_depend_on_seed_draw_and_row_alone():
    texts = [["a", "b", "c", "d"]] * 50
    one = reports(texts, augment="swaps", seed=1)
    whole = one.batch(range(50), draw=4).ids
    assert torch.equal(whole[10:20], one.batch(range(10, 20), draw=4).ids)
    assert not torch.equal(whole, one.batch(range(50), draw=5).ids)
    assert not torch.equal(whole, reports(texts, augment="swaps", seed=2).batch(range(50), draw=4).ids)
    assert torch.equal(one.batch(range(50)).ids, reports(texts).batch(range(50)).ids)


def test_an_unknown_augmentation_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"text\.augment is one of .*did you mean 'swaps'"):
        reports([["a"]], augment="swap")
