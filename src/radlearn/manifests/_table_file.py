"""Table files by suffix: csv, tsv (also gzipped or zipped), parquet, jsonl.

Only the columns asked for are kept.

Cells of csv and tsv stay strings, so that "0", "0.0" and a blank cell are three things.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from radlearn.errors import ConfigurationError, DataError, nearest

_DELIMITERS = {
    f".{kind}{packed}": d for kind, d in (("csv", ","), ("tsv", "\t")) for packed in ("", ".gz", ".zip")
}
_PARQUET = (".parquet",)
_JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*_DELIMITERS, *_PARQUET, *_JSON_LINES)
_BOM = b"\xef\xbb\xbf"


class TableFile:
    """One table on disk, opened once for its columns and once for its cells.

    Args:
        path: the file; the suffix tells the format.
        delimiter: of csv and tsv; None takes the suffix's own.

    Raises:
        DataError: if there is no such file, it is empty, or it cannot be read as its format.
        ConfigurationError: if the suffix is unknown.
    """

    def __init__(self, path: Path, *, delimiter: str | None = None) -> None:
        self.path = path
        self._suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if self._suffix is None:
            raise ConfigurationError(f"{path}: a table ends in {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        self._delimiter = delimiter or _DELIMITERS.get(self._suffix, ",")
        self.columns = self._read(rows=0).columns

    def require(self, column: str, key: str) -> str:
        """The column, or an error that names the nearest one.

        Args:
            column: the wanted column.
            key: the setting that names it, `image_col`.

        Raises:
            DataError: if the file has no such column.
        """
        if column in self.columns:
            return column
        raise DataError(
            f"{self.path}: no column '{column}' (data.{key}){nearest(column, self.columns)}; there is "
            f"{', '.join(self.columns)}" + self._delimiter_hint()
        )

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns of all rows; csv and tsv as strings, in which blank lines are rows of nulls."""
        return self._read(columns=list(dict.fromkeys(columns)))

    def _read(self, *, columns: list[str] | None = None, rows: int | None = None) -> pl.DataFrame:
        try:
            if self._suffix in _PARQUET:
                return pl.read_parquet(self.path, columns=columns, n_rows=rows)
            if self._suffix in _JSON_LINES:
                table = self._json_lines()
                return table.select(columns) if columns is not None else table
            source = _unzipped(self.path) if self.path.suffix.lower() == ".zip" else self.path
            return pl.read_csv(
                source, columns=columns, n_rows=rows, separator=self._delimiter, infer_schema=False
            )
        except pl.exceptions.NoDataError as error:
            raise DataError(f"{self.path} is empty: a table with a header was wanted") from error
        except (pl.exceptions.PolarsError, OSError, EOFError, zipfile.BadZipFile) as error:
            encoding = "utf-8" in str(error).lower()
            hint = "; save it as UTF-8, for example with iconv -f latin1 -t utf-8" if encoding else ""
            raise DataError(
                f"{self.path} cannot be read as {self._suffix}: {_first_line(error)}{hint}"
            ) from error

    def _json_lines(self) -> pl.DataFrame:
        content = self.path.read_bytes().removeprefix(_BOM)
        return pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)

    def _delimiter_hint(self) -> str:
        only = self.columns[0] if len(self.columns) == 1 else ""
        other = next((d for d in ";\t|," if d != self._delimiter and d in only), None)
        return f". It has one column: is data.delimiter={other!r}?" if other else ""


def _unzipped(path: Path) -> bytes:
    """The one table of a zip file.

    Raises:
        DataError: if it holds none, or several.
    """
    with zipfile.ZipFile(path) as archive:
        names = [
            n for n in archive.namelist() if n.lower().endswith((".csv", ".tsv")) and "__MACOSX" not in n
        ]
        if len(names) != 1:
            raise DataError(
                f"{path}: wanted one table in the archive, found {len(names)}: {', '.join(names[:5])}"
            )
        return archive.read(names[0])


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
