"""SIGReg, forward and backward: the published form against ours, blocked and compiled.

    python benchmarks/sigreg.py [--rows 2304] [--dim 64] [--slices 1024] [--threads 1] [--no-compile]

Prints CPU time (median of interleaved rounds), the ratio to the published form, and the growth of resident
memory at its peak, each form measured in a process of its own. Values and gradients are compared before
anything is timed.
"""

import argparse
import json
from collections.abc import Callable

import torch
from measure import header, interleaved, mebibytes, peak_growth, peak_growth_of
from torch import Tensor

from radlearn.losses.sigreg import sample_slices, sigreg

TOLERANCE = 1e-5
PUBLISHED, BLOCKED, COMPILED = "published, eager", "radlearn, blocked", "radlearn, compiled"


def published(x: Tensor, slices: Tensor, knots: int = 17, t_max: float = 3.0) -> Tensor:
    """The formula as the published codes write it: every (row, slice, knot) in one tensor."""
    t = torch.linspace(0, t_max, knots)
    step = t_max / (knots - 1)
    trapezoid = torch.full((knots,), 2 * step)
    trapezoid[[0, -1]] = step
    phi = torch.exp(-t.square() / 2)
    angles = (x @ slices.T).unsqueeze(-1) * t
    error = (angles.cos().mean(0) - phi).square() + angles.sin().mean(0).square()
    return (error @ (trapezoid * phi) * len(x)).mean()


def forms(rows: int, dim: int, num_slices: int) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    """Calls that each draw the slices, and return value and gradient."""
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))

    def run(loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        value = loss(leaf)
        value.backward()
        assert leaf.grad is not None
        return value.detach(), leaf.grad

    def draw() -> Tensor:
        return sample_slices(dim, num_slices, seed=0, step=0).float()

    return {
        PUBLISHED: lambda: run(lambda leaf: published(leaf, draw())),
        BLOCKED: lambda: run(lambda leaf: sigreg(leaf, step=0, num_slices=num_slices)),
        COMPILED: lambda: run(lambda leaf: sigreg(leaf, step=0, num_slices=num_slices, compile=True)),
    }


def check_equal(results: dict[str, tuple[Tensor, Tensor]]) -> None:
    value, gradient = results[PUBLISHED]
    for name, (other_value, other_gradient) in results.items():
        value_error = ((other_value - value) / value).abs().item()
        gradient_error = ((other_gradient - gradient).norm() / gradient.norm()).item()
        print(f"{name:20s} relative error: value {value_error:.1e}, gradient {gradient_error:.1e}")
        if max(value_error, gradient_error) > TOLERANCE:
            raise SystemExit(f"{name} is not the published form to {TOLERANCE}: nothing was timed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2304)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--slices", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true", help="leave out the form that needs a compiler")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    calls = forms(arguments.rows, arguments.dim, arguments.slices)
    if arguments.memory_of:
        print(json.dumps(peak_growth(calls[arguments.memory_of])))
        return
    if arguments.no_compile:
        del calls[COMPILED]

    print(
        f"SIGReg forward + backward, N={arguments.rows} D={arguments.dim} K={arguments.slices} T=17, float32"
    )
    print(header(arguments.threads))
    check_equal({name: call() for name, call in calls.items()})
    timings = interleaved(calls, arguments.rounds)
    sizes = [f"--{key}={getattr(arguments, key)}" for key in ("rows", "dim", "slices", "threads")]
    memory = {name: peak_growth_of(__file__, *sizes, "--memory-of", name) for name in calls}
    print(f"\n{'form':20s} {'CPU ms [min, max]':>26s} {'faster':>8s} {'peak MiB':>9s} {'share':>7s}")
    for name, timing in timings.items():
        faster, grown, base = timing.times_faster_than(timings[PUBLISHED]), memory[name], memory[PUBLISHED]
        share = "" if grown is None or not base else f"{grown / base:6.1%}"
        print(f"{name:20s} {timing!s:>26s} {faster:7.1f}x {mebibytes(grown)} {share:>7s}")


if __name__ == "__main__":
    main()
