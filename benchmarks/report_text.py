"""Report text on the real OpenI reports: extraction rates, sentences, the rule labeller against MeSH.

    python benchmarks/report_text.py [--root FOLDER] [--text-model minilm]

FOLDER holds NLMCXR_reports.tgz or ecgen-radiology/; without it the archive inside the installed
torchxrayvision is read in place. Precision and recall are of the half of the reports that the rules were not
tuned on (by a bit of SHA-256 of the report's id), then of the other half. A text model fills a text cache.
"""

import argparse
import hashlib
import importlib.util
import platform
import time
from collections import Counter
from pathlib import Path

import polars as pl

from radlearn.data.finding_labels import LABELS, NO_FINDING, SUPPORT_DEVICES, label_reports, label_sentences
from radlearn.data.sentences import num_tokens
from radlearn.data.text_cache import TextCache
from radlearn.encoders import _text_model
from radlearn.manifests.openi import OpenI


def default_root():
    spec = importlib.util.find_spec("torchxrayvision")
    if spec is None:
        raise SystemExit("give --root, or pip install torchxrayvision, whose wheel brings the reports")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def timed(call):
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def quantiles(values, unit):
    column = pl.Series(list(values))
    shares = ", ".join(f"{int(100 * q)} % {column.quantile(q):.0f}" for q in (0.05, 0.5, 0.95))
    return f"mean {column.mean():.1f} {unit}, {shares}, longest {column.max()}"


def extraction(table):
    images = table["images"].list.len()
    print(f"\n{len(table)} reports, {images.sum()} images, {(images == 0).sum()} reports without image")
    for name in ("findings", "impression"):
        texts = table[name].drop_nulls()
        print(f"{name}: {len(texts)} ({len(texts) / len(table):.1%}), {texts.n_unique()} distinct; ", end="")
        print(quantiles((len(text.split()) for text in texts), "words"))
    both = table.filter(pl.col("findings").is_null() & pl.col("impression").is_null())
    print(f"neither: {len(both)}")


def sentences(table):
    lists = table["sentences"].drop_nulls()
    every = lists.explode()
    print(f"\n{len(every)} sentences, {every.n_unique()} distinct; {quantiles(lists.list.len(), 'a report')}")
    lengths = list(map(num_tokens, every))
    print(quantiles(lengths, "tokens"))
    short = Counter(length for length in lengths if length < 3)
    few = sum(sum(map(num_tokens, texts)) < 3 for texts in lists)
    print(f"shorter than 3 tokens: {sum(short.values())} sentences, {few} whole reports")


def scores(truth, found):
    """(n, precision, recall, recall with uncertain as found, uncertain, negative) of one label."""
    positive, uncertain = (found == 1).fill_null(False), (found == -1).fill_null(False)
    hits, n = (positive & truth).sum(), truth.sum()
    either = ((positive | uncertain) & truth).sum()
    negative = (found == 0).fill_null(False).sum()
    return n, hits / max(positive.sum(), 1), hits / max(n, 1), either / max(n, 1), uncertain.sum(), negative


def labeller(table):
    table = table.filter(pl.col("sentences").is_not_null() & pl.col(NO_FINDING).is_not_null())
    found, seconds = timed(lambda: label_reports(table["sentences"]))
    print(f"\n{len(table)} reports with text and headings labelled in {seconds:.2f} s")
    held_out = pl.Series([bool(hashlib.sha256(name.encode()).digest()[0] & 1) for name in table["report_id"]])
    findings = [label for label in LABELS if label not in (NO_FINDING, SUPPORT_DEVICES)]
    by_rule = table.select(pl.max_horizontal(findings) == 0).to_series()
    for title, part in (("held out", held_out), ("tuned on", ~held_out)):
        print(f"\n{title}: {part.sum()} reports")
        print("| label | n | precision | recall | recall with -1 | uncertain | negative |")
        print("|---|---|---|---|---|---|---|")
        truths = {label: table[label] == 1 for label in LABELS} | {f"{NO_FINDING}, CheXpert's rule": by_rule}
        for label, truth in truths.items():
            column = found[label.split(",")[0]]
            n, *rates, uncertain, negative = scores(truth.filter(part), column.filter(part))
            cells = (label, n, *(f"{rate:.3f}" for rate in rates), uncertain, negative)
            print(f"| {' | '.join(map(str, cells))} |")
    _, seconds = timed(lambda: label_sentences(table["sentences"].explode().unique()))
    print(f"\n{table['sentences'].explode().n_unique()} distinct sentences labelled in {seconds:.2f} s")


def text_cache(table, model):
    texts = table["impression"].drop_nulls().to_list()
    encoder = _text_model.build({"model": model, "pooling": "mean"})
    cache = TextCache(None, encoder)
    features, seconds = timed(lambda: cache.encode(texts))
    distinct = len(set(texts))
    print(f"\ntext cache, {_text_model.describe(encoder)}: {len(texts)} impressions, {distinct} distinct")
    print(f"features {tuple(features.shape)} in {seconds:.1f} s ({distinct / seconds:.0f} texts/s); ", end="")
    print(f"again from the cache in {timed(lambda: cache.encode(texts))[1]:.2f} s")
    tokenizer = getattr(encoder, "tokenizer", None)
    if tokenizer is not None:
        print(quantiles((len(tokenizer(text)["input_ids"]) for text in set(texts)), "word-pieces"))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path)
    parser.add_argument("--text-model", help="minilm, hashed, a folder or a hub id")
    arguments = parser.parse_args()
    print(f"{platform.machine()} CPU, polars {pl.__version__}, Python {platform.python_version()}")
    table, seconds = timed(lambda: OpenI().read_reports(arguments.root or default_root()))
    print(f"{len(table)} reports read, split into sections and sentences in {seconds:.1f} s")
    extraction(table)
    sentences(table)
    labeller(table)
    if arguments.text_model:
        text_cache(table, arguments.text_model)


if __name__ == "__main__":
    main()
