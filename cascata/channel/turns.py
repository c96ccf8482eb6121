"""When an event loop has turned last: shared by all tasks of the package that must let it turn now and then.

A task that always finds items, or room, never suspends, and would keep timers and all other tasks in the loop waiting.
So it looks at the clock, and lets the loop turn when that has not happened for `SLICE_S`. The task that goes on after a
turn notes the time here, for all in the loop: if each kept a time of its own, each would let the loop turn once in a
slice, and every time the others would be interrupted in the middle of their batch.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Final

__all__ = ["SLICE_S", "Turns", "turns"]

SLICE_S: Final = 0.001
"""A task that never waits lets the loop turn after this many seconds."""


TURNS_GIVEN: Final = 3
"""Turns of the loop for which a reader lets other tasks go on before it looks for frames from elsewhere: what they send
may be what the answer depends on."""


class Turns:
    """Of one event loop.

    Attributes:
        turned: when it was last seen to turn, by `perf_counter`.
        depth: how many tasks run within one another now (see `waiter`).
        errands: callbacks for the next turn that make no task go on: they tell a writer of room, or send what was put.
        flushes: functions that send what was put, without waiting.
    """

    __slots__ = ("_ready", "depth", "errands", "flushes", "turned")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ready = getattr(loop, "_ready", ())  # callbacks of the next turn; not every kind of loop shows them
        self.turned: float = perf_counter()
        self.depth: int = 0
        self.errands: int = 0
        self.flushes: list[Callable[[], None]] = []

    def flush(self) -> None:
        """Sends what was put, without waiting for the next turn."""
        for each in self.flushes:
            each()

    @property
    def busy(self) -> bool:
        """Whether a task has something to do on the loop's next turn."""
        return len(self._ready) > self.errands

    async def give_way(self) -> bool:
        """Lets the other tasks in the loop go on, for a few turns at most, and sends what they put.

        Returns:
            Whether none of them has anything to do any more.
        """
        for _ in range(TURNS_GIVEN):
            if not self.busy:
                return True
            await asyncio.sleep(0)
            self.flush()
            self.turned = perf_counter()
        return not self.busy


_of_loops: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = weakref.WeakKeyDictionary()


def turns() -> Turns:
    """The `Turns` of the running loop."""
    loop = asyncio.get_running_loop()
    return _of_loops.setdefault(loop, Turns(loop))
