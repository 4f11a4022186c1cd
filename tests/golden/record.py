"""Record the golden curves again, after a change that is meant to move them; say in the commit why.

python tests/golden/record.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import tiny
import torch

CURVES = Path(__file__).parent / "curves.json"
NAMES = ("contrastive", "medclip", "nova", "siglip")


def curve(name: str) -> list[float]:
    """Losses of ten AdamW steps of a tiny objective on one batch."""
    torch.manual_seed(0)
    objective = tiny.objective(name).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    losses = []
    for step in range(10):
        loss = objective(tiny.batch(), step).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(step + 1, 10)
        losses.append(float(loss.detach()))
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    CURVES.write_text(json.dumps({name: curve(name) for name in NAMES}, indent=1) + "\n")
