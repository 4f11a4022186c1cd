"""The experiments of LoVT, each built for real, read back from the objects that would train.

Every number is LoVT's (Müller et al. 2022, arXiv:2112.02889, configurations of the release), but for what
docs/methods/lovt.md says differs: no flips, restarts of the cosine, the 30 % drawn by patient.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from radlearn import shipped
from radlearn.composition import compose
from radlearn.datasets import Dataset
from radlearn.manifests.mimic_cxr import MimicCXR
from radlearn.records import Card
from radlearn.training import pretrain as pretraining
from radlearn.training.module import RunModule

LAYERS = 12
PLAIN = {"image": True, "report": True, "weights": True, "image_pool": "attention", "sentences": "swaps"}
BASE = {
    "optimizer": "adamw", "lr": 1e-4, "batch": 512, "epochs": 100, "patience": 10,
    "schedule": "cosine_restarts", "norm": True, "report_pool": "sentence_attention", "smoothing": 1.0,
    "global": True, **PLAIN,
}  # fmt: skip
GLOBAL = {"image": False, "report": False, "weights": False}
CLIP = {**BASE, **GLOBAL, "report_pool": "token_max", "sentences": "one"}
CONVIRT = {
    **CLIP, "image_pool": "average", "norm": False, "optimizer": "adam", "schedule": "plateau", "batch": 32,
    "epochs": 500, "patience": 15,
}  # fmt: skip
POOLED = {"image_pool": "average", "report_pool": "token_max"}
EXPECTED = {
    "LoVT_100": BASE,
    "LoVT_30": BASE,
    "CLIP_100": CLIP,
    "CLIP_30": CLIP,
    "ConVIRT_100": CONVIRT,
    "ConVIRT_30": {**CONVIRT, "lr": 1e-5},
    "ablation/no_l": {**BASE, **GLOBAL},
    "ablation/no_l_scan": {**BASE, "image": False},
    "ablation/no_l_report": {**BASE, "report": False},
    "ablation/no_g": {**BASE, "global": False, "weights": False, "report_pool": "token_max"},
    "ablation/no_weight": {**BASE, "weights": False},
    "ablation/no_weight_no_att": {**BASE, **POOLED, "weights": False, "lr": 3e-5},
    "ablation/no_spatial": {**BASE, "smoothing": None},
    "ablation/no_coslr": {**BASE, "schedule": "plateau", "lr": 3e-5},
    "ablation/g_only": {**BASE, **GLOBAL, **POOLED, "lr": 3e-4},
    "ablation/g_single_sent_att": CLIP,
    "ablation/convirt_lr": {
        **CONVIRT, "optimizer": "adamw", "schedule": "cosine_restarts", "batch": 512, "lr": 3e-5,
        "epochs": 100, "patience": 10,
    },
}  # fmt: skip


def test_every_experiment_of_lovt_is_here():
    shown = {name for name in shipped.options("experiment") if name[0].isupper() or "/" in name}
    assert shown == {*EXPECTED}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a BERT of twelve narrow layers and a handful of words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "clear", "lungs", "no", "edema", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), num_hidden_layers=LAYERS, **shape)).save_pretrained(folder)
    return folder


def dataset() -> Dataset:
    """1,100 training studies of one and two images that nobody opens, and 50 to validate on."""
    count, names = 1700, MimicCXR.card.label_names
    study = np.sort(np.concatenate([np.arange(1150), np.arange(550)]))
    rows = pl.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(count)],
            "patient_id": [f"p{s}" for s in study],
            "study_id": [f"s{s}" for s in study],
            "split": ["train" if s < 1100 else "validate" for s in study],
            "sentences": [[{"text": "Clear lungs.", "boxes": []}, {"text": "No edema.", "boxes": []}]]
            * count,
            **{name: [1.0] * count for name in names},
        }
    )
    source = SimpleNamespace(size=lambda row: (512, 600), ids=rows["image_id"].to_list())
    card = Card("mimic_cxr", "a", "b", "credentialed", "2.0.0", label_names=names, mean=0.47, std=0.3)
    return Dataset(rows, source, np.arange(count), card, MimicCXR(), 512)


class Built(Exception):
    """Carries what `pretrain` built out of it, before it trains."""


@pytest.fixture
def build(monkeypatch, tmp_path, bert):
    def stop(config, run, data, text, objective, studies, optimisation, size, world, found):
        training, validating = studies
        assert len(validating) == 50
        raise Built(config, objective, training, optimisation, size)

    monkeypatch.setattr(pretraining, "_fit", stop)
    monkeypatch.setattr(pretraining, "open_dataset", lambda *args, **kwargs: dataset())

    def built(experiment: str, *overrides: str):
        settings = [f"+experiment={experiment}", "data.root=/nowhere", f"paths.runs={tmp_path}"]
        config = compose("pretrain", [*settings, f"text.model={bert}", "encoder.weights=null", *overrides])
        with pytest.raises(Built) as raised:
            pretraining.pretrain(config)
        return raised.value.args

    return built


@pytest.mark.parametrize("experiment", EXPECTED)
def test_what_would_train_is_what_was_published(experiment, build):
    wanted = EXPECTED[experiment]
    config, objective, training, optimisation, size = build(experiment)
    module = RunModule(objective, optimisation, seed=1)

    # The optimiser, its rate after k steps, the effective batch, the end.
    optimizer = module.configure_optimizers()
    assert type(optimizer) is {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[wanted["optimizer"]]
    assert {group["weight_decay"] for group in optimizer.param_groups} <= {0.0, 1e-6}
    assert size * optimisation.accumulate == wanted["batch"]
    per_epoch = 1100 // 32 / optimisation.accumulate
    for step in (0, 1, 3):
        module.step = step
        share = (step / per_epoch) % 1 if wanted["schedule"] == "cosine_restarts" else 0.0
        rate = wanted["lr"] * (1 + math.cos(math.pi * share)) / 2
        assert module.current_lr() == pytest.approx(rate)
    assert optimisation.schedule == wanted["schedule"]
    assert (optimisation.plateau_patience, optimisation.plateau_factor) == (12, 0.5)
    assert optimisation.max_grad_norm is None
    assert (config["epochs"], config["early_stop_patience"]) == (wanted["epochs"], wanted["patience"])
    assert (config["best"], config["online_evaluators"]) == ("val_loss", ["image", "report"])
    assert len(config["online_labels"]) == 5

    # What is frozen: the embeddings and six layers of BERT, nothing else.
    frozen = {name for name, p in objective.named_parameters() if not p.requires_grad} - {"log_temperature"}
    layers = {int(name.split(".layer.")[1].split(".")[0]) for name in frozen if ".layer." in name}
    assert layers == set(range(6))
    assert all(
        name.startswith(("text_encoder.trunk.embeddings", "text_encoder.trunk.encoder")) for name in frozen
    )

    # The views.
    (view,) = training.views.specs
    assert (view.count, view.size, view.scale, view.ratio) == (1, 224, (0.6, 1.0), (3 / 4, 4 / 3))
    assert (view.degrees, view.shift, view.zoom) == (20.0, 0.1, (0.95, 1.05))
    assert (view.brightness, view.contrast, view.jitter_probability) == (0.4, 0.4, 1.0)
    assert (view.blur_probability, view.blur_sigma, view.blur_kernel) == (1.0, (0.1, 3.0), 23)
    assert view.flip == 0.0
    assert training.reports.augment == wanted["sentences"]
    assert training.reports.vocabulary.max_length == 512
    assert len(training) == 1100, "an epoch has every study once"

    # The losses and their weights.
    assert (objective.global_loss, objective.image_loss, objective.report_loss) == (
        wanted["global"], wanted["image"], wanted["report"],
    )  # fmt: skip
    assert (objective.global_weight, objective.image_to_report, objective.local_weight) == (1.0, 0.75, 0.75)
    torch.testing.assert_close(objective.log_temperature.exp(), torch.tensor([0.1, 0.3]))
    assert (objective.image_threshold, objective.image_smoothing) == (0.5, wanted["smoothing"])
    assert objective.report_threshold == 0.0
    local = wanted["image"] or wanted["report"]
    assert not local or objective.local_attention == wanted["weights"]

    # The parts.
    attends = wanted["global"] and wanted["image_pool"] == "attention"
    assert hasattr(objective.image_pool, "attention") == attends
    assert objective.pools_sentences == (wanted["report_pool"] == "sentence_attention")
    heads = [
        name
        for name in ("image_head", "report_head", "region_head", "sentence_head")
        if hasattr(objective, name)
    ]
    assert len(heads) == 2 * wanted["global"] + 2 * local
    for name in heads:
        head = getattr(objective, name)
        assert (head.first.out_features, head.last.out_features) == (2048, 512)
        assert (head.norm is not None) == wanted["norm"]
    assert sum(p.numel() for p in objective.image_encoder.parameters()) == 23_508_032
    assert objective.image_encoder.normalise.mean.item() == pytest.approx(0.47)


@pytest.mark.parametrize("experiment", ["LoVT_30", "CLIP_30", "ConVIRT_30"])
def test_thirty_percent_are_drawn_by_patient_unless_the_release_is_followed(experiment):
    settings = [f"+experiment={experiment}", "data.root=/nowhere"]
    assert compose("pretrain", settings)["data"]["subset"] == "seeded_30"


def test_the_release_is_followed_where_it_differs(build):
    config, objective, training, optimisation, _ = build("LoVT_30", "legacy=true")
    assert optimisation.schedule == "cosine_epoch"
    assert objective.cross_attention.padded_rows
    assert objective.image_pool.padded_length
    assert training.views.specs[0].flip == 0.5
    assert config["data"]["subset"] == "first_30_studies"


def test_published_weights_and_text_model_are_the_defaults():
    config = compose("pretrain", ["+experiment=LoVT_100", "data.root=/nowhere"])
    assert config["encoder"]["weights"] == "imagenet"
    assert config["text"]["model"] == "emilyalsentzer/Bio_ClinicalBERT"
    assert (config["data"]["uncertain"], config["data"]["blank"]) == ("ones", "zeros")
