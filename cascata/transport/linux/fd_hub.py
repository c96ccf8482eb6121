"""Readiness of many file descriptors for one event loop, without registering them for every wait.

    fd ─┐ edge-triggered
    fd ─┼──> inner epoll ──> add_reader of the loop ──> callbacks
    fd ─┘

Registering and removing a reader with the loop for each wait costs more than the wait itself. Here
each fd is registered once, edge-triggered, with an epoll of its own that the loop watches.

A waiter therefore tries first, and waits only after EAGAIN: what became ready in between stays
queued in the epoll until the loop turns.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final

__all__ = ["HUNG_UP", "READABLE", "WRITABLE", "Hub"]

READABLE: Final = getattr(select, "EPOLLIN", 1) | getattr(select, "EPOLLRDHUP", 0)
WRITABLE: Final = getattr(select, "EPOLLOUT", 4)
HUNG_UP: Final = getattr(select, "EPOLLHUP", 16) | getattr(select, "EPOLLERR", 8)


class Hub:
    """The inner epoll of one running loop. Make it inside the loop and `close` it there."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._dispatch)

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Calls `callback(events)` each time when `fd` becomes ready. `callback` must not raise."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events | select.EPOLLET)

    def change(self, fd: int, events: int) -> None:
        """Watches for other events from now on (a hang-up is always told); what is so already is told again."""
        self._epoll.modify(fd, events | select.EPOLLET)

    def forget(self, fd: int) -> None:
        """Stops watching; call it before the fd is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _dispatch(self) -> None:
        callbacks = self._callbacks
        for fd, events in self._epoll.poll(0, 64):
            callback = callbacks.get(fd)
            if callback is not None:
                callback(events)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._callbacks.clear()
        self._epoll.close()
