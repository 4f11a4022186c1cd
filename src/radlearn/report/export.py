"""Score tables as files for papers: csv, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
from typing import Any

from radlearn.report.scores import Row, ScoreTable, label_title

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "“": "``",
    "”": "''",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}


def as_csv(scores: ScoreTable) -> str:
    """The table as csv: a label a row; value, low, high and chance of every column, then the counts."""
    parts = ("value", "low", "high", "chance")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heading = [f"{column.heading} {part}" for column in scores.columns for part in parts]
    writer.writerow(["label", *heading, "num_positive", "num_cases", "num_patients"])
    for line in scores.lines:
        cells = [None if cell is None else cell[part] for cell in line.cells for part in parts]
        counts = [line.counts[name] for name in ("num_positive", "num_cases", "num_patients")]
        writer.writerow([line.label, *cells, *counts])
    return stream.getvalue()


def as_latex(scores: ScoreTable, *, synthetic: bool) -> str:
    r"""The table as LaTeX; needs \usepackage{booktabs}. Intervals stand in brackets behind the value."""
    about = f"{escape(scores.name)}: value [95\\,\\% interval, patients redrawn]"
    note = "Synthetic phantom data. " if synthetic else ""
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{note}{about}.}}",
        f"\\begin{{tabular}}{{l{'r' * len(scores.columns)}r}}",
        "\\toprule",
        " & ".join(["Label", *(escape(column.heading) for column in scores.columns), "Positive / $n$"])
        + r" \\",
        "\\midrule",
    ]
    previous = False
    for line in scores.lines:
        lines += ["\\midrule"] if line.mean and not previous and line is not scores.lines[0] else []
        previous = line.mean
        cells = [_cell(cell) for cell in line.cells]
        lines.append(" & ".join([escape(label_title(line.label)), *cells, _counts(line.counts)]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def escape(value: Any) -> str:
    """Text with LaTeX's own characters written out."""
    return "".join(_LATEX.get(character, character) for character in " ".join(str(value).split()))


def _cell(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "--"
    interval = "" if row["low"] is None or row["high"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def _counts(row: Row) -> str:
    return (
        f"{row['num_cases']}"
        if row["num_positive"] is None
        else f"{row['num_positive']} / {row['num_cases']}"
    )
