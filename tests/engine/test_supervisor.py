"""The supervisor is a pure machine: each order of events is a test, and none needs a process or a clock."""

from __future__ import annotations

import itertools
import signal

import pytest

from cascata.engine.protocol.messages import (
    CancelWorker,
    DrainWorker,
    EndSources,
    Failed,
    Finished,
    ReaderDone,
    SourcesEnded,
    WritersDone,
)
from cascata.engine.supervision.events import (
    CancelAsked,
    Event,
    Exited,
    GraceOver,
    KillAsked,
    Ready,
    StopAsked,
    TimedOut,
)
from cascata.engine.supervision.instructions import (
    EndReading,
    EndWriting,
    Finish,
    KillWorker,
    SetTimer,
)
from cascata.engine.supervision.supervisor import Phase, Supervisor
from cascata.errors import WorkerDied
from cascata.model import Plan
from tests.engine.supervisors import ALL_CANCELLED, GRACE, failure, killed, restarting, specified, supervisor

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
