import json
import shutil
from pathlib import Path

import pytest
import torch

from radlearn.encoders import _text_model
from radlearn.encoders.hf_text import HFText
from radlearn.errors import ConfigurationError

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "No",
    "no",
    "effusion",
    "Effusion",
    "left",
    "edema",
    ".",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A tiny random BERT in a local folder, without a tokenizer configuration, as Bio_ClinicalBERT's
    repository is.
    """
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, hidden_dropout_prob=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return folder


def test_features_are_the_model_s_own_first_state_or_masked_mean(bert):
    from transformers import BertModel, BertTokenizer

    texts = ["no effusion .", "left"]
    model = BertModel.from_pretrained(bert).eval()
    tokenizer = BertTokenizer(str(bert / "vocab.txt"), do_lower_case=True)
    for text in texts:
        tokens = tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]
        for pooling, expected in (("cls", states[0]), ("mean", states.mean(0))):
            # Encoded beside a longer text, so that the short one is padded.
            encoder = HFText(model=str(bert), pooling=pooling, max_length=16)
            torch.testing.assert_close(encoder.encode([text, "no left effusion edema ."])[0], expected)


def test_casing_is_explicit(bert):
    lower = HFText(model=str(bert), lower_case=True, max_length=16)
    cased = HFText(model=str(bert), lower_case=False, max_length=16)
    assert torch.equal(lower.encode(["No Effusion"]), lower.encode(["no effusion"]))
    assert not torch.equal(cased.encode(["No Effusion"]), cased.encode(["no effusion"]))
    assert lower.identity != cased.identity


def test_it_stays_in_eval_mode_and_learns_nothing(bert):
    encoder = HFText(model=str(bert), max_length=16)
    torch.nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder.encode(["left edema"]), encoder.encode(["left edema"]))


def test_long_texts_are_cut_and_too_many_positions_refused(bert):
    encoder = HFText(model=str(bert), max_length=4)
    assert torch.equal(encoder.encode(["no left edema"]), encoder.encode(["no left effusion"]))
    assert encoder.lengths(["left", "no left edema ."]) == [3, 4]
    with pytest.raises(ConfigurationError, match="has 32 positions"):
        HFText(model=str(bert), max_length=64)


def test_a_model_that_cannot_be_had_says_how_to_get_it():
    with pytest.raises(ConfigurationError, match=r"huggingface-cli download .*text\.model=/path"):
        HFText(model="emilyalsentzer/Bio_ClinicalBERT")


def test_other_bytes_than_the_pinned_ones_are_refused(bert):
    with pytest.raises(ConfigurationError, match="sha256"):
        HFText(model=str(bert), sha256="0" * 64, max_length=16)


def test_a_folder_without_weights_says_what_it_wants(bert, tmp_path):
    shutil.copy(bert / "config.json", tmp_path / "config.json")
    with pytest.raises(ConfigurationError, match=r"model\.safetensors or pytorch_model\.bin"):
        HFText(model=str(tmp_path))


def test_auto_is_for_synthetic_data_only():
    with pytest.raises(ConfigurationError, match="for synthetic data"):
        _text_model.resolve({"model": "auto"}, synthetic=False)


def test_auto_takes_minilm_where_no_clinical_model_is_cached_and_hashed_words_without_any(monkeypatch):
    assert _text_model.resolve({"model": "auto"}, synthetic=True)["model"] == "minilm"
    monkeypatch.setattr(_text_model, "minilm_folder", lambda: None)
    assert _text_model.resolve({"model": "auto"}, synthetic=True)["model"] == "hashed"
    with pytest.raises(ConfigurationError, match=r"radlearn\[offline\]"):
        _text_model.build({"model": "minilm"})


def test_minilm_knows_topics_and_hardly_side_or_negation():
    # Reference cosines to "large left pleural effusion", measured on the same weights with mean pooling.
    encoder = _text_model.build({"model": "minilm", "pooling": "mean", "max_length": 256, "lower_case": True})
    effusions = ["large left pleural effusion", "large right pleural effusion", "no pleural effusion"]
    texts = [*effusions, "cardiomegaly"]
    unit = torch.nn.functional.normalize(encoder.encode(texts), dim=-1)
    torch.testing.assert_close(unit[1:] @ unit[0], torch.tensor([0.976, 0.777, 0.231]), atol=1e-3, rtol=0)
    assert encoder.identity["sha256"] == _text_model.MINILM_SHA256


def test_identity_travels_as_json(bert):
    assert json.loads(json.dumps(HFText(model=str(bert), max_length=16).identity))["pooling"] == "cls"
