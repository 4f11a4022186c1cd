"""Paired comparison of two runs' predictions: a known shift, the order of rows, and what is refused."""

import numpy as np
import pytest

from radlearn import results
from radlearn.errors import DataError
from radlearn.metrics import segmentation
from radlearn.paired import compare
from radlearn.stats import drawn_patients, paired_bootstrap

NAMES = ("effusion", "edema", "No Finding")


def write(
    folder, scores, labels, *, ids=None, data_hash="h", task="knn", data="chexpert", names=NAMES, variant=""
):
    count = len(scores)
    ids = list(range(count)) if ids is None else ids
    predictions = results.Predictions(
        image_id=[f"image-{i}" for i in ids],
        patient_id=[f"patient-{i // 2}" for i in ids],
        label_names=names,
        scores=scores,
        labels=labels,
        data_hash=data_hash,
    )
    results.write_predictions(folder, predictions, task=task, data=data, variant=variant)
    return folder


@pytest.fixture
def cases():
    random = np.random.default_rng(0)
    labels = (random.random((400, 3)) < 0.3).astype(float)
    labels[:20, 1] = np.nan
    noise = random.standard_normal(labels.shape)
    good, poor = np.nan_to_num(labels) * 2 + noise, np.nan_to_num(labels) * 0.7 + noise
    return labels, good, poor


def test_counts_of_pixels_are_compared_as_dice(tmp_path):
    """Ratios of sums, on the same draws: a draw of patients by hand."""
    random = np.random.default_rng(0)
    counts = random.integers(0, 30, (2, 60, 2, 3)).astype(float)
    counts[0, :, :, 0] += 15
    names = segmentation.columns_of(["mass", "pleural effusion"])
    nothing = np.full((60, 6), np.nan)
    first, second = (
        write(tmp_path / n, c.reshape(60, 6), nothing, names=names, task="segmentation")
        for n, c in zip("ab", counts, strict=True)
    )
    found = {(r.metric, r.label): r for r in compare(first, second, task="segmentation", draws=30, seed=1)}
    assert {label for _, label in found} == {"macro", "mass", "pleural effusion"}
    patients = [f"patient-{i // 2}" for i in range(60)]
    multiplicities, index = drawn_patients(patients, 30, 1)
    drawn = []
    for times in [np.ones(30), *multiplicities.T]:
        sums = [(times[index][:, None] * c[:, 1]).sum(0) for c in counts]
        dice = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in sums]
        drawn.append(dice[0] - dice[1])
    row = found["dice", "pleural effusion"]
    assert row.difference.value == pytest.approx(drawn[0])
    assert (row.difference.low, row.difference.high) == pytest.approx(
        tuple(np.quantile(drawn[1:], [0.025, 0.975]))
    )
    assert found["dice", "macro"].first == pytest.approx(
        np.mean([found["dice", n].first for n in ("mass", "pleural effusion")])
    )


def test_the_mean_of_repeats_is_compared(tmp_path):
    """The headline of several heads has no file of its own: those of its heads are averaged."""
    random = np.random.default_rng(0)
    names, nothing = segmentation.columns_of(["mass"]), np.full((40, 3), np.nan)
    dice = {}
    for run in "ab":
        for k in (1, 2, 3):
            counts = random.integers(1, 30, (40, 3)).astype(float)
            write(tmp_path / run, counts, nothing, names=names, task="segmentation",
                  variant=f"repeat={k} repeats=3")  # fmt: skip
            tp, fp, fn = counts.sum(0)
            dice[run, k] = 2 * tp / (2 * tp + fp + fn)
    found = compare(tmp_path / "a", tmp_path / "b", task="segmentation", variant="repeats=3", draws=20)
    row = next(r for r in found if (r.metric, r.label) == ("dice", "mass"))
    assert row.first == pytest.approx(np.mean([dice["a", k] for k in (1, 2, 3)]))
    assert row.second == pytest.approx(np.mean([dice["b", k] for k in (1, 2, 3)]))
    one = compare(tmp_path / "a", tmp_path / "b", task="segmentation", variant="repeat=2 repeats=3", draws=20)
    assert next(r for r in one if r.metric == "dice").first == pytest.approx(dice["a", 2])


def test_a_better_run_is_found_whatever_the_order_of_its_rows(tmp_path, cases):
    labels, good, poor = cases
    order = np.random.default_rng(1).permutation(400)
    first = write(tmp_path / "a", good, labels)
    second = write(tmp_path / "b", poor[order], labels[order], ids=order.tolist())
    found = {(row.metric, row.label): row for row in compare(first, second, task="knn", seed=3)}
    assert set(found) == {(m, x) for m in ("auc", "average_precision") for x in ("macro", *NAMES)}
    patients = [f"patient-{i // 2}" for i in range(400)]
    expected = paired_bootstrap(good, poor, labels, patients, seed=3, in_macro=[True, True, False])
    assert found["auc", "macro"].difference == expected["auroc"].macro
    assert found["auc", "edema"].difference == expected["auroc"].labels[1]
    assert found["auc", "macro"].difference.low > 0
    assert found["auc", "macro"].difference.p_value < 0.01
    assert (found["auc", "macro"].num_cases, found["auc", "macro"].num_patients) == (400, 200)


def test_a_run_equals_itself(tmp_path, cases):
    labels, good, _ = cases
    same = [write(tmp_path / name, good, labels) for name in "ab"]
    for row in compare(*same, task="knn", draws=50):
        assert (row.difference.value, row.difference.low, row.difference.high) == (0, 0, 0)
        assert row.difference.p_value == 1


def test_ranks_are_compared_by_their_metrics(tmp_path):
    random = np.random.default_rng(0)
    ranks = random.integers(1, 40, (300, 2)).astype(float)
    names = {"names": ("image_to_report", "report_to_image"), "task": "retrieval"}
    nothing = np.full(ranks.shape, np.nan)
    first = write(tmp_path / "a", np.maximum(ranks - 3, 1), nothing, **names)
    second = write(tmp_path / "b", ranks, nothing, **names)
    found = {(row.metric, row.label): row for row in compare(first, second, task="retrieval", draws=200)}
    row = found["recall@5", "image_to_report"]
    assert row.first == np.mean(ranks[:, 0] <= 8)
    assert row.second == np.mean(ranks[:, 0] <= 5)
    assert row.difference.low > 0
    assert found["median_rank", "report_to_image"].difference.value == pytest.approx(-3)


def test_what_does_not_compare_is_refused(tmp_path, cases):
    labels, good, poor = cases
    first = write(tmp_path / "a", good, labels)
    with pytest.raises(DataError, match=r"different versions of the data \(h and other\)"):
        compare(first, write(tmp_path / "b", poor, labels, data_hash="other"), task="knn")
    with pytest.raises(DataError, match="5 cases were scored by one of a and c only"):
        compare(first, write(tmp_path / "c", poor[5:], labels[5:], ids=list(range(5, 400))), task="knn")
    with pytest.raises(DataError, match="against different labels"):
        compare(first, write(tmp_path / "d", poor, 1 - labels), task="knn")
    with pytest.raises(DataError, match=r"the runs scored \['effusion'"):
        compare(first, write(tmp_path / "e", poor, labels, names=("x", "y", "z")), task="knn")
    with pytest.raises(DataError, match="has no predictions of linear_probe: there is knn-chexpert"):
        compare(first, first, task="linear_probe")
    write(first, good, labels, data="openi")
    with pytest.raises(DataError, match="knn-chexpert, knn-openi: say which data"):
        compare(first, first, task="knn")
    assert compare(first, first, task="knn", data="openi", draws=5)
