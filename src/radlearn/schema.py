"""The run keys: which a verb takes, of what type and range.

Their defaults and meanings stand in `configs/<verb>.yaml`. Settings of plug-ins (`method.*`, `encoder.*`,
`data.*`, `task.*`) are not listed: their constructors are the schema.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from radlearn.errors import ConfigurationError


@dataclass(frozen=True)
class Key:
    """What a key may hold.

    Attributes:
        types: accepted Python types; a float key accepts whole numbers too.
        low, high: inclusive bounds of a number; above: exclusive lower bound.
        choices: the words a text may be; null: whether None is accepted.
        words: texts accepted in place of a number.
    """

    types: tuple[type, ...]
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    null: bool = False
    words: tuple[str, ...] = ()

    def wanted(self) -> str:
        """The sentence an error message says."""
        if self.choices:
            text = "one of " + ", ".join(self.choices)
        else:
            names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
            names |= {list: "a list [a, b]", dict: "a section {key: value}"}
            text = " or ".join(names[t] for t in self.types)
        bounds = {"at least": self.low, "above": self.above, "at most": self.high}
        text += "".join(f", {word} {bound:g}" for word, bound in bounds.items() if bound is not None)
        return text + "".join(f", or {word}" for word in (*self.words, *(["null"] if self.null else [])))

    def accepts(self, value: Any) -> bool:
        """Whether the value has the type and lies in the range."""
        if value is None:
            return self.null
        if isinstance(value, str) and value in self.words:
            return True
        # bool is an int to Python, and no number to a reader.
        if isinstance(value, bool) or not isinstance(
            value, (*self.types, *((int,) if float in self.types else ()))
        ):
            return bool in self.types and isinstance(value, bool)
        if self.choices and value not in self.choices:
            return False
        return not isinstance(value, int | float) or (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )


def check(name: str, key: Key, value: Any) -> None:
    """Refuse a value of the wrong type or out of range.

    Raises:
        ConfigurationError: says what was wanted and what came.
    """
    if not key.accepts(value):
        shown = f"'{value}'" if isinstance(value, str) else str(value)
        raise ConfigurationError(f"{name} is {key.wanted()}: got {shown}")


def _whole(low: int, *, null: bool = False, words: tuple[str, ...] = ()) -> Key:
    return Key((int,), low=low, null=null, words=words)


def _number(
    *, low: float | None = None, above: float | None = None, high: float | None = None, null: bool = False
) -> Key:
    return Key((float,), low=low, above=above, high=high, null=null)


def _text(*choices: str, null: bool = False) -> Key:
    return Key((str,), choices=choices, null=null)


_FLAG = Key((bool,))
_LIST = Key((list,))
_SECTION = Key((dict,))
_MAYBE_SECTION = Key((dict,), null=True)
_PATHS = {"paths": _SECTION}

_PRETRAIN: dict[str, Key] = {
    "run_name": _text(),
    "output_dir": _text(),
    "recipe": _text(),
    "seed": _whole(0),
    "init": _text(null=True),
    "freeze": _LIST,
    "ckpt_path": _text(null=True),
    "trust": _LIST,
    "epochs": _whole(1),
    "max_steps": _whole(1, null=True),
    "max_samples": _whole(1, null=True),
    "sample": _text("image", "study"),
    "fast": _FLAG,
    "dry_run": _FLAG,
    "smoke": _FLAG,
    "legacy": _FLAG,
    "batch_size": _whole(1, words=("auto",)),
    "accumulate": _whole(1),
    "micro_batch": _whole(1, null=True),
    "optimizer": _text("adamw", "adam"),
    "lr": _number(above=0),
    "schedule": _text("cosine", "cosine_restarts", "cosine_epoch", "plateau", "constant"),
    "eta_min": _number(low=0),
    "warmup_steps": _whole(0),
    "plateau_patience": _whole(0),
    "plateau_factor": _number(above=0, high=1),
    "weight_decay": _number(low=0),
    "no_decay_norm_bias": _FLAG,
    "max_grad_norm": _number(above=0, null=True),
    "lambda_sigreg": _number(low=0, high=1),
    "embed_dim": _whole(1),
    "predictor_width": _whole(1),
    "predictor_depth": _whole(0),
    "sigreg": _SECTION,
    "text": _SECTION,
    "global_crops_number": _whole(1),
    "global_size": _whole(8),
    "local_crops_number": _whole(0),
    "local_size": _whole(8),
    "views": _SECTION,
    "validate_every_n_epochs": _whole(1, null=True),
    "validate_every_n_steps": _whole(1, null=True),
    "early_stop_patience": _whole(1, null=True),
    "best": _text("macro_auc", "val_loss"),
    "online_evaluators": _LIST,
    "online_labels": Key((list,), null=True),
    "online_uncertain": _text("ones", "zeros", "ignore"),
    "online_blank": _text("zeros", "ignore"),
    "evals": _LIST,
    "eval_every_n_steps": _whole(1, null=True),
    "metrics_every_n_steps": _whole(1),
    "save_every_n_steps": _whole(1, null=True),
    "keep_last": _whole(1),
    "tracker": _LIST,
    "wandb_enabled": _FLAG,
    "wandb_project": _text(null=True),
    "devices": Key((int, list), low=1, words=("auto",)),
    "num_nodes": _whole(1),
    "accelerator": _text(),
    "strategy": _text("auto", "ddp"),
    "precision": _text("bf16-mixed", "32-true"),
    "deterministic": _FLAG,
    "num_workers": _whole(0),
    "trainer": _SECTION,
    **_PATHS,
    "model": _SECTION,
    "encoder": _SECTION,
    "method": _SECTION,
    "data": _SECTION,
}

# Verb -> its keys.
VERBS: dict[str, dict[str, Key]] = {
    "prepare": {
        "data": _SECTION,
        "num_workers": _whole(0),
        "engine": _text("local", "ray"),
        "dry_run": _FLAG,
        **_PATHS,
    },
    "pretrain": _PRETRAIN,
    "embed": {
        "run": _text(null=True),
        "checkpoint": _text("auto", "last", "best"),
        "encoder": _MAYBE_SECTION,
        "model": _SECTION,
        "global_size": _whole(8),
        "text_model": _text(null=True),
        "text_column": _text(),
        "pooling": _text("cls", "mean"),
        "max_length": _whole(1),
        "lower_case": _FLAG,
        "data": _MAYBE_SECTION,
        "split": _text("all", "train", "validate", "test"),
        "dtype": _text("float32", "float16"),
        "precision": _text("32-true", "bf16-mixed"),
        "layout": _text("flat", "per_patient"),
        "output_dir": _text(null=True),
        "devices": _whole(1),
        "batch_size": _whole(1),
        "num_workers": _whole(0),
        "device": _text(),
        "seed": _whole(0),
        "trust": _LIST,
        **_PATHS,
    },
    "evaluate": {
        "run": _text(null=True),
        "checkpoint": _text("auto", "last", "best"),
        "task": _SECTION,
        "data": _MAYBE_SECTION,
        "split": _text("train", "validate", "test"),
        "evals": Key((list,), null=True),
        "positive_prompts": Key((list,), null=True),
        "negative_prompts": Key((list,), null=True),
        "score": _text("cosine", "dot", "neg_mse"),
        "num_bootstrap": _whole(0),
        "batch_size": _whole(1),
        "num_workers": _whole(0),
        "device": _text(),
        "seed": _whole(0),
        "trust": _LIST,
        **_PATHS,
    },
    "report": {"runs": _LIST, "output": _text(), "cases": _FLAG, **_PATHS},
    "export": {
        "run": _text(null=True),
        "checkpoint": _text("auto", "last", "best"),
        "format": _text("backbone", "checkpoint"),
        "output_dir": _text(null=True),
        "trust": _LIST,
        **_PATHS,
    },
    "check": {
        "data": _MAYBE_SECTION,
        "run": _text(null=True),
        "output": _text(null=True),
        "cases": _FLAG,
        **_PATHS,
    },
    "demo": _PRETRAIN,
}

# Section -> its keys, where the section is ours and not a plug-in's.
SECTIONS: dict[str, dict[str, Key]] = {
    "paths": {"runs": _text(), "data": _text(), "cache": _text()},
    "sigreg": {
        "knots": _whole(3),
        "t_max": _number(above=0),
        "slices": _whole(1),
        "pool": _text("joint", "per_view"),
        "scale": _text("rows", "batch", "none"),
        "count": _text("global", "local"),
        "distributed": _FLAG,
        "slice_sampling": _text("iid", "orthogonal"),
    },
    "text": {
        "model": _text(null=True),
        "pooling": _text("cls", "mean"),
        "max_length": _whole(1),
        "lower_case": _FLAG,
        "head": _text("linear", "mlp"),
        "stop_grad": _FLAG,
        "standardise": _FLAG,
        "column": _text(),
        "augment": _text("none", "swaps", "one", "crop"),
        "buckets": _whole(1),
        "freeze_embeddings": _FLAG,
        "freeze_layers": _whole(0),
        "gradient_checkpointing": _FLAG,
    },
    "model": {
        "vit": _text(),
        "hidden_size": _whole(1, null=True),
        "num_layers": _whole(1, null=True),
        "num_heads": _whole(1, null=True),
    },
    "views": {"global": _SECTION, "local": _SECTION},
}

# `data.*` of every data set, besides the manifest's own arguments.
DATA = {
    "root": _text(null=True),
    "size": _whole(8),
    "max_bad_fraction": _number(low=0, high=1),
    "window": Key((str, list), null=True),
    "split_files": _MAYBE_SECTION,
    "split_unit": _text("patient", "image", null=True),
    "split_boxes": _text("release", "file", null=True),
    "statistics": _text(null=True),
}

# One entry of `evals`, besides the arguments of its manifest.
EVALUATION = {
    "name": _text(),
    "enabled": _FLAG,
    "data": _text(),
    "split": _text("train", "validate", "test"),
    "manifest": _text(),
    "positive_prompts": _LIST,
    "negative_prompts": _LIST,
}

# Flat keys, and keys of `text`, that only some methods take.
OF_THE_METHOD = ("lambda_sigreg", "embed_dim", "predictor_width", "predictor_depth", "sigreg")
OF_THE_TEXT_HEAD = ("head", "stop_grad", "standardise")
