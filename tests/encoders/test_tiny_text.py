"""The small text encoder: its words, its independence of padding and of its buckets."""

import pytest
import torch

from radlearn.encoders import _token_model
from radlearn.encoders.tiny_text import TinyText
from radlearn.errors import DataError

TEXTS = [
    "Large left pleural effusion. No pneumothorax.",
    "Normal.",
    "The heart is enlarged, 0.58. Mild edema. No effusion. Clear lungs otherwise.",
    "No edema.",
    "Right basal atelectasis.",
]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TinyText(vocabulary=TinyText.words_of(TEXTS), width=16, num_heads=2, max_length=32).eval()


def test_words_are_counted_and_ties_follow_the_alphabet():
    assert TinyText.words_of(["b a b", "c A."]) == ["a", "b", ".", "c"]
    assert TinyText.words_of(["b a b"], limit=1) == ["b"]


def test_unknown_words_and_digits(encoder):
    known, unknown, number = encoder.tokenise(["edema", "zebra", "58"])
    assert len(known) == 1
    assert unknown == [1]
    assert len(number) == 2


def test_a_text_does_not_depend_on_its_batch(encoder):
    tokens = encoder.tokens(TEXTS)
    together = encoder.encode_tokens(tokens)
    for row, text in enumerate(TEXTS):
        alone = encoder.encode_tokens(encoder.tokens([text]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=1e-4, atol=1e-5)
        assert not together[row, len(alone) :].any()


def test_buckets_change_the_padding_and_not_the_features(encoder):
    tokens = encoder.tokens(TEXTS * 4)
    whole, ratio = encoder.encode_tokens(tokens), encoder.padding_ratio(tokens)
    encoder.buckets = 5
    torch.testing.assert_close(encoder.encode_tokens(tokens), whole, rtol=1e-4, atol=1e-5)
    assert encoder.padding_ratio(tokens) == 1 < ratio


def test_a_saved_encoder_is_built_again_without_its_texts(encoder, tmp_path):
    encoder.save(tmp_path / _token_model.FOLDER)
    again = _token_model.restore({"model": "tiny", "max_length": 32}, tmp_path)
    assert again.identity == encoder.identity
    assert again.tokenise(TEXTS) == encoder.tokenise(TEXTS)
    with pytest.raises(DataError, match=r"no vocabulary\.txt"):
        _token_model.restore({"model": "tiny"}, tmp_path / "nowhere")


def test_a_text_without_a_word_still_has_a_token(encoder):
    tokens = encoder.tokens(["", "Normal."])
    assert tokens.mask.sum(1).tolist() == [3, 4]
    assert torch.isfinite(encoder.encode_tokens(tokens)).all()
