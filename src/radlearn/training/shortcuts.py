"""Single keys that stand for several: `fast` and `smoke` shorten a run, `legacy` follows the release."""

from __future__ import annotations

from typing import Any

FAST_STEPS = 200
SMOKE_STEPS = 2


def apply(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `legacy`, `fast` and `smoke` written out."""
    return _shorten(_as_released(config))


def _as_released(config: dict[str, Any]) -> dict[str, Any]:
    """`legacy`: what the release of the method does.

    All: half of the views are mirrored, although reports tell left from right, unless `views` says otherwise.
    LoVT: padded sentences enter means and batch norms, the cosine of each epoch is never restarted, and 30 %
    are the first 30 %, which `prepare` must have been told as well.
    """
    if not config["legacy"]:
        return config
    views = {group: {"flip": 0.5, **settings} for group, settings in config["views"].items()}
    config = {**config, "views": views}
    if config["method"]["name"] == "lovt":
        config["method"] = {**config["method"], "padded_numerics": True}
        if config["schedule"] == "cosine_restarts":
            config["schedule"] = "cosine_epoch"
        if config["data"].get("subset") == "seeded_30":
            config["data"] = {**config["data"], "subset": "first_30_studies"}
    return config


def _shorten(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the settings that `fast=true` and `smoke=true` stand for.

    `fast` takes at most 200 steps; the warm-up is at most a tenth of them. `smoke` takes two steps of at most
    four studies on the data set's miniature fake release: it shows that a configuration runs, and nothing
    else.
    """
    steps = config["max_steps"]
    if config["fast"]:
        steps = min(steps or FAST_STEPS, FAST_STEPS)
        config = {**config, "max_steps": steps, "warmup_steps": min(config["warmup_steps"], steps // 10)}
    if config["smoke"]:
        size = 4 if config["batch_size"] == "auto" else min(config["batch_size"], 4)
        config = {
            **config,
            "max_steps": min(steps or SMOKE_STEPS, SMOKE_STEPS),
            "batch_size": size,
            "warmup_steps": 0,
            "num_workers": 0,
            "metrics_every_n_steps": 1,
            "evals": [],
        }
    return config
