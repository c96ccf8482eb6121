"""What to do when something happens to a run: a pure machine, events in, instructions out.

    ready, writers done, reader done, failed, finished, exited ─┐
    stop, cancel, timeout, grace over ──────────────────────────┴─> Supervisor.handle ──┐
                                                                                        │
             drain, cancel, kill, end a channel, set a timer, finish <──────────────────┘

A stop takes three steps: sources end at their next send; after half of its time those are cancelled that wait for
something else; at its end everything that is left is.

    running ──stop──> draining ──┐
       │                         ├──failure, cancel, timeout──> cancelling ──grace over──> killing
       └─────────all workers have exited──────────> over

No clock, no process, no event loop in here: every order of events is a plain unit test. Whoever
drives it carries each instruction out, and hands in what happens then.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, assert_never

from ...errors import CascataError, DeadlockError, RunTimeout, WorkerDied
from ...model import GraphSpec, Plan
from ...runtime.idle import IdleReport, may_end, nothing_on_its_way
from ...runtime.unfed_nodes import unfed_nodes
from ..protocol.messages import (
    CancelWorker,
    ConfirmIdle,
    CycleRests,
    CycleUnread,
    DrainWorker,
    EndCycle,
    EndSources,
    Failed,
    Finished,
    Idle,
    IdleConfirmed,
    Overdue,
    ReaderDone,
    SourcesEnded,
    StopCycle,
    WritersDone,
)
from .events import CancelAsked, Event, Exited, GraceOver, KillAsked, Ready, StopAsked, TimedOut, TimeoutReported
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
from .stall import room_that_helps, who_waits

__all__ = ["REPORT_S", "RESTARTS", "RESTARTS_WITHIN_S", "Phase", "RunState", "Supervisor", "died", "stuck"]

REPORT_S = 0.5
"""Seconds that workers have to say what they are doing, before a run is ended for its timeout."""


RESTARTS = 3
"""Times that a worker is started again within `RESTARTS_WITHIN_S` seconds; at the next death the run ends."""

RESTARTS_WITHIN_S = 60.0


RunState = Literal["starting", "running", "draining", "ended", "failed", "cancelled"]


class Phase(enum.Enum):
    """Where a run is."""

    RUNNING = "running"
    DRAINING = "draining"
    CANCELLING = "cancelling"
    KILLING = "killing"
    OVER = "over"


class Supervisor:
    """The state of one run.

    Args:
        spec: the graph.
        plan: which node runs on which worker.
        grace: seconds that workers have to end after they were cancelled, before they are killed.
        restartable: the workers that are started again when they die.

    Attributes:
        phase: where the run is.
        errors: what failed, the first first.
        cancelled: whether the run was cancelled from outside.
        cut_short: whether the run was to drain within a time and did not: what was left of it was cancelled.
        resisted: the workers that were killed then, since they did not end within `grace` of that.
        booting: the workers that were not ready so far.
        lost: the workers that ended before they had counted all that they did.
        restarted: the workers that were started again.
    """

    def __init__(self, spec: GraphSpec, plan: Plan, grace: float, restartable: AbstractSet[int] = frozenset()) -> None:
        self.phase = Phase.RUNNING
        self.errors: list[BaseException] = []
        self.cancelled = False
        self.cut_short = False
        self.resisted: list[int] = []
        self._spec = spec
        self._plan = plan
        self._grace = grace
        self._alive = set(range(len(plan.parts)))
        self.booting = set(range(len(plan.workers)))
        self.lost: set[int] = set()
        self.restarted: set[int] = set()
        self._restartable = restartable
        self._half = 0.0  # seconds of each half of the time to drain
        self._unhurried = False  # whether only the sources have to end in it
        self._sources_told = False  # whether the first half is over
        self._deaths: dict[int, list[tuple[float, CascataError]]] = {}
        self._overdue_on: dict[int, CascataError] = {}  # workers that are killed to be replaced
        self._finished: set[int] = set()
        self._killed: set[int] = set()
        self._told: set[int] = set()  # workers that know of an end: they were told to drain or to cancel
        self._timeout: float | None = None
        placed = {node: worker for worker, nodes in enumerate(plan.parts) for node in nodes}
        self._placed = placed
        self._with_sources = {placed[node] for node in unfed_nodes(spec)}  # workers on which something sends of itself
        self._stalled: dict[int, IdleReport] = {}
        self._confirmed: dict[int, IdleReport] | None = None
        self._attempt = 0
        self._written: set[int] = set()  # edges on which nothing more will be sent
        self._capacity = {channel.id: channel.capacity for channel in spec.channels}
        self._resting: dict[int, dict[int, CycleRests]] = {cycle: {} for cycle in range(len(spec.cycles))}
        self._still_read = [  # cycle -> the workers whose part of it sends to other nodes that still read
            {placed[spec.edges[edge].source.node] for edge in cycle.outward} for cycle in spec.cycles
        ]
        self._writers = {channel: set(spec.channels[channel].edges) for channel in plan.crossing}
        self._readers = {
            channel: {placed[reader.node] for reader in spec.channels[channel].readers} for channel in plan.crossing
        }

    @property
    def state(self) -> RunState:
        """How far the run has come, in a word for its user."""
        if self.phase is Phase.RUNNING:
            return "starting" if self.booting else "running"
        if self.errors:
            return "failed"
        return "cancelled" if self.cancelled else "draining"

    @property
    def at_work(self) -> set[int]:
        """The workers whose nodes have not all ended."""
        return self._alive - self._finished

    def handle(self, event: Event) -> list[Instruction]:  # noqa: C901  # one line for each kind of event
        """What is to be done about an event, in order."""
        match event:
            case Ready(worker):
                if worker not in self._killed:  # else it was killed for it
                    self.booting.discard(worker)
                return []
            case WritersDone(edges):
                return self._writers_done(edges)
            case ReaderDone(channel, worker):
                return self._reader_done(channel, worker)
            case CycleRests():
                return self._cycle_rests(event)
            case CycleUnread(worker, cycle):
                return self._cycle_unread(worker, cycle)
            case Idle(worker, report):
                return self._idle(worker, report)
            case IdleConfirmed(worker, attempt, report):
                return self._idle_confirmed(worker, attempt, report)
            case Failed(_, error):
                self.errors.append(error)
                return self._cancel()
            case Overdue(worker, error):
                return self._overdue(worker, error)
            case Finished(worker):
                return self._worker_finished(worker)
            case Exited(worker, exitcode, at):
                if self._starts_again(worker):
                    return self._start_again(worker, exitcode, at)
                return self._exited(worker, exitcode)
            case StopAsked():
                return self._stop(event)
            case SourcesEnded(worker):
                self._with_sources.discard(worker)
                return []
            case CancelAsked():
                self.cancelled = True
                return self._cancel()
            case KillAsked():
                self.cancelled = True
                return self._kill()
            case TimedOut(seconds):
                if self.phase not in (Phase.RUNNING, Phase.DRAINING) or self._timeout is not None:
                    return []
                self._timeout = seconds
                return [DescribeWorkers(REPORT_S)]
            case TimeoutReported(doing):
                return self._timed_out(doing)
            case GraceOver():
                return self._grace_over()
            case _:
                assert_never(event)

    # -- channels

    def _writers_done(self, edges: Sequence[int]) -> list[Instruction]:
        instructions: list[Instruction] = []
        self._written.update(edges)
        for edge in edges:
            channel = self._spec.edges[edge].channel
            writers = self._writers.get(channel)
            if writers is None or edge not in writers:
                continue
            writers.discard(edge)
            if not writers:
                instructions.append(EndWriting(channel))
        return instructions

    def _reader_done(self, channel: int, worker: int) -> list[Instruction]:
        readers = self._readers.get(channel)
        if readers is None or worker not in readers:
            return []
        readers.discard(worker)
        return [] if readers else [EndReading(channel)]

    def _cycle_rests(self, event: CycleRests) -> list[Instruction]:
        cycle = self._spec.cycles[event.cycle]
        parts = self._resting.get(event.cycle)
        if parts is None:
            return []  # it has been ended
        parts[event.worker] = event
        if parts.keys() != self._parts(event.cycle):
            return []
        if not nothing_on_its_way((part.rest for part in parts.values()), self._written):
            return []  # who gets it will report again
        if not may_end(part.rest for part in parts.values()):
            return []  # it never began: that is told as what it is, when nothing else moves either
        del self._resting[event.cycle]
        return [
            *(EndCycle(worker, event.cycle) for worker in sorted(parts)),
            *(EndWriting(channel) for channel in sorted(cycle.channels & self._plan.crossing)),
        ]

    def _cycle_unread(self, worker: int, cycle: int) -> list[Instruction]:
        still_read = self._still_read[cycle]
        still_read.discard(worker)
        if still_read:
            return []
        return [StopCycle(each, cycle) for each in sorted(self._parts(cycle) & (self._alive - self._finished))]

    def _parts(self, cycle: int) -> set[int]:
        """The workers that a cycle runs on."""
        return {self._placed[node] for node in self._spec.cycles[cycle].nodes}

    # -- a run that can no longer move

    def _idle(self, worker: int, report: IdleReport) -> list[Instruction]:
        self._stalled[worker] = report
        return self._ask_whether_idle()

    def _ask_whether_idle(self) -> list[Instruction]:
        at_work = self._alive - self._finished
        if self.phase not in (Phase.RUNNING, Phase.DRAINING) or self._confirmed is not None or not at_work:
            return []
        if not self._stalled.keys() >= at_work or not self._nothing_moves(self._stalled.values()):
            return []
        self._attempt += 1
        self._confirmed = {}
        return [ConfirmIdle(worker, self._attempt) for worker in sorted(at_work)]

    def _idle_confirmed(self, worker: int, attempt: int, report: IdleReport | None) -> list[Instruction]:
        if self._confirmed is None or attempt != self._attempt:
            return []
        if report is None or report.moved != self._stalled[worker].moved:
            self._confirmed = None  # it has moved: it will tell when it is idle again
            self._stalled.pop(worker, None)
            return []
        self._confirmed[worker] = report
        if not self._confirmed.keys() >= self._alive - self._finished:
            return []
        confirmed, self._confirmed = self._confirmed, None
        if self.phase not in (Phase.RUNNING, Phase.DRAINING):
            return []
        if not self._nothing_moves(confirmed.values()):
            return []
        full = room_that_helps(self._spec, confirmed.values())
        waits = who_waits(self._spec, confirmed.values())
        if not full:
            self.errors.append(stuck(waits))
            return self._cancel()
        channel = min(full, key=lambda each: (self._capacity[each], each))
        capacity = self._capacity[channel]
        self._capacity[channel] = 2 * capacity
        owner = self._placed[self._spec.channels[channel].readers[0].node]
        return [Grow(channel, capacity, capacity, None if channel in self._plan.crossing else owner, waits)]

    def _nothing_moves(self, reports: Iterable[IdleReport]) -> bool:
        # What was sent, and not counted, lies in a channel: who waits there would have seen it.
        return nothing_on_its_way((report.rest for report in reports), self._written | self._uncounted())

    def _forget_idle(self, worker: int) -> list[Instruction]:
        """A worker that has ended answers no more: who is idle still is asked again."""
        self._stalled.pop(worker, None)
        self._confirmed = None
        return self._ask_whether_idle()

    # -- the run

    def _stop(self, asked: StopAsked) -> list[Instruction]:
        draining = self.phase is Phase.DRAINING
        goes_on = (draining or self.phase is Phase.RUNNING) and bool(self.at_work)
        if asked.unhurried and (draining or not goes_on or not self._with_sources & self.at_work):
            return []  # a stop is under way already, or what goes on comes to its end by itself
        # Also who has finished, and who undoes its state: if SIGTERM came to all processes, each waits for this word.
        untold = sorted(self._alive - self._told - self._killed)
        self._told.update(untold)
        told = [DrainWorker(worker) for worker in untold]
        if not goes_on:
            return [*told]
        self.phase = Phase.DRAINING
        self._half = (self._grace if asked.within is None else asked.within) / 2
        self._unhurried = asked.unhurried
        self._sources_told = False
        return [*told, SetTimer(self._half)]

    def _end_draining(self) -> list[Instruction]:
        """Half of the time to drain is over, or all of it."""
        if self._unhurried and self.booting & self.at_work:
            return [SetTimer(self._half)]  # who leaves early does not mean to lose what it sent: they have just begun
        if not self._sources_told:
            self._sources_told = True
            return [*(EndSources(worker) for worker in sorted(self.at_work)), SetTimer(self._half)]
        if self._unhurried and not self._with_sources & self.at_work:
            return []  # what the sources have sent has as long as it takes
        self.cut_short = True
        return self._cancel()

    def _cancel(self) -> list[Instruction]:
        if self.phase not in (Phase.RUNNING, Phase.DRAINING):
            return []
        self.phase = Phase.CANCELLING
        # Who still boots has made no state that could be torn down, and may take seconds to hear of it.
        booting = self.booting & self._alive - self._killed
        self._killed |= booting
        self._told |= self.at_work
        return [
            *(KillWorker(w) if w in booting else CancelWorker(w) for w in sorted(self._alive - self._finished)),
            SetTimer(self._grace),
        ]

    def _overdue(self, worker: int, error: CascataError) -> list[Instruction]:
        """It had its grace already: what does not stop is killed."""
        if worker not in self._alive or worker in self._killed or worker in self._overdue_on:
            return []
        if self._starts_again(worker):
            self._overdue_on[worker] = error
            return [KillWorker(worker)]
        self.errors.append(error)
        self._killed.add(worker)
        return [KillWorker(worker), *self._cancel()]

    # -- workers that start again

    def _starts_again(self, worker: int) -> bool:
        """Whether the death of a worker is no end of the run."""
        goes_on = self.phase in (Phase.RUNNING, Phase.DRAINING) and worker in self._alive - self._finished
        return goes_on and worker in self._restartable and worker not in self._killed

    def _start_again(self, worker: int, exitcode: int | None, at: float) -> list[Instruction]:
        nodes = self._plan.workers[worker]
        if self._has_ended(worker):
            self._finished.add(worker)  # there was nothing left to do but to say so, and to exit
            return [*self._end_for(worker), *self._exited(worker, exitcode)]
        death = self._overdue_on.pop(worker, None) or died(worker, exitcode, nodes)
        lately = [each for each in self._deaths.get(worker, ()) if at - each[0] < RESTARTS_WITHIN_S]
        self._deaths[worker] = [*lately, (at, death)]
        if len(lately) >= RESTARTS:
            return self._exited(worker, exitcode, _died_too_often(died(worker, exitcode, nodes), self._deaths[worker]))
        self.restarted.add(worker)
        self.booting.add(worker)
        self._stalled.pop(worker, None)
        self._confirmed = None
        # A new process does not know what the one before was told.
        drain: list[Instruction] = [DrainWorker(worker)] if self.phase is Phase.DRAINING else []
        if drain and self._sources_told:
            drain.append(EndSources(worker))
        return [RestartWorker(worker, death, len(lately) + 1), *drain]

    def _edges_of(self, worker: int) -> list[int]:
        """The crossing edges by which a worker sends."""
        edges = (edge for edge in self._spec.edges if self._placed[edge.source.node] == worker)
        return [edge.id for edge in edges if edge.channel in self._plan.crossing]

    def _channels_of(self, worker: int) -> list[int]:
        """The crossing channels that a worker reads."""
        return [
            channel
            for channel in sorted(self._plan.crossing)
            if any(self._placed[reader.node] == worker for reader in self._spec.channels[channel].readers)
        ]

    def _has_ended(self, worker: int) -> bool:
        """Whether the node of a worker has ended: it begins to say so when it has."""
        return any(edge in self._written for edge in self._edges_of(worker)) or any(
            worker not in self._readers[channel] for channel in self._channels_of(worker)
        )

    def _end_for(self, worker: int) -> list[Instruction]:
        """What a worker whose node has ended could not say any more."""
        instructions = self._writers_done(self._edges_of(worker))
        for channel in self._channels_of(worker):
            instructions += self._reader_done(channel, worker)
        return instructions

    def _uncounted(self) -> set[int]:
        """The edges of which it is not known how many items were sent: their writers' counts died with them."""
        return {edge.id for edge in self._spec.edges if self._placed[edge.source.node] in self.restarted}

    def _grace_over(self) -> list[Instruction]:
        if self.phase is Phase.DRAINING and self.at_work:
            return self._end_draining()
        return self._kill()

    def _kill(self) -> list[Instruction]:
        if self.phase is Phase.OVER:
            return []
        self.phase = Phase.KILLING
        victims = sorted(self._alive - self._killed)
        self._killed.update(victims)
        return [KillWorker(worker) for worker in victims]

    def _timed_out(self, doing: Mapping[int, str]) -> list[Instruction]:
        if self.phase not in (Phase.RUNNING, Phase.DRAINING):
            return []
        told = {worker: doing.get(worker, self._silent(worker)) for worker in range(len(self._plan.parts))}
        lines = "".join(f"\n  worker {worker}: {what}" for worker, what in told.items())
        self.errors.append(
            RunTimeout(
                f"the run did not end within its timeout of {self._timeout:g} s. What each worker was doing:{lines}\n"
                f"Give it more time (`timeout=`), or none (`timeout=None`)",
                doing=told,
            )
        )
        return self._cancel()

    def _silent(self, worker: int) -> str:
        """Why a worker does not say what it is doing."""
        if worker in self._finished:
            return "it has finished"
        return "it is still starting" if worker in self.booting else "it does not answer"

    def _worker_finished(self, worker: int) -> list[Instruction]:
        self._finished.add(worker)
        again = self._forget_idle(worker)
        if self.phase in (Phase.RUNNING, Phase.DRAINING) and self._finished >= self._alive:
            return [SetTimer(self._grace)]  # nothing is left to do but to exit: see that they do
        return again

    def _exited(self, worker: int, exitcode: int | None, error: CascataError | None = None) -> list[Instruction]:
        if worker not in self._alive:
            return []
        self._alive.discard(worker)
        if worker not in self._finished:
            self.lost.add(worker)
        instructions = [] if worker in self._finished else self._forget_idle(worker)
        if worker in self._killed:
            resisted = worker not in self._finished and worker not in self.booting
            if resisted and self.cut_short:
                self.resisted.append(worker)
            if resisted and self.errors and isinstance(self.errors[0], CascataError):
                self.errors[0].add_note(
                    f"worker {worker} ({', '.join(self._plan.parts[worker])}) did not stop within {self._grace:g} s, "
                    f"and was killed"
                )
        elif worker not in self._finished:
            error = error or self._overdue_on.pop(worker, None)
            began = worker not in self.booting
            self.errors.append(error or died(worker, exitcode, self._plan.parts[worker], began=began))
            instructions += self._cancel()
        if not self._alive:
            self.phase = Phase.OVER
            instructions.append(Finish())
        return instructions


def stuck(waiting: tuple[str, ...]) -> DeadlockError:
    """The error for a run in which every node waits, and none for room: nothing can help it."""
    return DeadlockError(
        "the run can no longer move: every node waits for another one, and no more room would help. "
        + "; ".join(waiting)
        + ". In a cycle, an item must be there to begin with: give one in-port a first value (`port < value`)",
        issues=waiting,
    )


def _died_too_often(error: WorkerDied, deaths: Sequence[tuple[float, CascataError]]) -> WorkerDied:
    """The same error, with what happened before."""
    first = deaths[0][0]
    history = tuple(f"after {at - first:.1f} s: {str(death).partition('. ')[0]}" for at, death in deaths)
    listed = "".join(f"\n  {each}" for each in history)
    text = (
        f"{error}. It had been started again {len(deaths) - 1} times within {RESTARTS_WITHIN_S:g} s, which is the "
        f"limit:{listed}"
    )
    error.args = (text,)
    error.history = history
    return error


def died(worker: int, exitcode: int | None, nodes: tuple[str, ...], *, began: bool = True) -> WorkerDied:
    """The error for a worker that is gone before its nodes had ended, or had even begun."""
    name = None
    if exitcode is None:
        how = "is gone; its exit code is not known"
    elif exitcode < 0:
        try:
            name = signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        how = f"was killed by {name}"
    else:
        how = f"exited with code {exitcode}"
    ended = "Something in its nodes ended the process: os._exit, or a signal from outside"
    if not began:
        ended = (
            "It had not begun: its interpreter (sys.executable) cannot start, or a module that it imports has ended "
            "the process; what it printed tells"
        )
    hint = {
        "SIGKILL": "The system kills like this when memory is short: look into its log, or use fewer workers",
        "SIGSEGV": "A C extension crashed: `python -X faulthandler` shows where",
    }.get(name or "", ended)
    return WorkerDied(
        f"worker {worker} {how} before its nodes had ended: {', '.join(nodes)}. {hint}",
        worker=worker,
        exitcode=exitcode,
        signal=name,
        nodes=nodes,
    )
