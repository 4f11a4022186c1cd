"""The largest batch that fits: measured from what one forward pass keeps, not by running out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radlearn.data.dataset import StudyDataset
from radlearn.errors import ConfigurationError, TrainingError
from radlearn.objectives.base import Objective
from radlearn.records import Batch
from radlearn.training.checkpoint import Checkpoint

logger = logging.getLogger("radlearn")

# Activations may take this share of the free memory: gradients of activations and workspace need the rest.
_SHARE = 0.4
# Weights, gradients and Adam's two moments.
_COPIES_OF_WEIGHTS = 4


def choose(
    config: Mapping[str, Any],
    objective: Objective,
    training: StudyDataset,
    world: int,
    found: Checkpoint | None,
) -> int:
    """Studies of one device's batch: `batch_size`, what `auto` found when the run began, or what it finds
    now.

    Raises:
        ConfigurationError: if `auto` does not go with the other settings.
    """
    if config["batch_size"] != "auto":
        return int(config["batch_size"])
    if config["micro_batch"] is not None:
        raise ConfigurationError(
            "batch_size=auto measures a batch that is encoded at once: with micro_batch give it as a number"
        )
    if found is not None:
        return int(found.about["batch_size"])
    if world > 1:
        raise ConfigurationError(
            "batch_size=auto measures one device: find the size with devices=1 dry_run=true, then give it "
            "as a number"
        )
    use_cuda = config["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    size = largest_batch(
        objective.to(device),
        lambda count: training.__getitems__([(0, i % len(training)) for i in range(count)]),
        device=device,
        num_rows=len(training),
    )
    logger.info("batch_size=auto: %d", size)
    return size


def largest_batch(
    objective: Objective, make_batch: Callable[[int], Batch], *, device: torch.device, num_rows: int
) -> int:
    """The largest power of two that fits into the free memory, at most the number of rows.

    Args:
        objective: on `device`.
        make_batch: number of studies -> a training batch.
        device: where training runs.
        num_rows: training rows.
    Raises:
        TrainingError: if not even two studies fit.
    """
    kept_by_two, kept_by_four = (_kept(objective, make_batch(size).to(device)) for size in (2, 4))
    per_study = max((kept_by_four - kept_by_two) / 2, 1.0)
    weights = sum(p.numel() * p.element_size() for p in objective.parameters()) * _COPIES_OF_WEIGHTS
    budget = _free_memory(device) * _SHARE - weights - max(kept_by_two - 2 * per_study, 0)
    fits = int(budget // per_study)
    if fits < 2:
        raise TrainingError(
            f"one study needs {per_study / 2**20:.0f} MiB of activations and "
            f"{_free_memory(device) / 2**20:.0f} MiB are "
            "free: lower local_crops_number, global_size or the encoder"
        )
    size = 2
    while 2 * size <= min(fits, num_rows):
        size *= 2
    return size


def _kept(objective: Objective, batch: Batch) -> float:
    """Bytes that the forward pass keeps for the backward pass."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    state = {key: value.clone() for key, value in objective.state_dict().items()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective(batch, 0)
    objective.load_state_dict(state)  # Batch norm saw a trial batch.
    return float(sum(storages.values()))


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return 4.0 * 2**30


def out_of_memory(error: BaseException, batch_size: Any) -> TrainingError | None:
    """An out-of-memory error as a message that says which keys to lower, or None for another error."""
    text = str(error)
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in text:
        return None
    return TrainingError(
        f"out of memory at batch_size={batch_size}: set batch_size=auto, or lower batch_size (accumulate=2 "
        "keeps the number of studies a step for objectives without negatives; micro_batch keeps the "
        "negatives too), local_crops_number or global_size, or use precision=bf16-mixed. The run resumes "
        "from its last checkpoint"
    )
