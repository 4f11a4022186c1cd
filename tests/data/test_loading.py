import pytest

from radlearn.data.loading import StepSampler, steps_per_epoch
from radlearn.errors import ConfigurationError


def sampler(**changes):
    settings = {"num_rows": 23, "batch_size": 4, "seed": 0, "first": 0, "last": 20, **changes}
    return StepSampler(settings.pop("num_rows"), settings.pop("batch_size"), **settings)


def test_an_epoch_visits_rows_once_and_carries_its_number():
    batches = list(sampler(last=10))
    first, second = batches[:5], batches[5:]
    assert len({row for batch in first for _, row in batch}) == 20
    assert {draw for batch in first for draw, _ in batch} == {0}
    assert {draw for batch in second for draw, _ in batch} == {1}
    assert first != second


def test_starting_later_gives_the_same_batches():
    whole = list(sampler())
    assert list(sampler(first=7)) == whole[7:]
    assert len(sampler(first=7)) == 13


def test_ranks_share_what_one_process_would_take():
    ranks = [list(sampler(batch_size=2, rank=rank, world=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == list(sampler(batch_size=4))


@pytest.mark.parametrize(("num_rows", "match"), [(3, "only 3 training rows: lower"), (1, "more than one")])
def test_a_batch_larger_than_the_data_is_refused(num_rows, match):
    with pytest.raises(ConfigurationError, match=match):
        steps_per_epoch(num_rows, 4, 1)
