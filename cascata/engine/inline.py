"""The engine that runs a graph in this process, in one event loop: for debugging, and for small graphs.

Every channel is local, nothing is pickled, and a breakpoint stops where it stands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..errors import CascataError, ComponentError, RunTimeout
from ..model import GraphSpec, Plan
from ..observe.board import Board, BoardShape
from ..observe.progress import progress_of
from ..observe.report import RunReport
from ..options import RunOptions
from ..runtime.idle import IdleReport, Rest, may_end
from ..runtime.worker import Worker
from . import supervisor
from .account import make_report, raise_outcome, tell_of_growth
from .caller import Caller
from .stall import room_that_helps, who_waits
from .watch import InlineWatch

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
        self._errors: list[BaseException] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None
        self._early: list[supervisor.Event] = []
        self._cancelled = False
        self._ending: asyncio.Future[None]
        self._killed: asyncio.Future[None]
        self._capacity = {channel.id: channel.capacity for channel in spec.channels}
        self.abandoned = False
        """Whether nodes that resist cancellation are left behind: nobody can wait for them."""

    # -- from any thread

    def post(self, event: supervisor.Event) -> None:
        """Hands an event to the run: `StopAsked`, `CancelAsked`, `KillAsked`."""
        if self._loop is None:
            self._early.append(event)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handle, event)

    def _handle(self, event: supervisor.Event) -> None:
        assert self._worker is not None  # made before any event is handled
        match event:
            case supervisor.StopAsked(within):
                self._worker.drain()
                if within is not None:
                    asyncio.get_running_loop().call_later(within, self._handle, supervisor.CancelAsked())
            case supervisor.CancelAsked() | supervisor.KillAsked():
                self._cancelled = True
                self._end()
                if isinstance(event, supervisor.KillAsked) and not self._killed.done():
                    self._killed.set_result(None)
            case _:
                raise AssertionError(f"no event for a run in this process: {event}")

    # -- told by the worker

    def failed(self, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        """What still runs is to end within `grace` from now."""
        if error is not None:
            self._errors.append(error)
        if not self._ending.done():
            self._ending.set_result(None)

    def overdue(self, error: ComponentError) -> None:
        loop = self._loop
        assert loop is not None  # a call runs in it

        with suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(self._end, error)

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
            self._end(supervisor.stuck(waits))
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
        running = asyncio.ensure_future(worker.run())
        try:
            totals = None if self._caller is None else self._caller.totals
            with progress_of(spec, board, totals, wanted=options.progress):
                done, _ = await asyncio.wait(
                    [running, self._ending], timeout=options.timeout, return_when=asyncio.FIRST_COMPLETED
                )
            if not done:
                told = worker.doing()
                self._errors.append(
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
                if self.abandoned and self._errors and isinstance(self._errors[0], CascataError):
                    resist = ", ".join(node.name for node in worker.nodes if not node.has_ended)
                    self._errors[0].add_note(
                        f"{resist} did not stop within {options.grace:g} s, and was left behind: in this process "
                        f"nothing can kill it"
                    )
        finally:
            watch.stop()
            worker.deadlines.close()
        wall_s = time.perf_counter() - began
        report = make_report(
            spec,
            self._plan,
            board,
            wall_s,
            "inline",
            complete=not self._errors and not self._cancelled,
            lost=frozenset({0} if self.abandoned else ()),
        )
        if not self.abandoned:
            board.close()
        if interrupted is not None:
            raise interrupted
        raise_outcome(self._errors, report, cancelled=self._cancelled)
        return report
