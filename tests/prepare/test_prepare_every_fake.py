"""`prepare` on the fake release of every manifest: the same bytes alone and with four workers."""

from __future__ import annotations

import pytest
from folder_release import hashes

from radlearn import registry
from radlearn.data import statistics_file
from radlearn.prepare import load_prepared, prepare

# Fakes are small and full of faults, and several shards keep four workers busy.
SETTINGS = {"size": 32, "shard_rows": 8, "max_bad_fraction": 0.9}


@pytest.mark.parametrize("name", registry.names("manifests"))
def test_one_process_and_four_write_the_same_bytes(name, tmp_path):
    root = tmp_path / "release"
    root.mkdir()
    manifest = registry.find("manifests", name).fake(root)
    dry = prepare(manifest, root, tmp_path / "alone", dry_run=True, **SETTINGS)
    assert not (tmp_path / "alone").exists()
    alone = prepare(manifest, root, tmp_path / "alone", **SETTINGS)
    assert dry.counts == alone.counts
    assert dry.tally.equals(alone.tally)
    four = prepare(manifest, root, tmp_path / "four", num_workers=4, **SETTINGS)
    assert hashes(tmp_path / "four") == hashes(tmp_path / "alone")
    assert four.card == alone.card

    rows, store, card = load_prepared(tmp_path / "alone")
    store.verify()
    assert len(rows) == len(store) == card.counts["train"] + card.counts["validate"] + card.counts["test"]
    statistics = statistics_file.read(tmp_path / "alone" / statistics_file.NAME)
    assert {split: known.num_samples for split, known in statistics.items()} == {
        split: n for split, n in card.counts.items() if split in ("train", "validate", "test") and n
    }
