"""Room in a channel, as bytes in a pipe: one byte for each free slot.

    reader ── give(n): writes n bytes ──> [ pipe ] ──> take(most): reads up to that ── writer

The kernel keeps the count, divides it among any number of processes, wakes those who wait, and
needs no repair of a lock when a process is killed in between.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

__all__ = ["MOST_CREDITS", "credit_pipe", "give", "grow", "take"]

MOST_CREDITS: Final = 1_000_000
"""Greatest capacity of a channel that crosses a process border; larger ones are cut to it."""

_PAGE: Final = 4096
_BYTES: Final = bytes(65_536)


def credit_pipe(capacity: int) -> tuple[int, int, int]:
    """A pipe that is filled with credits.

    Returns:
        Its reading end, its writing end, both non-blocking, and the capacity that it really has: the system's limits for
        pipes may cut it.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    capacity = min(capacity, MOST_CREDITS)
    # A page that is read in part still occupies its slot, so one page more than the credits need.
    wanted = (-(-capacity // _PAGE) + 1) * _PAGE
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    if size < wanted:
        try:
            size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, wanted)
        except OSError:
            capacity = max(1, size - _PAGE) if size > _PAGE else size
    give(writing, capacity)
    return reading, writing, capacity


def give(writing: int, count: int) -> None:
    """Puts credits back. Never waits: there is room for all that there are."""
    while count > 0:
        count -= os.write(writing, _BYTES[:count])


def grow(writing: int, capacity: int, extra: int) -> int:
    """Puts more credits in than there were, as far as the pipe can hold them all; returns how many."""
    wanted = (-(-(capacity + extra) // _PAGE) + 1) * _PAGE
    size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    if size < wanted:
        try:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, wanted)
        except OSError:
            extra = max(0, size - _PAGE - capacity)
    give(writing, extra)
    return extra


def take(reading: int, most: int) -> int:
    """Takes up to `most` credits; 0 when there are none now."""
    try:
        return len(os.read(reading, most))
    except BlockingIOError:
        return 0
