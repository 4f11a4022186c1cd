"""Ten steps of each objective, as they were: a guard against change.

The curves come from this code and prove nothing by themselves; tests/losses holds each loss to its formula.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

sys.path.insert(0, str(Path(__file__).parent))
import record


@pytest.mark.parametrize("name", record.NAMES)
def test_the_curve_is_unchanged(name):
    golden = json.loads(record.CURVES.read_text())[name]
    np.testing.assert_allclose(tiny.curve(name), golden, rtol=2e-3)
