"""`radlearn prepare`: the data set that a configuration names, prepared below the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from radlearn import config, registry
from radlearn.manifests._open import SPLIT_KEYS, open_manifest
from radlearn.prepare.outcome import Prepared
from radlearn.prepare.run import FORMAT, prepare
from radlearn.prepare.terminal import print_summary


def prepared_folder(data: Mapping[str, Any], paths: Mapping[str, Any]) -> Path:
    """Where a data set lies prepared: `<paths.cache>/<name>-<size>-<hash of its root and settings>`.

    Generated data of another version's format are made anew beside the old ones; a prepared release is never
    left behind in silence: its folder stays the same, and the difference is an error.
    """
    size = data.get("size") or 512
    settings = config.manifest_arguments(data)
    identity = {"root": data.get("root"), "settings": settings}
    identity |= {key: data[key] for key in SPLIT_KEYS if data.get(key)}
    # The same words in another working folder are other files.
    if here := _found_here([data.get("root"), *settings.values(), *(data.get("split_files") or {}).values()]):
        identity["found"] = here
    if registry.find("manifests", data["name"]).generated:
        identity["format"] = FORMAT
    key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return Path(str(paths["cache"])).expanduser() / f"{data['name']}-{size}-{key}"


def _found_here(values: Iterable[Any]) -> list[str]:
    """Settings that name files or folders relative to the working folder, as absolute paths."""
    relative = [Path(v) for v in values if isinstance(v, str) and v and not Path(v).is_absolute()]
    return [str(path.absolute()) for path in relative if path.exists()]


def main(cfg: Mapping[str, Any]) -> Prepared:
    """Prepare the data set of a configuration and print what became of it."""
    from radlearn.datasets import release_root  # that module opens data sets with this one

    data, paths = cfg["data"], cfg["paths"]
    manifest = open_manifest(data)
    folder = prepared_folder(data, paths)
    limit, num_workers = data.get("max_bad_fraction"), int(cfg.get("num_workers") or 0)
    prepared = prepare(
        manifest,
        release_root(manifest, data, paths, folder),
        folder,
        size=int(data.get("size") or 512),
        max_bad_fraction=0.001 if limit is None else float(limit),
        num_workers=num_workers,
        engine=str(cfg.get("engine") or "local"),
        dry_run=bool(cfg.get("dry_run")),
    )
    print_summary(prepared, num_workers)
    return prepared
