"""The manifest that a `data` section names, with the user's own split files where it names them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radlearn import config, registry
from radlearn.data import split_files
from radlearn.errors import ConfigurationError
from radlearn.manifests.base import SPLITS, Manifest
from radlearn.manifests.checks import finish
from radlearn.records import Release


def open_manifest(data: Mapping[str, Any]) -> Manifest:
    """The manifest of `data`, ready to read.

    Args:
        data: `name`, the manifest's own settings, and optionally `split_files`: split -> file of ids.

    Raises:
        ConfigurationError: for unknown settings or splits.
    """
    manifest: Manifest = registry.find("manifests", data["name"])(**config.manifest_arguments(data))
    files = data.get("split_files")
    if not files:
        return manifest
    unknown = sorted({*files} - {*SPLITS})
    if manifest.generated:
        raise ConfigurationError(f"data.split_files: {data['name']} is generated and splits itself")
    if unknown:
        raise ConfigurationError(f"data.split_files names files for {', '.join(SPLITS)}: got {unknown}")
    return _Resplit(
        manifest, {split: str(file) for split, file in files.items()}, data.get("split_unit") or "patient"
    )


class _Resplit(Manifest):
    """Another manifest, whose rows lie in the splits that lists of ids tell."""

    def __init__(self, manifest: Manifest, files: Mapping[str, str], unit: str) -> None:
        self.manifest, self.files, self.unit = manifest, files, unit

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

        Raises:
            DataError: if a list cannot be read or names mostly unknown ids, or a patient lies in two splits.
        """
        release = self.manifest.read(root, progress)
        lists = {split: split_files.locate(name, root) for split, name in self.files.items()}
        rows, unlisted = split_files.apply(release.rows, lists)
        names = ", ".join(f"{split} from {path.name}" for split, path in lists.items())
        card = dataclasses.replace(
            release.card,
            split="files",
            split_seed=None,
            split_unit=self.unit,
            split_rule=f"lists given by the user: {names}",
        )
        again = finish(
            rows,
            [release.rejected],
            card,
            Path(release.root),
            left_out={"in_no_list": unlisted},
            pixels=release.pixels,
            sources=(*release.sources, *map(str, lists.values())),
        )
        earlier = {key: n for key, n in release.card.counts.items() if key.startswith("left_out.")}
        counts = {**again.card.counts, **earlier}
        return dataclasses.replace(again, card=dataclasses.replace(again.card, counts=counts))

    @classmethod
    def fake(cls, root: Path) -> Manifest:
        """Not a data set of its own."""
        raise ConfigurationError(f"split files belong to a release: {root}")
