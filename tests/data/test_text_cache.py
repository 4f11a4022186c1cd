import numpy as np
import pytest
import torch

from radlearn.data.text_cache import TextCache


class Counting:
    width = 3

    def __init__(self, name="counting"):
        self.identity = {"name": name}
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        return torch.tensor([[len(t), ord(t[0]), 1.0] for t in texts])


def test_each_text_is_encoded_once_and_rows_come_in_order(tmp_path):
    encoder = Counting()
    cache = TextCache(tmp_path, encoder, batch_size=2)
    features = cache.encode(["bbb", "a", "bbb", "cc"])
    np.testing.assert_array_equal(features[:, 0], [3, 1, 3, 2])
    assert sorted(text for call in encoder.calls for text in call) == ["a", "bbb", "cc"]


def test_a_second_process_encodes_only_what_is_new(tmp_path):
    TextCache(tmp_path, Counting()).encode(["a", "bb"])
    encoder = Counting()
    features = TextCache(tmp_path, encoder).encode(["bb", "ccc"])
    assert encoder.calls == [["ccc"]]
    np.testing.assert_array_equal(features[:, 0], [2, 3])


def test_another_encoder_never_reads_the_first_one_s_features(tmp_path):
    TextCache(tmp_path, Counting("first")).encode(["a"])
    encoder = Counting("second")
    TextCache(tmp_path, encoder).encode(["a"])
    assert encoder.calls == [["a"]]


def test_no_text_is_written_to_disk(tmp_path):
    TextCache(tmp_path, Counting()).encode(["Mr. Miller has an effusion"])
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"Miller" not in written


def test_what_was_encoded_before_a_kill_is_kept(tmp_path, monkeypatch):
    from radlearn.data import text_cache

    monkeypatch.setattr(text_cache, "_TEXTS_A_PART", 2)

    class Dies(Counting):
        def encode(self, texts):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().encode(texts)

    with pytest.raises(KeyboardInterrupt):
        TextCache(tmp_path, Dies(), batch_size=1).encode(["a", "bb", "ccc", "dddd"])
    encoder = Counting()
    TextCache(tmp_path, encoder, batch_size=1).encode(["a", "bb", "ccc", "dddd"])
    assert encoder.calls == [["ccc"], ["dddd"]]
