"""Many calls of one function: in this process, in processes of this machine, or over a Ray cluster.

joblib runs them all; on a cluster its Ray backend does (`engine=ray`). There `RAY_ADDRESS` names the cluster,
and without it one is started on this machine for as long as it is needed. Every node must have the same
environment and see the same files under the same paths: what is sent is a path, never an image.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from radlearn.errors import ConfigurationError, DataError

ENGINES = ("local", "ray")
_RAY_BACKEND = "radlearn-ray"
_END: Any = object()

Argument = TypeVar("Argument")
Value = TypeVar("Value")


def check_engine(engine: str, num_workers: int) -> None:
    """Refuse an engine that does not exist or has nobody to work.

    Raises:
        ConfigurationError: also if `ray` is not installed.
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"engine is one of {', '.join(ENGINES)}: got '{engine}'")
    if engine == "ray":
        _ray("ray")
        if num_workers < 1:
            raise ConfigurationError(
                f"engine=ray needs num_workers, the processes over the whole cluster: got {num_workers}"
            )


def fan_out(
    function: Callable[[Argument], Value],
    arguments: Iterable[Argument],
    *,
    num_workers: int,
    engine: str = "local",
) -> Generator[Value, None, None]:
    """Call a function for each argument; yields what it returns, in any order.

    Args:
        function: importable by its name in another process.
        arguments: taken as they are needed.
        num_workers: processes, at least 1.
        engine: `local` or `ray`.

    Raises:
        DataError: if a process is ended from outside.
        ConfigurationError: if the cluster cannot be used.
    """
    from joblib import Parallel, delayed

    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(_ray_cluster(num_workers)) if engine == "ray" else "loky"
        died = (BrokenProcessPool, _ray("ray.exceptions").RayError) if engine == "ray" else BrokenProcessPool
        jobs = Parallel(n_jobs=num_workers, backend=backend, batch_size=1, return_as="generator_unordered")
        values = jobs(delayed(function)(argument) for argument in arguments)
        try:
            # No `yield from`, which would close the calls before the warnings are silenced.
            while (value := next(values, _END)) is not _END:
                yield value
        except died as error:
            raise DataError(
                "a worker process was ended from outside, often because memory ran out. What is done is "
                "kept, and the same command goes on; fewer processes need less memory "
                f"(num_workers={num_workers} now)"
            ) from error
        finally:
            with warnings.catch_warnings():  # that the rest is given up is the purpose
                warnings.filterwarnings("ignore", ".*tasks which were still being processed.*")
                values.close()


def _ray(module: str) -> Any:
    """A module of Ray.

    Raises:
        ConfigurationError: if it is not installed.
    """
    # Ray reads these when it is imported. It would start the workers of a program begun with `uv run` in a
    # copy of the working folder, with an environment of its own; and it would report usage over the network.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            'engine=ray needs Ray: pip install "radlearn[ray]" (engine=local needs nothing)'
        ) from error


@contextlib.contextmanager
def _ray_cluster(num_workers: int) -> Iterator[str]:
    """Join a cluster, or start one; the name of joblib's backend for it."""
    from joblib.parallel import register_parallel_backend

    ray = _ray("ray")
    mine = not ray.is_initialized()
    if mine:
        _join(ray, os.environ.get("RAY_ADDRESS"), num_workers)
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < num_workers:
            raise ConfigurationError(f"the Ray cluster has {there} CPUs: got num_workers={num_workers}")
        # The pool says that a setting of joblib's does not concern it.
        logging.getLogger("ray.util.multiprocessing.pool").setLevel(logging.ERROR)
        register_parallel_backend(_RAY_BACKEND, _generating_backend())
        yield _RAY_BACKEND
    finally:
        if mine:
            ray.shutdown()


def _join(ray: Any, address: str | None, num_workers: int) -> None:
    if address is None:
        # On the loopback address: nobody else is to reach it.
        ray.init(
            address="local",
            num_cpus=num_workers,
            include_dashboard=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
        return
    try:
        ray.init(address=address, logging_level=logging.ERROR)
    except ConnectionError as error:
        said, _, _ = str(error).partition("\n")
        raise ConfigurationError(
            f"cannot join a Ray cluster at RAY_ADDRESS={address} ({said}): it must run, and Ray's token be "
            "the same here and there; without RAY_ADDRESS one is started on this machine"
        ) from error


def _generating_backend() -> type:
    """Joblib's Ray backend, which also hands out results as they come.

    It inherits that it cannot from joblib's process pool, whose forks it does not have.
    """
    base: type = _ray("ray.util.joblib.ray_backend").RayBackend
    return type("GeneratingRayBackend", (base,), {"supports_return_generator": True})
