"""Work counted, not timed: how often code of some files runs."""

import sys
from functools import partial


def work(run, *files):
    """Python function calls and lines that `run()` executes in files whose path holds one of `files`."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not any(file in frame.f_code.co_filename for file in files):
            return None
        count += event in ("call", "line")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def assert_linear(run, unit, size, *files):
    """`run` of eight times the text does about eight times the work; 64 times were it quadratic."""
    short, long = (work(partial(run, unit * (length // len(unit))), *files) for length in (size, 8 * size))
    assert short
    assert long < 12 * short + 500
