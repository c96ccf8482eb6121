"""Waiting for any of some fds, in tasks of any event loop and in threads."""

from __future__ import annotations

import asyncio
import select
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final

__all__ = ["LONGEST_S", "wait_readable", "wait_readable_sync"]

LONGEST_S: Final = 1_000_000.0
"""Seconds of one wait, at most: who waits longer waits again."""

Waiters = deque[asyncio.Future[None]]

_waiting: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Waiters]]] = weakref.WeakKeyDictionary()


async def wait_readable(fds: Sequence[int]) -> None:
    """Waits until one of the fds is readable or hung up.

    One of those who wait for an fd is woken at a time; as long as it stays readable, another one is on the loop's
    next turn: so that a cancelled waiter loses nothing.
    """
    loop = asyncio.get_running_loop()
    by_fd = _waiting.setdefault(loop, {})
    future: asyncio.Future[None] = loop.create_future()
    for fd in fds:
        if fd not in by_fd:
            by_fd[fd] = deque()
            loop.add_reader(fd, _wake_one, by_fd, fd)
        by_fd[fd].append(future)
    try:
        await future
    finally:
        for fd in fds:
            waiters = by_fd.get(fd)
            if waiters is not None and future in waiters:
                waiters.remove(future)
            if not waiters and by_fd.pop(fd, None) is not None and not loop.is_closed():
                loop.remove_reader(fd)


def _wake_one(by_fd: dict[int, Waiters], fd: int) -> None:
    waiters = by_fd[fd]
    while waiters:
        future = waiters.popleft()
        if not future.done():
            future.set_result(None)
            return


def wait_readable_sync(fds: Sequence[int], timeout: float | None) -> None:
    """Waits in a thread, for `timeout` seconds at most; less when that is more than the system can count."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll(None if timeout is None else min(max(0.0, timeout), LONGEST_S) * 1000)
