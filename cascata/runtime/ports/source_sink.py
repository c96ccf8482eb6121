"""Sources and sinks: the nodes whose other ends the caller of a run has.

    caller ── SourceEnd.send ──> edges ──> nodes on workers ──> edges ──> SinkEnd.take, chunk ──> caller

They run in the caller's event loop, as part of the run: what they send and receive goes the way of all items, and
the supervisor hears of their ends as of those of all nodes. A source ends when it is closed, a sink when what feeds it
has ended and was read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any

from ...channel.base import Reader
from ...channel.merge import MergedReader
from ...channel.turns import SLICE_S
from ...errors import ChannelClosed
from ..node_state import NodeState

__all__ = ["End", "SinkEnd", "SourceEnd"]


class End:
    """The end of a source or a sink that the caller has.

    Attributes:
        node: that source or sink.
    """

    def __init__(self, node: NodeState) -> None:
        self.node = node

    @property
    def aborted(self) -> bool:
        """Whether the run has failed, or was cancelled."""
        return self.node.host.cancelling

    async def until_over(self) -> None:
        """Runs the node: returns when it may end."""
        raise NotImplementedError

    def stop(self) -> None:
        """The run drains: a source sends no more."""

    def refusal(self) -> BaseException:
        """Why a source takes no more."""
        raise NotImplementedError


class SourceEnd(End):
    """The end of a source: what is sent here leaves by its only out-port."""

    def __init__(self, node: NodeState) -> None:
        super().__init__(node)
        ((_, self._port),) = node.outports.items()
        self.send = self._port.send
        self._closed = asyncio.Event()

    @property
    def sent(self) -> int:
        """Items sent so far."""
        return self._port.sent

    @property
    def over(self) -> bool:
        """Whether nothing more is sent."""
        return self.aborted or self._closed.is_set()

    @property
    def unread(self) -> bool:
        """Whether all readers of what is sent have ended."""
        writers = self._port.writers
        return bool(writers) and all(writer.closed for writer in writers)

    def close(self) -> None:
        """Ends the source: nothing more is sent. May be called again."""
        self._closed.set()

    stop = close

    async def until_over(self) -> None:
        self.node.doing = "open to its caller"
        await self._closed.wait()

    def refusal(self) -> BaseException:
        name = self.node.name
        if self.aborted:
            return ChannelClosed(f"source {name!r}: the run has ended")
        if self._closed.is_set():
            return ChannelClosed(f"source {name!r} was closed: nothing can be sent any more")
        self._closed.set()
        return ChannelClosed(f"source {name!r}: nobody reads what it sends any more, all of its readers have ended")


class SinkEnd(End):
    """The end of a sink: what comes by its only in-port is taken here, by any number of tasks, each item once."""

    def __init__(self, node: NodeState) -> None:
        super().__init__(node)
        ((self._port, given),) = node.spec.inputs.items()
        self._reader: Reader = node.readers.get(self._port) or MergedReader((), [given.constant])
        self._items = self._reader.items
        self._most = max(1, given.port.capacity // 2)
        self._untold = 0  # items taken of which the writers were not told
        self._turned = perf_counter()
        self._alone = asyncio.Lock()  # held by the one task that waits for items; others that take wait for the lock
        self._done = asyncio.Event()  # set when the stream has ended, or the caller reads no more
        self.ended = False
        """Whether nothing comes any more."""

    async def take(self) -> Any:
        """Takes an item. Cancelled: nothing is taken.

        Raises:
            StopAsyncIteration: nothing comes any more.
        """
        if not self._untold:
            self._reader.taking()
        elif self._untold >= self._most:
            await self._tell()
        while not self._items:
            if not await self._more():
                raise StopAsyncIteration
        self._untold += 1
        return self._items.popleft()

    async def chunk(self) -> list[Any]:
        """Takes what is there, at least one item; none when nothing comes any more. Cancelled: nothing is taken."""
        await self._tell()
        while not self._items:
            if not await self._more():
                return []
        count = self._untold = min(len(self._items), self._most)
        return [self._items.popleft() for _ in range(count)]

    def leave(self) -> None:
        """Nobody reads any more: what comes from now on is dropped, to the end of the stream."""
        self._done.set()

    async def _tell(self) -> None:
        """Tells the writers of the room, and lets the loop turn after a slice of time."""
        self._settle()
        if perf_counter() - self._turned > SLICE_S:
            if not self.ended:  # else the board may be gone
                self.node.publish()
            await asyncio.sleep(0)
            self._turned = perf_counter()

    def _settle(self) -> None:
        """Counts what was taken, and tells the writers of the room."""
        self.node.received += self._untold
        self._untold = 0
        self._reader.release()

    async def _more(self) -> bool:
        """Waits for items; False when nothing comes any more."""
        node = self.node
        async with self._alone:
            if self._items or self.ended:
                return bool(self._items)
            self._settle()
            try:
                there = await node.starve(self._reader, self._port)
            finally:
                self._turned = perf_counter()
            if not there:
                self.ended = True
                self._done.set()
            return there

    async def until_over(self) -> None:
        self._is("open to its caller")
        try:
            with self.node.looping():
                await self._done.wait()
                if not self.ended:
                    await self._drop()
                self._settle()
        finally:
            self.ended = True
            self._reader.finish()  # a task that waits in `take` or `chunk` sees the end
            self._items = deque()

    def _is(self, doing: str) -> None:
        """Says what the node does, waiting or not."""
        node = self.node
        node.doing = node.at_work = node.starving[self._port] = doing

    async def _drop(self) -> None:
        """Takes what comes although the caller reads no more, and counts it as dropped."""
        node = self.node
        self._settle()
        self._is("dropping what its caller does not read")
        taken = dict(self._reader.taken())
        while self._items or await self._more():
            self._items.clear()
            await self._tell()
        for edge, items in self._reader.taken().items():
            node.ignored[edge] += items - taken.get(edge, 0)
