"""What the two ranks are asked to do; each function runs on both."""

from __future__ import annotations

import tiny
import torch
from torch.nn.parallel import DistributedDataParallel

from radlearn import heads, ranks

# Unequal shares of a batch of eight.
SHARES = (slice(0, 5), slice(5, 8))


def objective_gradients(rank: int, name: str, arguments: dict, step: int) -> dict:
    """Loss and averaged parameter gradients of an objective on this rank's share, as data-parallel training
    has them.
    """
    objective = tiny.objective(name, **arguments)
    objective.train()
    wrapped = DistributedDataParallel(objective)
    output = wrapped(tiny.batch().studies(SHARES[rank]), step)
    output.loss.backward()
    return {
        "loss": output.loss.detach(),
        "metrics": dict(output.metrics),
        "gradients": {n: p.grad for n, p in objective.named_parameters() if p.grad is not None},
        "buffers": dict(objective.named_buffers()),
    }


def gather_rows(rank: int) -> dict:
    """Join unequal rows, weigh them, and return this rank's gradient."""
    rows = torch.arange(8.0).view(8, 1)[SHARES[rank]].clone().requires_grad_()
    whole = ranks.gather_rows(rows)
    (whole.squeeze() * torch.arange(8.0)).sum().backward()
    return {"whole": whole.detach(), "gradient": rows.grad, "counts": ranks.row_counts(len(rows))}


def batch_norm(rank: int) -> dict:
    """Batch norm of a share whose mean is not zero."""
    torch.manual_seed(0)
    x = 3 + torch.randn(8, 3, 4, 4)
    share = x[SHARES[rank]].clone().requires_grad_()
    norm = heads.cross_rank_batch_norm(torch.nn.BatchNorm2d(3)).train()
    y = norm(share)
    ranks.sum_across_ranks((y * x[SHARES[rank]]).square().sum()).backward()
    return {"y": y.detach(), "gradient": share.grad, "state": norm.state_dict(), "weight": norm.weight.grad}
