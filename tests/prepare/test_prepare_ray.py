"""Ray as the engine, on a cluster of this machine: `uv run --with ray pytest -m ray`, as `.ci/run` does."""

from __future__ import annotations

import pytest
from folder_release import LENIENT, Folder, hashes, make_shard_and_die, spoil

from radlearn.errors import ConfigurationError, DataError
from radlearn.prepare import prepare
from radlearn.prepare.fan_out import check_engine, fan_out

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    """One for all tests; prepare joins a cluster that its process has joined."""
    from radlearn.prepare import fan_out as module

    ray = module._ray("ray")
    module._join(ray, None, 2)
    yield ray
    ray.shutdown()


def double(number):
    return 2 * number


def test_two_workers_of_a_cluster_write_the_same_bytes_as_one_process(root, tmp_path):
    expected = spoil(root)
    prepare(Folder(), root, tmp_path / "alone", **LENIENT)
    seen = []
    prepared = prepare(
        Folder(),
        root,
        tmp_path / "ray",
        num_workers=2,
        engine="ray",
        progress=lambda *step: seen.append(step),
        **LENIENT,
    )
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "alone")
    assert dict(prepared.rejected.select("image_id", "reason").rows()) == expected
    assert seen[-1][0] == seen[-1][1]


def test_a_killed_worker_of_a_cluster_is_named_and_the_run_continues(root, tmp_path, monkeypatch):
    prepare(Folder(), root, tmp_path / "whole", **LENIENT)
    arguments = {"num_workers": 2, "engine": "ray", **LENIENT}
    monkeypatch.setattr("radlearn.prepare.run.make_shard", make_shard_and_die)
    with pytest.raises(DataError, match="ended from outside"):
        prepare(Folder(), root, tmp_path / "broken", **arguments)
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "images-00003.arrow").exists()
    prepare(Folder(), root, tmp_path / "broken", **arguments)
    assert hashes(tmp_path / "broken") == hashes(tmp_path / "whole")


def test_a_write_error_on_a_cluster_is_named(root, tmp_path):
    (tmp_path / "out" / "images-00001.arrow" / "x").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot write to .*out: Is a directory"):
        prepare(Folder(), root, tmp_path / "out", num_workers=2, engine="ray", **LENIENT)


def test_a_cluster_that_is_too_small_is_named():
    with pytest.raises(ConfigurationError, match="has 2 CPUs: got num_workers=3"):
        list(fan_out(double, range(4), num_workers=3, engine="ray"))
    with pytest.raises(ConfigurationError, match="needs num_workers"):
        check_engine("ray", 0)
