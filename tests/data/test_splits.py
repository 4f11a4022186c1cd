"""Patient-level splits and label fractions."""

import hashlib
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlearn.data.splits import assign, check_patients, crossing_patients, fraction, split_hash
from radlearn.errors import ConfigurationError, DataError

PARTS = {"train": 0.7, "validate": 0.1, "test": 0.2}


def table(num_patients, images=3):
    """Patients `p0`, `p1`, ... of 1 to `images` images; a tenth have the rare label, half the common one."""
    rows = [
        (f"p{p}", i, float(p % 10 == 0), float(p % 2))
        for p in range(num_patients)
        for i in range(p % images + 1)
    ]
    return pl.DataFrame(rows, schema=["patient_id", "image", "rare", "common"], orient="row")


def test_patients_in_two_splits_are_counted_and_never_named():
    rows = pl.DataFrame(
        {
            "patient_id": ["Bert", "Bert", "Anna", "Anna", "c", "d"],
            "split": ["train", "test", "validate", "train", "test", "train"],
        }
    )
    with pytest.raises(DataError, match=r"2 of 4 patients.*test, train, validate") as error:
        check_patients(rows)
    # Ids may be names: who it is stays unsaid.
    assert not {"Anna", "Bert"} & {*re.findall(r"\w+", str(error.value))}
    check_patients(rows.filter(pl.col("split") == "train"))


def test_the_hash_of_a_split_is_of_images_and_splits_alone():
    rows = pl.DataFrame({"image_id": ["b", "a"], "split": ["test", "train"], "other": [1, 2]})
    # printf 'a\ttrain\nb\ttest' | sha256sum
    wanted = hashlib.sha256(b"a\ttrain\nb\ttest").hexdigest()
    assert split_hash(rows) == split_hash(rows.reverse().drop("other")) == wanted
    assert split_hash(rows.with_columns(split=pl.Series(["train", "test"]))) != wanted


def test_crossing_patients_are_listed_with_their_splits():
    rows = pl.DataFrame({"patient_id": ["b", "b", "a"], "split": ["train", "test", "train"]})
    assert crossing_patients(rows).rows() == [("b", ["test", "train"])]


def test_a_split_is_by_patient_and_near_its_fractions():
    rows = assign(table(4000), PARTS, seed=1)
    check_patients(rows)
    shares = rows.group_by("split").agg(pl.col("patient_id").n_unique() / 4000)
    for split, share in shares.iter_rows():
        # Four standard deviations of a binomial draw of 4,000 patients.
        assert abs(share - PARTS[split]) < 4 * (PARTS[split] * (1 - PARTS[split]) / 4000) ** 0.5


def test_a_split_does_not_depend_on_the_order_of_rows_or_on_other_patients():
    rows = assign(table(200), PARTS, seed=1)
    shuffled = assign(table(200).sample(fraction=1, shuffle=True, seed=3), PARTS, seed=1)
    fewer = assign(table(120), PARTS, seed=1)
    truth = dict(rows.select("patient_id", "split").iter_rows())
    assert all(truth[p] == s for p, s in shuffled.select("patient_id", "split").iter_rows())
    assert all(truth[p] == s for p, s in fewer.select("patient_id", "split").iter_rows())


def test_seeds_draw_different_splits_and_a_split_of_nothing_is_refused():
    one, two = (assign(table(200), PARTS, seed)["split"] for seed in (1, 2))
    assert (one != two).any()
    assert assign(table(50), {"train": 1.0, "test": 0.0}, seed=0)["split"].unique().to_list() == ["train"]
    for wrong in ({"train": 0.8, "test": 0.1}, {"train": 1.2, "test": -0.2}):
        with pytest.raises(ConfigurationError, match="sum to 1"):
            assign(table(5), wrong, seed=0)


@given(percents=st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), draw=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_fractions_are_nested_and_whole_patients(percents, draw):
    rows = table(60)
    small, large = (fraction(rows, p, 0, draw, label_names=("rare", "common")) for p in sorted(percents))
    assert {*small["patient_id"]} <= {*large["patient_id"]}
    for kept in (small, large):
        assert kept.equals(rows.filter(pl.col("patient_id").is_in(kept["patient_id"].unique().implode())))


@pytest.mark.parametrize("percent", [1, 10, 25, 50, 100])
def test_a_fraction_keeps_its_share_of_patients_and_of_every_label(percent):
    rows = table(1000)
    kept = fraction(rows, percent, seed=4, label_names=("rare", "common"))
    patients = kept.unique("patient_id")
    assert len(patients) == 10 * percent
    # Strata in the table: 100 rare, 500 common of which none is rare, 400 without either.
    assert abs(patients["rare"].sum() - percent) <= 1
    assert abs(patients["common"].sum() - 5 * percent) <= 1


def test_draws_differ_and_repeat():
    rows = table(300)
    first, again, other = (fraction(rows, 10, 0, draw) for draw in (0, 0, 1))
    assert first.equals(again)
    assert {*first["patient_id"]} != {*other["patient_id"]}
    shuffled = fraction(rows.sample(fraction=1, shuffle=True, seed=1), 10, 0, 0)
    assert {*shuffled["patient_id"]} == {*first["patient_id"]}


def test_the_smallest_fraction_is_one_patient():
    assert fraction(table(30), 0.01, seed=0)["patient_id"].n_unique() == 1
    for percent in (0, -1, 101, float("nan")):
        with pytest.raises(ConfigurationError, match="percent"):
            fraction(table(3), percent, seed=0)
