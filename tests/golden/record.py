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


if __name__ == "__main__":
    torch.set_num_threads(1)
    CURVES.write_text(json.dumps({name: tiny.curve(name) for name in NAMES}, indent=1) + "\n")
