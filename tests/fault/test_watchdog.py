"""A worker whose loop stands still is named in the log, with the line that blocks it, and again when it answers."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cascata import Graph, In, component
from cascata.engine.supervision.watchdog import LoopClock, Silence
from tests.engine.parts import Flag, Notes

SLOW_S = 0.5

# --- who stands still ---------------------------------------------------------------------------------


def clock() -> LoopClock:
    """One that looks each second for a silence of five."""
    return LoopClock(5.0)


def watched(*beats: int) -> list[Silence]:
    """What is told of a worker with these beats, one for each second."""
    looking = clock()
    return [each for second, beat in enumerate(beats) for each in looking.look({0: beat}, float(second))]


def test_a_silence_is_told_once_and_its_end_once() -> None:
    assert watched(1, 2, 2, 2, 2, 2) == []
    assert watched(1, 2, 2, 2, 2, 2, 2, 2, 2) == [Silence(0, 5.0, over=False)]
    assert watched(1, 1, 1, 1, 1, 1, 1, 2, 3) == [Silence(0, 5.0, over=False), Silence(0, 7.0, over=True)]
    assert [each.over for each in watched(*[1] * 7, *[2] * 7, 3)] == [False, True, False, True]


def test_who_has_not_begun_is_told_once_as_such() -> None:
    assert watched(*[0] * 5) == []
    assert watched(*[0] * 20) == [Silence(0, 5.0, over=False, began=False)]
    assert watched(*[0] * 7, 1, 2)[1:] == [Silence(0, 7.0, over=True, began=False)]


def test_who_begins_has_more_time_than_who_has_begun() -> None:
    looking = LoopClock(1.0)
    told = [each for look in range(40) for each in looking.look({0: 0, 1: 1}, look / 5)]
    assert [(each.worker, each.seconds) for each in told] == [(1, 1.0), (0, 5.0)]


def test_when_the_one_who_looks_stood_still_nobody_else_is_blamed() -> None:
    looking = clock()
    assert looking.look({0: 1}, 0.0) == []
    assert looking.look({0: 1}, 100.0) == []
    assert looking.look({0: 1}, 101.0) == []
    assert [each.worker for second in range(102, 110) for each in looking.look({0: 1}, float(second))] == [0]


def test_each_worker_has_a_silence_of_its_own() -> None:
    looking = clock()
    told = [each for second in range(8) for each in looking.look({0: second + 1, 1: 1}, float(second))]
    assert told == [Silence(1, 5.0, over=False)]


# --- what is said -------------------------------------------------------------------------------------


class Log(logging.Handler):
    """Keeps what is warned of, and calls something at the first record."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.first: Callable[[], Any] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if len(self.records) == 1:
            self.first()

    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def warned() -> Iterator[Log]:
    handler = Log()
    logger = logging.getLogger("cascata")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@component
async def Blocks(seen: In[Flag], back: In[Flag]) -> None:
    seen.wait_blocking()  # this is the line
    await back.wait()


@component
async def HoldsTheInterpreter(seen: In[Flag], back: In[Flag]) -> None:
    ctypes.PyDLL(None).usleep(1_500_000)  # unlike CDLL, it keeps the interpreter
    await back.wait()


@component
async def Stops(pid: In[Notes], back: In[Flag]) -> None:
    pid.add(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    await back.wait()


def end_when_back(warned: Log, back: Flag) -> None:
    """Lets the node end when the second thing has been said: it answers again."""
    emit = warned.emit

    def emit_and_end(record: logging.LogRecord) -> None:
        emit(record)
        if len(warned.records) == 2:
            back.set()

    warned.emit = emit_and_end  # type: ignore[method-assign]  # of this object only


@pytest.mark.parametrize(
    "options",
    [{"engine": "inline"}, *({"num_workers": 2, "start_method": how} for how in ("forkserver", "fork", "spawn"))],
    ids=lambda options: options.get("start_method", "inline"),
)
def test_a_blocked_loop_is_named_with_its_node_and_the_line(
    options: dict[str, Any], warned: Log, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.blocks = Blocks
    graph.blocks.seen < flags[0]
    graph.blocks.back < flags[1]
    if "num_workers" in options:
        graph.waits = Waits
        graph.waits.back < flags[1]
        graph.pin(graph.blocks, 1)
        graph.pin(graph.waits, 0)
    warned.first = flags[0].set
    end_when_back(warned, flags[1])
    graph.run(slow_after=SLOW_S, **options)
    said, again = warned.records
    worker = 1 if "num_workers" in options else 0
    assert (said.node, said.component, said.worker) == ("blocks", "Blocks", worker)  # type: ignore[attr-defined]
    text = said.getMessage()
    assert text.startswith(f"worker {worker} does not answer for ")
    assert "node 'blocks' blocks its event loop at" in text
    assert "seen.wait_blocking()  # this is the line" in text
    assert "cascata/runtime" not in text
    assert again.getMessage().startswith(f"worker {worker} answers again, after ")


@component
async def Waits(back: In[Flag]) -> None:
    await back.wait()


def test_c_code_that_holds_the_interpreter_is_named_by_its_line(warned: Log, flags: list[Flag]) -> None:
    graph = Graph()
    graph.holds = HoldsTheInterpreter
    graph.holds.seen < flags[0]
    graph.holds.back < flags[1]
    end_when_back(warned, flags[1])
    graph.run(slow_after=SLOW_S, num_workers=1)
    said, again = warned.lines()
    assert "C code holds its interpreter. It runs holds. Its threads are at\n" in said
    assert "test_watchdog.py" in said
    assert "in HoldsTheInterpreter" in said
    assert again.startswith("worker 0 answers again")


def test_a_stopped_worker_is_named_as_such(warned: Log, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.stops = Stops
    graph.stops.pid < notes
    graph.stops.back < flags[0]
    warned.first = lambda: os.kill(notes.read()[0], signal.SIGCONT)
    end_when_back(warned, flags[0])
    graph.run(slow_after=SLOW_S, num_workers=1)
    said, again = warned.lines()
    assert "its process is stopped" in said
    assert "It runs stops" in said
    assert again.startswith("worker 0 answers again")


@component(thread=True)
def BlocksItsThread(back: In[Flag]) -> None:
    back.wait_blocking()


@component
async def Ends(back: In[Flag]) -> None:
    await asyncio.sleep(2 * SLOW_S)
    back.set()


def test_who_blocks_a_thread_or_sleeps_is_not_named(warned: Log, flags: list[Flag], engine: dict[str, Any]) -> None:
    graph = Graph()
    graph.blocks = BlocksItsThread
    graph.ends = Ends
    graph.blocks.back < flags[0]
    graph.ends.back < flags[0]
    graph.run(slow_after=SLOW_S, **engine)
    assert warned.lines() == []
