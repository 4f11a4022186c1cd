"""What `--help` says: a summary and examples for each verb; keys and defaults come from the YAML files."""

from __future__ import annotations

from dataclasses import dataclass

from radlearn import shipped
from radlearn.listing import KINDS


@dataclass(frozen=True)
class Usage:
    """The text of one verb: what it does, examples, the groups to choose from."""

    summary: str
    text: str
    examples: tuple[str, ...]
    groups: tuple[str, ...] = ()


USAGE = {
    "prepare": Usage(
        "read a release, check it, resize its images once",
        "Writes manifest.parquet, images-*.arrow, card.json, dataset_statistics.json and rejected.parquet\n"
        "under paths.cache, never into the release. An interrupted call goes on where it stopped.\n"
        "data.split_files gives splits of your own: lists of ids, or LoVT's csv files. engine=ray spreads\n"
        "the images over the Ray cluster at RAY_ADDRESS.",
        (
            "radlearn prepare data=table data.train_manifest=train.csv data.image_root=images",
            "radlearn prepare data=phantom_cxr dry_run=true",
            "radlearn prepare data=chestxray14 data.root=/nih 'data.split_files={train: a.csv, test: b.csv}'",
            "radlearn prepare data=chestxray14 data.root=/nih engine=ray num_workers=64",
        ),
        ("data",),
    ),
    "pretrain": Usage(
        "train a method; resumes if the run exists",
        "Leaves runs/<run_name>/: the resolved config.yaml, checkpoints, metrics.parquet, plots. The same\n"
        "command on an existing run resumes it. Settings of the method stand under method.<key>, of the\n"
        "image encoder under encoder.<key>, of the data set under data.<key>.",
        (
            "radlearn pretrain data.train_manifest=train.csv data.image_root=images run_name=nova_vitb",
            "radlearn pretrain model=small devices=8 batch_size=256 data.train_manifest=train.csv",
            "radlearn pretrain --config-name infonce data.train_manifest=train.csv",
            "radlearn pretrain method=nova data=phantom_cxr encoder=small_cnn fast=true",
            "radlearn pretrain --multirun lambda_sigreg=0.01,0.02,0.05 data.train_manifest=train.csv",
        ),
        ("method", "model", "encoder", "text", "data", "experiment"),
    ),
    "embed": Usage(
        "frozen features and embeddings of a data set, made once",
        "Writes features.h5 under paths.cache/embeddings/<key>: what the image encoder gives (features),\n"
        "and of a run the shared space (embeddings), with ids, splits and patients. The key is a hash of\n"
        "weights, view and data: a second call returns at once, an interrupted one goes on, and the same\n"
        "command on several machines shares the work. Without data it takes the run's own.",
        (
            "radlearn embed run=nova_vitb data=chexpert data.root=/chexpert",
            "radlearn embed run=nova_vitb split=test dtype=float16 devices=4",
            "radlearn embed encoder=resnet_levels encoder.weights=imagenet data=phantom_cxr",
            "radlearn embed text_model=minilm text_column=findings data=phantom_cxr",
            "radlearn embed run=nova_vitb data=phantom_ct layout=per_patient output_dir=features",
        ),
        ("encoder", "model", "data"),
    ),
    "evaluate": Usage(
        "score a run: intervals, predictions per case",
        "Adds rows to results.parquet beside the run, and keeps the prediction of every case.",
        (
            "radlearn evaluate run=nova_vitb",
            "radlearn evaluate run=nova_vitb data.test_manifest=test.csv 'data.label_cols=[Edema]'",
            "radlearn evaluate run=nova_vitb positive_prompts='[edema]' negative_prompts='[no edema]'",
            "radlearn evaluate run=nova_vitb task=linear_probe task.fraction=0.01 task.draw=0",
            "radlearn evaluate run=nova_vitb task=retrieval data=phantom_cxr",
            "radlearn evaluate run=nova_vitb task=segmentation data=siim_pneumothorax data.root=/siim",
            "radlearn evaluate run=nova_vitb task=detection task.finetune=true data=phantom_cxr",
        ),
        ("task", "data"),
    ),
    "report": Usage(
        "tables, figures and one self-contained page",
        "Writes <output>/index.html with LaTeX and csv tables beside it.",
        ("radlearn report runs=[nova_vitb,infonce_vitb]", "radlearn report run=nova_vitb output=page"),
    ),
    "export": Usage(
        "weights for use without radlearn, with a model card",
        "Writes backbone_weights.pt, the image encoder under torchvision's or timm's key names,\n"
        "backbone.json (preprocessing, provenance, hashes) and README.md, a model card with the lines that\n"
        "load it.\n"
        "format=checkpoint writes the whole model without what only resuming needs.",
        (
            "radlearn export run=nova_vitb",
            "radlearn export run=lovt checkpoint=best output_dir=lovt_resnet50",
            "radlearn export run=nova_vitb format=checkpoint output_dir=nova_vitb_weights",
        ),
    ),
    "check": Usage(
        "look at the environment and at a data set",
        "Without data: versions and devices. With data: label prevalence in each split, missing files, and\n"
        "for open and synthetic data a contact sheet of eight images and five impressions.",
        ("radlearn check", "radlearn check data=table data.train_manifest=train.csv data.image_root=images"),
        ("data",),
    ),
    "demo": Usage(
        "all of it on synthetic radiographs, in minutes",
        "Generates chest radiographs, pre-trains, evaluates zero-shot and writes the page. It takes\n"
        "the keys of pretrain.",
        ("radlearn demo", "radlearn demo fast=true", "radlearn demo method=infonce"),
        ("method", "model", "encoder", "text", "data", "experiment"),
    ),
}

_OPTIONS = """\
Options
  --config-name, -cn NAME   another primary configuration: nova, infonce, siglip, medclip or your own
  --config-dir, -cd DIR     a folder with your own configuration files; ./configs is searched too
  --cfg job                 print the composed configuration and stop; --resolve fills in references
  --multirun, -m            run every combination of values given as key=a,b"""


def general() -> str:
    """The text of `radlearn --help`."""
    width = len("completion")
    verbs = "\n".join(f"  {verb:<{width + 2}}{usage.summary}" for verb, usage in USAGE.items())
    return f"""\
radlearn: pre-train, embed and evaluate image encoders for radiology

Usage: radlearn VERB [key=value ...]

Verbs
{verbs}

  {"list":<{width + 2}}what there is: list [{"|".join(KINDS)}]
  {"completion":<{width + 2}}shell completion: eval "$(radlearn completion bash)"

radlearn VERB --help shows the keys and examples of a verb; radlearn demo shows all of it in minutes."""


def of_verb(verb: str) -> str:
    """The text of `radlearn VERB --help`."""
    usage = USAGE[verb]
    examples = "\n".join(f"  {example}" for example in usage.examples)
    parts = [f"radlearn {verb}: {usage.summary}", usage.text, f"Examples\n{examples}"]
    if usage.groups:
        lines = [f"  {group + '=':<12}{'  '.join(shipped.options(group))}" for group in usage.groups]
        parts.append("Groups\n" + "\n".join(lines))
    keys = shipped.body("pretrain" if verb == "demo" else verb).strip()
    parts += ["Keys\n" + "\n".join(f"  {line}".rstrip() for line in keys.splitlines()), _OPTIONS]
    return "\n\n".join(parts)
