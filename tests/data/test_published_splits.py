"""Splits as papers drew them: sizes, order, and scikit-learn's own answer."""

import collections
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import ShuffleSplit

from radlearn.data import published_splits as published
from radlearn.errors import ConfigurationError

SPLITS = ("train", "validate", "test")


def names(count):
    return [f"{number:06d}" for number in range(count)]


def sizes(parts):
    return tuple(len(parts.get(split, ())) for split in SPLITS)


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(26_684, (16_010, 5_337, 5_337)), (12_047, (7_229, 2_409, 2_409))],  # RSNA, SIIM
)
def test_lovt_has_the_published_sizes(count, wanted):
    parts = published.lovt(names(count), 0)
    assert sizes(parts) == wanted
    assert sorted(itertools.chain(*parts.values())) == names(count)


def test_lovt_without_a_test_share_splits_a_training_list():
    assert sizes(published.lovt(names(8000), 0, test=0)) == (6400, 1600, 0)  # object-CXR


def test_lovt_is_one_permutation_test_first():
    order = np.random.Generator(np.random.PCG64(7)).permutation(10)
    parts = published.lovt(names(10), 7)
    assert [int(name) for split in ("test", "validate", "train") for name in parts[split]] == order.tolist()


def test_another_seed_is_another_split_and_the_same_seed_the_same():
    one, again, other = (published.lovt(names(100), seed) for seed in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize(
    ("test_size", "wanted"), [(0.3, (18_678, 4_003, 4_003)), (0.4, (16_010, 5_337, 5_337))]
)
def test_mgca_has_the_published_sizes(test_size, wanted):
    assert sizes(published.mgca(names(26_684), test_size)) == wanted


def test_mgca_takes_the_first_half_of_the_rest_as_test():
    # ShuffleSplit is what train_test_split draws with: test indices first, in the order of a permutation.
    ids = np.array(names(101))
    train, rest = next(ShuffleSplit(1, test_size=0.3, random_state=0).split(ids))
    first, second = next(ShuffleSplit(1, test_size=0.5, random_state=0).split(rest))
    parts = published.mgca(ids.tolist(), 0.3)
    assert parts["train"] == ids[train].tolist()
    assert parts["test"] == ids[rest][first].tolist()
    assert parts["validate"] == ids[rest][second].tolist()


def test_an_absolute_test_size_of_mgca_and_its_share_are_one():
    from sklearn.model_selection import train_test_split

    train, _ = train_test_split(names(26_684), test_size=10_674, random_state=0)
    assert published.mgca(names(26_684), 0.4)["train"] == train


def test_hold_out_has_the_published_size():
    assert sizes(published.hold_out(names(8000), 0.1)) == (7200, 800, 0)  # object-CXR in MGCA


def covid_like(num_images=221, num_patients=104):
    """Patients of 1 to 8 images, half of them with one."""
    generator = np.random.default_rng(3)
    extra = generator.integers(0, num_patients // 2, num_images - num_patients)
    groups = [*range(num_patients), *extra.tolist()]
    return names(num_images), [f"p{group:03d}" for group in groups]


@pytest.mark.parametrize("seed", range(5))
def test_lovt_by_group_meets_the_published_sizes_with_whole_groups(seed):
    ids, groups = covid_like()
    parts = published.lovt_by_group(ids, groups, 0.2, seed)
    assert sizes(parts) == (133, 44, 44)
    group_of, found = dict(zip(ids, groups, strict=True)), collections.defaultdict(set)
    for split, members in parts.items():
        for name in members:
            found[group_of[name]].add(split)
    assert all(len(splits) == 1 for splits in found.values())
    assert len(found) == 104


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0.01, 0.45), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_lovt_by_group_keeps_groups_whole_and_never_overfills(groups, share, seed):
    ids = names(len(groups))
    parts = published.lovt_by_group(ids, [str(g) for g in groups], share, seed)
    assert sorted(itertools.chain(*parts.values())) == ids
    assert max(len(parts["test"]), len(parts["validate"])) <= round(share * len(ids))
    split_of = published.column(pl.Series(ids), parts)
    assert all(len({split_of[i] for i, g in enumerate(groups) if g == group}) == 1 for group in groups)


@pytest.mark.parametrize(
    ("count", "fraction", "wanted"), [(16_010, 0.01, 160), (16_010, 0.1, 1601), (5337, 0.1, 534)]
)
def test_the_first_rows_as_lovt_counts_them(count, fraction, wanted):
    assert published.first(names(count), fraction) == names(count)[:wanted]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, 0.001])
def test_a_subset_of_nothing_is_refused(fraction):
    with pytest.raises(ConfigurationError, match="fraction"):
        published.first(names(10), fraction)


def test_the_column_is_null_where_no_part_names_an_id():
    parts = {"train": ["a"], "test": ["c"]}
    assert published.column(pl.Series(["a", "b", "c"]), parts).to_list() == ["train", None, "test"]
