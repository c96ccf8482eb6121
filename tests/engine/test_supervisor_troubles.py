"""The supervisor of a run that takes too long, stands still, circulates, or starts again; and who carries it out."""

from __future__ import annotations

import asyncio
import itertools

from cascata import Graph
from cascata.engine.protocol.messages import (
    CancelWorker,
    ConfirmIdle,
    CycleUnread,
    Failed,
    Finished,
    Idle,
    IdleConfirmed,
    Overdue,
    ReaderDone,
    SourcesEnded,
    StopCycle,
    ToWorker,
    WritersDone,
)
from cascata.engine.rewrite.cycles import separate
from cascata.engine.supervision.events import (
    CancelAsked,
    Event,
    Exited,
    GraceOver,
    KillAsked,
    Ready,
    StopAsked,
    TimedOut,
    TimeoutReported,
)
from cascata.engine.supervision.instructions import (
    DescribeWorkers,
    EndReading,
    Finish,
    Grow,
    KillWorker,
    RestartWorker,
    SetTimer,
)
from cascata.engine.supervision.supervised import SupervisedRun
from cascata.engine.supervision.supervisor import REPORT_S, RESTARTS, RESTARTS_WITHIN_S, Phase, Supervisor
from cascata.errors import DeadlockError, RunTimeout, WorkerDied
from cascata.model import Plan
from cascata.observe.board import Board, BoardShape
from cascata.observe.report import RunReport
from cascata.options import RunOptions
from cascata.runtime.idle import IdleReport, Rest
from tests.engine.parts import Keep, Notes, Pass
from tests.engine.supervisors import ALL_CANCELLED, GRACE, WORKERS, failure, killed, restarting, specified, supervisor

# --- time limits ------------------------------------------------------------------------------------


def test_a_timeout_asks_what_workers_do_before_it_cancels() -> None:
    run = supervisor()
    assert run.handle(TimedOut(1.5)) == [DescribeWorkers(REPORT_S)]
    assert run.phase is Phase.RUNNING
    assert run.handle(TimeoutReported({0: "count: working", 2: "keep: waiting"})) == ALL_CANCELLED
    (error,) = run.errors
    assert isinstance(error, RunTimeout)
    assert error.doing == {0: "count: working", 1: "it does not answer", 2: "keep: waiting"}
    for part in ("1.5 s", *error.doing.values()):
        assert part in str(error)


def test_a_worker_that_has_finished_is_told_as_such() -> None:
    run = supervisor(booting=(2,))
    run.handle(Finished(1))
    run.handle(TimedOut(1.0))
    run.handle(TimeoutReported({}))
    (error,) = run.errors
    assert isinstance(error, RunTimeout)
    assert error.doing == {0: "it does not answer", 1: "it has finished", 2: "it is still starting"}


def test_a_run_that_ends_while_it_is_asked_has_not_timed_out() -> None:
    run = supervisor()
    run.handle(TimedOut(1.0))
    for worker in range(3):
        run.handle(Finished(worker))
        run.handle(Exited(worker, 0))
    assert run.handle(TimeoutReported({})) == []
    assert run.errors == []


def test_a_failure_while_it_is_asked_comes_first() -> None:
    run = supervisor()
    run.handle(TimedOut(1.0))
    error = failure()
    assert run.handle(Failed(0, error)) == ALL_CANCELLED
    assert run.handle(TimeoutReported({})) == []
    assert run.errors == [error]


def test_a_timeout_comes_once_and_not_after_the_end_has_begun() -> None:
    run = supervisor()
    run.handle(TimedOut(1.0))
    assert run.handle(TimedOut(1.0)) == []
    run = supervisor()
    run.handle(CancelAsked())
    assert run.handle(TimedOut(1.0)) == []


def test_a_timeout_comes_while_a_run_drains_too() -> None:
    run = supervisor()
    run.handle(StopAsked())
    assert run.handle(TimedOut(1.0)) == [DescribeWorkers(REPORT_S)]
    assert run.handle(TimeoutReported({})) == ALL_CANCELLED


# --- a run that can no longer move ------------------------------------------------------------------


def idle(
    moved: int = 1,
    sent: dict[int, int] | None = None,
    received: dict[int, int] | None = None,
    blocked: dict[str, int] | None = None,
    waiting: dict[str, int] | None = None,
) -> IdleReport:
    """The state of an idle worker; `blocked` and `waiting` are node -> the channel at which it waits."""
    return IdleReport(
        rest=Rest(sent or {}, received or {}, frozenset({*(sent or {}), *(received or {})})),
        blocked={node: frozenset({channel}) for node, channel in (blocked or {}).items()},
        waiting={node: frozenset({channel}) for node, channel in (waiting or {}).items()},
        doing=dict.fromkeys({**(blocked or {}), **(waiting or {})} or {"keep": 0}, "waiting for items on 'item'"),
        moved=moved,
    )


def stalled(run: Supervisor, *reports: IdleReport) -> list[ConfirmIdle]:
    """All workers are idle: what the supervisor asks them."""
    told: list[ConfirmIdle] = []
    for worker, report in enumerate(reports):
        told = [each for each in run.handle(Idle(worker, report)) if isinstance(each, ConfirmIdle)]
        assert (worker == len(reports) - 1) or not told
    return told


def test_only_when_all_workers_are_idle_they_are_asked_again() -> None:
    assert stalled(supervisor(), idle(), idle(), idle()) == [ConfirmIdle(worker, 1) for worker in range(3)]


def test_what_is_on_its_way_between_workers_keeps_them_from_being_asked() -> None:
    assert stalled(supervisor(), idle(sent={2: 5}), idle(), idle(received={2: 4})) == []


def test_nothing_but_waiting_is_a_deadlock() -> None:
    run = supervisor()
    stalled(run, idle(), idle(), idle())
    assert run.handle(IdleConfirmed(0, 1, idle())) == run.handle(IdleConfirmed(1, 1, idle())) == []
    assert run.handle(IdleConfirmed(2, 1, idle())) == ALL_CANCELLED
    (error,) = run.errors
    assert isinstance(error, DeadlockError)
    assert set(error.issues) == {"keep is waiting for items on 'item'"}


def test_a_full_channel_gets_more_room_the_smallest_first() -> None:
    run = supervisor()
    reports = in_a_ring(1)
    stalled(run, *reports)
    told = [run.handle(IdleConfirmed(worker, 1, report)) for worker, report in enumerate(reports)]
    waits = (
        "count waits for room in passes.item",
        "passes_0 waits for room in keep.item",
        "keep waits on ? for items of count.number and more.number",  # only here: it has no such in-port
    )
    assert told == [[], [], [Grow(0, 100, 100, None, waits)]]
    assert (run.phase, run.errors) == (Phase.RUNNING, [])
    assert stalled_again(run, in_a_ring(2)) == [Grow(1, 100, 100, None, waits)]


def in_a_ring(moved: int) -> list[IdleReport]:
    """Each waits for the next one: two for room, and the last for items that the first cannot send."""
    return [
        idle(moved, blocked={"count": 0}),
        idle(moved, blocked={"passes_0": 1}),
        idle(moved, waiting={"keep": 0}),
    ]


def test_room_that_helps_nobody_is_not_given() -> None:
    """Who reads the full channel does not wait for who writes to it: what it waits for will not come."""
    run = supervisor()
    reports = [idle(blocked={"count": 0}), idle(), idle(waiting={"keep": 1})]
    stalled(run, *reports)
    told = [run.handle(IdleConfirmed(worker, 1, report)) for worker, report in enumerate(reports)]
    assert told == [[], [], ALL_CANCELLED]
    assert isinstance(run.errors[0], DeadlockError)


def stalled_again(run: Supervisor, reports: list[IdleReport]) -> list[object]:
    """Every worker tells that it is idle, and confirms it, for the second time."""
    told: list[object] = []
    for worker, report in enumerate(reports):
        told += run.handle(Idle(worker, report))
    assert told == [ConfirmIdle(worker, 2) for worker in range(3)]
    told = []
    for worker, report in enumerate(reports):
        told += run.handle(IdleConfirmed(worker, 2, report))
    return told


def test_a_worker_that_has_moved_meanwhile_calls_it_off() -> None:
    for answer in (None, idle(moved=2)):
        run = supervisor()
        stalled(run, idle(), idle(), idle())
        run.handle(IdleConfirmed(0, 1, idle()))
        assert run.handle(IdleConfirmed(1, 1, answer)) == []
        assert run.handle(IdleConfirmed(2, 1, idle())) == []
        assert run.errors == []
        assert run.handle(Idle(1, idle(moved=3))) == [ConfirmIdle(worker, 2) for worker in range(3)]


def test_workers_that_have_finished_are_not_asked() -> None:
    run = supervisor()
    run.handle(Finished(0))
    run.handle(Idle(1, idle()))
    assert run.handle(Idle(2, idle())) == [ConfirmIdle(1, 1), ConfirmIdle(2, 1)]


def test_a_worker_that_finishes_instead_of_answering_does_not_keep_the_others_from_being_asked_again() -> None:
    run = supervisor()
    stalled(run, idle(), idle(), idle())
    run.handle(IdleConfirmed(0, 1, idle()))
    run.handle(IdleConfirmed(1, 1, idle()))
    told = [*run.handle(Finished(2)), *run.handle(Exited(2, 0))]
    told += [*run.handle(Idle(0, idle(moved=2))), *run.handle(Idle(1, idle(moved=2)))]
    assert {ConfirmIdle(0, 2), ConfirmIdle(1, 2)} <= set(told)


def test_a_run_that_is_being_cancelled_is_never_stuck() -> None:
    run = supervisor()
    run.handle(CancelAsked())
    assert stalled(run, idle(), idle(), idle()) == []
    run = supervisor()
    stalled(run, idle(), idle(), idle())
    run.handle(CancelAsked())
    for worker in range(3):
        assert run.handle(IdleConfirmed(worker, 1, idle())) == []
    assert run.errors == []


# --- any order --------------------------------------------------------------------------------------


def test_whatever_happens_in_whatever_order_a_run_ends_and_says_how() -> None:
    """Three of many events, in every order, at a run whose workers exit at last."""
    events: list[Event] = [
        StopAsked(),
        StopAsked(1.0),
        StopAsked(None, unhurried=True),
        SourcesEnded(0),
        CancelAsked(),
        KillAsked(),
        Failed(1, failure()),
        TimedOut(1.0),
        GraceOver(),
        Finished(0),
        Exited(0, 0),
        Exited(1, -9),
        Ready(2),
        WritersDone((0, 1)),
        ReaderDone(0, 1),
        Idle(0, idle()),
    ]
    for chosen in itertools.permutations(events, 3):
        run = supervisor(booting=(2,))
        told = [instruction for event in chosen for instruction in run.handle(event)]
        for worker in range(3):
            told += run.handle(Finished(worker))
            told += run.handle(Exited(worker, 0))
        assert told.count(Finish()) == 1, chosen
        assert run.phase is Phase.OVER
        killed = [each for each in told if isinstance(each, KillWorker)]
        assert len(killed) == len(set(killed)), chosen
        died = any(isinstance(error, WorkerDied) for error in run.errors)
        must_fail = any(isinstance(event, Failed) for event in chosen)
        assert not must_fail or run.errors, chosen
        lost = any(isinstance(event, Exited) for event in chosen)
        assert lost or not died, chosen


# --- a cycle that nobody outside reads any more -----------------------------------------------------


def cycle_on(*workers: tuple[str, ...]) -> Supervisor:
    """first → second → first; both of them send to nodes outside as well."""
    graph = Graph()
    graph.first = Pass
    graph.second = Pass
    graph.one = Keep
    graph.other = Keep
    for keeper in (graph.one, graph.other):
        keeper.notes < Notes("")
    graph.first.item < 0
    graph.first.same >> graph.second.item
    graph.second.same >> graph.first.item
    graph.first.same >> graph.one.item
    graph.second.same >> graph.other.item
    run = Supervisor(separate(graph.resolve()), Plan(workers, {}, frozenset()), GRACE)
    for worker in range(len(workers)):
        run.handle(Ready(worker))
    return run


def test_a_cycle_on_one_worker_is_stopped_when_its_edges_outward_are_read_no_more() -> None:
    run = cycle_on(("one", "other"), ("first", "second"))
    assert run.handle(CycleUnread(1, 0)) == [StopCycle(1, 0)]


def test_a_cycle_across_workers_is_stopped_when_all_of_its_parts_are_read_no_more() -> None:
    run = cycle_on(("first", "other"), ("second", "one"))
    assert run.handle(CycleUnread(1, 0)) == []
    assert run.handle(CycleUnread(0, 0)) == [StopCycle(0, 0), StopCycle(1, 0)]


def test_a_part_of_a_cycle_that_has_finished_is_not_told_to_stop() -> None:
    run = cycle_on(("first", "other"), ("second", "one"))
    run.handle(CycleUnread(1, 0))
    run.handle(Finished(1))
    assert run.handle(CycleUnread(0, 0)) == [StopCycle(0, 0)]


# --- workers that start again, and calls that cannot be stopped ---------------------------------------


def test_a_worker_that_may_start_again_does_and_the_run_goes_on() -> None:
    run = restarting()
    (instruction,) = run.handle(killed(1, 10.0))
    assert isinstance(instruction, RestartWorker)
    assert (instruction.worker, instruction.times) == (1, 1)
    assert isinstance(instruction.death, WorkerDied)
    assert (run.phase, run.errors, run.booting, run.restarted) == (Phase.RUNNING, [], {1}, {1})
    assert run.handle(Ready(1)) == []
    assert run.booting == set()


def test_others_do_not_start_again() -> None:
    run = restarting()
    assert CancelWorker(1) in run.handle(killed(0, 10.0))
    assert isinstance(run.errors[0], WorkerDied)


def test_the_limit_is_of_deaths_that_follow_closely_and_its_error_tells_them() -> None:
    run = restarting()
    for number in range(RESTARTS):
        (instruction,) = run.handle(killed(1, float(number)))
        assert isinstance(instruction, RestartWorker)
        assert instruction.times == number + 1
    (instruction,) = run.handle(killed(1, RESTARTS_WITHIN_S + 0.5))  # the first one is forgotten
    assert isinstance(instruction, RestartWorker)
    assert CancelWorker(0) in run.handle(killed(1, RESTARTS_WITHIN_S + 0.6))
    (error,) = run.errors
    assert isinstance(error, WorkerDied)
    assert len(error.history) == RESTARTS + 1
    assert "SIGKILL" in error.history[0]
    assert run.phase is Phase.CANCELLING


def test_a_worker_that_dies_too_often_may_be_the_last_one() -> None:
    run = restarting()
    for worker in (0, 2):
        run.handle(Finished(worker))
        run.handle(Exited(worker, 0))
    for number in range(RESTARTS):
        run.handle(killed(1, float(number)))
    assert Finish() in run.handle(killed(1, 3.5))
    assert run.phase is Phase.OVER


def test_nothing_starts_again_in_a_run_that_is_ending() -> None:
    run = restarting()
    run.handle(CancelAsked())
    assert not any(isinstance(each, RestartWorker) for each in run.handle(killed(1, 1.0)))


def test_a_worker_whose_nodes_have_ended_need_not_start_again() -> None:
    run = restarting()
    run.handle(WritersDone((2,)))
    run.handle(ReaderDone(0, 1))
    assert run.handle(killed(1, 1.0)) == []
    assert run.errors == []
    assert run.lost == set()


def test_a_worker_that_dies_while_it_says_that_it_has_ended_has_said_all_of_it() -> None:
    run = restarting()
    run.handle(WritersDone((2,)))
    assert run.handle(killed(1, 1.0)) == []  # it need not start again
    assert run.handle(ReaderDone(0, 2)) == [EndReading(0)]  # and was the other reader


def test_a_call_that_cannot_be_stopped_ends_the_run_and_its_worker_at_once() -> None:
    run, error = supervisor(), failure("overdue")
    assert run.handle(Overdue(1, error)) == [
        KillWorker(1),
        CancelWorker(0),
        CancelWorker(1),
        CancelWorker(2),
        SetTimer(GRACE),
    ]
    assert run.handle(killed(1, 1.0)) == []
    assert run.errors == [error]


def test_a_worker_that_may_start_again_is_replaced_and_its_item_fails_for_its_time() -> None:
    run, error = restarting(), failure("overdue")
    assert run.handle(Overdue(1, error)) == [KillWorker(1)]
    assert run.handle(Overdue(1, error)) == []  # it dies already
    assert run.handle(killed(1, 1.0)) == [RestartWorker(1, error, 1)]
    assert run.errors == []


def test_what_was_overdue_when_the_run_failed_is_told_as_that() -> None:
    run, error, other = restarting(), failure("overdue"), failure("other")
    run.handle(Overdue(1, error))
    run.handle(Failed(0, other))
    run.handle(killed(1, 1.0))
    assert run.errors == [other, error]


def test_what_a_restarted_worker_sent_before_is_no_reason_to_wait_for_it() -> None:
    run = restarting()
    run.handle(killed(1, 1.0))
    run.handle(Ready(1))
    for worker in (0, 1):
        run.handle(Finished(worker))
    # Worker 2 has got an item more of worker 1's edge than that counted: its first count died with it.
    report = IdleReport(
        Rest({}, {2: 7}, frozenset({2})), {}, {"keep": frozenset({1})}, {"keep": "waiting for items"}, 7
    )
    assert run.handle(Idle(2, report)) == [ConfirmIdle(2, 1)]


# --- who carries it out -----------------------------------------------------------------------------


class Driven(SupervisedRun):
    """A run without workers: what it is instructed goes nowhere."""

    async def main(self) -> RunReport:
        raise NotImplementedError

    def _send(self, message: ToWorker) -> None: ...

    def _kill(self, worker: int) -> None: ...

    def _end_writing(self, channel: int) -> None: ...

    def _end_reading(self, channel: int) -> None: ...

    def _grow(self, channel: int, capacity: int, extra: int) -> None: ...


def test_a_timer_that_has_been_replaced_is_not_heard_although_its_time_was_over_just_before() -> None:
    async def main() -> None:
        spec, plan = specified(), Plan(WORKERS, {}, frozenset({0, 1}))
        run = Driven(spec, plan, RunOptions.of({}, "run"))
        loop = run._begin()
        run._carry_out(SetTimer(0))
        while run._events.empty():  # noqa: ASYNC110  # its time passes
            await asyncio.sleep(0)
        run._carry_out(SetTimer(3600))
        board = Board(BoardShape(len(spec.nodes), len(spec.edges), len(spec.channels), len(plan.parts)))
        supervising = loop.create_task(run._supervise(board))
        run.post(StopAsked(1.0))
        while run._supervisor.phase is Phase.RUNNING:  # noqa: ASYNC110  # nobody would set an event
            await asyncio.sleep(0)
        assert run._supervisor.phase is Phase.DRAINING
        assert run._timer is not None
        run._timer.cancel()
        supervising.cancel()

    asyncio.run(main())
