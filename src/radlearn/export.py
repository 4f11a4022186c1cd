"""The verb `export`: weights for use without radlearn, under the key names of the library they come from.

    backbone_weights.pt      the image encoder's trunk: a dict of tensors, as torchvision or timm names them
    backbone.json            what has to be done to an image before, what was trained on what, hashes
    README.md                a model card with the lines that load it

`format=checkpoint` writes the whole model instead: a checkpoint folder without what only resuming needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radlearn import terminal
from radlearn.encoders import _token_model
from radlearn.encoders.base import Encoder
from radlearn.errors import ConfigurationError, DataError
from radlearn.subject import Subject, open_run
from radlearn.training import checkpoint

BACKBONE, ABOUT, CARD = "backbone_weights.pt", "backbone.json", "README.md"
# What each form writes.
_FILES = {
    "backbone": (BACKBONE, ABOUT, CARD),
    "checkpoint": (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.ABOUT, _token_model.FOLDER),
}
_LOADING = {
    "torchvision": """\
model = torchvision.models.get_model("{arch}"){stem}
missing = model.load_state_dict(weights, strict=False).missing_keys
assert all(key.startswith("fc.") for key in missing)  # the classifier is yours to add""",
    "timm": """\
model = timm.create_model("{arch}", num_classes=0, **{options})
model.load_state_dict(weights)""",
    "radlearn": """\
encoder = registry.find("encoders", "{encoder}")(**{settings})
encoder.load_state_dict(weights)""",
}
_IMPORTS = {
    "torchvision": "import torchvision",
    "timm": "import timm",
    "radlearn": "from radlearn import registry",
}


def export(config: Mapping[str, Any]) -> Path:
    """Export a run's weights.

    Args:
        config: a resolved and validated configuration of the verb `export`.

    Returns:
        The folder that was written.

    Raises:
        ConfigurationError: if the folder has other files already.
        DataError: if it cannot be written; nothing is left half written.
    """
    subject = open_run({**config, "device": "cpu"})
    folder = Path(config["output_dir"] or subject.folder / "export").expanduser().resolve()
    write = {"backbone": _write_backbone, "checkpoint": _write_checkpoint}[config["format"]]
    _refuse_foreign(folder, config["format"])
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        write(subject, temporary)
        folder.mkdir(exist_ok=True)
        for path in temporary.iterdir():
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            path.replace(folder / path.name)
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror or error}; free space or set output_dir"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _refuse_foreign(folder: Path, form: str) -> None:
    """An earlier export of the same form is replaced, and nothing else is ever touched."""
    if not folder.exists():
        return
    others = [folder.name]
    if folder.is_dir():
        others = sorted(path.name for path in folder.iterdir() if path.name not in _FILES[form])
    if others:
        raise ConfigurationError(
            f"{folder} holds {', '.join(others[:3])}, which is no part of an export of format={form}: set "
            "output_dir to a new folder"
        )


def _write_checkpoint(subject: Subject, folder: Path) -> None:
    model = subject.model
    about = {key: value for key, value in model.about.items() if key != "versions"}
    inner = folder / "checkpoint"
    checkpoint.save(inner, model.objective, config=model.config, about=about, state=None)
    for path in inner.iterdir():
        path.rename(folder / path.name)
    inner.rmdir()


def _write_backbone(subject: Subject, folder: Path) -> None:
    encoder = subject.model.objective.image_encoder
    weights = {k: v.detach().cpu().contiguous() for k, v in encoder.backbone().state_dict().items()}
    torch.save(weights, folder / BACKBONE)
    about = _about(subject, encoder, weights, folder / BACKBONE)
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(about), encoding="utf-8")


def _about(subject: Subject, encoder: Encoder, weights: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    model, trained_on = subject.model, subject.trained_on()
    settings = {k: v for k, v in model.config["encoder"].items() if k not in ("weights", "pretrained")}
    normalise = encoder.normalise
    return {
        "library": encoder.library,
        "encoder": settings,
        "preprocessing": {
            "size": model.view.size,
            "fit": model.view.fit,
            "pixels": "grey in [0, 1], bright is dense",
            "channels": normalise.channels,
            "mean": None if normalise.per_image else normalise.mean.flatten().tolist(),
            "std": None if normalise.per_image else normalise.std.flatten().tolist(),
            "per_image": normalise.per_image,
        },
        "width": encoder.width,
        "num_weights": sum(v.numel() for v in weights.values() if v.is_floating_point()),
        "run": subject.name,
        "method": model.config["method"]["name"],
        "recipe": model.config["recipe"],
        "step": model.about["step"],
        "data": None
        if trained_on is None
        else {k: getattr(trained_on, k) for k in ("name", "access", "licence", "release", "fingerprint")},
        "versions": checkpoint.versions(),
        "sha256": {"weights": checkpoint.file_hash(file), "tensors": _tensor_hash(weights)},
    }


def _tensor_hash(weights: Mapping[str, Tensor]) -> str:
    """Of names and values: the same however a file is packed."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode())
        found.update(weights[name].numpy().tobytes())
    return found.hexdigest()


def _card(about: Mapping[str, Any]) -> str:
    settings = dict(about["encoder"])
    name = settings.pop("name")
    library = about["library"]
    options = {"in_chans": about["preprocessing"]["channels"]}
    shape = {"hidden_size": "embed_dim", "num_layers": "depth", "num_heads": "num_heads"}
    options |= {theirs: settings[ours] for ours, theirs in shape.items() if settings.get(ours) is not None}
    if library == "timm" and str(settings.get("arch", "")).startswith(("vit_", "deit", "eva")):
        options["dynamic_img_size"] = True
    loading = _LOADING[library].format(
        arch=settings.get("arch"),
        options=options,
        encoder=name,
        settings=settings,
        stem=_stem(options["in_chans"]),
    )
    seen = about["preprocessing"]
    how = (
        "each image to mean 0 and standard deviation 1"
        if seen["per_image"]
        else f"minus {_numbers(seen['mean'])}, divided by {_numbers(seen['std'])}"
    )
    fits = {"centre_crop": f"the short side to {seen['size']} pixels, then the centre square"}
    fits |= {"pad_square": f"the long side to {seen['size']} pixels, black around to a square"}
    data = about["data"] or {"name": "unknown", "access": "unknown", "licence": "unknown"}
    warning = {
        "synthetic": "Trained on **synthetic** images: it says nothing about patients.",
        "credentialed": "Trained on **credentialed** data: see its agreement before you share these weights.",
    }.get(data["access"], "")
    return f"""\
# {about["run"]}

Encoder of a {about["recipe"]} run of radlearn, {about["step"]:,} steps; {about["num_weights"]:,} weights.
{warning}

| | |
|---|---|
| trained on | {data["name"]} ({data["access"]}; licence: {data["licence"]}) |
| image | {seen["pixels"]}; {fits.get(seen["fit"], seen["fit"])}; {_channels(seen["channels"])}; {how} |
| sha256 of `{BACKBONE}` | `{about["sha256"]["weights"]}` |

```python
import torch
{_IMPORTS[library]}

weights = torch.load("{BACKBONE}", weights_only=True)
{loading}
```

In radlearn: `init=path/to/{BACKBONE}` starts a run from these weights. Not a medical device.
"""


def _channels(count: int) -> str:
    return "one channel" if count == 1 else f"{count} equal channels"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _stem(channels: int) -> str:
    """The line that gives torchvision's ResNets a first convolution for other images than colour."""
    return "" if channels == 3 else f"\nmodel.conv1 = torch.nn.Conv2d({channels}, 64, 7, 2, 3, bias=False)"


def main(config: dict[str, Any]) -> Path:
    """The verb `export`: says what was written, and where."""
    folder = export(config)
    console = terminal.console()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        console.print(f"{path}, {path.stat().st_size:,} bytes", soft_wrap=True, highlight=False, markup=False)
    return folder
