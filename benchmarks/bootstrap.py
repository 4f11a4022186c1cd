"""Patient-clustered bootstrap of AUROC and average precision: scikit-learn in a loop, and ours.

    python benchmarks/bootstrap.py [--images 25000 --labels 14 --patients 8000 --draws 1000] [--loop-draws 2]

Both score the same draws of patients, and the values are compared before anything is timed. scikit-learn is
called once a draw, label and metric, in two forms: with the weights of the draw, and on repeated rows without
weights. It runs a few draws only and its time is scaled to all of them, as every draw costs it the same.
Its time leaves out drawing the patients and the percentiles; ours holds everything from scores to intervals.
"""

import argparse
import platform

import numpy as np
import scipy
import sklearn
from measure import Timing, interleaved
from sklearn.metrics import average_precision_score, roc_auc_score

from radlearn import stats

TOLERANCE = 1e-12
SEED = 0
OURS, WEIGHTED, REPEATED = "radlearn", "scikit-learn, weights", "scikit-learn, repeated rows"
METRICS = {"auroc": roc_auc_score, "average_precision": average_precision_score}


def simulated(images, labels, patients):
    """Scores of findings with prevalence 1 to 40 %, images spread over the patients."""
    generator = np.random.default_rng(SEED)
    targets = (generator.random((images, labels)) < np.linspace(0.01, 0.4, labels)).astype(float)
    scores = targets + 1.5 * generator.normal(size=(images, labels))
    return scores, targets, generator.integers(patients, size=images)


def by_label(metric, scores, targets, weight=None):
    columns = zip(scores.T, targets.T, strict=True)
    return [metric(target, score, sample_weight=weight) for score, target in columns]


def weighted_loop(scores, targets, weights):
    """Each metric -> (draws, L); weights are (N, draws)."""
    return {
        name: np.array([by_label(metric, scores, targets, weight) for weight in weights.T])
        for name, metric in METRICS.items()
    }


def repeated_loop(scores, targets, weights):
    """The same, on the rows that each draw holds."""
    values = {name: [] for name in METRICS}
    for weight in weights.T:
        rows = np.repeat(np.arange(len(weight)), weight)
        for name, metric in METRICS.items():
            values[name].append(by_label(metric, scores[rows], targets[rows]))
    return {name: np.array(drawn) for name, drawn in values.items()}


def largest_difference(scores, targets, patients, arguments):
    """Ours against both loops on the first draws."""
    _, index = np.unique(patients, return_inverse=True)
    multiplicities = stats.draw_patients(index.max() + 1, arguments.loop_draws, SEED)
    ours = stats.ranking_metrics_of_draws(scores, targets, index, multiplicities)
    loops = [loop(scores, targets, multiplicities[index]) for loop in (weighted_loop, repeated_loop)]
    return max(np.abs(ours[name][1:] - loop[name]).max() for loop in loops for name in METRICS)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=25_000)
    parser.add_argument("--labels", type=int, default=14)
    parser.add_argument("--patients", type=int, default=8_000)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument(
        "--loop-draws", type=int, default=2, help="draws that scikit-learn runs in each round"
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    scores, targets, patients = simulated(arguments.images, arguments.labels, arguments.patients)
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}"
    print(f"{platform.machine()} CPU, {versions}, Python {platform.python_version()}")
    print(
        f"{arguments.draws} draws of {arguments.patients} patients, {arguments.images} images, "
        f"{arguments.labels} labels, both metrics; median of {arguments.rounds} interleaved rounds"
    )
    difference = largest_difference(scores, targets, patients, arguments)
    print(f"largest difference of a value on the same draws: {difference:.1e} (allowed {TOLERANCE:.0e})")
    if difference > TOLERANCE:
        raise SystemExit("the forms disagree: nothing timed")

    _, index = np.unique(patients, return_inverse=True)
    weights = stats.draw_patients(index.max() + 1, arguments.loop_draws, SEED)[index]
    times = interleaved(
        {
            OURS: lambda: stats.patient_bootstrap(
                scores, targets, patients, draws=arguments.draws, seed=SEED
            ),
            WEIGHTED: lambda: weighted_loop(scores, targets, weights),
            REPEATED: lambda: repeated_loop(scores, targets, weights),
        },
        arguments.rounds,
    )
    scale = arguments.draws / arguments.loop_draws
    for name in (WEIGHTED, REPEATED):
        times[name] = Timing(tuple(scale * value for value in times[name].rounds))
    print(f"\n{'form':30s} {'CPU ms [min, max]':>40s}   ours is faster by")
    for name, timing in times.items():
        note = "" if name == OURS else f"{times[OURS].times_faster_than(timing):8.1f} x"
        print(f"{name:30s} {timing!s:>40s}   {note}")
    print(f"scikit-learn: {arguments.loop_draws} draws timed a round, scaled by {scale:g}")


if __name__ == "__main__":
    main()
