"""Where a reader waits for items, and how its task goes on: by a turn of the loop, or within a put.

    put ── no room ──> Waiters.run_within ──> the reader's task: takes, works, waits again
     ▲                                                      │
     └──────────────────────── room <───────────────────────┘

A writer that finds a channel full, and whose reader was woken and did not run yet, has nothing better to do than to
let it run. Through the loop that costs two of its turns: one to the reader, one back. So the reader's task takes its
step within the writer's `await`, as a task takes its first step with the eager tasks of Python 3.12: meanwhile it is
the current task, in its own context. Where it suspends, for whatever, the writer goes on.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from threading import get_ident
from time import perf_counter
from typing import Any, Final

from .turns import turns

__all__ = ["DEEPEST", "Waiter", "Waiters"]

DEEPEST: Final = 12
"""Tasks that run within one another, at most: each takes its part of the stack."""


_swap: Final[Any] = getattr(asyncio.tasks, "_swap_current_task", None)
"""Makes another task, or none, the current one of a loop, and returns which it was. Since Python 3.12."""

_current: Final[dict[Any, Any]] = getattr(asyncio.tasks, "_current_tasks", {})
"""The current tasks by their loops, before that."""


class Waiter:
    """What one task waits at: `yield` it, as a future does. It may be waited at again when that is over.

    It has of a future what asyncio's tasks ask for (`asyncio.isfuture`), and no more.

    Attributes:
        cancelled: whether the wait was cancelled; its task is told on the loop's next turn.
        woken: whether there is something for the task, which may not have run yet.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_loop", "cancelled", "woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = True
        self._callback: Any = None
        self.cancelled: bool = False
        self.woken: bool = False

    @property
    def awaited(self) -> bool:
        """Whether a task waits here, or did."""
        return self._callback is not None

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def add_done_callback(self, callback: Callable[[Any], None], *, context: Context) -> None:
        self._callback = callback
        self._context = context

    def result(self) -> None:
        if self.cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: Any = None) -> bool:
        """Cancels the wait; False when it is over already: then asyncio cancels the task at its next wait."""
        if self.woken or self.cancelled:
            return False
        self.cancelled = True
        self._loop.call_soon(self._callback, self, context=self._context)
        return True

    def go_on(self) -> None:
        """Runs the task up to its next wait. No task may be running."""
        self._context.run(self._callback, self)

    def go_on_within(self) -> None:
        """Runs the task up to its next wait, within the running one."""
        loop = self._loop
        outer = _current.pop(loop, None) if _swap is None else _swap(loop, None)
        try:
            self._context.run(self._callback, self)
        finally:
            if _swap is not None:
                _swap(loop, outer)
            elif outer is not None:
                _current[loop] = outer


class Waiters:
    """The tasks that wait for items of one channel.

        idle ── wake: an item has come ──> _woken ── _ring, on the loop's next turn ──> go_on
                                              └───── run_within, in a writer's await ──> go_on_within

    Attributes:
        idle: those not woken yet, in the order of their arrival.
    """

    __slots__ = ("_loop", "_ringing", "_spare", "_thread", "_turns", "_woken", "idle")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._turns = turns()
        self._ringing = False  # whether the loop is about to call `_ring`
        self._spare: Waiter | None = None  # of a wait that is over, for the next one
        self._woken: deque[Waiter] = deque()  # those that did not run yet
        self.idle: deque[Waiter] = deque()

    def enter(self) -> Waiter:
        """What the running task is to wait at; call `done` or `leave` afterwards."""
        waiter = self._spare
        if waiter is None:
            waiter = Waiter(self._loop)
        else:
            self._spare = None
            waiter._asyncio_future_blocking = True
            waiter.woken = False
        self.idle.append(waiter)
        return waiter

    def done(self, waiter: Waiter) -> None:
        """The wait is over: the waiter may be used for another one."""
        self._spare = waiter
        if not self._turns.depth:
            self._turns.turned = perf_counter()

    def leave(self, waiter: Waiter) -> bool:
        """The wait is broken off. Whether the waiter had been woken."""
        if waiter in self.idle:
            self.idle.remove(waiter)
            return False
        return True

    def wake(self) -> None:
        """Wakes the first one: it runs on the loop's next turn, or within a put before that."""
        idle = self.idle
        while idle:
            waiter = idle.popleft()
            if not waiter.cancelled:
                waiter.woken = True
                self._woken.append(waiter)
                if not self._ringing:
                    self._ringing = True
                    if get_ident() == self._thread:
                        self._loop.call_soon(self._ring)
                    else:  # a runner has called `send` in a thread of its own: the loop may be asleep
                        self._loop.call_soon_threadsafe(self._ring)
                return

    def wake_all(self) -> None:
        while self.idle:
            self.wake()

    def _ring(self) -> None:
        """Called by the loop: runs one of the woken, and the next one on the next turn."""
        woken = self._woken
        if not woken:
            self._ringing = False
            return
        waiter = woken.popleft()
        if woken:
            self._loop.call_soon(self._ring)
        else:
            self._ringing = False
        waiter.go_on()

    def run(self) -> None:
        """Runs the first one now. Called by the loop: no task is running."""
        idle = self.idle
        while idle:
            waiter = idle.popleft()
            if not waiter.cancelled:
                waiter.woken = True
                waiter.go_on()
                return

    def run_within(self) -> None:
        """Runs one of the woken now, within the running task, unless too many run within one another already."""
        turns = self._turns
        if self._woken and turns.depth < DEEPEST:
            turns.depth += 1
            try:
                self._woken.popleft().go_on_within()
            finally:
                turns.depth -= 1
