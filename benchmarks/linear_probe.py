"""Linear probes of many labels along a path of penalties: scikit-learn label by label, and ours.

    python benchmarks/linear_probe.py [--images 10000 --width 384 --labels 14] [--sklearn-labels 2]

scikit-learn's LogisticRegression (lbfgs, its default tolerance) fits each label at each C, starting from the
last C's solution; it runs a few labels only and its time is scaled to all of them. Both get float64 features
standardised alike; ours also pays for standardising and rotating them. Scores on unseen cases are compared
with a scikit-learn that is run to convergence before anything is timed.
"""

import argparse
import platform
import warnings

import numpy as np
import sklearn
import torch
from measure import Timing, interleaved
from sklearn.linear_model import LogisticRegression

from radlearn.tasks import _logistic
from radlearn.tasks.linear_probe import GRID

TOLERANCE = 1e-4
OURS, OURS_32, THEIRS = "radlearn, float64", "radlearn, float32", "scikit-learn, lbfgs, warm start"


def simulated(images, width, labels):
    """Correlated features whose spread falls by a factor of a thousand, as pooled features' does."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(width, width)) * np.geomspace(1, 1e-3, width)[:, None]
    x = generator.normal(size=(images, width)) @ mixing
    logits = x @ (generator.normal(size=(width, labels)) / x.std()) / 8
    logits += np.linspace(-4, -0.5, labels)
    return x, (generator.random((images, labels)) < 1 / (1 + np.exp(-logits))).astype(float)


def ours(x, labels, grid, dtype):
    features = _logistic.rotate(torch.from_numpy(x).to(dtype))
    return features, list(_logistic.path(features, torch.from_numpy(labels).to(dtype), grid))


def theirs(x, target, grid):
    model = LogisticRegression(warm_start=True, max_iter=1000)
    return [model.set_params(C=c).fit(x, target).coef_.copy() for c in grid]


def largest_difference(x, labels, grid, dtype):
    """Of decision values at the path's ends and middle, as a share of their largest."""
    half = len(x) // 2
    features, weights = ours(x[:half], labels[:half], grid, dtype)
    mean, deviation = x[:half].mean(0), x[:half].std(0)
    largest = 0.0
    for at in (0, len(grid) // 2, len(grid) - 1):
        found = (features.of(torch.from_numpy(x[half:])) @ weights[at])[:, 0].double().numpy()
        model = LogisticRegression(C=grid[at], tol=1e-10, max_iter=1000, solver="newton-cholesky")
        model.fit((x[:half] - mean) / deviation, labels[:half, 0])
        exact = model.decision_function((x[half:] - mean) / deviation)
        largest = max(largest, np.abs(found - exact).max() / np.abs(exact).max())
    return largest


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--labels", type=int, default=14)
    parser.add_argument("--sklearn-labels", type=int, default=2, help="labels that scikit-learn runs a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    # scikit-learn tells where its default tolerance stops early.
    warnings.filterwarnings("ignore", module="sklearn")
    x, labels = simulated(arguments.images, arguments.width, arguments.labels)
    standardised = (x - x.mean(0)) / x.std(0)
    print(
        f"{platform.machine()} CPU, 1 thread, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    )
    print(
        f"{arguments.images} images, {arguments.width} features, {arguments.labels} labels, "
        f"{len(GRID)} values of C; median of {arguments.rounds} interleaved rounds"
    )
    difference = largest_difference(x, labels, GRID, torch.float64)
    single = largest_difference(x, labels, GRID, torch.float32)
    print(
        f"largest difference of a score: float64 {difference:.1e} (allowed {TOLERANCE:.0e}), "
        f"float32 {single:.1e}"
    )
    if difference > TOLERANCE:
        raise SystemExit("the forms disagree: nothing timed")

    # Spread over the labels, whose prevalence differs.
    some = np.linspace(0, arguments.labels - 1, arguments.sklearn_labels).round().astype(int)
    times = interleaved(
        {
            OURS: lambda: ours(x, labels, GRID, torch.float64),
            OURS_32: lambda: ours(x, labels, GRID, torch.float32),
            THEIRS: lambda: [theirs(standardised, labels[:, label], GRID) for label in some],
        },
        arguments.rounds,
    )
    scale = arguments.labels / len(some)
    times[THEIRS] = Timing(tuple(scale * value for value in times[THEIRS].rounds))
    print(f"\n{'form':32s} {'CPU ms [min, max]':>36s}   than scikit-learn")
    for name, timing in times.items():
        ratio = "" if name == THEIRS else f"{timing.times_faster_than(times[THEIRS]):8.1f} x faster"
        print(f"{name:32s} {timing!s:>36s}   {ratio}")
    print(f"scikit-learn: {len(some)} labels timed a round, scaled by {scale:g}")


if __name__ == "__main__":
    main()
