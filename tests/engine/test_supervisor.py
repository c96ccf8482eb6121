"""The supervisor is a pure machine: each order of events is a test, and none needs a process or a clock."""

from __future__ import annotations

import asyncio
import itertools
import signal

import pytest

from cascata import Graph
from cascata.engine.protocol.messages import (
    CancelWorker,
    ConfirmIdle,
    CycleUnread,
    DrainWorker,
    EndSources,
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
    EndWriting,
    Finish,
    Grow,
    KillWorker,
    RestartWorker,
    SetTimer,
)
from cascata.engine.supervision.supervised import SupervisedRun
from cascata.engine.supervision.supervisor import REPORT_S, RESTARTS, RESTARTS_WITHIN_S, Phase, Supervisor
from cascata.errors import ComponentError, DeadlockError, RunTimeout, WorkerDied
from cascata.model import GraphSpec, Plan
from cascata.observe.board import Board, BoardShape
from cascata.observe.report import RunReport
from cascata.options import RunOptions
from cascata.runtime.idle import IdleReport, Rest
from tests.engine.parts import Count, Keep, Notes, Pass

GRACE = 5.0


def specified() -> GraphSpec:
    """count and more → passes_0, passes_1 → keep: channels 0 (shared by the group) and 1, edges 0, 1 and 2, 3."""
    graph = Graph()
    graph.count = Count
    graph.more = Count
    graph.passes = Pass * 2
    graph.keep = Keep
    for source in (graph.count, graph.more):
        source.upto < 1
    graph.keep.notes < Notes("")
    graph.count.number >> graph.passes.item
    graph.more.number >> graph.passes.item
    graph.passes.same >> graph.keep.item
    return graph.resolve()


WORKERS = (("count", "more"), ("passes_0",), ("passes_1", "keep"))


def supervisor(
    workers: tuple[tuple[str, ...], ...] = WORKERS, grace: float = GRACE, booting: tuple[int, ...] = ()
) -> Supervisor:
    run = Supervisor(specified(), Plan(workers, {}, frozenset({0, 1})), grace)
    for worker in range(len(workers)):
        if worker not in booting:
            assert run.handle(Ready(worker)) == []
    return run


def failure(text: str = "as asked") -> ComponentError:
    return ComponentError(text, node="keep", worker=2)


ALL_CANCELLED = [CancelWorker(0), CancelWorker(1), CancelWorker(2), SetTimer(GRACE)]


# --- a run that succeeds ----------------------------------------------------------------------------


def test_a_run_is_over_when_the_last_worker_has_exited() -> None:
    run = supervisor()
    for worker in (0, 2):
        assert run.handle(Finished(worker)) == []
        assert run.handle(Exited(worker, 0)) == []
    run.handle(Finished(1))
    assert run.phase is Phase.RUNNING
    assert run.handle(Exited(1, 0)) == [Finish()]
    assert (run.phase, run.errors, run.cancelled) == (Phase.OVER, [], False)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_the_order_in_which_workers_finish_and_exit_does_not_matter(order: tuple[int, ...]) -> None:
    run = supervisor()
    for worker in order:
        run.handle(Finished(worker))
    told = [run.handle(Exited(worker, 0)) for worker in reversed(order)]
    assert told == [[], [], [Finish()]]
    assert run.errors == []


def test_workers_that_have_finished_have_grace_to_exit_and_are_killed_then() -> None:
    run = supervisor()
    assert run.handle(Finished(0)) == run.handle(Finished(1)) == []
    assert run.handle(Finished(2)) == [SetTimer(GRACE)]
    run.handle(Exited(1, 0))
    assert run.handle(GraceOver()) == [KillWorker(0), KillWorker(2)]
    run.handle(Exited(0, -9))
    assert run.handle(Exited(2, -9)) == [Finish()]
    assert (run.errors, run.cancelled) == ([], False)  # nothing was lost


def test_how_a_worker_exits_after_its_nodes_had_ended_does_not_matter() -> None:
    run = supervisor()
    for worker in range(3):
        run.handle(Finished(worker))
    for worker, exitcode in enumerate((1, -11, None)):
        run.handle(Exited(worker, exitcode))
    assert (run.phase, run.errors) == (Phase.OVER, [])


def test_an_exit_that_is_told_twice_is_one() -> None:
    run = supervisor((("count", "more", "passes_0", "passes_1", "keep"),))
    run.handle(Finished(0))
    assert run.handle(Exited(0, 0)) == [Finish()]
    assert run.handle(Exited(0, 0)) == []


# --- channels ---------------------------------------------------------------------------------------


def test_a_channel_ends_when_the_last_of_its_writers_is_done() -> None:
    run = supervisor()
    assert run.handle(WritersDone((0,))) == []
    assert run.handle(WritersDone((1,))) == [EndWriting(0)]


def test_edges_that_are_done_together_end_their_channels_together() -> None:
    run = supervisor()
    assert run.handle(WritersDone((0, 1, 2, 3))) == [EndWriting(0), EndWriting(1)]


def test_an_edge_that_is_done_twice_counts_once() -> None:
    run = supervisor()
    assert run.handle(WritersDone((0,))) == run.handle(WritersDone((0,))) == []
    assert run.handle(WritersDone((1,))) == [EndWriting(0)]
    assert run.handle(WritersDone((1,))) == []


def test_a_channel_is_closed_for_its_writers_when_its_last_reader_is_done() -> None:
    run = supervisor()
    assert run.handle(ReaderDone(0, 2)) == []
    assert run.handle(ReaderDone(0, 2)) == []
    assert run.handle(ReaderDone(0, 1)) == [EndReading(0)]
    assert run.handle(ReaderDone(0, 1)) == []


def test_a_channel_inside_one_worker_is_no_matter_of_the_supervisor() -> None:
    run = Supervisor(
        specified(), Plan((("count", "more", "passes_0", "passes_1"), ("keep",)), {}, frozenset({1})), GRACE
    )
    assert run.handle(WritersDone((0, 1))) == []
    assert run.handle(ReaderDone(0, 0)) == []
    assert run.handle(WritersDone((2, 3))) == [EndWriting(1)]


def test_channels_still_end_while_a_run_drains_or_is_cancelled() -> None:
    for event in (StopAsked(), CancelAsked(), Failed(0, failure())):
        run = supervisor()
        run.handle(event)
        assert run.handle(WritersDone((0, 1))) == [EndWriting(0)]
        assert run.handle(ReaderDone(1, 2)) == [EndReading(1)]


# --- failures ---------------------------------------------------------------------------------------


def test_a_failure_cancels_all_workers_and_gives_them_grace() -> None:
    run = supervisor()
    error = failure()
    assert run.handle(Failed(2, error)) == ALL_CANCELLED
    assert (run.phase, run.errors, run.cancelled) == (Phase.CANCELLING, [error], False)


def test_who_still_boots_is_killed_at_once_and_not_blamed() -> None:
    """It has no state to tear down, and on a loaded machine it may take seconds to hear of a cancellation."""
    run = supervisor(booting=(1, 2))
    error = failure()
    assert run.handle(Failed(0, error)) == [CancelWorker(0), KillWorker(1), KillWorker(2), SetTimer(GRACE)]
    run.handle(Ready(1))  # it was ready just as it was killed
    for worker in (1, 2):
        run.handle(Exited(worker, -9))
    assert run.handle(GraceOver()) == [KillWorker(0)]
    run.handle(Finished(0))
    assert run.handle(Exited(0, 0)) == [Finish()]
    assert run.errors == [error]
    assert not hasattr(error, "__notes__")


def test_who_still_boots_has_time_to_drain() -> None:
    run = supervisor(booting=(1,))
    assert run.handle(StopAsked())[:-1] == [DrainWorker(0), DrainWorker(1), DrainWorker(2)]


def test_a_worker_that_dies_while_it_boots_has_died() -> None:
    run = supervisor(booting=(1,))
    run.handle(Exited(1, -9))
    (error,) = run.errors
    assert isinstance(error, WorkerDied)


def test_workers_that_have_finished_are_not_cancelled() -> None:
    run = supervisor()
    run.handle(Finished(0))
    run.handle(Finished(1))
    run.handle(Exited(1, 0))
    assert run.handle(Failed(2, failure())) == [CancelWorker(2), SetTimer(GRACE)]


def test_further_failures_are_kept_in_their_order_and_cancel_nobody_again() -> None:
    run = supervisor()
    errors = [failure(text) for text in "abc"]
    run.handle(Failed(2, errors[0]))
    assert run.handle(Failed(0, errors[1])) == []
    assert run.handle(Failed(1, errors[2])) == []
    assert run.errors == errors


def test_a_failed_run_is_over_when_all_workers_have_exited() -> None:
    run = supervisor()
    run.handle(Failed(2, failure()))
    for worker in range(3):
        assert run.handle(Finished(worker)) == []
    assert [run.handle(Exited(worker, 0)) for worker in range(3)] == [[], [], [Finish()]]
    assert len(run.errors) == 1


def test_what_resists_cancellation_is_killed_after_grace_and_the_error_says_so() -> None:
    run = supervisor()
    error = failure()
    run.handle(Failed(2, error))
    run.handle(Finished(0))
    run.handle(Exited(0, 0))
    assert run.handle(GraceOver()) == [KillWorker(1), KillWorker(2)]
    assert run.phase is Phase.KILLING
    run.handle(Exited(1, -9))
    assert run.handle(Exited(2, -9)) == [Finish()]
    assert run.errors == [error]  # being killed by us is no death
    notes = error.__notes__
    assert ["worker 1 (passes_0)" in notes[0], "worker 2 (passes_1, keep)" in notes[1]] == [True, True]
    assert "5 s" in notes[0]


def test_a_worker_that_ended_in_time_but_was_killed_while_it_exited_is_not_blamed() -> None:
    run = supervisor()
    error = failure()
    run.handle(Failed(2, error))
    for worker in range(3):
        run.handle(Finished(worker))
    run.handle(GraceOver())
    for worker in range(3):
        run.handle(Exited(worker, -9))
    assert not hasattr(error, "__notes__")


def test_a_timer_that_comes_late_does_no_harm() -> None:
    run = supervisor()
    for worker in range(3):
        run.handle(Finished(worker))
        run.handle(Exited(worker, 0))
    assert run.handle(GraceOver()) == []
    assert run.handle(KillAsked()) == []
    assert run.phase is Phase.OVER


def test_nobody_is_killed_twice() -> None:
    run = supervisor()
    run.handle(CancelAsked())
    assert len(run.handle(GraceOver())) == 3
    assert run.handle(GraceOver()) == run.handle(KillAsked()) == []


# --- deaths -----------------------------------------------------------------------------------------


def test_a_worker_that_exits_before_its_nodes_had_ended_has_died_and_the_others_are_cancelled() -> None:
    run = supervisor()
    assert run.handle(Exited(2, -signal.SIGKILL)) == [CancelWorker(0), CancelWorker(1), SetTimer(GRACE)]
    (error,) = run.errors
    assert isinstance(error, WorkerDied)
    assert (error.worker, error.exitcode, error.signal, error.nodes) == (2, -9, "SIGKILL", ("passes_1", "keep"))
    assert "memory" in str(error)


@pytest.mark.parametrize(
    ("exitcode", "name", "words"),
    [
        (0, None, "exited with code 0"),
        (3, None, "exited with code 3"),
        (-signal.SIGSEGV, "SIGSEGV", "killed by SIGSEGV"),
        (-signal.SIGTERM, "SIGTERM", "killed by SIGTERM"),
        (-63, "signal 63", "killed by signal 63"),
        (None, None, "exit code is not known"),
    ],
)
def test_a_death_is_told_with_signal_or_exit_code(exitcode: int | None, name: str | None, words: str) -> None:
    run = supervisor()
    run.handle(Exited(0, exitcode))
    (error,) = run.errors
    assert isinstance(error, WorkerDied)
    assert (error.exitcode, error.signal) == (exitcode, name)
    for part in (words, "worker 0", "count, more"):
        assert part in str(error)


def test_the_death_of_the_last_worker_ends_the_run() -> None:
    run = supervisor((("count", "more", "passes_0", "passes_1", "keep"),))
    *_, last = run.handle(Exited(0, -9))
    assert last == Finish()
    assert run.phase is Phase.OVER
    assert isinstance(run.errors[0], WorkerDied)


def test_a_death_after_a_failure_comes_after_it() -> None:
    run = supervisor()
    error = failure()
    run.handle(Failed(2, error))
    run.handle(Exited(1, -11))
    first, second = run.errors
    assert first is error
    assert isinstance(second, WorkerDied)


def test_a_failure_of_a_worker_that_exits_at_once_is_no_death_when_it_has_finished() -> None:
    run = supervisor()
    run.handle(Failed(2, failure()))
    run.handle(Finished(2))
    run.handle(Exited(2, 0))
    assert len(run.errors) == 1


def test_a_death_while_the_run_drains_is_a_death() -> None:
    run = supervisor()
    run.handle(StopAsked())
    assert run.handle(Exited(1, -9)) == [CancelWorker(0), CancelWorker(2), SetTimer(GRACE)]
    assert isinstance(run.errors[0], WorkerDied)


# --- stop, cancel, kill -----------------------------------------------------------------------------


def test_stop_tells_every_worker_also_one_that_has_finished_and_waits_for_a_word_since_it_got_sigterm() -> None:
    run = supervisor()
    run.handle(Finished(1))
    assert run.handle(StopAsked()) == [DrainWorker(0), DrainWorker(1), DrainWorker(2), SetTimer(GRACE / 2)]
    assert (run.phase, run.state) == (Phase.DRAINING, "draining")


def test_a_stop_while_a_run_is_cancelled_tells_those_that_were_not_told_of_its_end() -> None:
    run = supervisor()
    run.handle(Finished(1))
    assert run.handle(CancelAsked()) == [CancelWorker(0), CancelWorker(2), SetTimer(GRACE)]
    assert run.handle(StopAsked()) == [DrainWorker(1)]
    assert run.phase is Phase.CANCELLING
    run.handle(KillAsked())
    assert run.handle(StopAsked()) == []


def test_a_drained_run_has_succeeded() -> None:
    run = supervisor()
    run.handle(StopAsked())
    for worker in range(3):
        run.handle(Finished(worker))
        run.handle(Exited(worker, 0))
    assert (run.phase, run.errors, run.cancelled, run.cut_short) == (Phase.OVER, [], False, False)


def test_after_half_of_its_time_a_stop_ends_the_sources_that_wait() -> None:
    run = supervisor()
    assert run.handle(StopAsked(3.0))[-1] == SetTimer(1.5)
    run.handle(Finished(0))
    assert run.handle(GraceOver()) == [EndSources(1), EndSources(2), SetTimer(1.5)]
    assert run.phase is Phase.DRAINING


def test_what_has_not_drained_in_time_is_cancelled_and_killed_after_grace() -> None:
    run = supervisor()
    run.handle(StopAsked(2.0))
    run.handle(Finished(0))
    run.handle(GraceOver())
    assert run.handle(GraceOver()) == [CancelWorker(1), CancelWorker(2), SetTimer(GRACE)]
    assert (run.phase, run.cancelled, run.cut_short) == (Phase.CANCELLING, False, True)
    run.handle(Finished(1))
    assert run.handle(GraceOver()) == [KillWorker(0), KillWorker(1), KillWorker(2)]
    for worker, exitcode in enumerate((0, 0, -9)):
        run.handle(Exited(worker, exitcode))
    assert (run.errors, run.resisted) == ([], [2])  # the report is no error, and says who was killed


def test_a_further_stop_gives_the_run_its_own_time_from_then_on() -> None:
    run = supervisor()
    run.handle(StopAsked(100.0))
    assert run.handle(StopAsked(1.0)) == [SetTimer(0.5)]
    run.handle(GraceOver())
    assert run.handle(StopAsked(4.0)) == [SetTimer(2.0)]
    assert EndSources(0) in run.handle(GraceOver())


def test_a_stop_changes_nothing_of_a_run_that_has_only_to_exit() -> None:
    run = supervisor()
    for worker in range(3):
        run.handle(Finished(worker))
    assert run.handle(StopAsked()) == [DrainWorker(0), DrainWorker(1), DrainWorker(2)]
    assert run.handle(StopAsked()) == []
    assert run.phase is Phase.RUNNING
    assert run.handle(GraceOver()) == [KillWorker(0), KillWorker(1), KillWorker(2)]


def test_leaving_gives_what_was_sent_as_long_as_it_takes_when_the_sources_have_ended() -> None:
    run = supervisor()
    assert run.handle(StopAsked(None, unhurried=True))[0] == DrainWorker(0)
    assert EndSources(0) in run.handle(GraceOver())
    run.handle(SourcesEnded(0))  # the only worker with sources
    assert run.handle(GraceOver()) == []
    assert run.phase is Phase.DRAINING


def test_leaving_cancels_a_run_whose_sources_do_not_end() -> None:
    run = supervisor()
    run.handle(StopAsked(None, unhurried=True))
    run.handle(GraceOver())
    assert run.handle(GraceOver()) == ALL_CANCELLED


def test_the_time_to_leave_begins_when_the_workers_have_begun() -> None:
    run = supervisor(booting=(2,))
    run.handle(StopAsked(None, unhurried=True))
    assert run.handle(GraceOver()) == run.handle(GraceOver()) == [SetTimer(GRACE / 2)]
    run.handle(Ready(2))
    assert EndSources(0) in run.handle(GraceOver())


def test_a_worker_that_starts_again_while_the_run_drains_is_told_so() -> None:
    run = restarting()
    run.handle(StopAsked())
    assert run.handle(killed(1, 1.0))[1:] == [DrainWorker(1)]
    run.handle(Ready(1))
    run.handle(GraceOver())
    assert run.handle(killed(1, 2.0))[1:] == [DrainWorker(1), EndSources(1)]


def test_leaving_does_not_stop_a_run_that_ends_by_itself_nor_loosen_a_stop() -> None:
    run = supervisor()
    run.handle(StopAsked(1.0))
    assert run.handle(StopAsked(None, unhurried=True)) == []
    ends = supervisor()
    ends.handle(Finished(0))
    assert ends.handle(StopAsked(None, unhurried=True)) == []
    assert ends.phase is Phase.RUNNING


def test_cancel_cancels_and_is_remembered() -> None:
    run = supervisor()
    assert run.handle(CancelAsked()) == ALL_CANCELLED
    assert (run.cancelled, run.errors) == (True, [])


def test_cancel_while_draining_cancels() -> None:
    run = supervisor()
    run.handle(StopAsked())
    assert run.handle(CancelAsked()) == ALL_CANCELLED


def test_stop_after_cancel_does_not_drain() -> None:
    run = supervisor()
    run.handle(CancelAsked())
    assert run.handle(StopAsked()) == run.handle(StopAsked(1.0)) == []
    assert run.phase is Phase.CANCELLING


def test_kill_kills_at_once_at_any_time() -> None:
    before: list[list[Event]] = [[], [StopAsked()], [CancelAsked()], [Failed(0, failure())], [TimedOut(1.0)]]
    for events in before:
        run = supervisor()
        for event in events:
            run.handle(event)
        assert run.handle(KillAsked()) == [KillWorker(0), KillWorker(1), KillWorker(2)]
        told = [run.handle(Exited(worker, -9)) for worker in range(3)]
        assert told[-1] == [Finish()]
        assert not any(isinstance(error, WorkerDied) for error in run.errors)


def test_a_failure_while_being_cancelled_is_kept() -> None:
    run = supervisor()
    run.handle(CancelAsked())
    error = failure()
    assert run.handle(Failed(1, error)) == []
    assert (run.errors, run.cancelled) == ([error], True)


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


def restarting() -> Supervisor:
    """Worker 1, with one node, may be started again."""
    run = Supervisor(specified(), Plan(WORKERS, {}, frozenset({0, 1})), GRACE, frozenset({1}))
    for worker in range(3):
        run.handle(Ready(worker))
    return run


def killed(worker: int, at: float) -> Exited:
    return Exited(worker, -signal.SIGKILL, at)


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
