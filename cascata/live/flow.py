"""`graph.stream` and `graph.astream`: iterables in, results out.

iterables ── feed ──> sources ──> ... the graph ... ──> sinks ── chunks ──> Flow ──> async for

the caller's thread:  for value in graph.stream(...)
         ▲ chunks, two ahead at most
a thread with a loop: Flow
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sized
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from ..channel.local import LocalChannel
from ..engine import sigterm
from ..engine.run_at_import import let_threads_pass
from ..interrupts import begin, join, own_loop, take, until
from ..model import GraphSpec
from ..options import RunOptions
from ..runtime.ports.source_sink import SinkEnd
from .feed import feed
from .opened import Live

__all__ = ["astream", "stream"]

AHEAD: Final = 2
"""Chunks that have been read and that the caller's thread has not begun yet, at most."""

_PAIRS: Final = 64
"""Results of several sinks that have been read and not handed out, at most."""

_LOOK_S: Final = 0.1


class Flow:
    """A run that is fed from iterables, in the running loop: an async context that gives results in chunks.

    Args:
        spec: the graph, checked.
        options: of the run.
        feeds: source -> its items, for every source.
    """

    def __init__(self, spec: GraphSpec, options: RunOptions, feeds: Mapping[str, Any]) -> None:
        totals = {name: len(items) for name, items in feeds.items() if isinstance(items, Sized)}
        self._live = Live(spec, options, totals=totals)
        self._feeds = feeds
        self._feeding: dict[asyncio.Task[BaseException | None], str] = {}
        self._reading: list[asyncio.Task[BaseException | None]] = []
        self._results: LocalChannel | None = None

    async def __aenter__(self) -> Self:
        live = self._live
        await live.__aenter__()
        for name, items in self._feeds.items():
            task = asyncio.ensure_future(feed(live._sources[name]._end, items))
            self._feeding[task] = name
            task.add_done_callback(self._fed)
        if len(live._sinks) > 1:
            results = self._results = LocalChannel(_PAIRS)
            writers = [(name, sink._end, results.writer()) for name, sink in live._sinks.items()]
            self._reading = [asyncio.ensure_future(self._read(*each)) for each in writers]
        return self

    def _fed(self, task: asyncio.Task[BaseException | None]) -> None:
        if not task.cancelled() and (error := task.result()) is not None:
            self._live._fail(error)

    async def _read(self, name: str, end: SinkEnd, writer: Any) -> None:
        try:
            while values := await end.chunk():
                for value in values:
                    await writer.put((name, value))
        finally:
            writer.close()

    async def chunk(self) -> list[Any]:
        """The next results, at least one; none when all have been given.

        Raises:
            CascataError: the run has failed: its error.
            BaseException: what an iterable raised.
        """
        live, results = self._live, self._results
        chunk: list[Any] = []
        if results is not None:
            if await results.wait():
                chunk = list(results.items)
                results.items.clear()
                results.release()
        elif live._sinks:
            (sink,) = live._sinks.values()
            chunk = await sink._end.chunk()
        if not chunk:
            await self._feed_to_the_end()
            await live._raise_failure()
        return chunk

    async def _feed_to_the_end(self) -> None:
        """All sinks have ended. Sources may have readers still; an iterable whose items nobody reads is left."""
        while pending := [task for task in self._feeding if not task.done()]:
            await asyncio.wait(pending, timeout=_LOOK_S)
            for task in pending:
                end = self._live._sources[self._feeding[task]]._end
                if end.over or end.unread:  # the run is stopped, or nobody reads
                    task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._live._run is not None:
            self._live._run.cancel()
        tasks = [*self._feeding, *self._reading]
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._live.__aexit__(kind, error, trace)


async def astream(spec: GraphSpec, options: RunOptions, feeds: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
    """What `Graph.astream` returns."""
    async with Flow(spec, options, feeds) as flow:
        while chunk := await flow.chunk():
            for value in chunk:
                yield value


def stream(spec: GraphSpec, options: RunOptions, feeds: Mapping[str, Any]) -> Generator[Any, None, None]:
    """What `Graph.stream` returns."""
    sigterm.install()
    thread = _Thread(spec, options, feeds)
    left = False
    try:
        while chunk := thread.chunk():
            yield from chunk
    except GeneratorExit:
        left = True
        raise
    finally:
        thread.end()
        if left:
            sigterm.give_back()  # a generator that is closed cannot end the program, perhaps
        else:
            sigterm.leave()


class _Thread:
    """A flow in a thread with an event loop of its own, read from the caller's thread."""

    def __init__(self, spec: GraphSpec, options: RunOptions, feeds: Mapping[str, Any]) -> None:
        self._given = (spec, options, feeds)
        self._chunks: queue.SimpleQueue[list[Any] | BaseException] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[BaseException | None] | None = None
        self._began = threading.Event()
        self._over = False
        let_threads_pass()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="cascata-stream", daemon=True)
        begin(self._thread)

    # -- in the thread

    def _work(self) -> None:
        last: list[Any] | BaseException = []
        try:
            with own_loop() as loop:
                loop.run(self._read())
        except BaseException as error:  # goes to the caller, whatever it is
            last = error
        self._began.set()  # if it never did, nobody is to wait for that
        self._chunks.put(last)

    async def _read(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._room = asyncio.Semaphore(AHEAD)
        self._began.set()
        async with Flow(*self._given) as flow:
            while chunk := await flow.chunk():
                await self._room.acquire()
                self._chunks.put(chunk)

    # -- in the caller's thread

    def chunk(self) -> list[Any]:
        """The next results; none when all have been given. Raises what ended the run."""
        chunk = take(self._chunks)
        if isinstance(chunk, BaseException):
            self._over = True
            raise chunk
        if chunk:
            self._in_loop(self._room.release)
        else:
            self._over = True
        return chunk

    def end(self) -> None:
        """Cancels what goes on, and returns when nothing is left. A Ctrl-C meanwhile kills it, and is raised then."""
        arrived: BaseException | None = None
        while True:
            try:
                if not self._over:
                    self._over = True
                    until(self._began.wait)
                    self._cancel()
                join(self._thread)
                break
            except BaseException as error:  # of a signal handler
                arrived = error
                self._cancel()
        if arrived is not None:
            raise arrived

    def _cancel(self) -> None:
        if self._task is not None:
            self._in_loop(self._task.cancel)

    def _in_loop(self, call: Any) -> None:
        assert self._loop is not None  # `_began` is set
        with suppress(RuntimeError):  # the loop is closed: there is nothing to tell any more
            self._loop.call_soon_threadsafe(call)
