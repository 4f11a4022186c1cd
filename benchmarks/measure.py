"""How the benchmarks measure: interleaved rounds of CPU time, and peak memory in a process of its own."""

import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """CPU milliseconds of every round (all threads together)."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.rounds)

    def times_faster_than(self, other: "Timing") -> float:
        """Median of the ratios within a round: what slows one round slows both."""
        return statistics.median(o / s for s, o in zip(self.rounds, other.rounds, strict=True))

    def __str__(self) -> str:
        return f"{self.median:9.1f} [{min(self.rounds):.1f}, {max(self.rounds):.1f}]"


def interleaved(forms: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """One call of each form after another, `rounds` times, after one call each that is not counted."""
    for form in forms.values():
        form()
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start = time.process_time()
            form()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: Timing(tuple(values)) for name, values in times.items()}


def peak_growth(call: Callable[[], object]) -> float | None:
    """MiB by which one call raises the resident size at its peak; None off Linux, which alone can tell.

    The first call is not measured (imports, compilation, thread pools). What it freed goes back to the system
    before the second one, so that no memory counts as free because it was used before.
    """
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    call()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS")
    reset.write_text("5")  # sets the high-water mark to the present size
    call()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(key)).split()[1])


def peak_growth_of(script: str, *arguments: str) -> float | None:
    """`peak_growth` in a fresh process: the script, run so, prints the number as its last line."""
    command = [sys.executable, script, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    value: float | None = json.loads(output.splitlines()[-1])
    return value


def header(threads: int) -> str:
    """Machine and versions, for the line above a table."""
    machine = f"{platform.machine()} CPU, {threads} thread(s)"
    return f"{machine}, torch {torch.__version__}, Python {platform.python_version()}"


def mebibytes(value: float | None) -> str:
    return "  unknown" if value is None else f"{value:9.1f}"
