import fake_run
import numpy as np
import polars as pl
import pytest

from radlearn.report import comparison, run_folder

SUBJECT = ("zero_shot", "phantom_cxr", "test")


@pytest.fixture(scope="module")
def pair(run, rival):
    return [run_folder.read(run), run_folder.read(rival)]


def test_best_first(pair):
    compared = comparison.compare(pair, SUBJECT)
    assert [(standing.run, standing.rank) for standing in compared.standings] == [
        ("infonce_phantom", 1),
        ("nova_phantom", 2),
    ]
    assert compared.unequal == ("samples seen",)


def test_the_paired_difference_is_that_of_the_areas(pair):
    (paired,) = comparison.compare(pair, SUBJECT).paired
    first, second = (comparison.macro_row(folder.results, SUBJECT)["value"] for folder in reversed(pair))
    assert (paired.first, paired.second) == ("infonce_phantom", "nova_phantom")
    assert paired.difference.value == pytest.approx(first - second, abs=1e-12)
    assert paired.difference.low < paired.difference.value < paired.difference.high
    assert paired.num_cases == fake_run.NUM_CASES


def test_a_run_does_not_differ_from_itself(pair):
    paired = comparison.paired(pair[0], pair[0], SUBJECT)
    assert (paired.difference.value, paired.difference.low, paired.difference.high) == (0, 0, 0)
    assert paired.difference.p_value == 1


def test_runs_on_other_images_are_not_paired(pair, tmp_path):
    folder = fake_run.write(tmp_path / "other", name="other")
    path = folder / "predictions" / "zero_shot-phantom_cxr.parquet"
    pl.read_parquet(path).head(300).write_parquet(path)
    other = run_folder.read(folder)
    assert comparison.paired(pair[0], other, SUBJECT) is None
    path.unlink()
    assert comparison.paired(pair[0], run_folder.read(folder), SUBJECT) is None


def test_the_order_of_the_rows_does_not_matter(pair, tmp_path):
    folder = fake_run.write(tmp_path / "shuffled", name="shuffled", seed=1, shift=0.25)
    path = folder / "predictions" / "zero_shot-phantom_cxr.parquet"
    pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=3).write_parquet(path)
    shuffled = comparison.paired(pair[0], run_folder.read(folder), SUBJECT)
    assert shuffled.difference == comparison.paired(pair[0], pair[1], SUBJECT).difference


def test_other_versions_of_the_data_are_not_ranked(pair, tmp_path):
    other = run_folder.read(fake_run.write(tmp_path / "other", name="other", data_hash="different"))
    compared = comparison.compare([pair[0], other], SUBJECT)
    assert not compared.ranked
    assert [standing.rank for standing in compared.standings] == [None, None]
    assert compared.paired == ()
    assert "different versions of the data" in compared.unlike[0]


def budget(**known):
    return dict.fromkeys(comparison.BUDGETS) | known


@pytest.mark.parametrize(
    ("rows", "unequal"),
    [
        ([budget(samples_seen=1000), budget(samples_seen=1000)], ()),
        ([budget(samples_seen=1000), budget(samples_seen=1005)], ()),
        ([budget(samples_seen=1000), budget(samples_seen=1100)], ("samples seen",)),
        ([budget(num_views=2), budget()], ("views a sample (not known for every run)",)),
        ([budget(), budget()], ("all budgets (none was recorded)",)),
        ([budget(samples_seen=1)], ()),
        ([budget(tuning_trials=0, num_views=1), budget(tuning_trials=0, num_views=8)], ("views a sample",)),
    ],
)
def test_unequal_budgets(rows, unequal):
    assert comparison.unequal_budgets(rows) == unequal


def test_seeds_of_one_setting_are_averaged(pair, tmp_path):
    runs = [pair[0]] + [
        run_folder.read(fake_run.write(tmp_path / str(seed), name=f"seed_{seed}", seed=seed))
        for seed in (1, 2)
    ]
    (group,) = comparison.compare(runs, SUBJECT).seeds
    values = [comparison.macro_row(folder.results, SUBJECT)["value"] for folder in runs]
    assert group.seeds == (0, 1, 2)
    assert group.mean.value == pytest.approx(np.mean(values))
    # Student's t with 2 degrees of freedom: 4.303 (two-sided 95 %).
    assert group.mean.high - group.mean.value == pytest.approx(
        4.303 * np.std(values, ddof=1) / 3**0.5, rel=1e-3
    )


def test_settings_that_differ_are_not_averaged(pair):
    assert comparison.compare(pair, SUBJECT).seeds == ()
