"""The object that a runner gets for an out-port, and what `send` does with an item.

out.send(item) ─┬─ no edge:     counted, discarded
                ├─ one edge:    the writer's own `put`, with nothing in between
                └─ more edges:  every writer gets the item
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Final

from ..channel.base import DONE, Pending, Writer
from ..errors import ChannelClosed

__all__ = ["OutPort", "Stopped"]

_UNLOOKED: Final = 256
"""Items that are discarded without a look at the clock."""

SLICE_S: Final = 0.001
"""A runner that never waits lets the loop turn after this many seconds."""


class Stopped(asyncio.CancelledError):
    """Raised by `send` in a component that was stopped: nobody reads any more, or the run drains.

    A cancellation, so that `finally` blocks run and `except Exception` does not swallow it.
    """


class OutPort:
    """An out-port of a node, as its runner sees it.

    Args:
        name: of the port.
        node: name of the node.
        writers: one for each edge.
        stop: called when the last edge is closed; makes what `send` raises then.
        forgotten: called when a `send` that had to wait was never awaited.
    """

    __slots__ = ("_discarded", "_fanned", "_stopped", "dropped", "name", "node", "send", "writers")

    send: Callable[[Any], Awaitable[None]]
    """Sends an item: `await out.send(item)`.

    Waits while a connected in-port has no room. The item is given away: do not change it afterwards.

    Raises:
        CancelledError: nobody reads any more, or the run is stopping; let it pass.

    Cancellation: the item was not sent (to those of several in-ports that had no room).
    """

    def __init__(
        self,
        name: str,
        node: str,
        writers: Sequence[Writer],
        stop: Callable[[], BaseException],
        forgotten: Callable[[], None],
    ) -> None:
        self.name = name
        self.node = node
        self.writers = writers
        self.dropped = 0  # items that one of several edges did not take any more
        self._discarded: Callable[[], int] = lambda: 0
        self._fanned: Callable[[], int] = lambda: 0
        self._stopped = False
        if not writers:
            self.send = self._discarding(stop, forgotten)
        elif len(writers) == 1:
            writers[0].refusal = stop
            self.send = writers[0].put
        else:
            self.send = self._fanning_out(stop, forgotten)

    @property
    def sent(self) -> int:
        """Items sent so far; an item that went out on several edges counts once."""
        if len(self.writers) == 1:
            return self.writers[0].sent
        return self._discarded() + self._fanned()

    @property
    def blocked_s(self) -> float:
        return sum(writer.blocked_s for writer in self.writers)

    @property
    def paused_s(self) -> float:
        return sum(writer.paused_s for writer in self.writers)

    def stop(self) -> None:
        """Makes every `send` from now on raise; those that wait raise at once."""
        self._stopped = True
        for writer in self.writers:
            writer.stop()

    def _discarding(self, stop: Callable[[], BaseException], forgotten: Callable[[], None]) -> Callable[[Any], Any]:
        discarded = 0
        unlooked = _UNLOOKED
        turned = perf_counter()

        def send(item: Any) -> Any:  # noqa: ARG001  # discarded
            nonlocal discarded, unlooked
            if unlooked and not self._stopped:
                unlooked -= 1
                discarded += 1
                return DONE
            return Pending(let_the_loop_turn, forgotten)

        async def let_the_loop_turn() -> None:
            nonlocal discarded, unlooked, turned
            if perf_counter() - turned > SLICE_S:
                await asyncio.sleep(0)
                turned = perf_counter()
            if self._stopped:
                raise stop()
            unlooked = _UNLOOKED
            discarded += 1

        self._discarded = lambda: discarded
        return send

    def _fanning_out(self, stop: Callable[[], BaseException], forgotten: Callable[[], None]) -> Callable[[Any], Any]:
        writers = list(self.writers)
        puts = [writer.put for writer in writers]
        fanned = 0

        def send(item: Any) -> Any:
            nonlocal fanned
            fanned += 1
            waiting: list[Any] | None = None
            for put in puts:
                done = put(item)
                if done is not DONE:
                    if waiting is None:
                        waiting = [done]
                    else:
                        waiting.append(done)
            if waiting is None:
                return DONE
            late = waiting
            return Pending(lambda: send_late(late), forgotten)

        async def send_late(waiting: list[Any]) -> None:
            # Side by side: the reader of one edge may need the item of another before it can go on.
            if len(waiting) == 1:
                outcomes: Sequence[Any] = [await _outcome(waiting[0])]
            else:
                outcomes = await asyncio.gather(*(_outcome(each) for each in waiting))
            self.dropped += sum(outcomes)
            if any(outcomes):
                still_open = [writer.put for writer in writers if not writer.closed]
                if self._stopped or not still_open:
                    raise stop()
                puts[:] = still_open

        self._fanned = lambda: fanned
        return send

    def __repr__(self) -> str:
        return f"<out-port {self.node}.{self.name}>"


async def _outcome(put: Awaitable[None]) -> bool:
    """Awaits a put; whether its edge refused the item."""
    try:
        await put
    except ChannelClosed:
        return True
    return False
