"""The engine that runs a graph in this process, in one event loop: for debugging, and for small graphs.

Every channel is local, nothing is pickled, and a breakpoint stops where it stands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .. import log
from ..errors import CascataError, ComponentError, RunTimeout
from ..model import GraphSpec, Plan
from ..observe.board import Board, BoardShape
from ..observe.progress import progress_of
from ..observe.report import RunReport
from ..options import RunOptions
from ..runtime.idle import IdleReport, Rest, may_end
from ..runtime.worker import Worker
from .caller_part import Caller
from .protocol.messages import CancelWorker, DrainWorker, EndSources, Failed, SourcesEnded
from .stray_tasks import Strays, leave_behind, settled
from .supervision.events import Event, GraceOver, Ready
from .supervision.instructions import KillWorker, SetTimer
from .supervision.outcome import make_report, raise_outcome, tell_of_growth
from .supervision.stall import room_that_helps, who_waits
from .supervision.supervisor import RunState, Supervisor, stuck
from .supervision.watchdog import InlineWatch

__all__ = ["InlineRun"]


class InlineRun:
    """One run in the running event loop. `main` is its whole life; `post` tells it something, from any thread."""

    def __init__(self, spec: GraphSpec, options: RunOptions, caller: Caller | None = None) -> None:
        self._spec = spec
        self._caller = caller
        self._plan = Plan(
            (tuple(spec.nodes),), dict.fromkeys(spec.nodes, "everything runs in this process"), frozenset()
        )
        self._options = options
        self._supervisor = Supervisor(spec, self._plan, options.grace)
        self._supervisor.handle(Ready(0))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None
        self._early: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None]
        self._killed: asyncio.Future[None]
        self._capacity = {channel.id: channel.capacity for channel in spec.channels}
        self.abandoned = False
        """Whether nodes that resist cancellation are left behind: nobody can wait for them."""

    # -- from any thread

    def post(self, event: Event) -> None:
        """Hands an event to the run: `StopAsked`, `CancelAsked`, `KillAsked`."""
        if self._loop is None:
            self._early.append(event)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handle, event)

    @property
    def state(self) -> RunState:
        return self._supervisor.state

    def _handle(self, event: Event) -> None:
        worker = self._worker
        assert worker is not None  # made before any event is handled
        for instruction in self._supervisor.handle(event):
            match instruction:
                case DrainWorker():
                    worker.drain()
                case EndSources():
                    worker.end_sources()
                case SetTimer(seconds):
                    if self._timer is not None:
                        self._timer.cancel()
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(seconds, self._handle, GraceOver())
                case CancelWorker():
                    self._end()
                case KillWorker():
                    self._end()
                    if not self._killed.done():
                        self._killed.set_result(None)
                case _:
                    raise AssertionError(f"nothing that a run in this process does: {instruction}")

    # -- told by the worker

    def failed(self, error: BaseException) -> None:
        self._handle(Failed(0, error))

    def _end(self) -> None:
        """What still runs is to end within `grace` from now."""
        if not self._ending.done():
            self._ending.set_result(None)

    def sources_ended(self) -> None:
        self._handle(SourcesEnded(0))

    def overdue(self, error: ComponentError) -> None:
        loop = self._loop
        assert loop is not None  # a call runs in it

        with suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(self.failed, error)

    def writers_done(self, edges: Sequence[int]) -> None:
        """Nothing crosses here."""

    def reader_done(self, channel: int) -> None:
        """Nothing crosses here."""

    def cycle_rests(self, cycle: int, rest: Rest) -> None:  # nothing crosses
        """There are no other parts."""
        assert self._worker is not None
        if may_end([rest]):
            self._worker.end_cycle(cycle)

    def cycle_unread(self, cycle: int) -> None:
        """There are no other parts."""
        assert self._worker is not None
        self._worker.stop_cycle(cycle)

    def returned(self, balance: Mapping[int, int]) -> None:
        assert self._caller is not None  # the run is opened for calls
        self._caller.returned(balance)

    def call_failed(self, tags: Sequence[int], error: BaseException) -> None:
        assert self._caller is not None
        self._caller.call_failed(tags, error)

    def idle(self, report: IdleReport) -> None:
        """There are no other workers that could help: only more room can."""
        assert self._worker is not None
        full = room_that_helps(self._spec, [report])
        waits = who_waits(self._spec, [report])
        if not full:
            self.failed(stuck(waits))
            return
        channel = min(full, key=lambda each: (self._capacity[each], each))
        capacity = self._capacity[channel]
        self._capacity[channel] = 2 * capacity
        tell_of_growth(self._spec, channel, capacity, capacity, waits)
        self._worker.grow(channel, capacity)

    # -- its life

    async def main(self) -> RunReport:
        """Runs the graph to its end.

        Returns:
            The report.

        Raises:
            CascataError: the first failure, with the others in `.others`.
            CancelledError: the run was cancelled.
        """
        began = time.perf_counter()
        interrupted: asyncio.CancelledError | None = None
        spec, options = self._spec, self._options
        loop = self._loop = asyncio.get_running_loop()
        self._ending = loop.create_future()
        self._killed = loop.create_future()
        board = Board(BoardShape(len(spec.nodes), len(spec.edges), len(spec.channels), 1))
        worker = self._worker = Worker(
            0,
            spec,
            tuple(spec.nodes),
            frozenset(),
            None,
            board,
            self,
            skip_errors=options.on_error == "skip",
            grace=options.grace,
            debug=options.debug,
            calls=self._caller is not None and self._caller.calls,
        )
        watch = InlineWatch(worker, spec, options.slow_after)  # what cannot start should fail before anything runs
        if self._caller is not None:
            self._caller.at(worker)
        for event in self._early:
            loop.call_soon(self._handle, event)
        strays = Strays()
        running = asyncio.ensure_future(worker.run())
        try:
            totals = None if self._caller is None else self._caller.totals
            with progress_of(spec, board, totals, wanted=options.progress):
                done, _ = await asyncio.wait(
                    [running, self._ending], timeout=options.timeout, return_when=asyncio.FIRST_COMPLETED
                )
            if not done:
                told = worker.doing()
                self.failed(
                    RunTimeout(
                        f"the run did not end within its timeout of {options.timeout:g} s. What the nodes were doing: "
                        f"{told}. Give it more time (`timeout=`), or none (`timeout=None`)",
                        doing={0: told},
                    )
                )
        except asyncio.CancelledError as error:
            interrupted = error
        try:
            if not running.done():
                worker.cancel()
                self.abandoned = True  # until it has ended: a second Ctrl-C may end this wait
                until = loop.time() + options.grace
                while not (running.done() or self._killed.done()) and (left := until - loop.time()) > 0:
                    try:
                        await asyncio.wait([running, self._killed], timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    except asyncio.CancelledError as error:  # again: the nodes have their grace all the same
                        interrupted = error
                self.abandoned = not running.done()
                if self.abandoned:
                    self._leave_behind(worker)
        finally:
            watch.stop()
            worker.deadlines.close()
            if self._timer is not None:
                self._timer.cancel()
        wall_s = time.perf_counter() - began
        run, left = self._supervisor, self.abandoned
        try:
            wheres = [node.where for node in worker.nodes]
            over = await strays.end(wheres, worker.left(), 0 if left else options.grace, self._killed)
            self.abandoned = left or not over
            if self.abandoned:
                await settled()
        except asyncio.CancelledError as error:
            interrupted = error
        report = make_report(
            spec,
            self._plan,
            board,
            wall_s,
            "inline",
            complete=not run.errors and not run.cancelled and not run.cut_short,
            lost=frozenset({0} if left else ()),
        )
        if not left:
            board.close()
        if interrupted is not None:
            raise interrupted
        raise_outcome(run.errors, report, cancelled=run.cancelled)
        return report

    def _leave_behind(self, worker: Worker) -> None:
        """Nodes did not end when they were cancelled. In this process nothing can kill them."""
        resist = ", ".join(node.name for node in worker.nodes if not node.has_ended)
        text = (
            f"{resist} did not stop within {self._options.grace:g} s, and was left behind: in this process nothing "
            f"can kill it"
        )
        errors = self._supervisor.errors
        if errors and isinstance(errors[0], CascataError):
            errors[0].add_note(text)
        elif self._supervisor.cut_short:
            log.warning("%s", text)
        for task in worker.left():
            leave_behind(task)
