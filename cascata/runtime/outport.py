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

from ..channel.base import DONE, Full, Pending, Writer
from ..channel.given import Guard

__all__ = ["OutPort", "Stopped"]

_UNLOOKED: Final = 256
"""Items that are discarded without a look at the clock."""

SLICE_S: Final = 0.001
"""A runner that never waits lets the loop turn after this many seconds."""


Put = Callable[[Any], Awaitable[None]]


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
        refusal: what a send to an edge without readers raises, or None when the node goes on for other edges' sake.
        forgotten: called when a `send` that had to wait was never awaited.
        guard: watches what is sent, when the run has `debug=True`.
        stamping: makes of a writer's `put` one that marks what belongs to calls (see `lineage`).
    """

    __slots__ = ("_discarded", "_fanned", "_stopped", "guard", "name", "node", "send", "writers")

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
        refusal: Callable[[], BaseException | None],
        forgotten: Callable[[], None],
        guard: Guard | None = None,
        stamping: Callable[[Put], Put] | None = None,
    ) -> None:
        self.name = name
        self.node = node
        self.writers = writers
        self._discarded: Callable[[], int] = lambda: 0
        self._fanned: Callable[[], int] = lambda: 0
        self._stopped = False
        for writer in writers:
            writer.refusal = refusal
        puts = [writer.put if stamping is None else stamping(writer.put) for writer in writers]
        if not writers:
            self.send = self._discarding(refusal, forgotten)
        elif len(writers) == 1:
            self.send = puts[0]
        else:
            self.send = self._fanning_out(puts, forgotten)
        self.guard = guard
        if guard is not None:
            self.send = self._guarded(guard, self.send)

    @property
    def sent(self) -> int:
        """Items sent so far; an item that went out on several edges counts once."""
        if len(self.writers) == 1:
            return self.writers[0].sent
        return self._discarded() + self._fanned()

    @property
    def unread(self) -> bool:
        """Whether it discards what is sent: it was never connected, or all of its readers have ended."""
        return all(writer.closed for writer in self.writers)

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

    def _discarding(
        self, refusal: Callable[[], BaseException | None], forgotten: Callable[[], None]
    ) -> Callable[[Any], Any]:
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
            if self._stopped and (error := refusal()) is not None:
                raise error
            unlooked = _UNLOOKED
            discarded += 1

        self._discarded = lambda: discarded
        return send

    def _fanning_out(self, puts: Sequence[Put], forgotten: Callable[[], None]) -> Callable[[Any], Any]:
        fanned = 0

        def send(item: Any) -> Any:
            nonlocal fanned
            fanned += 1
            waiting: list[Any] | None = None
            full: list[Full] | None = None
            for put in puts:
                done = put(item)
                if done is DONE:
                    continue
                if isinstance(done, Full):
                    full = [*full, done] if full else [done]
                else:
                    waiting = [*waiting, done] if waiting else [done]
            if waiting is None:
                return DONE if full is None else full[0] if len(full) == 1 else Full.of(full)
            if len(waiting) == 1:
                return waiting[0]
            late = waiting
            return Pending(lambda: together(late), forgotten)

        async def together(waiting: list[Any]) -> None:
            # Side by side: the reader of one edge may need the item of another before it can go on.
            await asyncio.gather(*waiting)

        self._fanned = lambda: fanned
        for writer in self.writers:
            sharing = getattr(writer, "sharing", None)  # of those that cross
            if sharing is not None:
                sharing.round = self._fanned
        return send

    def _guarded(self, guard: Guard, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def when_done(done: Awaitable[None], given: Any) -> None:
            await done
            guard.sent(given)

        def send_guarded(item: Any) -> Any:
            given = guard.given(item)
            done = send(given)
            if done is not DONE:  # a put that waits may be cancelled: the item is the sender's again then
                return Pending(lambda: when_done(done, given), lambda: None)  # `done` tells if it is never awaited
            guard.sent(given)
            return DONE

        return send_guarded

    def __repr__(self) -> str:
        return f"<out-port {self.node}.{self.name}>"
