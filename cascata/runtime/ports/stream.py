"""In-ports that a runner reads itself: `Stream[T]`.

    reader.items ── _begin_batch ──┬──> __anext__ ──────────────────> async for, in the loop
                                   └──> fetch ──> chunk ──> __next__ ──> for, in a thread

Items are counted, and writers are told of the room, a batch at a time (`_settle`), as in `triggers`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import Any, Final, Self

from ...channel.base import Reader
from ...channel.turns import SLICE_S, turns
from ...model import MISSING
from ..live_calls.lineage import Taken
from ..node_state import BATCH_S, NodeState, batch_size
from ..threads import CallThread
from .outport import Stopped

__all__ = ["BlockingStream", "Stream", "TaggedStream"]

CHUNK_S: Final = 0.001
"""The items that a thread gets at once are cut to about this many seconds of work: asking for them takes 50 µs."""


class Stream:
    """A stream in-port of a node, as its runner sees it: an asynchronous iterator.

    Args:
        node: whose in-port it is.
        port: name of the in-port.
        reader: where its items come from.

    Attributes:
        chunk: items that a thread has in hand and that its runner has not taken.
        last: the item that the runner took last.
    """

    __slots__ = (
        "_batch",
        "_began",
        "_items",
        "_left",
        "_most",
        "_node",
        "_port",
        "_reader",
        "_taken",
        "_turns",
        "chunk",
        "last",
    )

    def __init__(self, node: NodeState, port: str, reader: Reader) -> None:
        self._node = node
        self._port = port
        self._reader = reader
        self._items = reader.items
        self._most = max(1, node.spec.inputs[port].port.capacity // 2)
        self._batch = 1  # items of the next batch
        self._taken = 0  # items of the batch in hand
        self._left = 0  # those of them that have not been taken yet
        self._began = perf_counter()  # when the runner got that batch
        self._turns = turns()
        self.chunk: deque[Any] = deque()
        self.last: Any = MISSING

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if not (self._left and self._items) and not await self._begin_batch(rests=True):
            raise StopAsyncIteration
        self._left -= 1
        self.last = item = self._items.popleft()
        return item

    async def next(self, timeout: float | None = None) -> Any:
        """Takes one item, and waits no longer than `timeout` seconds for it.

        Raises:
            TimeoutError: the time passed. Nothing is taken.
            StopAsyncIteration: the stream has ended.
        """
        if timeout is None or self._items:
            return await self.__anext__()
        async with asyncio.timeout(timeout):
            if not await self._begin_batch(rests=False):
                raise StopAsyncIteration
        return await self.__anext__()  # does not wait: an item is there

    def __iter__(self) -> Any:
        raise TypeError(
            f"{self!r} is read by `async for`. A plain `for` waits for its items under @component(thread=True)."
        )

    async def fetch(self, worked: float) -> None:
        """For a thread: puts a batch into `chunk`; nothing, when the stream has ended.

        Args:
            worked: seconds that the thread has worked on the batch before.
        """
        self._settle(worked, CHUNK_S)
        if await self._begin_batch(rests=True, in_a_thread=True):
            while self._left:
                self._left -= 1
                self.chunk.append(self._items.popleft())

    def close(self) -> None:
        """Counts what was taken, when the runner reads no more. What a thread did not take goes back."""
        self._left += len(self.chunk)
        self._items.extendleft(reversed(self.chunk))
        self.chunk.clear()
        self._settle(perf_counter() - self._began)

    def _settle(self, worked: float, budget: float = BATCH_S) -> None:
        """Counts the batch that was in hand, and tells the writers of the room.

        Args:
            worked: seconds that the runner has worked on it.
            budget: seconds of work that the next one may hold.
        """
        taken = self._taken - self._left
        self._taken = self._left = 0
        if taken:
            self._node.received += taken
            self._reader.release()
            each = worked / taken
            self._reader.worked(each)
            self._batch = batch_size(each, self._most, budget)

    async def _begin_batch(self, *, rests: bool, in_a_thread: bool = False) -> bool:
        """Waits for items and takes a batch in hand; False when the stream has ended. Cancelled: nothing is taken.

        Args:
            rests: whether the node cannot move while this waits; unless it does so in a task of the user's.
            in_a_thread: whether a thread of the node waits for this.
        """
        self._settle(perf_counter() - self._began)
        node = self._node
        if perf_counter() - self._turns.turned > SLICE_S:
            await node.turn()
        while not self._items:
            began = perf_counter()
            alone = in_a_thread or asyncio.current_task() in node.tasks
            if not alone:
                there = await self._reader.wait()
            else:
                try:
                    there = await node.starve(self._reader, self._port, rests=rests)
                finally:
                    node.in_hand_s -= perf_counter() - began  # the call of the runner counts this time as well
            if not there:
                return False
        self._taken = self._left = min(self._batch, len(self._items))
        self._reader.taking()
        self._began = perf_counter()
        return True

    def blocking(self, thread: CallThread) -> BlockingStream:
        """The same for a runner in a thread."""
        return BlockingStream(self, thread)

    def __repr__(self) -> str:
        return f"<stream {self._node.name}.{self._port}>"


class TaggedStream(Stream):
    """A stream in a run that is opened for calls. What its runner sends belongs to the item that it took last."""

    __slots__ = ("_batched", "_lineage", "_loop", "_taken_call")

    def __init__(self, node: NodeState, port: str, reader: Reader) -> None:
        super().__init__(node, port, reader)
        assert node.host.lineage is not None  # the run is opened for calls
        self._lineage = node.host.lineage
        self._loop = asyncio.get_running_loop()
        self._taken_call: Taken | None = None
        self._batched = node.batched([port])

    async def __anext__(self) -> Any:
        self.let_go()
        return self.bare(await super().__anext__())

    def bare(self, item: Any) -> Any:
        """The item without its tags; what is sent in this task or thread from now on belongs to it."""
        (self.last,), self._taken_call = self._lineage.begin(item, batched=self._batched)
        self._lineage.set(self._taken_call)
        return self.last

    def let_go(self) -> None:
        """The runner is done with the item before."""
        taken, self._taken_call = self._taken_call, None
        if taken is not None:
            self._lineage.set(None)
            self._loop.call_soon_threadsafe(taken.give_back)  # this may be a thread

    def close(self) -> None:
        self.let_go()
        super().close()

    def blocking(self, thread: CallThread) -> BlockingStream:
        return TaggedBlockingStream(self, thread)


class BlockingStream:
    """A stream in-port as a threaded runner sees it: an iterator that blocks until there is an item."""

    __slots__ = ("_began", "_stream", "_thread")

    def __init__(self, stream: Stream, thread: CallThread) -> None:
        self._stream = stream
        self._thread = thread
        self._began = perf_counter()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Takes one item.

        Raises:
            StopIteration: the stream has ended.
            CancelledError: the run is ending; let it pass.
        """
        stream = self._stream
        if self._thread.aborted.is_set():
            raise Stopped(f"{stream!r}: the run is ending")
        if not stream.chunk:
            self._thread.await_in_loop(stream.fetch(perf_counter() - self._began))
            if not stream.chunk:
                raise StopIteration
            self._began = perf_counter()
        stream.last = item = stream.chunk.popleft()
        return item

    def __repr__(self) -> str:
        return repr(self._stream)


class TaggedBlockingStream(BlockingStream):
    """A stream as a threaded runner sees it, in a run that is opened for calls."""

    __slots__ = ("_tagged",)

    def __init__(self, stream: TaggedStream, thread: CallThread) -> None:
        super().__init__(stream, thread)
        self._tagged = stream

    def __next__(self) -> Any:
        self._tagged.let_go()
        return self._tagged.bare(super().__next__())
