"""What every manifest keeps, plug-ins included: its fake release reads back as the contract says."""

import inspect
import re
from pathlib import Path

import polars as pl
import pytest

from radlearn import registry
from radlearn.data.splits import check_patients, split_hash
from radlearn.errors import DataError
from radlearn.manifests.base import REQUIRED, SPLITS, Manifest
from radlearn.manifests.checks import OPTIONAL_TYPES, REJECTED_TYPES, REQUIRED_TYPES, VIEWS

NAMES = registry.names("manifests")


@pytest.fixture(scope="module", params=NAMES)
def fake(request, tmp_path_factory):
    """(manifest, root, release) of the fake release, read once."""
    root = tmp_path_factory.mktemp(request.param)
    manifest = registry.find("manifests", request.param).fake(root)
    return manifest, root, manifest.read(root)


def files_below(root):
    return {p.relative_to(root): p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}


def test_the_built_in_manifests_are_found():
    assert {"phantom_cxr", "table"} <= {*NAMES}


def test_fake_returns_the_manifest_that_reads_it(fake):
    manifest, root, release = fake
    assert isinstance(manifest, Manifest)
    assert len(release.rows) > 0
    assert Path(release.root).is_relative_to(root)


def test_columns_and_types_are_those_of_the_contract(fake):
    rows = fake[2].rows
    for name, dtype in REQUIRED_TYPES.items():
        assert rows.schema[name] == dtype, name
    for name, dtype in OPTIONAL_TYPES.items():
        assert rows.schema.get(name, dtype) == dtype, name
    for name in set(REQUIRED) - {"view", "height", "width"}:
        assert rows[name].null_count() == 0, name
    assert rows["image_id"].is_unique().all()
    assert {*rows["split"]} <= {*SPLITS}
    assert {*rows["view"].drop_nulls()} <= {*VIEWS}


def test_labels_are_those_of_the_card(fake):
    _, _, release = fake
    for name in release.card.label_names:
        column = release.rows[name]
        assert column.dtype == pl.Float32
        assert {*column.drop_nulls()} <= {1.0, 0.0, -1.0}
        assert column.drop_nulls().n_unique() > 1, f"{name} has one value only: a fake release shows both"


def test_patients_stay_within_one_split(fake):
    assert fake[2].card.split_unit == "patient", "the default split of a data set is by patient"
    check_patients(fake[2].rows)


def test_the_card_names_its_split_of_the_registry(fake):
    manifest, _, release = fake
    card, rules = release.card, type(manifest).splits
    assert card.split_hash == split_hash(release.rows)
    if rules:
        assert card.split in rules
        assert (card.split_seed, card.split_unit) == (rules[card.split].seed, rules[card.split].unit)
        assert all(rule.about for rule in rules.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_named_split_is_drawn_the_same_twice(name, tmp_path):
    kind = registry.find("manifests", name)
    if len(kind.splits) < 2:
        return
    manifest = kind.fake(tmp_path)
    for split, rule in kind.splits.items():
        manifest.split = split
        first, second = manifest.read(tmp_path), manifest.read(tmp_path)
        assert (first.card.split, first.card.split_seed) == (split, rule.seed)
        assert first.card.split_hash == second.card.split_hash
        assert {*first.rows["split"]} >= {"train"}
        if rule.unit == "patient":
            check_patients(first.rows)


def test_every_image_is_a_file_below_the_root(fake):
    _, _, release = fake
    root = Path(release.root).resolve()
    for path in release.rows["path"]:
        assert (root / path).resolve().is_relative_to(root)
        assert (root / path).stat().st_size > 0, path


def test_the_card_says_where_data_come_from_and_counts_them(fake):
    _, _, release = fake
    card = release.card
    assert card.access in ("open", "credentialed", "synthetic")
    assert all((card.name, card.source, card.licence, card.split_rule))
    assert len(card.fingerprint) == 64
    assert {split: card.counts[split] for split in SPLITS} == {
        split: int((release.rows["split"] == split).sum()) for split in SPLITS
    }
    assert sum(n for key, n in card.counts.items() if key.startswith("rejected.")) == len(release.rejected)


def test_rejected_rows_are_named_and_have_a_reason(fake):
    rejected = fake[2].rejected
    assert dict(rejected.schema) == REJECTED_TYPES
    assert rejected["reason"].null_count() == 0
    assert (rejected["reason"].str.contains(r"^[a-z_]+$")).all()


def test_the_fake_release_lists_five_oddities_or_more(fake):
    lines = (inspect.getdoc(type(fake[0]).fake) or "").splitlines()
    assert sum(line.lstrip().startswith("- ") for line in lines) >= 5


def test_a_second_read_gives_the_same_rows_and_fingerprint(fake):
    manifest, root, first = fake
    second = manifest.read(root)
    assert second.card == first.card
    assert second.rows.equals(first.rows)
    assert second.rejected.equals(first.rejected)


def test_two_fakes_are_the_same_release(fake, tmp_path):
    manifest, _, first = fake
    again = type(manifest).fake(tmp_path)
    assert again.read(tmp_path).card.fingerprint == first.card.fingerprint


def test_reading_writes_nothing_even_where_it_could_not(fake):
    manifest, root, first = fake
    before = files_below(root)
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    modes = {folder: folder.stat().st_mode for folder in folders}
    try:
        for folder in folders:
            folder.chmod(0o555)
        assert manifest.read(root).rows.equals(first.rows)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert files_below(root) == before  # the super-user may write anywhere, so look as well


def test_a_root_that_is_no_release_is_refused_and_named(fake, tmp_path):
    manifest, _, _ = fake
    file, empty = tmp_path / "file", tmp_path / "empty"
    file.write_text("no folder")
    empty.mkdir()
    for root in [file] if manifest.generated else [file, empty]:
        with pytest.raises(DataError, match=re.escape(str(root))):
            manifest.read(root)
    assert file.read_text() == "no folder"
    assert list(empty.iterdir()) == []
