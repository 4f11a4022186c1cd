"""Padding of a text encoder that learns: positions computed over tokens held, on the real OpenI reports.

    python benchmarks/text_buckets.py [--batch 32 128 --draws 50]

Batches are random, as training draws them; each is encoded in parts of like length (`text.buckets`), which
changes no feature. Beside it the same batches padded to their longest report and to 256 tokens. The time is
CPU seconds of a forward and backward pass of MiniLM (six layers), interleaved, the features compared first.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from measure import header, interleaved

from radlearn.data.report_tokens import ReportTokens
from radlearn.encoders import _token_model
from radlearn.manifests.openi import OpenI


def openi_reports():
    """Sentences of the findings and the impression of every report that has either."""
    spec = importlib.util.find_spec("torchxrayvision")
    root = Path(next(iter(spec.submodule_search_locations))) / "data"
    told = OpenI().read_reports(root)["sentences"].to_list()
    return [cell for cell in told if cell]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(header(1))
    encoder = _token_model.build({"model": "minilm", "max_length": 512, "freeze_layers": 3}, ()).eval()
    texts = openi_reports()
    reports = ReportTokens(texts, np.arange(len(texts)), encoder.tokenise, encoder.vocabulary)
    whole = reports.batch(np.arange(len(texts)))
    lengths = whole.mask.sum(1)
    print(
        f"{len(texts)} reports, {lengths.float().mean():.1f} tokens on average, at most {int(lengths.max())}"
    )
    random = np.random.default_rng(0)
    for size in arguments.batch:
        batches = [reports.batch(random.integers(len(texts), size=size)) for _ in range(arguments.draws)]
        real = sum(int(b.mask.sum()) for b in batches)
        print(f"batch {size}: padded to 256: {256 * size * len(batches) / real:.2f}", end="")
        for buckets in (1, 2, 4, 8):
            encoder.buckets = buckets
            computed = sum(encoder.padding_ratio(b) * int(b.mask.sum()) for b in batches)
            print(f", {buckets} buckets: {computed / real:.2f}", end="")
        print(" positions a token")
    time_step(encoder, reports.batch(random.integers(len(texts), size=32)), arguments.rounds)


def time_step(encoder, tokens, rounds):
    """Forward and backward of one batch, padded to its longest report and in four buckets."""

    def step(buckets):
        encoder.buckets = buckets
        encoder.zero_grad()
        states = encoder.encode_tokens(tokens)
        states.square().mean().backward()
        return states.detach()

    torch.testing.assert_close(step(1), step(4), rtol=1e-3, atol=1e-4)
    times = interleaved({"padded": lambda: step(1), "buckets": lambda: step(4)}, rounds)
    ratio = times["buckets"].times_faster_than(times["padded"])
    print(f"batch 32, forward and backward, 4 buckets: {ratio:.2f}x padding to the longest")
    for name, timing in times.items():
        print(f"  {name:8} {timing} ms")


if __name__ == "__main__":
    main()
