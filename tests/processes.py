"""Other processes, as `/proc` shows them. Programs of tests import this module: no pytest here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress

from tests.speed import in_time

__all__ = ["below", "children", "gone_within", "lives", "read"]


def children(pid: int) -> list[int]:
    """Processes that a process has started, the dead ones that nobody has reaped included."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # each has the children that it started
            found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def below(pid: int) -> list[int]:
    """As `children`, with their children, and so on."""
    found = [pid]
    for parent in found:  # grows on the way
        found += children(parent)
    return found[1:]


def lives(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    stat = read(f"/proc/{pid}/stat")
    return bool(stat) and stat[stat.rindex(")") + 2] not in "ZX"


def read(path: str) -> str:
    """A file of /proc; empty when its process is gone. Called a thousand times a second: so without `Path`."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def gone_within(pids: Iterable[int], seconds: float) -> bool:
    """Waits until none of the processes lives; on a busy machine longer (see `speed.py`)."""
    pids = [*pids]
    began = time.monotonic()
    while any(map(lives, pids)):
        if not in_time(seconds, since=began):
            return False
        time.sleep(0.005)
    return True
