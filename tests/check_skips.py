"""Print every skipped test of a pytest log; fail on one that the list of allowed skips does not name.

    python tests/check_skips.py LOG ALLOWED

pytest prints skips as `SKIPPED [2] tests/x.py:10: reason`; an allowed line is a part of the reason.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(log: str, allowed: str) -> int:
    lines = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
    skipped = [line for line in lines if line.startswith("SKIPPED ")]
    named = [line.strip() for line in Path(allowed).read_text(encoding="utf-8").splitlines()]
    named = [line for line in named if line and not line.startswith("#")]
    print(f"{len(skipped)} kinds of skipped tests")
    unnamed = [line for line in skipped if not any(reason in line for reason in named)]
    for line in skipped:
        print(("NOT ALLOWED " if line in unnamed else "allowed ") + line)
    return 1 if unnamed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
