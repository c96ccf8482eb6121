"""A DAG at work: its graph, open in a thread with an event loop of its own, and the streams that go through it.

    the caller's thread                          the session's thread
    stream ── enter(batch) ──> queues ── wake ──> feeders ──> sources ──> the graph
       ▲                                                                     │
       └──────────── inbox of the stream <── arrived <── readers <── sinks <─┘

A batch is inside from `enter` until it has arrived at every sink that it can reach. A stream that was left early takes
no more: its batches go to their ends, and are dropped there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..engine import sigterm
from ..engine.run_at_import import let_threads_pass
from ..errors import ChannelClosed
from ..interrupts import HEARD_S, begin, join, own_loop, until
from .batches import Batch

if TYPE_CHECKING:
    from ..dsl import Graph
    from ..observe.report import RunReport

__all__ = ["Arrival", "Session", "Stream"]


class Arrival(NamedTuple):
    """What a stream finds in its inbox.

    Attributes:
        queue: index of the sink among those of the stream; None: one that is not, or the end of the session.
        batch: what arrived; None: the session has ended.
        complete: whether the batch has left the DAG with this.
    """

    queue: int | None
    batch: Batch | None
    complete: bool


_ENDED: Final = Arrival(None, None, complete=False)


class Stream:
    """A stream through a session.

    Args:
        number: tells its batches from those of other streams.
        reached: the sinks that its batches come to, each with its index for the caller, or None: discarded.
    """

    __slots__ = ("_missing", "closed", "entered", "inbox", "left", "number", "reached")

    def __init__(self, number: int, reached: Mapping[str, int | None]) -> None:
        self.number: int = number
        self.reached: Mapping[str, int | None] = reached
        self.inbox: SimpleQueue[Arrival] = SimpleQueue()
        self.entered: int = 0  # counted by the caller's thread
        self.left: int = 0  # ... and this by the session's
        self.closed: bool = False
        self._missing: dict[int, int] = {}

    def arrived(self, sink: str, batch: Batch) -> bool:
        """Notes an arrival. Returns whether the batch has left the DAG with it."""
        missing = self._missing.pop(batch.number, len(self.reached)) - 1
        complete = missing == 0
        if complete:
            self.left += 1
        else:
            self._missing[batch.number] = missing
        queue = self.reached[sink]
        if not self.closed and (complete or queue is not None):
            self.inbox.put(Arrival(queue, batch, complete))
        return complete


class Session:
    """One start of a DAG, until it is stopped.

    Args:
        graph: to open.
        sources: names of its sources.
        sinks: names of its sinks.
        options: of the run.

    Attributes:
        discarded: sink -> batches that no stream asked for.
        error: what ended the session; None while it goes on, and when it was stopped in order.
        told: whether the error has been raised to the caller.
        report: of the run, when it has ended in order.
    """

    def __init__(self, graph: Graph, sources: Sequence[str], sinks: Sequence[str], options: Mapping[str, Any]) -> None:
        self._graph = graph
        self._options = options
        self._sinks = sinks
        self._queues: dict[str, deque[Batch]] = {name: deque() for name in sources}
        self._streams: dict[int, Stream] = {}
        self._numbers = 0
        self._changed = threading.Condition()
        self._opened = threading.Event()
        self._asked = False  # whether the feeders have been woken and have not looked yet
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._cancelled = False
        self._stopping = False
        self._over = False
        self._awake: dict[str, asyncio.Event] = {}
        self.discarded: Counter[str] = Counter()
        self.error: BaseException | None = None
        self.told: bool = False
        self.report: RunReport | None = None
        self._thread = threading.Thread(target=self._live, name="cascata-dag", daemon=True)

    # ---- the caller's side

    def start(self) -> None:
        """Opens the graph, and returns when it is open.

        Raises:
            CascataError: it cannot be opened.
        """
        sigterm.install()
        let_threads_pass()
        begin(self._thread)
        try:
            until(self._opened.wait)
        except BaseException:  # Ctrl-C
            self.cancel()
            raise
        self.raise_error()

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return not self._over and self._thread.is_alive()

    def raise_error(self) -> None:
        """Raises what ended the session, if something did and has not been raised before."""
        if self.error is not None and not self.told:
            self.told = True
            raise self.error

    def open_stream(self, reached: Mapping[str, int | None]) -> Stream:
        """Begins a stream, when all batches of streams that were left have gone to their ends."""
        with self._changed:
            while any(each.closed for each in self._streams.values()) and self.error is None and self.alive:
                self._changed.wait(HEARD_S)
            self._numbers += 1
            stream = self._streams[self._numbers] = Stream(self._numbers, reached)
            if self.error is not None or not self.alive:
                stream.inbox.put(_ENDED)
        return stream

    def enter(self, stream: Stream, number: int, payloads: Mapping[str, Any]) -> None:
        """Sends a batch into the DAG: a payload for each source. Does not wait."""
        stream.entered += 1
        for source, payload in payloads.items():
            self._queues[source].append(Batch(number, payload, source, stream.number))
        if not self._asked and self._loop is not None:
            self._asked = True
            with suppress(RuntimeError):  # the loop is closed: the inbox says why
                self._loop.call_soon_threadsafe(self._wake)

    def close_stream(self, stream: Stream) -> None:
        """Ends a stream; what is inside goes to its end and is dropped."""
        with self._changed:
            stream.closed = True
            self._forget(stream)

    def stop(self) -> None:
        """Lets everything that is inside go to its end, and waits for the end of the run. Ctrl-C cancels it.

        Raises:
            SystemExit: SIGTERM came, and has stopped the run.
            CascataError: the run failed, and no stream has told so.
        """
        self._tell(self._stop)
        try:
            join(self._thread)
        except BaseException:
            self.cancel()
            raise
        sigterm.leave()
        self.raise_error()

    @property
    def stopping(self) -> bool:
        """Whether nothing more is taken in."""
        return self._stopping

    def cancel(self) -> None:
        """Ends the run now, and waits for its end."""
        self.told = True
        self.abandon()
        join(self._thread)

    def abandon(self) -> None:
        """As `cancel`, without waiting: for a DAG that nobody holds any more."""
        self._cancelled = True
        self._tell(self._cancel)

    def _tell(self, what: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the run has ended
                loop.call_soon_threadsafe(what)

    # ---- the session's thread

    def _live(self) -> None:
        error: BaseException | None = None
        try:
            with own_loop() as loop:
                loop.run(self._run())
        except BaseException as problem:  # whoever waits is told
            error = problem
        with self._changed:
            if error is not None and not (isinstance(error, asyncio.CancelledError) and self.told):
                self.error = error
            self._over = True
            for stream in self._streams.values():
                stream.inbox.put(_ENDED)
            self._changed.notify_all()
        self._opened.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        self._awake = {name: asyncio.Event() for name in self._queues}
        async with self._graph.open(**self._options) as live:
            feeders = [asyncio.ensure_future(self._feed(name, getattr(live, name))) for name in self._queues]
            readers = [asyncio.ensure_future(self._read(name, getattr(live, name))) for name in self._sinks]
            self._opened.set()
            try:
                await self._watch([*feeders, *readers])
            finally:
                for task in (*feeders, *readers):
                    task.cancel()
                await asyncio.gather(*feeders, *readers, return_exceptions=True)
        self.report = live.report

    async def _watch(self, tasks: Sequence[asyncio.Future[None]]) -> None:
        """Waits until all tasks have ended, or one of them does so before it was asked to: the run has failed then."""
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not self._stopping:
                return

    async def _feed(self, name: str, source: Any) -> None:
        queue, awake = self._queues[name], self._awake[name]
        try:
            while True:
                while queue:
                    await source.send(queue.popleft())
                if self._stopping:
                    source.close()
                    return
                await awake.wait()
                awake.clear()
        except ChannelClosed:
            self._stop()  # the run is ending, and its end tells why; what is inside still arrives, if it was stopped

    async def _read(self, name: str, sink: Any) -> None:
        async for batch in sink:
            stream = self._streams[batch.stream]
            if stream.reached[name] is None:
                self.discarded[name] += 1
            if stream.arrived(name, batch) and stream.closed:
                with self._changed:
                    self._forget(stream)

    def _wake(self) -> None:
        self._asked = False
        for event in self._awake.values():
            event.set()

    def _stop(self) -> None:
        self._stopping = True
        self._wake()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _forget(self, stream: Stream) -> None:
        """Forgets a stream that is closed, when nothing of it is inside any more."""
        if stream.left == stream.entered:
            self._streams.pop(stream.number, None)
            self._changed.notify_all()
