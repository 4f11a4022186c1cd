"""Ranks without processes: what the losses must get right themselves, apart from the collective."""

import pytest


def _across_ranks(loss, shares):
    """The loss of every rank, joined to the graphs of all.

    A sum over ranks that also sums gradients makes every rank's payload an input of every rank's loss. So the
    payloads of all are recorded first, then each rank gets its own plus the recorded ones of the others; a
    backward pass from the sum of all losses leaves on each share what a real all-reduce leaves there.
    """
    payloads = [[] for _ in shares]

    def record(rank):
        def all_reduce(payload):
            payloads[rank].append(payload)
            return payload

        return all_reduce

    def replay(rank):
        calls = iter(range(len(payloads[rank])))

        def all_reduce(payload):
            call = next(calls)
            return payload + sum(p[call] for other, p in enumerate(payloads) if other != rank)

        return all_reduce

    for rank, share in enumerate(shares):
        loss(share, record(rank))
    return [loss(share, replay(rank)) for rank, share in enumerate(shares)]


@pytest.fixture
def across_ranks():
    return _across_ranks
