"""The object that a runner gets for an out-port, and what `send` does with an item.

    out.send(item) ─┬─ no edge, _discarding:      counted, discarded
                    ├─ one edge:                  the writer's own `put`, with nothing in between
                    └─ more edges, _fanning_out:  every writer gets the item

A runner that is a plain `def` gets a `PlainPort`, which refuses: nothing could wait there.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from types import FrameType
from typing import Any, Final

from ...channel.base import DONE, Around, Full, Pending, Writer
from ...channel.change_detector import ChangeDetector

__all__ = ["OutPort", "PlainPort", "Send", "Stopped"]

_UNLOOKED: Final = 256
"""Items that are discarded without a look at the clock."""

SLICE_S: Final = 0.001
"""A runner that never waits lets the loop turn after this many seconds."""


_CAN_AWAIT: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

_CALLERS: Final = frozenset({"cascata.runtime.runner_calls", "cascata.dsl.trial"})
"""The modules whose coroutines call runners: a runner that they call with no coroutine in between is a plain `def`."""

Send = Callable[[Any], Awaitable[None]]
"""Sends an item: the awaitable waits for room."""


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
        detector: watches what is sent, when the run has `debug=True`.
        stamping: makes of a writer a `put` that marks what belongs to calls (see `lineage`).
        outlived: as `refusal`, when the node has ended and a reader had not; None: the same.
        goes_on: called when a `send` has to wait after an earlier one was never awaited.
    """

    __slots__ = ("_discarded", "_doubled", "_fanned", "_stopped", "detector", "name", "node", "send", "writers")

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
        detector: ChangeDetector | None = None,
        stamping: Callable[[Writer], Send] | None = None,
        outlived: Callable[[int], BaseException | None] | None = None,
        goes_on: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.node = node
        self.writers = writers
        self._discarded: Callable[[], int] = lambda: 0  # items sent without an edge
        self._fanned: Callable[[], int] = lambda: 0  # items sent on several edges
        self._doubled: Callable[[], int] = lambda: 0  # see `_fanning_out`
        self._stopped = False
        for writer in writers:
            writer.refusal = refusal
            writer.goes_on = goes_on
            writer.outlived = None if outlived is None else partial(outlived, writer.edge)
        puts = [writer.put if stamping is None else stamping(writer) for writer in writers]
        if not writers:
            self.send = self._discarding(refusal, forgotten, goes_on)
        elif len(writers) == 1:
            self.send = puts[0]
        else:
            self.send = self._fanning_out(puts, refusal)
        self.detector = detector
        if detector is not None:
            self.send = self._watched(detector, self.send)

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
    def unawaited(self) -> int:
        """Items whose `send` had to wait and was not awaited yet."""
        return max(0, sum(writer.unawaited for writer in self.writers) - self._doubled())

    @property
    def blocked_s(self) -> float:
        """Seconds for which sends have waited for room, summed over the edges."""
        return sum(writer.blocked_s for writer in self.writers)

    @property
    def paused_s(self) -> float:
        """Seconds for which sends have waited just to let the loop turn."""
        return sum(writer.paused_s for writer in self.writers)

    def stop(self) -> None:
        """Makes every `send` from now on raise; those that wait raise at once."""
        self._stopped = True
        for writer in self.writers:
            writer.stop()

    def resume(self) -> None:
        """After `stop`: sends again."""
        self._stopped = False
        for writer in self.writers:
            writer.resume()

    def _discarding(
        self,
        refusal: Callable[[], BaseException | None],
        forgotten: Callable[[], None],
        goes_on: Callable[[], None],
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
            if self._stopped:
                goes_on()
            return Pending(let_the_loop_turn, never_awaited)

        def never_awaited() -> None:
            nonlocal discarded
            if self._stopped:
                forgotten()  # awaited, it would have raised: so the runner goes on for ever
            else:
                discarded += 1

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

    def _fanning_out(self, puts: Sequence[Send], refusal: Callable[[], BaseException | None]) -> Callable[[Any], Any]:
        fanned = 0
        unsent = 0  # of them, those that went out on no edge
        doubled = 0  # puts that were not awaited yet, less the items of which they are

        def send(item: Any) -> Any:
            nonlocal doubled, fanned, unsent
            fanned += 1
            waiting: list[Any] | None = None
            full: list[Full] | None = None
            try:
                for put in puts:
                    done = put(item)
                    if done is DONE:
                        continue
                    if isinstance(done, Full):
                        full = [*full, done] if full else [done]
                    else:
                        waiting = [*waiting, done] if waiting else [done]
            except BaseException:
                unsent += _break_off(waiting, puts.index(put))
                raise
            if waiting is None:
                return DONE if full is None else full[0] if len(full) == 1 else Full.of(full)
            if len(waiting) == 1:
                return waiting[0]
            doubled += len(waiting) - 1
            return Around(partial(together, waiting), waiting, partial(never_awaited, waiting))

        def never_awaited(waiting: list[Any]) -> None:
            nonlocal doubled, unsent
            doubled -= len(waiting) - 1
            if len(waiting) == len(puts):
                unsent += 1
            for each in waiting[1:]:  # the first one tells that the item is lost
                each.close()

        async def together(waiting: list[Any]) -> None:
            nonlocal doubled
            doubled -= len(waiting) - 1
            # Side by side: the reader of one edge may need the item of another before it can go on.
            await self._all_of(waiting, refusal)

        self._fanned = lambda: fanned - unsent
        self._doubled = lambda: doubled
        for writer in self.writers:
            sharing = getattr(writer, "sharing", None)  # of those that cross
            if sharing is not None:
                sharing.round = lambda: fanned
        return send

    async def _all_of(self, puts: Sequence[Any], refusal: Callable[[], BaseException | None]) -> None:
        try:
            await asyncio.gather(*puts)
        except asyncio.CancelledError:
            if self._stopped:
                refusal()  # the puts were refused in tasks of their own: so the node learns that its runner was told
            raise

    def _watched(self, detector: ChangeDetector, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def when_done(done: Awaitable[None], given: Any) -> None:
            await done
            detector.has_left(given)

        def send_watched(item: Any) -> Any:
            given = detector.watch(item)
            done = send(given)
            if isinstance(done, Pending):  # it may be cancelled: then the sender may change the item again
                return Around(lambda: when_done(done, given), (done,))
            detector.has_left(given)
            return done

        return send_watched

    def __repr__(self) -> str:
        return f"<out-port {self.node}.{self.name}>"


def _break_off(waiting: Sequence[Any] | None, before: int) -> bool:
    """One put of several has raised: those before it that wait are closed, and do not count as forgotten.

    Returns:
        Whether the item went out on none of the edges before.
    """
    waits = waiting or ()
    for each in waits:
        each.close()
    return len(waits) == before


class PlainPort:
    """An out-port as a runner sees it that is a plain `def`: it cannot wait there, so `send` is refused.

    A coroutine that the runner returns may send, since it is awaited for it, and so may a task that it makes.

    Args:
        name: of the port.
        port: the port itself.
        refuse: called with the name; makes what a refused `send` raises.
    """

    __slots__ = ("_port", "_refuse", "detector", "name")

    def __init__(self, name: str, port: Any, refuse: Callable[[str], BaseException]) -> None:
        self.name = name
        self.detector: ChangeDetector | None = getattr(port, "detector", None)
        self._port = port
        self._refuse = refuse

    def send(self, item: Any) -> Any:
        """As `OutPort.send`, for coroutines.

        Raises:
            TypeError: the runner itself has called it, and cannot await it.
        """
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not frame.f_code.co_flags & _CAN_AWAIT:
            frame = frame.f_back
        if frame is not None and frame.f_globals.get("__name__") in _CALLERS:
            raise self._refuse(self.name)
        return self._port.send(item)

    def __repr__(self) -> str:
        return f"<out-port {self.name}, of a plain function>"
