"""Hundreds of short runs: the program that starts them keeps its memory, its fds and its threads as they are.

`CASCATA_SOAK_S=120 python -m pytest tests/fault/test_soak.py --timeout 0` goes on for two minutes.
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any, Final

import pytest

from cascata import Graph
from cascata.errors import CascataError
from tests import leaks
from tests.engine.parts import Count, Notes, keep
from tests.engine.test_worker_death import Dies

SECONDS: Final = float(os.environ.get("CASCATA_SOAK_S", "6"))

GROWS_KB: Final = 2048
"""How much the memory of the second half may be above that of the first one: less than 10 KB for each run."""


def resident_kb() -> int:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def once(number: int, options: dict[str, Any], notes: Notes) -> None:
    """A run that ends well, or by an exception, or by the death of a worker, in turn."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < (200 if number % 3 else 10)
    graph.dies = Dies
    graph.dies.how < ("_exit" if number % 3 == 1 and "num_workers" in options else "no such death")
    graph.dies.code < 3
    graph.count.number >> graph.dies.number
    keep(graph, graph.dies.out, notes)
    try:
        graph.run(**options)
    except CascataError:
        assert number % 3


@pytest.mark.parametrize(
    "options", [{"engine": "inline"}, {"num_workers": 2}], ids=lambda options: options.get("engine", "processes")
)
def test_many_short_runs_leave_no_trace_in_memory(options: dict[str, Any], notes: Notes) -> None:
    half = SECONDS / 4
    sizes: list[int] = []
    number = 0
    for warm_up in range(12):
        once(warm_up, options, notes)
    before = leaks.take()
    for least in (6, 12):
        until = time.monotonic() + half
        while time.monotonic() < until or number < least:  # a slow machine takes its time
            once(number, options, notes)
            number += 1
        sizes.append(resident_kb())
    assert leaks.left_since(before) == []
    assert sizes[1] - sizes[0] < max(GROWS_KB, 10 * number // 2), (sizes, number)
