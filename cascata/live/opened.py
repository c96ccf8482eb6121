"""A graph that runs while a block of the caller's does: `async with graph.open() as live`.

    live.numbers.send(x) ──> source ──> ... the graph ... ──> sink ──> async for x in live.results

Sources and sinks are nodes of the run, in the caller's event loop (`runtime.ports.source_sink`); what is here holds
their ends, and tells the caller what became of the run.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from ..channel.base import Around, Pending
from ..engine import sigterm
from ..engine.run import OpenRun
from ..errors import CascataError, ChannelClosed, NoAnswer, bounded_repr
from ..faces import public
from ..interrupts import HEARD_S
from ..model import GraphSpec
from ..observe.report import RunReport
from ..options import RunOptions, suggestion
from ..runtime.live_calls.answers import AnsweringSink
from ..runtime.live_calls.paths import refusals
from ..runtime.ports.source_sink import SinkEnd, SourceEnd
from .arguments import one_source_and_sink, sinks_of, sources_of

__all__ = ["Live", "LiveSink", "LiveSource"]


class LiveSource:
    """A source of a running graph, as its caller sees it: `live.numbers`. For the tasks of one event loop.

    Attributes:
        name: of the node.
    """

    __slots__ = ("_end", "_live", "_put", "name")

    def __init__(self, live: Live, end: SourceEnd) -> None:
        self.name: str = end.node.name
        self._live = live
        self._end = end
        self._put: Callable[[Any], Awaitable[None]] = end.send

    def send(self, item: Any) -> Awaitable[None]:
        """Sends an item: `await live.numbers.send(item)`. Waits while the graph has no room for it.

        The item is given away: do not change it afterwards.

        Raises:
            ChannelClosed: the source is closed, or the run has ended; or nobody reads what the source sends any more.
            CascataError: the run has failed: its error.

        Cancelled: the item was not sent (to those of several in-ports that had no room).
        """
        done = self._put(item)
        return Around(partial(self._late, done), (done,)) if isinstance(done, Pending) else done

    async def _late(self, pending: Awaitable[None]) -> None:
        try:
            await pending
        except ChannelClosed:
            await self._live._raise_failure()
            raise

    def close(self) -> None:
        """Ends the source: nothing more is sent. Returns at once; may be called again."""
        self._end.close()

    def __repr__(self) -> str:
        return f"<source {self.name}>"


class LiveSink:
    """A sink of a running graph, as its caller sees it: `async for value in live.results`.

    Several tasks may read it: each item goes to one of them. The loop ends when the stream does.

    Attributes:
        name: of the node.
    """

    __slots__ = ("_end", "_live", "_readers", "name")

    def __init__(self, live: Live, end: SinkEnd) -> None:
        self.name: str = end.node.name
        self._live = live
        self._end = end
        self._readers: dict[weakref.ref[_Values], asyncio.Task[Any] | None] = {}

    def __aiter__(self) -> AsyncIterator[Any]:
        values = _Values(self._live, self._end)
        self._readers[weakref.ref(values, self._gone)] = asyncio.current_task()
        return values

    def _gone(self, reader: weakref.ref[_Values]) -> None:
        self._readers.pop(reader, None)
        self._look()

    def _reader_ended(self, reader: weakref.ref[_Values], _: object) -> None:
        self._gone(reader)

    def _leave(self) -> None:
        """The block is left: what nobody reads any more is dropped. Other tasks that read it go on to its end."""
        leaving = asyncio.current_task()
        for reader, task in list(self._readers.items()):
            if task is None or task is leaving or task.done():
                del self._readers[reader]
            else:
                task.add_done_callback(partial(self._reader_ended, reader))
        self._look()

    def _look(self) -> None:
        if self._live._leaving and not self._readers:
            self._end.leave()

    def __repr__(self) -> str:
        return f"<sink {self.name}>"


class _Values:
    """One loop over what comes to a sink."""

    __slots__ = ("__weakref__", "_live", "_take")

    def __init__(self, live: Live, end: SinkEnd) -> None:
        self._live = live
        self._take = end.take

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._take()
        except StopAsyncIteration:
            await self._live._raise_failure()
            raise


@public
class Live:
    """A running graph, while the block `async with graph.open(...) as live` lasts.

    Its sources and sinks are attributes under their names: `live.numbers.send(item)`, `live.results`; so are
    `live["numbers"]` and `live["results"]`. To be used in one event loop, by any number of its tasks.

    Leaving the block closes the sources and waits for the end of the run. Components that send of themselves are
    stopped then, as `stop` does, and have the run's `grace` to end; what was sent has as long as it takes. A sink that
    another task reads is read to its end; what nobody reads is dropped, and counted. Leaving it by an exception cancels
    the run. Either way nothing is left of it then. An error of the run is raised by what meets it first: a `send`, a
    loop over a sink, or the end of the block.

    Args:
        spec: the graph, checked.
        options: of the run.
        calls: whether `call` is there, if the graph has one source and one sink: the run pays a little for it.
        totals: source -> how many items it will send, where that is known.
    """

    def __init__(
        self, spec: GraphSpec, options: RunOptions, *, calls: bool = False, totals: Mapping[str, int] | None = None
    ) -> None:
        self._totals = totals
        self._calls = calls and one_source_and_sink(spec)
        self._spec = spec
        self._options = options
        self._run: OpenRun | None = None
        self._sources: dict[str, LiveSource] = {}
        self._sinks: dict[str, LiveSink] = {}
        self._refusals: list[str] | None = None
        """Why calls are refused: none, or not looked at yet."""
        self._leaving = False
        self._own: BaseException | None = None
        self._told = False

    # -- what it is to the caller

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def __getitem__(self, name: str) -> Any:
        """The source or sink of a name. Raises `KeyError`, with the nearest name."""
        found = self._sources.get(name) or self._sinks.get(name)
        if found is None:
            if self._run is None:
                raise KeyError(f"{name!r}: the graph does not run yet. Write `async with graph.open() as live:`")
            hint = suggestion(name, [*self._sources, *self._sinks])
            raise KeyError(f"the graph has no source or sink {name!r}.{hint}")
        return found

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._sources, *self._sinks]

    @property
    def report(self) -> RunReport:
        """The report of the run, when the block has been left.

        Raises:
            CascataError: the run goes on, or it did not succeed.
        """
        ended = None if self._run is None else self._run.ended
        if ended is None or not ended.done():
            raise CascataError("live.report: there is no report before the block `async with graph.open()` is left")
        error = self._failure()
        if ended.cancelled() or error is not None:
            raise CascataError("live.report: the run did not succeed, so there is no report of it") from error
        return ended.result()

    async def call(self, item: Any, timeout: float | None = None) -> Any:
        """Sends an item, and waits for the answer to this very item: `answer = await live.call(21, timeout=1.0)`.

        For graphs with one source and one sink. Any number of calls may be in flight, in any number of tasks. The
        answer is the first that comes to the sink of what the item has become, whatever way it took; a second one is
        dropped, and counted. A graph in which a node keeps items, or puts those of several calls together, is refused.

        Args:
            item: what to send. It is given away: do not change it afterwards.
            timeout: seconds to wait, for room and for the answer; None: for ever.

        Returns:
            What came to the sink.

        Raises:
            ComponentError: a node failed at this item. Other calls and the run go on.
            SerializationError: this item, or what became of it, cannot cross to another process.
            NoAnswer: the item came to nothing, since a node dropped it or keeps it; or the run has ended before.
            TimeoutError: the time is over. Its answer is dropped when it comes.
            ChannelClosed: the source was closed.
            CascataError: the run has failed: its error. Or the graph has not one source and one sink, or a node on the
                way keeps items or puts them together: then nothing is sent, and the text names each such place. Or a
                node was found to do so meanwhile.

        Cancelled: its answer is dropped when it comes.
        """
        if not self._calls or not self._sinks:
            raise CascataError(
                "live.call: for graphs with one source and one sink, inside `async with graph.open()`; this one has "
                f"{len(sources_of(self._spec))} and {len(sinks_of(self._spec))}"
            )
        if self._refusals is None:
            self._refusals = refusals(self._spec, restarts=self._options.on_worker_death == "restart")
        if self._refusals:
            raise CascataError(
                "live.call: this graph would not give each caller its own answer: " + "; ".join(self._refusals)
            )
        (source,), (sink,) = self._sources.values(), self._sinks.values()
        end = sink._end
        assert isinstance(end, AnsweringSink)  # the run is opened for calls
        try:
            if timeout is None:
                return await end.ask(source._end, item)
            try:
                async with asyncio.timeout(timeout) as limit:
                    return await end.ask(source._end, item)
            except TimeoutError as error:
                if limit.expired():
                    raise TimeoutError(f"live.call: no answer to {bounded_repr(item)} within {timeout:g} s") from error
                raise
        except (ChannelClosed, NoAnswer):
            await self._raise_failure()
            raise

    # -- its end

    @property
    def run(self) -> OpenRun:
        """The run: `live.run.state`, `live.run.stop(within=)`, `live.run.cancel()`.

        Raises:
            CascataError: the graph does not run yet.
        """
        if self._run is None:
            raise CascataError("live.run: the graph does not run yet. Write `async with graph.open() as live:`")
        return self._run

    def stop(self, within: float | None = None) -> None:
        """Stops the run: sources are closed, what is in flight arrives, sinks end. Returns at once.

        Inside the block; from any thread. `send` raises `ChannelClosed` from then on. The block goes on, and its end
        waits for the end of the run.

        Args:
            within: seconds that it has, as for `Graph.stop`; None: the `grace` of the run.

        Raises:
            DefinitionError: that is no number of seconds.
            CascataError: the graph does not run yet.
        """
        self.run.stop(within)

    def cancel(self) -> None:
        """Cancels the run: its nodes are cancelled, state is torn down, sinks end. Returns at once; from any thread.

        Raises:
            CascataError: the graph does not run yet.
        """
        self.run.cancel()

    # -- the block

    async def __aenter__(self) -> Self:
        if self._run is not None:
            raise CascataError("graph.open(): what it returns is for one block. Call graph.open() for each")
        run = self._run = OpenRun(self._spec, self._options, calls=self._calls, totals=self._totals)
        run.ended.add_done_callback(
            lambda ended: ended.cancelled() or ended.exception()
        )  # it is told, if it is asked for
        try:
            waits: list[asyncio.Future[Any]] = [run.caller.ends, run.ended]
            while not any(
                each.done() for each in waits
            ):  # a signal may have left no more than a note: see `interrupts`
                await asyncio.wait(waits, timeout=HEARD_S, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            run.cancel()
            await run.wait()
            raise
        if run.ended.done() or not run.caller.ends.done():  # it could not begin, or has failed before anybody looked
            await run.wait()
            if (failure := self._failure()) is not None or not run.caller.ends.done():
                raise failure or asyncio.CancelledError
        self._hold(run.caller.ends.result())
        sigterm.entered(self, run.ended)
        return self

    def _hold(self, ends: Mapping[str, Any]) -> None:
        for name, end in ends.items():
            if isinstance(end, SourceEnd):
                self._sources[name] = LiveSource(self, end)
            else:
                self._sinks[name] = LiveSink(self, end)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._leave(error)
        finally:
            sigterm.left(self)
            await sigterm.leave_async()

    async def _leave(self, error: BaseException | None) -> None:
        run = self._run
        assert run is not None  # made by `__aenter__`
        self._leaving = True
        # A source that takes no more since the run was stopped is no reason to lose what is in flight.
        stopped = isinstance(error, ChannelClosed) and run.state == "draining"
        if error is not None and not stopped:
            run.cancel()
            await run.wait()
            failure = self._failure()
            if not self._told and failure is not None and failure is not error:
                error.add_note(f"the run of the graph has failed as well: {failure}")
            return
        try:
            await asyncio.sleep(0)  # tasks that were just made begin: they may be about to send, or to read
        except asyncio.CancelledError:
            run.cancel()
            await run.wait()
            raise
        for source in self._sources.values():
            source.close()
        for sink in self._sinks.values():
            sink._leave()
        run.leave()
        await run.wait()
        failure = self._failure()
        if failure is not None and not self._told and error is None:
            self._told = True
            raise failure

    # -- what became of the run

    def _fail(self, error: BaseException) -> None:
        """Ends the run for an error of the caller's own, which is then told as it is."""
        if self._own is None and self._run is not None:
            self._own = error
            self._run.cancel()

    def _failure(self) -> BaseException | None:
        """What a run that has ended failed with; None when it succeeded, or was cancelled by the caller."""
        assert self._run is not None
        ended = self._run.ended
        if self._own is not None or ended.cancelled():
            return self._own
        error = ended.exception()
        return None if isinstance(error, asyncio.CancelledError) else error

    async def _raise_failure(self) -> None:
        """Called when a source or sink takes or gives no more: raises the error of the run, if that is why."""
        held: list[LiveSource | LiveSink] = [*self._sources.values(), *self._sinks.values()]
        if not any(each._end.aborted for each in held):
            return
        assert self._run is not None
        await asyncio.wait([self._run.ended])
        failure = self._failure()
        if failure is not None:
            self._told = True
            raise failure
