"""Each switch of docs/fidelity.md: default and published behaviour differ on one input."""

from __future__ import annotations

from radlearn import composition
from radlearn.training.pretrain import _views
from radlearn.training.shortcuts import apply


def flips(*overrides: str) -> list[float]:
    config = apply(composition.compose("pretrain", ["data.train_manifest=x.csv", *overrides]))
    return [spec.flip for spec in _views(config, 512).specs]


def test_views_are_mirrored_in_the_release_only():
    assert flips() == [0.0, 0.0]
    assert flips("legacy=true") == [0.5, 0.5]
    assert flips("legacy=true", "views.global.flip=0.1") == [0.1, 0.5]
