"""The BERT that learns: what is frozen, what it costs to pad, and checkpointing that changes no gradient."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from radlearn.data.report_tokens import ReportTokens
from radlearn.encoders import _token_model
from radlearn.errors import ConfigurationError
from radlearn.manifests.openi import OpenI

TEXTS = ["Large left effusion. No edema.", "Normal.", "The heart is enlarged and the lungs are clear."]


def build(**settings):
    return _token_model.build({"model": "minilm", "max_length": 64, "freeze_layers": 4, **settings}, ())


def test_the_first_layers_and_the_embeddings_are_frozen():
    encoder = build(freeze_embeddings=True)
    learns = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name.split(".")[3] for name in learns} == {"4", "5"}
    assert all(name.startswith("trunk.encoder.layer.") for name in learns)
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    thawed = build(freeze_embeddings=False, freeze_layers=0)
    assert all(p.requires_grad for p in thawed.parameters())


def test_states_are_those_of_the_model_itself():
    encoder = build().eval()
    with torch.inference_mode():
        ours = encoder.encode_tokens(encoder.tokens([TEXTS[1]]))
        ids = encoder.tokenizer(TEXTS[1], return_tensors="pt")
        torch.testing.assert_close(ours, encoder.trunk(**ids).last_hidden_state)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        encoder = build(gradient_checkpointing=checkpointing).train()
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        encoder.encode_tokens(encoder.tokens(TEXTS)).square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.requires_grad])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_more_layers_or_tokens_than_there_are_is_refused():
    with pytest.raises(ConfigurationError, match=r"freeze_layers=9.*6 layers"):
        build(freeze_layers=9)
    with pytest.raises(ConfigurationError, match=r"max_length=4096.*512 positions"):
        build(max_length=4096)


def test_buckets_leave_few_positions_empty_on_real_reports():
    """The design's goal: at most 1.4 positions a token, on the 3,927 real OpenI reports with a sentence."""
    spec = importlib.util.find_spec("torchxrayvision")
    told = OpenI().read_reports(Path(next(iter(spec.submodule_search_locations))) / "data")["sentences"]
    texts = [sentences for sentences in told.to_list() if sentences]
    encoder = build(max_length=512, buckets=4)
    reports = ReportTokens(texts, np.arange(len(texts)), encoder.tokenise, encoder.vocabulary)
    random = np.random.default_rng(0)
    batches = [reports.batch(random.integers(len(texts), size=32)) for _ in range(40)]
    held = sum(int(batch.mask.sum()) for batch in batches)
    computed = sum(encoder.padding_ratio(batch) * int(batch.mask.sum()) for batch in batches)
    padded = sum(batch.mask.numel() for batch in batches)
    assert len(texts) == 3927
    assert computed / held < 1.4 < 2 < padded / held
