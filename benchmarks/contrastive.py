"""InfoNCE and the sigmoid loss, forward and backward: open_clip's form, and ours whole, chunked, compiled.

    python benchmarks/contrastive.py [--batches 256 1024 4096] [--dim 64] [--chunk-rows 256] [--no-compile]

The baseline is open_clip where it is installed, otherwise its formula written out here; the first line says
which. Values and gradients are compared before anything is timed. CPU time is the median of interleaved
rounds; memory is the growth of resident size at its peak, each form measured in a process of its own.
"""

import argparse
import importlib.util
import json
import math
from collections.abc import Callable

import torch
from measure import header, interleaved, mebibytes, peak_growth, peak_growth_of
from torch import Tensor
from torch.nn import functional

from radlearn.losses.contrastive import info_nce, sigmoid_pairwise

TOLERANCE = 1e-5
BASELINE, WHOLE, CHUNKED, COMPILED = "baseline", "radlearn", "radlearn, chunked", "radlearn, compiled"
HAS_OPEN_CLIP = importlib.util.find_spec("open_clip") is not None
BIAS = torch.tensor(-10.0)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain_info_nce(u: Tensor, w: Tensor, log_scale: Tensor) -> Tensor:
    u, w, scale = functional.normalize(u, dim=1), functional.normalize(w, dim=1), log_scale.exp()
    labels = torch.arange(len(u))
    by_image = functional.cross_entropy(scale * u @ w.T, labels)
    by_text = functional.cross_entropy(scale * w @ u.T, labels)
    return (by_image + by_text) / 2


def plain_sigmoid(u: Tensor, w: Tensor, log_scale: Tensor) -> Tensor:
    u, w, scale = functional.normalize(u, dim=1), functional.normalize(w, dim=1), log_scale.exp()
    logits = scale * u @ w.T + BIAS
    labels = 2 * torch.eye(len(u)) - torch.ones(len(u))
    return -functional.logsigmoid(labels * logits).sum() / len(u)


def open_clip_info_nce(u: Tensor, w: Tensor, log_scale: Tensor) -> Tensor:
    from open_clip.loss import ClipLoss

    loss: Tensor = ClipLoss()(functional.normalize(u, dim=1), functional.normalize(w, dim=1), log_scale.exp())
    return loss


def open_clip_sigmoid(u: Tensor, w: Tensor, log_scale: Tensor) -> Tensor:
    from open_clip.loss import SigLipLoss

    u, w = functional.normalize(u, dim=1), functional.normalize(w, dim=1)
    loss: Tensor = SigLipLoss()(u, w, log_scale.exp(), BIAS)
    return loss


def sigmoid(u: Tensor, w: Tensor, log_scale: Tensor, chunk_rows: int | None = None) -> Tensor:
    return sigmoid_pairwise(u, w, log_scale, BIAS, chunk_rows=chunk_rows)


def losses(name: str, chunk_rows: int) -> dict[str, Loss]:
    """Every form of one loss."""
    if name == "info_nce":
        ours: Callable[..., Tensor] = info_nce
        baseline = open_clip_info_nce if HAS_OPEN_CLIP else plain_info_nce
    else:
        ours, baseline = sigmoid, open_clip_sigmoid if HAS_OPEN_CLIP else plain_sigmoid
    return {
        BASELINE: baseline,
        WHOLE: ours,
        CHUNKED: lambda u, w, s: ours(u, w, s, chunk_rows=chunk_rows),
        COMPILED: torch.compile(ours, dynamic=False),
    }


def forms(name: str, batch: int, dim: int, chunk_rows: int) -> dict[str, Callable[[], list[Tensor]]]:
    """Calls that return the value and the gradients of both sides and the scale."""
    u, w = (torch.randn(batch, dim, generator=torch.Generator().manual_seed(s)) for s in (0, 1))

    def run(loss: Loss) -> list[Tensor]:
        leaves = [t.clone().requires_grad_() for t in (u, w, torch.tensor(math.log(1 / 0.07)))]
        value = loss(*leaves)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    return {form: lambda loss=loss: run(loss) for form, loss in losses(name, chunk_rows).items()}


def check_equal(results: dict[str, list[Tensor]]) -> None:
    for form, tensors in results.items():
        pairs = zip(tensors, results[BASELINE], strict=True)
        error = max(((ours - theirs).norm() / theirs.norm()).item() for ours, theirs in pairs)
        if error > TOLERANCE:
            raise SystemExit(f"{form}: relative error {error:.1e} to the baseline; nothing was timed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--losses", nargs="+", choices=["info_nce", "sigmoid"], default=["info_nce", "sigmoid"]
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--chunk-rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true", help="leave out the form that needs a compiler")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        calls = forms(arguments.losses[0], arguments.batches[0], arguments.dim, arguments.chunk_rows)
        print(json.dumps(peak_growth(calls[arguments.memory_of])))
        return

    print(
        "baseline: open_clip"
        if HAS_OPEN_CLIP
        else "open_clip is not installed; baseline: its formula, written out"
    )
    print(header(arguments.threads))
    sizes = [
        f"--{key}={getattr(arguments, key.replace('-', '_'))}" for key in ("dim", "chunk-rows", "threads")
    ]
    for name in arguments.losses:
        for batch in arguments.batches:
            calls = forms(name, batch, arguments.dim, arguments.chunk_rows)
            if arguments.no_compile:
                del calls[COMPILED]
            check_equal({form: call() for form, call in calls.items()})
            timings = interleaved(calls, arguments.rounds)
            print(f"\n{name}, B={batch} D={arguments.dim}, chunks of {arguments.chunk_rows}")
            print(f"{'form':20s} {'CPU ms [min, max]':>26s} {'faster':>8s} {'peak MiB':>9s}")
            for form, timing in timings.items():
                grown = peak_growth_of(
                    __file__, "--losses", name, "--batches", str(batch), *sizes, "--memory-of", form
                )
                faster = timing.times_faster_than(timings[BASELINE])
                print(f"{form:20s} {timing!s:>26s} {faster:7.2f}x {mebibytes(grown)}")


if __name__ == "__main__":
    main()
