"""What every engine with workers does alike: it asks the supervisor, and has its instructions carried out.

    workers ── FromWorker ──> _hear ── Event ──> Supervisor ── Instruction ──> _carry_out ── ToWorker ──> workers
    post, from any thread ───────────────┘                                          └──> kill, end a channel, a timer

An engine brings the rest: how workers start, how a message reaches one, and what a channel's end is.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

from ... import log
from ...errors import CascataError, RunTimeout, in_words
from ...interrupts import could_not_begin
from ...model import GraphSpec, Plan
from ...observe.board import Board, BoardShape
from ...observe.log import replay, worker_level
from ...observe.progress import progress_of
from ...observe.report import RunReport
from ...options import RunOptions
from ...runtime.worker import Links, Refused
from ...transport.ends.unread import Unread
from .. import run_at_import, sigterm
from ..caller_part import Caller, Seat
from ..protocol.messages import (
    CallFailed,
    CancelWorker,
    Describe,
    Doing,
    Failed,
    FromWorker,
    GrowChannel,
    Located,
    Log,
    Returned,
    Stay,
    Terminated,
    ToWorker,
)
from ..worker.setup import modules_of
from .events import CancelAsked, Event, GraceOver, KillAsked, Ready, StopAsked, TimedOut, TimeoutReported
from .instructions import (
    DescribeWorkers,
    EndReading,
    EndWriting,
    Finish,
    Grow,
    Instruction,
    KillWorker,
    RestartWorker,
    SetTimer,
)
from .outcome import make_report, raise_outcome, tell_of_growth, tell_of_resistance, tell_of_restart
from .supervisor import Phase, RunState, Supervisor
from .watchdog import Answer, WorkerWatch

__all__ = ["SupervisedRun", "cannot_start"]

T = TypeVar("T")


def cannot_start(worker: int, method: str, problem: BaseException) -> CascataError:
    """The error for a worker that could not be started.

    Args:
        worker: its index.
        method: by which it was to start.
        problem: what hindered that.
    """
    why = (
        str(problem)  # it says what to do
        if isinstance(problem, CascataError)
        else f"{in_words(problem)}. The system may be short of memory, of processes or of open files "
        f"(`ulimit -n`); fewer workers (num_workers=) need less"
    )
    error = CascataError(f"worker {worker} could not be started ({method}): {why}")
    error.__cause__ = problem
    return error


def _raise_if_it_ends(event: Event, what: str) -> None:
    """Ends a run that has not begun, and is still doing something (`what`, in words), if an event is to end it.

    Raises:
        RunTimeout: its time is over.
        CancelledError: it was cancelled.
    """
    match event:
        case CancelAsked() | KillAsked():
            raise asyncio.CancelledError
        case TimedOut(seconds):
            raise RunTimeout(
                f"the run did not end within its timeout of {seconds:g} s: it had not begun, but was still {what}. "
                f"Give it more time (`timeout=`), or none (`timeout=None`)"
            )


class SupervisedRun(ABC):
    """One run on workers. `main` is its whole life; `post` tells it something, from any thread.

    Args:
        spec: the graph, checked.
        plan: which node runs on which worker.
        options: of the run.
        caller: has the graph's sources and sinks, if there are any.
        alone: the nodes that start again when their worker dies; each has a worker of its own.
    """

    def __init__(
        self,
        spec: GraphSpec,
        plan: Plan,
        options: RunOptions,
        caller: Caller | None = None,
        alone: AbstractSet[str] = frozenset(),
    ) -> None:
        self._spec = spec
        self._options = options
        self._caller = caller
        self._alone = alone
        self._begun_by = run_at_import.begun_by()
        self._watch: WorkerWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over: GraceOver | None = None
        """What it will hand in. One of a timer before may be among the events still: its time does not count."""
        self._forgetful: frozenset[int] = frozenset()
        """Parts that do not know what was on its way to them when a run is broken off."""
        self._board: Board | None = None
        self._doing: dict[int, str] = {}
        self._unread: dict[int, Unread] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._early: list[Event] = []
        self._beats: Board | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Log: self._on_log,
            Located: self._on_located,
            Doing: self._on_doing,
            Returned: self._on_returned,
            CallFailed: self._on_call_failed,
            Terminated: self._on_terminated,
        }
        """Message that the engine sees to -> what is called with it. An engine adds those that its workers send."""
        self._decided(plan)

    def _decided(self, plan: Plan) -> None:
        """The plan is made: for an engine that makes it when the run has begun, a second time."""
        self._plan = plan
        placed = {node: part for part, nodes in enumerate(plan.parts) for node in nodes}
        self._returning = frozenset(placed[node] for node in self._alone)  # workers that start again when they die
        self._supervisor = Supervisor(self._spec, plan, self._options.grace, self._returning)

    def post(self, event: Event) -> None:
        """Hands an event to the run, from any thread: `StopAsked`, `CancelAsked`, `KillAsked`."""
        loop = self._loop
        if loop is None:
            self._early.append(event)
            return
        with suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(self._events.put_nowait, event)

    @property
    def state(self) -> RunState:
        """How far it has come."""
        state = self._supervisor.state
        if state == "starting" and self._beats is not None:
            with suppress(ValueError):  # the board has just been closed
                if all(map(self._beats.beat, range(len(self._plan.workers)))):
                    return "running"  # which the supervisor is told with the next event
        return state

    @abstractmethod
    async def main(self) -> RunReport:
        """Runs the graph to its end; leaves no process, thread, fd or memory behind.

        Returns:
            The report.

        Raises:
            CascataError: the first failure, with the others in `.others`.
            CancelledError: the run was cancelled from outside.
        """

    # -- what an engine brings

    @abstractmethod
    def _send(self, message: ToWorker) -> None:
        """Sends a message to its worker; one that is gone needs none."""

    @abstractmethod
    def _kill(self, worker: int) -> None:
        """Ends a worker at once."""

    @abstractmethod
    def _end_writing(self, channel: int) -> None:
        """No writer of a crossing channel is left: its readers get what is queued, then its end."""

    @abstractmethod
    def _end_reading(self, channel: int) -> None:
        """No reader of a crossing channel is left: its writers are refused."""

    @abstractmethod
    def _grow(self, channel: int, capacity: int, extra: int) -> None:
        """Gives a crossing channel room for more items."""

    def _restart(self, worker: int, death: CascataError) -> None:
        """Starts a worker again that is gone. Only an engine that says which may be asked to."""
        assert self._board is not None  # made before any worker
        self._board.reset_beat(worker)

    # -- for them

    @property
    def _shape(self) -> BoardShape:
        """Of the stats board."""
        spec = self._spec
        return BoardShape(len(spec.nodes), len(spec.edges), len(spec.channels), len(self._plan.parts))

    def _setup_of(self, worker: int, death: CascataError | None) -> dict[str, Any]:
        """The fields of a worker's `Setup`, as far as this engine has them.

        Args:
            worker: its index.
            death: why it starts again.
        """
        options = self._options
        return {
            "index": worker,
            "nodes": self._plan.workers[worker],
            "crossing": self._plan.crossing,
            "shape": self._shape,
            "skip_errors": options.on_error == "skip",
            "grace": options.grace,
            "debug": options.debug,
            "calls": self._caller is not None and self._caller.calls,
            "log_level": worker_level(),
            "modules": modules_of(self._spec),
            "begun_by": self._begun_by,
            "death": None if death is None else pickle.dumps(death),
        }

    # -- its life

    def _begin(self) -> asyncio.AbstractEventLoop:
        """First in `main`: from now on events are heard."""
        loop = self._loop = asyncio.get_running_loop()
        for event in self._early:
            self._events.put_nowait(event)
        return loop

    @contextmanager
    def _beginning(self) -> Iterator[None]:
        """Inside, the run takes what it needs of the system, which may not have it."""
        try:
            yield
        except (OSError, MemoryError, RuntimeError) as problem:  # a thread that cannot start is a RuntimeError
            if isinstance(problem, CascataError):
                raise
            raise could_not_begin(problem) from problem

    async def _apart(self, what: str, work: Callable[[], T]) -> T:
        """Does something that may take long, or block, in a thread of its own, before there is anything to supervise.

        A thread that does not come back is left behind when the run ends: nothing can end it.

        Args:
            what: is done, in words.
            work: does it.

        Returns:
            What it returns.

        Raises:
            RunTimeout: it has not come back within the run's `timeout`.
            CancelledError: the run was cancelled meanwhile; or stopped, and the time of the stop is over.
            BaseException: what it raises.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        results: list[T] = []
        errors: list[BaseException] = []

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # it goes to who waits
                errors.append(error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        with self._beginning():
            thread = threading.Thread(target=run, name="cascata-begin", daemon=True)
            thread.start()
        later: list[Event] = []
        until: float | None = None  # the end of a stop's time
        try:
            while not done.done():
                heard = asyncio.ensure_future(self._events.get())
                waits: list[asyncio.Future[Any]] = [done, heard]
                left = None if until is None else until - loop.time()
                await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not heard.done():
                    heard.cancel()
                    if done.done():
                        break
                    log.warning("the run was stopped, and had not begun: it was still %s", what)
                    raise asyncio.CancelledError
                event = heard.result()
                if not done.done():
                    _raise_if_it_ends(event, what)
                if isinstance(event, StopAsked) and not event.unhurried:
                    within = self._options.grace if event.within is None else event.within
                    until = min(until, loop.time() + within) if until is not None else loop.time() + within
                later.append(event)
        finally:
            done.cancel()
        thread.join()  # it has told its result, and ends
        for event in later:
            self._events.put_nowait(event)
        for error in errors:
            raise error
        return results[0]

    def _limit_time(self) -> None:
        """From now on the run's `timeout` counts."""
        seconds = self._options.timeout
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self._events.put_nowait, TimedOut(seconds))

    async def _supervise(self, board: Board) -> None:
        """Hands events to the supervisor and carries its instructions out, until the run is over."""
        totals = None if self._caller is None else self._caller.totals
        self._beats = board
        watching = None
        if self._watch is not None:
            watching = self._spawn(self._watch.watch(lambda: self._supervisor.at_work - {len(self._plan.workers)}))
        with progress_of(self._spec, board, totals, wanted=self._options.progress):
            while self._supervisor.phase is not Phase.OVER:
                event = await self._events.get()
                if isinstance(event, GraceOver) and event is not self._over:
                    continue
                # Told by memory, not by a message, which could come after what the worker did as soon as it was ready.
                ready = [Ready(worker) for worker in sorted(self._supervisor.booting) if board.beat(worker)]
                for each in (*ready, event):
                    for instruction in self._supervisor.handle(each):
                        self._carry_out(instruction)
        if watching is not None:
            watching.cancel()

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case KillWorker(worker):
                if worker < len(self._plan.workers):
                    self._kill(worker)
                elif self._caller is not None:
                    self._caller.send(CancelWorker(worker))  # when its loop turns again: nothing else ends its nodes
                    self._caller.abandon()
            case RestartWorker(worker, death, times):
                tell_of_restart(self._plan.workers[worker], death, times)
                self._restart(worker, death)
            case Grow(channel, capacity, extra, worker, waits):
                tell_of_growth(self._spec, channel, capacity, extra, waits)
                if worker is None:
                    self._grow(channel, capacity, extra)
                else:
                    self._tell(GrowChannel(worker, channel, extra))
            case EndWriting(channel):
                self._end_writing(channel)
            case EndReading(channel):
                self._end_reading(channel)
            case SetTimer(seconds):
                if self._timer is not None:
                    self._timer.cancel()
                over = self._over = GraceOver()
                self._timer = asyncio.get_running_loop().call_later(seconds, self._events.put_nowait, over)
            case DescribeWorkers(seconds):
                self._spawn(self._describe(seconds))
            case Finish():
                pass
            case _:
                self._tell(instruction)

    def _tell(self, message: ToWorker) -> None:
        """Sends a message to a part of the run: a worker, or the caller's part."""
        if message.worker < len(self._plan.workers):
            self._send(message)
        elif self._caller is not None:
            self._caller.send(message)

    async def _describe(self, seconds: float) -> None:
        self._doing.clear()
        parts = range(len(self._plan.parts))
        for part in parts:
            self._tell(Describe(part))
        for _ in range(10):
            await asyncio.sleep(seconds / 10)
            if len(self._doing) == len(parts):
                break
        doing = {worker: self._how_it_begins(worker) for worker in self._supervisor.booting} | self._doing
        self._events.put_nowait(TimeoutReported(doing))

    def _how_it_begins(self, worker: int) -> str:
        """What a worker is at that has not begun."""
        return "it is still starting"

    def _end_caller(self) -> None:
        """Ends the caller's part where nobody else does: when the run itself has failed, and not what it supervises."""
        if self._supervisor.phase is not Phase.OVER and self._plan.caller:
            self._tell(CancelWorker(len(self._plan.workers)))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            # Others may wait for what it was to do: better an end than that.
            self._events.put_nowait(Failed(None, problem))

    # -- what workers say

    def _seat(
        self,
        equip: Callable[[ExitStack, Refused], tuple[Board, Links]],
        close: Callable[[], None],
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Has the caller's part of the run begin. Args: as the last fields of `Seat`."""
        assert self._caller is not None  # a graph with sources and sinks is run by who holds their ends
        loop = asyncio.get_running_loop()
        index = len(self._plan.workers)

        def hear(message: FromWorker | Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: the run is over
                loop.call_soon_threadsafe(self._hear, message)

        options = self._options
        self._caller.take(
            Seat(
                index,
                self._spec,
                self._plan.caller,
                self._plan.crossing,
                options.on_error == "skip",
                options.grace,
                options.debug,
                equip,
                close,
                ready,
            ),
            hear,
        )

    def _hear(self, message: FromWorker | Event) -> None:
        """Handles a message of a worker or of the caller's part: what has no handler here, the supervisor decides."""
        self._handlers.get(type(message), self._events.put_nowait)(message)

    def _on_log(self, message: Log) -> None:
        replay(message.record)

    def _on_located(self, message: Located) -> None:
        if self._watch is not None:
            self._watch.answered(message.worker, Answer(message.node, message.stack, message.debugged))

    def _on_doing(self, message: Doing) -> None:
        self._doing[message.worker] = message.what

    def _on_returned(self, message: Returned) -> None:
        if self._caller is not None:
            self._caller.tell(lambda caller: caller.returned(message.balance))

    def _on_call_failed(self, message: CallFailed) -> None:
        if self._caller is not None:
            self._caller.tell(lambda caller: caller.call_failed(message.tags, message.error))

    def _on_terminated(self, message: Terminated) -> None:
        if sigterm.handler_of_the_program() is not None:
            worker = message.worker
            log.info("worker %d got SIGTERM, and goes on: the program has a handler of its own for it", worker)
            self._tell(Stay(worker))

    def _outcome(self, board: Board, wall_s: float, engine: str, start_method: str | None) -> RunReport:
        """The report of the run, or its first failure."""
        run = self._supervisor
        complete = not run.errors and not run.cancelled and not run.cut_short
        report = make_report(
            self._spec,
            self._plan,
            board,
            wall_s,
            engine,
            start_method=start_method,
            unread=self._unread,
            complete=complete,
            lost=run.lost if complete else run.lost | self._forgetful,
            again=run.restarted,
        )
        tell_of_resistance(", ".join(nodes) for nodes in map(self._plan.parts.__getitem__, run.resisted))
        raise_outcome(run.errors, report, cancelled=run.cancelled)
        return report
