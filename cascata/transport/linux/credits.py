"""Room in a channel, as bytes in a pipe: one byte for each free slot.

    reader ── give(n): writes n bytes ──> [ pipe ] ──> take(most): reads up to that ── writer

The kernel keeps the count, divides it among any number of processes, wakes those who wait, and
needs no repair of a lock when a process is killed in between.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final

__all__ = ["MOST_CREDITS", "credit_pipe", "give", "grow", "take"]

MOST_CREDITS: Final = 1_000_000
"""Greatest capacity of a channel that crosses a process border; larger ones are cut to it."""

_PAGE: Final = mmap.PAGESIZE
_BYTES: Final = bytes(65_536)


def pages_for(credits: int) -> int:
    """Pages that a pipe needs for its credits, in whatever portions they are taken and put back.

    A write that does not fit into what is left of the last page begins a new one. So two neighbours hold
    more than one page's bytes together; only the first page, which is read in part, may hold less.
    """
    return 2 * ((credits - 1) // (_PAGE + 1)) + 2 if credits > 1 else 1


def credits_in(pages: int) -> int:
    """Credits for which so many pages suffice: the inverse of `pages_for`."""
    return pages // 2 * (_PAGE + 1) if pages > 1 else 1


def credit_pipe(capacity: int) -> tuple[int, int, int]:
    """A pipe that is filled with credits.

    Returns:
        Its reading end, its writing end, both non-blocking, and the capacity that it really has: the
        system's limits for pipes may cut it.

    Raises:
        OSError: the system is short of fds.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    capacity = _fit(writing, capacity)
    give(writing, capacity)
    return reading, writing, capacity


def _fit(writing: int, capacity: int) -> int:
    """Makes the pipe large enough for so many credits, or as many as the system's limits allow; returns how many."""
    capacity = min(capacity, MOST_CREDITS)
    pages = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) // _PAGE
    while pages < pages_for(capacity):
        try:
            pages = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, pages_for(capacity) * _PAGE) // _PAGE
        except OSError:
            capacity = max(credits_in(pages), capacity // 2)
    return capacity


def give(writing: int, count: int) -> None:
    """Puts credits back. Never waits: there is room for all that there are. With no writer left nobody wants them."""
    try:
        while count > 0:
            count -= os.write(writing, _BYTES[:count])
    except BrokenPipeError:
        pass


def grow(writing: int, capacity: int, extra: int) -> int:
    """Puts more credits in than there were, as far as the pipe can hold them all; returns how many."""
    extra = max(0, _fit(writing, capacity + extra) - capacity)
    give(writing, extra)
    return extra


def take(reading: int, most: int) -> int:
    """Takes up to `most` credits; 0 when there are none now."""
    try:
        return len(os.read(reading, most))
    except BlockingIOError:
        return 0
