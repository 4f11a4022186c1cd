"""The page: one self-contained html file about one or several runs, with csv and LaTeX tables beside it.

    report/index.html            everything, pictures included; it asks no other machine for anything
    report/results.csv           every row of results
    report/<task>-<data>-<split>.csv, .tex       the score tables
    report/figures/*.png, *.pdf  the figures

Data sets that are not known to be open or synthetic are treated as credentialed: no pixel, id or report text
of them is written, unless `cases=True`, and then below a do-not-share banner.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from omegaconf import OmegaConf

from radlearn.errors import ConfigurationError, DataError
from radlearn.figures import collapse
from radlearn.figures.base import write
from radlearn.report import captions, comparison, export, pictures, scores
from radlearn.report.run_folder import OPEN, RunFolder, read

_HERE = Path(__file__).parent
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SECRET = re.compile(r"(^|_)(api_?key|access_key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Subject:
    """One task on one split of one data set: its tables and its figure."""

    name: str
    identity: str
    tables: Sequence[tuple[str, scores.ScoreTable]]
    together: scores.ScoreTable | None
    compared: comparison.Comparison | None
    picture: pictures.Picture


@dataclass(frozen=True)
class About:
    """What the page tells about one run."""

    run: RunFolder
    headline: str
    tiles: Sequence[tuple[str, str, str]]
    training: Sequence[pictures.Picture]
    collapsed: Mapping[str, int]
    roc: Sequence[pictures.Picture]
    maps: Sequence[pictures.Picture]
    cases: Sequence[pictures.Picture]
    others: Sequence[tuple[str, scores.ScoreTable]]
    budget: Mapping[str, Any]
    versions: Sequence[tuple[str, str]]
    commands: Sequence[str]
    configuration: str


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    runs: Sequence[About]
    subjects: Sequence[Subject]
    others: Sequence[tuple[str, scores.ScoreTable]]
    together: Sequence[pictures.Picture]
    synthetic: Sequence[str]
    do_not_share: Sequence[str]
    withheld: Sequence[str]
    budgets: Mapping[str, str] = field(default_factory=lambda: comparison.BUDGETS)

    def all_pictures(self) -> list[pictures.Picture]:
        """Every picture, in the order of the page."""
        found = [subject.picture for subject in self.subjects] + list(self.together)
        for about in self.runs:
            found += [*about.roc, *about.training, *about.maps, *about.cases]
        return found


def main(cfg: Mapping[str, Any]) -> Path:
    """Write the report that a configuration asks for.

    Args:
        cfg: `runs` (a name or folder, or a list of them), `output` (folder; default `report` in the run's
            folder or, for several runs, in `paths.runs`), `cases` (show images of credentialed data),
            `paths.runs`.
    Returns:
        The page's path, which is printed too.
    Raises:
        ConfigurationError: if no run is named.
        DataError: if a run is missing or cannot be read.
    """
    named = cfg.get("runs") or []
    names = [named] if isinstance(named, str) else [str(name) for name in named]
    if not names:
        raise ConfigurationError("a report is about runs: give runs=[first,second] as names or folders")
    root = Path(str((cfg.get("paths") or {}).get("runs") or "runs"))
    folders = [_folder(name, root) for name in names]
    default = folders[0] / "report" if len(folders) == 1 else root / "report"
    page = report(
        folders, Path(str(cfg["output"])) if cfg.get("output") else default, cases=bool(cfg.get("cases"))
    )
    print(f"report: {page}")
    return page


def report(runs: Sequence[Path], output: Path, cases: bool = False) -> Path:
    """Write `index.html`, the figures and the tables about some runs into a folder.

    Args:
        runs: run folders.
        output: folder to write to; it is made.
        cases: show images and report text of credentialed data too, below a do-not-share banner.
    Returns:
        The page's path.
    Raises:
        ConfigurationError: if no run is given.
        DataError: if a folder is no run, or a file in it cannot be read.
    """
    if not runs:
        raise ConfigurationError("a report is about at least one run folder: none was given")
    folders = _distinct([read(Path(path)) for path in runs])
    page = compose(folders, cases=cases)
    try:
        output.mkdir(parents=True, exist_ok=True)
        pictures.save(page.all_pictures(), output / "figures")
        _tables(page, folders, output)
        write(output / "index.html", render(page).encode())
    except OSError as error:
        raise DataError(
            f"cannot write the report to {output}: {error}; choose a folder with output="
        ) from error
    return output / "index.html"


def compose(folders: Sequence[RunFolder], *, cases: bool) -> Page:
    """Gather what the page shows; the only place that decides who may see what."""
    results = {folder.name: folder.results for folder in folders}
    named = dict.fromkeys(subject for rows in results.values() for subject in scores.subjects(rows))
    runs = [_about(folder, cases=cases) for folder in folders]
    closed = dict.fromkeys(data for run in folders for data in run.cases if run.access(data) not in OPEN)
    trained = [run.card.name for run in folders if run.card is not None and run.card.synthetic]
    scored = [str(name) for run in folders for name in run.results.filter(pl.col("synthetic"))["data"]]
    return Page(
        title=", ".join(folder.name for folder in folders),
        runs=runs,
        subjects=[_subject(folders, subject) for subject in named],
        others=scores.others_together(results) if len(folders) > 1 else [],
        together=pictures.training_together(folders),
        synthetic=list(dict.fromkeys([*trained, *scored])),
        do_not_share=list(closed) if cases else [],
        withheld=[] if cases else list(closed),
    )


def render(page: Page) -> str:
    """The page as html. Everything from outside is escaped: names and labels are anyone's text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimal": _decimal, "number": _number, "label_title": scores.label_title}
    return environment.get_template("page.html.j2").render(page=page, interval_note=captions.INTERVAL)


def _folder(name: str, root: Path) -> Path:
    """A run by name below the runs' root, or by its path."""
    below = root / name
    return below if below.is_dir() or not Path(name).is_dir() else Path(name)


def _distinct(folders: Sequence[RunFolder]) -> list[RunFolder]:
    """Runs with names of their own: a second run of one name gets a number, also in its results."""
    seen: dict[str, int] = {}
    distinct = []
    for folder in folders:
        seen[folder.name] = seen.get(folder.name, 0) + 1
        name = folder.name if seen[folder.name] == 1 else f"{folder.name} ({seen[folder.name]})"
        results = folder.results.with_columns(run=pl.lit(name, dtype=pl.String))
        distinct.append(dataclasses.replace(folder, name=name, results=results))
    return distinct


def _subject(folders: Sequence[RunFolder], subject: tuple[str, str, str]) -> Subject:
    order = next((folder.card.label_names for folder in folders if folder.card is not None), ())
    present = [folder for folder in folders if subject in scores.subjects(folder.results)]
    several = len(folders) > 1
    return Subject(
        name=f"{subject[0].replace('_', ' ').capitalize()} on {subject[1]}, {subject[2]} split",
        identity="-".join(pictures.slug(part) for part in subject),
        tables=[(folder.name, scores.one_run(folder.results, subject, order)) for folder in present],
        together=scores.several_runs({f.name: f.results for f in present}, subject, order)
        if several
        else None,
        compared=comparison.compare(present, subject) if several else None,
        picture=pictures.intervals(present, subject),
    )


def _about(run: RunFolder, *, cases: bool) -> About:
    last = run.results.row(-1, named=True) if run.results.height else {}
    return About(
        run=run,
        headline=_headline(run, last),
        tiles=_tiles(run),
        training=pictures.training(run),
        collapsed=collapse.alarms(run.metrics)
        if run.metrics is not None and "step" in run.metrics.columns
        else {},
        roc=pictures.roc(run),
        maps=pictures.maps(run),
        cases=pictures.cases(run, allowed=cases),
        others=scores.other_tables(run.results),
        budget={column: last.get(column) for column in comparison.BUDGETS},
        versions=[
            tuple(part.partition("=")[::2]) for part in (last.get("versions") or "").split(",") if part
        ],
        commands=_commands(run),
        configuration=OmegaConf.to_yaml(OmegaConf.create(_hidden(run.config))) if run.config else "",
    )


def _headline(run: RunFolder, last: Mapping[str, Any]) -> str:
    """One sentence: what was trained, on what, with which text model."""
    method = last.get("method") or _key(run.config, "method")
    encoder = last.get("encoder") or _key(run.config, "encoder")
    text_model = last.get("text_model") or _key(run.config, "text", "model")
    sentence = f"Method {method}" if method else "Method not recorded"
    sentence += f" with the image encoder {encoder}" if encoder else ""
    if run.card is not None:
        kind = {"synthetic": "synthetic data", "open": "open data"}.get(run.card.access, "credentialed data")
        sentence += f", trained on {run.card.name} ({kind})"
    return f"{sentence}; text model: {text_model}." if text_model else f"{sentence}."


def _tiles(run: RunFolder) -> list[tuple[str, str, str]]:
    """The few numbers to see first: title, number, what it rests on."""
    tiles = []
    for subject in scores.subjects(run.results)[:2]:
        table = scores.one_run(run.results, subject)
        for line in table.lines:
            cell = line.cells[0]
            if line.mean and cell is not None:
                title = (
                    f"AUC, {scores.label_title(line.label)[:1].lower()}{scores.label_title(line.label)[1:]}"
                )
                tiles.append(
                    (title, _decimal(cell["value"]), f"{_interval(cell)} · {subject[0]} on {subject[1]}")
                )
    seen = run.results["samples_seen"].drop_nulls()
    if seen.len():
        tiles.append(("Samples seen", _number(seen[-1]), "in training"))
    if run.metrics is not None and "images_per_second" in run.metrics.columns:
        speed = run.metrics["images_per_second"].drop_nulls().median()
        if speed is not None:
            tiles.append(("Images a second", _number(round(float(speed))), "median while training"))  # type: ignore[arg-type]
    return tiles


def _commands(run: RunFolder) -> list[str]:
    """How to run it again: the command that was recorded, else the saved configuration as a primary one."""
    name = shlex.quote(run.name)
    recorded = run.config.get("command")
    copy = shlex.quote(run.name + "_again")
    again = f"radlearn pretrain --config-dir runs/{name} --config-name config run_name={copy}"
    data = list(dict.fromkeys((str(task), str(d)) for task, d, _ in scores.subjects(run.results)))
    evaluated = [f"radlearn evaluate run={name} task={shlex.quote(t)} data={shlex.quote(d)}" for t, d in data]
    return [str(recorded) if recorded else again, *evaluated, f"radlearn report runs=[{name}]"]


def _tables(page: Page, folders: Iterable[RunFolder], output: Path) -> None:
    """All rows of results, and each score table as csv and LaTeX."""
    rows = pl.concat([folder.results for folder in folders])
    write(output / "results.csv", rows.write_csv().encode())
    for subject in page.subjects:
        whole = subject.together or subject.tables[0][1]
        synthetic = whole.data in page.synthetic
        write(output / f"{subject.identity}.csv", export.as_csv(whole).encode())
        write(output / f"{subject.identity}.tex", export.as_latex(whole, synthetic=synthetic).encode())


def _hidden(value: Any) -> Any:
    """The configuration without what looks like a key or password: pages are passed on."""
    if isinstance(value, Mapping):
        return {
            str(key): "(hidden)" if _SECRET.search(str(key)) and item else _hidden(item)
            for key, item in value.items()
        }
    return [_hidden(item) for item in value] if isinstance(value, list | tuple) else value


def _key(config: Mapping[str, Any], *path: str) -> str:
    """A name in the configuration: the value itself, or the `name` of a group."""
    value: Any = config
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        value = value.get("name")
    return "" if value is None else str(value)


def _interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None or row["high"] is None:
        return "no interval"
    return f"95 % interval {_decimal(row['low'])}–{_decimal(row['high'])}"


def _decimal(value: float | None) -> str:
    """Three decimals, or a dash for what is not known."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}".replace("-", "−")


def _number(value: float | None) -> str:
    """A count with thousands separators, a measured one as a power of ten, a dash for what is not known."""
    if value is None or math.isnan(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) < 1e6:
        return f"{value:,.6g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"
