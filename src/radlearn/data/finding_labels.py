"""The 14 CheXpert labels of sentences and reports, by rules: 1 positive, 0 negative, -1 uncertain, null.

A sentence is read once, word by word. Phrases of a finding are its mentions; phrases around them negate them
or make them uncertain, each in one direction and up to where its scope ends: at words such as "but", at a
semicolon, at a clause that states something of its own. The size of heart and mediastinum is read from
subject and state ("heart size is normal"). Everything is linear in the length of the text.

Of several mentions the positive counts first, then the uncertain, then the negative. "No Finding" is 1 where
no other label but Support Devices is positive or uncertain, and null otherwise.

Sources: CheXpert (Irvin et al. 2019, arXiv:1901.07031) for labels and their aggregation; NegEx (Chapman et
al. 2001) and NegBio (Peng et al. 2018) for triggers and scopes. Measured in docs/report-text.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from radlearn.data._finding_scopes import read, words_of
from radlearn.data.sentences import split

NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"
LABELS = (
    NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", SUPPORT_DEVICES,
)  # fmt: skip
"""In the order of CheXpert's files."""


@dataclass(frozen=True)
class Mention:
    """A label that a sentence speaks about: 1, 0 or -1, and the words that do."""

    label: str
    value: int
    phrase: str


def mentions(sentence: str) -> list[Mention]:
    """What one sentence says about the findings, in the order of its words."""
    words = words_of(sentence)
    return [
        Mention(label, one.value, " ".join(words[one.start : one.end]))
        for one in read(words)
        for label in one.labels
    ]


def label_sentence(sentence: str) -> dict[str, int]:
    """The labels that a sentence speaks about, with "No Finding" where it reports none; {} without a word."""
    if not any(character.isalnum() for character in sentence):
        return {}
    return _strongest((mention.label, mention.value) for mention in mentions(sentence))


def label_report(sentences: Iterable[str]) -> dict[str, int]:
    """The labels of a report, from its sentences; {} without a word."""
    labelled = [labels for sentence in sentences if (labels := label_sentence(sentence))]
    said = (item for labels in labelled for item in labels.items() if item[0] != NO_FINDING)
    return _strongest(said) if labelled else {}


def label_sentences(sentences: Sequence[str | None] | pl.Series) -> pl.DataFrame:
    """Labels of many sentences: a row each, one Float32 column a label; equal sentences are read once."""
    column = pl.Series("sentence", sentences, dtype=pl.String)
    unique = column.drop_nulls().unique(maintain_order=True)
    found = [label_sentence(sentence) for sentence in unique]
    table = pl.DataFrame(
        {label: [labels.get(label) for labels in found] for label in LABELS},
        schema=dict.fromkeys(LABELS, pl.Float32),
    ).with_columns(unique)
    joined = column.to_frame().join(table, on="sentence", how="left", maintain_order="left")
    return joined.select(LABELS)


def label_reports(reports: pl.Series) -> pl.DataFrame:
    """Labels of many reports: one row a report, one Float32 column a label.

    Args:
        reports: texts (String), split here, or sentences (List of String, or of Struct with `text`); a null
            or wordless report has no label.
    """
    rows = pl.DataFrame({"sentence": _as_sentences(reports)}).with_row_index("row")
    told = rows.filter(pl.col("sentence").list.len() > 0).explode("sentence")
    ranks = label_sentences(told["sentence"]).select(_rank(pl.col(label)).alias(label) for label in LABELS)
    best = pl.concat([told, ranks], how="horizontal").group_by("row").agg(pl.col(LABELS).max())
    others = [label for label in LABELS if label not in (NO_FINDING, SUPPORT_DEVICES)]
    told_any = pl.max_horizontal(LABELS) > 0
    normal = pl.when((pl.max_horizontal(others) < _RANK[-1]) & told_any).then(1.0).cast(pl.Float32)
    best = best.select("row", normal.alias(NO_FINDING), *(_unranked(pl.col(label)) for label in LABELS[1:]))
    return rows.join(best, on="row", how="left", maintain_order="left").select(LABELS)


_RANK = {0: 1, -1: 2, 1: 3}  # of two mentions the higher counts; 0 is none


def _strongest(said: Iterable[tuple[str, int]]) -> dict[str, int]:
    """What counts for each label, in the order of `LABELS`, with "No Finding" where nothing is found."""
    found: dict[str, int] = {}
    for label, value in said:
        found[label] = max(value, found.get(label, value), key=_RANK.__getitem__)
    if not any(value for label, value in found.items() if label != SUPPORT_DEVICES):
        found[NO_FINDING] = 1
    return {label: found[label] for label in LABELS if label in found}


def _rank(label: pl.Expr) -> pl.Expr:
    return label.replace_strict({float(v): r for v, r in _RANK.items()}, default=0, return_dtype=pl.Int8)


def _unranked(rank: pl.Expr) -> pl.Expr:
    values = {r: float(v) for v, r in _RANK.items()}
    return rank.replace_strict(values, default=None, return_dtype=pl.Float32)


def _as_sentences(reports: pl.Series) -> pl.Series:
    if reports.dtype == pl.String:
        unique = reports.drop_nulls().unique()
        table = dict(zip(unique, map(split, unique), strict=True))
        return pl.Series([table.get(report) for report in reports], dtype=pl.List(pl.String))
    if reports.dtype == pl.List(pl.String):
        return reports
    return reports.list.eval(pl.element().struct.field("text"))
