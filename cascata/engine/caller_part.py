"""The caller's part of a run: its sources and sinks, in the caller's event loop.

    run's thread                                caller's loop
    ProcessRun ── seat: fds, board, names ──> Caller: a `runtime.Worker` of the sources and sinks
               ── ToWorker ─────────────────>    │ its ends of the channels that cross are the same as any worker's
               <── FromWorker ───────────────────┘

To the supervisor it is one more part of the plan, behind the workers: it counts the writers there, tells it to cancel,
and waits for its end. What it cannot do is kill it: a caller whose loop stands still is left to find out.

An engine that runs in the caller's own loop has all nodes in one worker, and just gives it to `Caller.at`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from ..errors import SerializationError
from ..interrupts import could_not_begin
from ..model import GraphSpec
from ..observe.board import Board
from ..records import dataclass
from ..runtime.live_calls.answers import AnsweringSink
from ..runtime.ports.source_sink import End
from ..runtime.worker import Links, Refused, Worker
from .protocol.messages import Describe, Doing, FromWorker, Reporter, ToWorker
from .supervision.events import CancelAsked, Event, Exited
from .worker.obeying import handlers

__all__ = ["Caller", "Seat", "own_ends"]


@dataclass(frozen=True, slots=True)
class Seat:
    """What the caller's part of a run is made of.

    Args:
        index: of this part: behind the workers.
        spec: the graph.
        nodes: the sources and sinks.
        crossing: the channels that cross.
        skip_errors: whether the run goes on without items that fail.
        grace: seconds that what resists its end has.
        debug: whether items are watched that are changed after they were sent.
        equip: makes, in the caller's loop, the stats board and the ends of the channels that cross; it puts on the
            stack what ends them, and is given what is to be told of items that cannot cross.
        close: called when the seat is not needed any more, taken or not.
        ready: called when the ends have been made.
    """

    index: int
    spec: GraphSpec
    nodes: tuple[str, ...]
    crossing: frozenset[int]
    skip_errors: bool
    grace: float
    debug: bool
    equip: Callable[[ExitStack, Refused], tuple[Board, Links]]
    close: Callable[[], None]
    ready: Callable[[], None]


class Caller:
    """The caller's part of one run. Make it in the caller's event loop.

    Args:
        calls: whether the run is opened for calls.

    Attributes:
        calls: the same.
        totals: source -> how many items it will send, where that is known.
        ends: node -> what the caller holds of it; done when the run has been set up.
    """

    def __init__(self, *, calls: bool) -> None:
        self.calls = calls
        self.totals: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self.ends: asyncio.Future[Mapping[str, End]] = self._loop.create_future()
        self._worker: Worker | None = None
        self._reporter: Reporter | None = None
        self._hear: Callable[[FromWorker | Event], None]
        self._task: asyncio.Task[None] | None = None

    def at(self, worker: Worker) -> None:
        """In the caller's loop: here is the worker that has the sources and sinks."""
        self._worker = worker
        if not self.ends.done():
            self.ends.set_result({node.name: node.end for node in worker.nodes if node.end is not None})

    def returned(self, balance: Mapping[int, int]) -> None:
        """What nodes have taken and sent of the items of calls; in the caller's loop, as `call_failed`."""
        for sink in self._sinks():
            sink.returned(balance)

    def call_failed(self, tags: Sequence[int], error: BaseException) -> None:
        """The item of some calls has failed."""
        for sink in self._sinks():
            sink.failed(tags, error)

    def _sinks(self) -> list[AnsweringSink]:
        ends = self.ends.result().values() if self.ends.done() else ()
        return [end for end in ends if isinstance(end, AnsweringSink)]

    # -- for engines whose supervisor runs in another thread

    def tell(self, what: Callable[[Caller], None]) -> None:
        """Has something told to this part, in the caller's loop; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: there is no caller any more
            self._loop.call_soon_threadsafe(what, self)

    def take(self, seat: Seat, hear: Callable[[FromWorker | Event], None]) -> None:
        """Has this part of the run begin; from any thread.

        Args:
            seat: what it is made of.
            hear: called with its messages, in any thread.
        """
        self._hear = hear
        self._reporter = Reporter(seat.index, hear)
        try:
            self._loop.call_soon_threadsafe(self._begin, seat)
        except RuntimeError:  # the loop is closed: there is no caller any more
            seat.close()
            self.abandon()

    def send(self, message: ToWorker) -> None:
        """Has a message handled as a worker does; from any thread. After the end there is nothing to be done."""
        worker, reporter = self._worker, self._reporter
        if reporter is None or self._loop.is_closed():
            self.abandon()
        elif worker is None:  # it begins in the loop's next turn
            if self._task is not None and self._task.done():
                return  # it could not begin, which it has told
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.send, message)
        elif isinstance(message, Describe):  # at once: the loop may stand still
            reporter.send(Doing(message.worker, worker.doing()))
        else:
            with suppress(RuntimeError):
                handlers(worker, self._loop, reporter)[type(message)](message)

    def abandon(self) -> None:
        """The run does not wait for this part any longer; from any thread."""
        if self._reporter is not None:
            self._hear(CancelAsked())
            self._exited(self._reporter)

    def _exited(self, reporter: Reporter) -> None:
        """To the supervisor this part is a worker, which exits when its nodes have ended."""
        reporter.finished()
        self._hear(Exited(reporter.worker, 0))

    def _begin(self, seat: Seat) -> None:
        assert self._reporter is not None  # `take` made it
        self._task = asyncio.ensure_future(self._live(seat, self._reporter))

    async def _live(self, seat: Seat, reporter: Reporter) -> None:
        try:
            with ExitStack() as stack:
                worker = self._seated(seat, reporter, stack)
                await worker.run()
            self._exited(reporter)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                reporter.failed(could_not_begin(error) if isinstance(error, OSError) else error)
            self.abandon()
            if not isinstance(error, Exception):
                raise

    def _seated(self, seat: Seat, reporter: Reporter, stack: ExitStack) -> Worker:
        def refused(error: SerializationError, owners: Sequence[str], item: Any) -> None:
            worker.refused(error, owners, item)

        try:
            board, links = seat.equip(stack, refused)
            worker = Worker(
                seat.index,
                seat.spec,
                seat.nodes,
                seat.crossing,
                links,
                board,
                reporter,
                skip_errors=seat.skip_errors,
                grace=seat.grace,
                debug=seat.debug,
                calls=self.calls,
                at_caller=True,
            )
        finally:
            seat.close()
        self.at(worker)
        seat.ready()
        return worker


def own_ends(ends: Any) -> Any:
    """A copy of the ends whose fds are duplicates of the given ones.

    Raises:
        OSError: the system is short of fds; nothing is left open then.
    """
    made: list[int] = []

    def duplicate(fd: int) -> int:
        made.append(os.dup(fd))
        return made[-1]

    try:
        return ends.numbered(duplicate)
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
