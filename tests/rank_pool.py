"""A pool of two gloo processes that the whole test session shares."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from pathlib import Path


class TwoRanks:
    """Two processes joined by gloo, started when first used and kept for the whole session.

    `pool("module:function", key=value)` calls function(rank, key=value) on both and returns [result 0, result
    1].
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._ranks = folder, []

    def __call__(self, function: str, /, **arguments):
        if not self._ranks:
            self._start()
        for _, pipe in self._ranks:
            pipe.send((function, arguments))
        answers = []
        for process, pipe in self._ranks:
            if not pipe.poll(120):
                raise TimeoutError(
                    f"rank {process.name} has not answered: a collective waits for the other rank"
                )
            answers.append(pipe.recv())
        for kind, value in answers:
            if kind == "error":
                self.close()
                raise AssertionError(value)
        return [value for _, value in answers]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for rank in range(2):
            ours, theirs = context.Pipe()
            arguments = (rank, theirs, str(self.folder / "rendezvous"), str(Path(__file__).parent))
            process = context.Process(target=_serve, args=arguments, daemon=True, name=f"rank{rank}")
            process.start()
            self._ranks.append((process, ours))

    def close(self) -> None:
        for process, _ in self._ranks:
            process.terminate()
            process.join(10)
        self._ranks = []


def _serve(rank: int, pipe, rendezvous: str, tests: str) -> None:
    import traceback

    import torch
    import torch.distributed as dist

    sys.path.insert(0, tests)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        module, _, function = name.partition(":")
        try:
            pipe.send(("value", getattr(importlib.import_module(module), function)(rank, **arguments)))
        except Exception:
            pipe.send(("error", traceback.format_exc()))
