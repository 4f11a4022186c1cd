"""Which checkpoint of a run is evaluated."""

import json

import pytest

from radlearn.errors import DataError
from radlearn.training import checkpoint


def run(folder, steps, **best):
    """A run's folder with checkpoints that hold nothing but their step."""
    for step in steps:
        place = checkpoint.folder_of(folder, step)
        place.mkdir(parents=True)
        (place / checkpoint.WEIGHTS).touch()
        (place / checkpoint.ABOUT).write_text(json.dumps({"step": step, "best": best}))
    return folder


def step_of(path):
    return int(path.name.removeprefix("step-"))


@pytest.mark.parametrize(
    ("measure", "which", "wanted"),
    [
        ("val_loss", "auto", 20),
        ("val_loss", "last", 30),
        ("val_loss", "best", 20),
        ("macro_auc", "auto", 30),
        ("macro_auc", "best", 20),
    ],
)
def test_a_run_that_selects_by_its_validation_loss_is_evaluated_at_its_best(tmp_path, measure, which, wanted):
    folder = run(tmp_path, [10, 20, 30], measure=measure, step=20, value=1.0)
    assert step_of(checkpoint.choose(folder, which)) == wanted


def test_a_run_without_a_best_is_evaluated_at_its_last(tmp_path):
    folder = run(tmp_path, [10], measure="val_loss", step=None, value=None)
    assert step_of(checkpoint.choose(folder)) == 10
    with pytest.raises(DataError, match="no best checkpoint"):
        checkpoint.choose(folder, "best")
    assert checkpoint.choose(tmp_path / "nowhere") is None


def test_a_best_that_is_gone_is_named(tmp_path):
    folder = run(tmp_path, [10, 30], measure="val_loss", step=20, value=1.0)
    with pytest.raises(DataError, match=r"step-0*20 is gone"):
        checkpoint.choose(folder)
