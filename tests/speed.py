"""How long what a promise allows may take on this machine, as busy as it is.

A promise such as "a failure ends the run within 2 s" is made for a machine that has time. Where twenty programs share
two cores everything takes ten times as long, and a test that looked at the clock alone would blame cascata for it. So
such a test measures the machine as well: how long an interpreter takes to start and to end, which needs what a run
needs (the kernel, the disk's cache, a core), and nothing of cascata. A promise that was kept costs no measurement.

    began = time.monotonic()
    ...
    assert in_time(2.0, since=began)

Where a test waits for an event, it waits for `PATIENCE_S`, which only a failing test spends, and asks then.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache
from typing import Final

__all__ = ["PATIENCE_S", "allowed", "in_time"]

PATIENCE_S: Final = 30.0
"""Seconds after which an event that does not come is an error; less than the time limit of a test."""

QUIET_S: Final = 0.03
"""Seconds that an interpreter takes from its start to its end on a machine that has time."""


def in_time(seconds: float, *, since: float, until: float | None = None) -> bool:
    """Whether no more has passed than a promise allows.

    Args:
        seconds: what the promise says, of a machine that has time.
        since: when it began, by `time.monotonic`.
        until: when it ended; now, if not given.
    """
    passed = (time.monotonic() if until is None else until) - since
    return passed < seconds or passed < seconds * max(_slowness_at_first(), _slowness())


def allowed(seconds: float) -> float:
    """What the promise allows on this machine, as it was when the first test asked: for deadlines set beforehand."""
    return seconds * _slowness_at_first()


def _slowness() -> float:
    """How many times as long as on a quiet machine everything takes now. The machine may be quiet again: at least 1."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
        took.append(time.monotonic() - began)
    return max(1.0, max(took) / QUIET_S)


@cache
def _slowness_at_first() -> float:
    return _slowness()
