"""Every encoder, plug-ins included."""

from __future__ import annotations

import pytest
import torch

from radlearn import registry

# The smallest form of each encoder; one that is not named here is built from its defaults.
SETTINGS = {
    "timm_image": {"arch": "vit_tiny_patch16_224", "num_layers": 2, "image_size": 64},
    "small_cnn": {"multiplier": 0.25, "image_size": 64},
    "resnet_levels": {"arch": "resnet18", "image_size": 64},
    "tiny_text": {"vocabulary": ["normal", "heart"], "width": 16, "num_heads": 2},
}
KINDS = {name: registry.find("encoders", name).kind for name in registry.names("encoders")}
IMAGE = [name for name, kind in KINDS.items() if kind == "image"]
TEXT = [name for name, kind in KINDS.items() if kind == "text"]
TOKENS = [name for name, kind in KINDS.items() if kind == "tokens"]


def build(name):
    torch.manual_seed(0)
    return registry.find("encoders", name)(**SETTINGS.get(name, {}))


def text_encoder(name):
    if name == "hf_text":
        from radlearn.encoders import _text_model

        return _text_model.build({"model": "minilm", "pooling": "mean", "max_length": 64, "lower_case": True})
    return build(name)


@pytest.mark.parametrize("name", IMAGE)
@pytest.mark.parametrize("size", [32, 64])
def test_shapes_at_two_image_sizes(name, size):
    encoder = build(name).eval()
    images = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    encoded = encoder(images)
    assert encoded.pooled.shape == (2, encoder.width)
    assert encoded.local.shape[::2] == (2, encoder.local_width)
    levels = encoder.pyramid(images)
    assert [level.shape[1] for level in levels] == list(encoder.level_widths)
    assert [level.shape[-1] for level in levels] == [max(size // stride, 1) for stride in (4, 8, 16, 32)]
    assert encoder.num_tokens(size) > 0


@pytest.mark.parametrize("name", IMAGE)
def test_eval_mode_repeats_exactly_and_bytes_equal_floats(name):
    encoder = build(name).eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(encoder(images).pooled, encoder(images).pooled)
    torch.testing.assert_close(encoder(images).pooled, encoder(images.float() / 255).pooled)


@pytest.mark.parametrize("name", IMAGE)
def test_state_survives_a_round_trip(name):
    encoder, other = build(name).eval(), build(name).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(encoder.state_dict())
    images = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(encoder(images).pooled, other(images).pooled)


@pytest.mark.parametrize("name", IMAGE)
def test_a_black_image_gives_finite_features(name):
    assert torch.isfinite(build(name).eval()(torch.zeros(1, 1, 32, 32, dtype=torch.uint8)).pooled).all()


@pytest.mark.parametrize("name", TEXT)
def test_text_features_do_not_depend_on_the_batch(name):
    encoder = text_encoder(name)
    texts = [
        "No acute cardiopulmonary process.",
        "Large left pleural effusion with compressive atelectasis.",
        "",
    ]
    together = encoder.encode(texts)
    assert together.shape == (3, encoder.width)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    alone = torch.cat([encoder.encode([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TEXT)
def test_a_text_encoder_names_all_its_features_depend_on(name):
    import json

    identity = text_encoder(name).identity
    assert identity["name"]
    json.dumps(identity)


def token_encoder(name):
    if name == "bert_text":
        from radlearn.encoders import _token_model

        return _token_model.build({"model": "minilm", "max_length": 64, "freeze_layers": 3}, ()).eval()
    return build(name).eval()


TEXTS = ["No acute process.", "Large left effusion. No edema. The heart is normal.", "", "Normal."]


@pytest.mark.parametrize("name", TOKENS)
def test_token_states_depend_neither_on_padding_nor_on_buckets(name):
    encoder = token_encoder(name)
    tokens = encoder.tokens(TEXTS)
    together = encoder.encode_tokens(tokens)
    assert together.shape == (*tokens.ids.shape, encoder.width)
    for row, text in enumerate(TEXTS):
        alone = encoder.encode_tokens(encoder.tokens([text]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=1e-3, atol=1e-4)
    encoder.buckets = 2
    torch.testing.assert_close(encoder.encode_tokens(tokens), together, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TOKENS)
def test_a_saved_token_encoder_is_built_again_without_hub_and_texts(name, tmp_path):
    encoder = token_encoder(name)
    encoder.save(tmp_path)
    settings = SETTINGS.get(name, {"max_length": 64, "freeze_layers": 3})
    settings = {key: value for key, value in settings.items() if key != "vocabulary"}
    again = registry.find("encoders", name)(folder=str(tmp_path), **settings)
    again.load_state_dict(encoder.state_dict())
    assert again.identity == encoder.identity
    tokens = again.tokens(TEXTS)
    assert torch.equal(tokens.ids, encoder.tokens(TEXTS).ids)
    assert torch.equal(again.eval().encode_tokens(tokens), encoder.encode_tokens(tokens))
