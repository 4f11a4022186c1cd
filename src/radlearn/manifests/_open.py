"""The manifest that a `data` section names, with the user's own split files where it names them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from radlearn import config, registry
from radlearn.data import split_files
from radlearn.data.splits import crossing_patients, split_hash
from radlearn.errors import ConfigurationError, DataError
from radlearn.manifests.base import SPLITS, Manifest
from radlearn.manifests.checks import fingerprint
from radlearn.records import Release

logger = logging.getLogger("radlearn")

# The keys of `data` that change the rows without being settings of a manifest.
SPLIT_KEYS = ("split_files", "split_unit", "split_boxes")


def open_manifest(data: Mapping[str, Any]) -> Manifest:
    """The manifest of `data`, ready to read.

    Args:
        data: `name`, the manifest's own settings, and optionally `split_files`: split -> file of ids, with
            `split_unit`, `patient` or `image` for lists that ignore patients, and `split_boxes`, `release` or
            `file` for the boxes of LoVT's csv files.

    Raises:
        ConfigurationError: for unknown settings or splits.
    """
    manifest: Manifest = registry.find("manifests", data["name"])(**config.manifest_arguments(data))
    files = {split: str(file) for split, file in (data.get("split_files") or {}).items() if file is not None}
    if not files:
        unused = [key for key in SPLIT_KEYS[1:] if data.get(key) is not None]
        if unused:
            raise ConfigurationError(f"data.{unused[0]} belongs to data.split_files, which names no file")
        return manifest
    unknown = sorted({*files} - {*SPLITS})
    if manifest.generated:
        raise ConfigurationError(f"data.split_files: {data['name']} is generated and splits itself")
    if unknown:
        raise ConfigurationError(f"data.split_files names files for {', '.join(SPLITS)}: got {unknown}")
    return _Resplit(
        manifest,
        files,
        unit=data.get("split_unit") or "patient",
        boxes=data.get("split_boxes") or "release",
    )


class _Resplit(Manifest):
    """Another manifest, whose rows lie in the splits that lists of ids tell."""

    def __init__(self, manifest: Manifest, files: Mapping[str, str], *, unit: str, boxes: str) -> None:
        self.manifest, self.files, self.unit, self.boxes = manifest, files, unit, boxes

    def default_root(self) -> Path | None:
        """As the manifest's."""
        return self.manifest.default_root()

    def prompts(self) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        """As the manifest's."""
        return self.manifest.prompts()

    def macro_labels(self) -> Mapping[str, Sequence[str]]:
        """As the manifest's."""
        return self.manifest.macro_labels()

    def read(self, root: Path, progress: Any = None) -> Release:
        """Read the release and give each row the split that names it; rows in no list are left out.

        Boxes of a list are taken as they are: published ones leave their images. Masks stay the release's.

        Raises:
            DataError: if a list cannot be read or names mostly unknown ids, or a patient lies in two splits.
        """
        release = self.manifest.read(root, progress)
        lists = {split: split_files.locate(name, root) for split, name in self.files.items()}
        rows, unlisted = split_files.apply(release.rows, lists)
        for path in lists.values():
            if split_files.has_boxes(path):
                rows = self._with_boxes(rows, path)
        names = ", ".join(f"{split} from {path.name}" for split, path in lists.items())
        card = dataclasses.replace(
            release.card,
            split="files",
            split_seed=None,
            split_unit=self.unit,
            split_rule=f"lists given by the user: {names}",
            split_hash=split_hash(rows),
            counts=self._counts(release, rows, unlisted),
        )
        # Its rows are checked already, paths and boxes too; only splits and boxes are others.
        return dataclasses.replace(
            release,
            rows=rows,
            card=dataclasses.replace(card, fingerprint=fingerprint(rows, card)),
            # A release that does not know its files is read again, whatever becomes of the lists.
            sources=(*release.sources, *_absolute(lists)) if release.sources else (),
        )

    def _counts(self, release: Release, rows: pl.DataFrame, unlisted: int) -> dict[str, int]:
        """Rows by split and reason, and patients in several lists, where they may be."""
        counts = {split: int((rows["split"] == split).sum()) for split in SPLITS}
        aside = ("rejected.", "left_out.")
        counts |= {key: n for key, n in release.card.counts.items() if key.startswith(aside)}
        if unlisted:
            counts["left_out.in_no_list"] = counts.get("left_out.in_no_list", 0) + unlisted
        crossing = crossing_patients(rows)
        if len(crossing) and self.unit == "patient":
            raise DataError(
                f"data.split_files: {len(crossing)} of {rows['patient_id'].n_unique()} patients stand in "
                "several lists. Scores on patients that were trained on are too good; data.split_unit=image "
                "takes the lists as they are and counts the patients"
            )
        if len(crossing):
            counts["leak.patients_in_several_splits"] = len(crossing)
            logger.warning(
                "the lists of data.split_files put %d patients into several splits: scores are too good",
                len(crossing),
            )
        return counts

    def _with_boxes(self, rows: pl.DataFrame, path: Path) -> pl.DataFrame:
        """The rows with the boxes that `data.split_boxes` asks for; warns where they differ."""
        listed = split_files.listed_boxes(rows["image_id"], split_files.read_lovt_boxes(path))
        if "boxes" in rows.columns:
            _report_differing(rows, listed, path, self.boxes)
        elif self.boxes == "release":
            logger.warning("%s has boxes, which this release has not: data.split_boxes=file takes them", path)
        if self.boxes == "release":
            return rows
        own = pl.col("boxes") if "boxes" in rows.columns else pl.lit(None, listed.dtype)
        return rows.with_columns(boxes=pl.coalesce(listed, own))

    @classmethod
    def fake(cls, root: Path) -> Manifest:
        """Not a data set of its own."""
        raise ConfigurationError(f"split files belong to a release: {root}")


def _absolute(lists: Mapping[str, Path]) -> list[str]:
    return [str(path.absolute()) for path in lists.values()]


def _report_differing(rows: pl.DataFrame, listed: pl.Series, path: Path, kept: str) -> None:
    differing = split_files.differing_boxes(rows["boxes"], listed)
    if not differing:
        return
    swapped = split_files.differing_boxes(
        split_files.swapped_boxes(rows["boxes"])[differing], listed[differing]
    )
    count = len(differing) - len(swapped)
    logger.warning(
        "%s: the boxes of %d of %d images are not those of the release, first '%s'%s: data.split_boxes=%s "
        "keeps those of the %s",
        path,
        len(differing),
        len(listed.drop_nulls()),
        rows["image_id"][differing[0]],
        f" ({count} have width and height exchanged)" if count else "",
        kept,
        kept,
    )
