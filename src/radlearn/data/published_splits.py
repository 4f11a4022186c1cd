"""Splits as papers drew them, by image or by group: split -> ids, in the order of the draw.

    lovt              one random permutation: test first, then validation, the rest is training
    lovt_by_group     groups in random order fill test, then validation
    mgca              scikit-learn's train_test_split, twice with one state
    hold_out          scikit-learn's train_test_split, once

The order counts: LoVT's few-shot subsets are the first rows of the training list. LoVT set no seed, so its
own draws exist only as its lists (`data.split_files`); here the rule and the sizes are its, the seed is ours.
MGCA's are reproduced image by image, because scikit-learn draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from radlearn.errors import ConfigurationError

Parts = dict[str, list[str]]


def lovt(ids: Sequence[str], seed: int, *, validate: float = 0.2, test: float = 0.2) -> Parts:
    """A random split by image: of one permutation, round(test * n) ids, round(validate * n), and the rest.

    Args:
        ids: images, in an order that does not depend on the machine.
        seed: of the permutation.
        validate, test: shares; test is 0 for a release that has a test set of its own.

    Source: Mueller et al. 2022 (LoVT), arXiv:2112.02889, downstream data sets.
    """
    order = [ids[place] for place in np.random.Generator(np.random.PCG64(seed)).permutation(len(ids))]
    first, second = round(test * len(ids)), round(test * len(ids)) + round(validate * len(ids))
    return {"train": order[second:], "validate": order[first:second], "test": order[:first]}


def lovt_by_group(ids: Sequence[str], groups: Sequence[str], share: float, seed: int) -> Parts:
    """A random split by group: groups in random order fill test, then validation, to round(share * n) images.

    A group that would overfill a part goes on to the next: sizes are met wherever small groups are left.

    Args:
        ids: images.
        groups: the group of each, its patient.
        share: of the images in test, and in validation.
        seed: of the order of groups.
    """
    members: dict[str, list[str]] = {}
    for name, group in zip(ids, groups, strict=True):
        members.setdefault(group, []).append(name)
    names = sorted(members)
    parts: Parts = {"train": [], "validate": [], "test": []}
    count = round(share * len(ids))
    for place in np.random.Generator(np.random.PCG64(seed)).permutation(len(names)):
        own = members[names[place]]
        split = next((s for s in ("test", "validate") if len(parts[s]) + len(own) <= count), "train")
        parts[split] += own
    return parts


def mgca(ids: Sequence[str], test_size: float, state: int = 0) -> Parts:
    """`test_size` of the ids is set apart and halved: the first half is test, the second validation.

    Args:
        ids: in the order of the published table (RSNA: sorted by patientId).
        test_size: share that is not for training.
        state: `random_state` of both draws.

    Source: Wang et al. 2022 (MGCA), arXiv:2210.06044, its preprocessing of RSNA and SIIM.
    """
    from sklearn.model_selection import train_test_split

    train, rest = train_test_split(list(ids), test_size=test_size, random_state=state)
    test, validate = train_test_split(rest, test_size=0.5, random_state=state)
    return {"train": train, "validate": validate, "test": test}


def hold_out(ids: Sequence[str], validate_size: float, state: int = 0) -> Parts:
    """Training and validation of a release that has a test set of its own: one draw of scikit-learn."""
    from sklearn.model_selection import train_test_split

    train, validate = train_test_split(list(ids), test_size=validate_size, random_state=state)
    return {"train": train, "validate": validate}


def first(ids: Sequence[str], fraction: float) -> list[str]:
    """The first round(fraction * n) ids: how LoVT cuts its 1 % and 10 % subsets.

    Raises:
        ConfigurationError: if the fraction is not in (0, 1], or leaves nothing.
    """
    count = round(fraction * len(ids)) if 0 < fraction <= 1 else 0
    if not count:
        raise ConfigurationError(f"a subset is a fraction in (0, 1]: {fraction} of {len(ids)} images is none")
    return list(ids[:count])


def column(ids: pl.Series, parts: Mapping[str, Sequence[str]]) -> pl.Series:
    """The split of each id, null where no part names it."""
    splits = {name: split for split, names in parts.items() for name in names}
    return pl.Series("split", [splits.get(name) for name in ids], dtype=pl.String)
