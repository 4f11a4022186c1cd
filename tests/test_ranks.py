import torch

from radlearn import ranks


def test_one_process_sums_and_gathers_nothing():
    x = torch.arange(3.0)
    assert ranks.sum_across_ranks(x) is x
    assert ranks.gather_rows(x) is x
    assert ranks.row_counts(3) == [3]
    assert ranks.world_size() == 1
    assert ranks.is_main_process()


def test_main_process_is_told_by_the_launcher_before_the_group_exists(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not ranks.is_main_process()


def test_gather_joins_unequal_rows_in_order_with_gradient(two_ranks):
    first, second = two_ranks("two_rank_jobs:gather_rows")
    expected = torch.arange(8.0).view(8, 1)
    for answer in (first, second):
        assert torch.equal(answer["whole"], expected)
        assert answer["counts"] == [5, 3]
    # Both ranks compute the same loss, so each row's gradient is twice its weight: the mean over ranks
    # restores it.
    gradients = torch.cat([first["gradient"], second["gradient"]]).squeeze()
    assert torch.equal(gradients, 2 * torch.arange(8.0))
