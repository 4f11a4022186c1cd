"""Calls spread over processes: all values come back, errors and ended processes are named."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from radlearn.errors import ConfigurationError, DataError
from radlearn.prepare.fan_out import check_engine, fan_out


def square(number):
    return number * number


def slow_square(number):
    time.sleep(0.2)
    return square(number)


def fail(number):
    raise OSError(28, f"no space for {number}")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_value_comes_back_once():
    assert sorted(fan_out(square, iter(range(9)), num_workers=2)) == [n * n for n in range(9)]
    assert list(fan_out(square, [3], num_workers=1)) == [9]


def test_an_error_of_a_worker_is_raised_as_it_is():
    with pytest.raises(OSError, match="no space for") as caught:
        list(fan_out(fail, range(4), num_workers=2))
    assert caught.value.errno == 28


def test_a_process_that_is_killed_is_an_error_in_words():
    with pytest.raises(DataError, match="ended from outside"):
        list(fan_out(die, range(4), num_workers=2))
    assert sorted(fan_out(square, range(4), num_workers=2)) == [0, 1, 4, 9]  # a new pool


def test_arguments_are_taken_as_they_are_needed():
    taken = []

    def arguments():
        for number in range(100):
            taken.append(number)
            yield number

    values = fan_out(slow_square, arguments(), num_workers=2)
    next(values)
    assert len(taken) < 20
    values.close()


def test_an_engine_that_is_not_there_is_named(monkeypatch):
    with pytest.raises(ConfigurationError, match="engine is one of local, ray: got 'dask'"):
        check_engine("dask", 1)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r'pip install "radlearn\[ray\]"'):
        check_engine("ray", 2)
    check_engine("local", 0)
