"""A worker outlives nobody, and no worker keeps a run from its end: dead parents, blocked and stopped workers."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import threading
import time
from typing import Any, Final

import pytest

from cascata import Graph, In, Out, component
from cascata.errors import ComponentError
from tests.cells import matrix
from tests.engine.parts import PATIENCE_S, Flag
from tests.processes import gone_within
from tests.programs import SOON_S, Program
from tests.speed import in_time

METHODS: Final = ["fork", "forkserver", "spawn"]

GRACE_S: Final = 0.4

BUSY: Final = """
import asyncio, os, re, threading, time
from cascata import *

@component
async def Waits():
    print("ready")
    await asyncio.sleep(60)

@component
async def Flows(out: Out[int]):
    print("ready")
    while True:
        await out.send(1)

@component
async def Sleeps():
    print("ready")
    time.sleep(60)

@component
async def Spins():
    print("ready")
    while True:
        pass

@component
async def HoldsTheGil():
    print("ready")
    re.match(r"(a+)+b", "a" * 60)

@component
async def Shielded():
    import signal
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO):
        signal.signal(number, signal.SIG_IGN)
    print("ready")
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass

graph = Graph()
"""


WAITS_FOR_NOW: Final = """
while not os.path.exists("now"):
    time.sleep(0.01)
"""


def now(running: Program) -> None:
    """Lets a program go on that waits for it."""
    (running.path.parent / "now").touch()


KINDS: Final = ["Waits", "Flows", "Sleeps", "Spins", "HoldsTheGil", "Shielded"]


@pytest.mark.parametrize(
    ("what", "start_method"),
    [
        (what, method) if METHODS.index(method) == number % 3 else matrix(what, method)
        for number, what in enumerate(KINDS)
        for method in METHODS
    ],
)
def test_when_the_parent_is_killed_its_workers_are_gone(program: Any, what: str, start_method: str) -> None:
    running: Program = program(
        BUSY + f"graph.one = {what}\ngraph.two = Waits\ngraph.run(num_workers=2, start_method={start_method!r})\n"
    )
    running.lines_until("ready", 2)
    assert len(running.descendants()) == 2 + (start_method == "forkserver")
    running.signal(signal.SIGKILL)
    code, _ = running.end()
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("start_method", METHODS)
def test_when_the_parent_exits_without_notice_its_workers_are_gone(program: Any, start_method: str) -> None:
    running: Program = program(
        BUSY
        + f"graph.one = Sleeps\ngraph.two = Waits\ngraph.start(num_workers=2, start_method={start_method!r})\n"
        + WAITS_FOR_NOW
        + "os._exit(3)\n"
    )
    running.lines_until("ready", 2)
    running.descendants()
    now(running)
    code, _ = running.end()
    assert code == 3


def test_when_the_parent_is_killed_while_workers_start_they_are_gone(program: Any) -> None:
    for start_method in METHODS:
        for delay in (0.0, 0.02, 0.1):
            running: Program = program(
                BUSY
                + "graph.one = Waits\nprint('begins')\n"
                + f"graph.run(num_workers=1, start_method={start_method!r})\n"
            )
            running.lines_until("begins")
            time.sleep(delay)
            running.signal(signal.SIGKILL)
            assert running.end()[0] == -signal.SIGKILL


def test_a_process_that_the_program_forked_does_not_keep_workers_alive(program: Any) -> None:
    running: Program = program(
        BUSY
        + """
graph.one = Waits
graph.start(num_workers=1)
"""
        + WAITS_FOR_NOW
        + """
if not os.fork():
    print("forked", flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""
    )
    running.lines_until("ready")
    now(running)
    running.lines_until("forked")
    *_, forked = sorted(running.descendants())
    running.signal(signal.SIGKILL)
    running.process.wait()
    assert gone_within([pid for pid in running.seen if pid != forked], SOON_S)
    os.kill(forked, signal.SIGKILL)
    running.end()


# --- a worker that does not listen ------------------------------------------------------------------


@component
async def Fails(flag: In[Flag]) -> None:
    await flag.wait()
    raise ValueError("as asked")


@component
async def Sleeps(flag: In[Flag]) -> None:
    flag.set()
    time.sleep(PATIENCE_S)  # noqa: ASYNC251  # it blocks its loop, as users' code does


@component
async def Spins(flag: In[Flag]) -> None:
    flag.set()
    while True:
        pass


@component
async def HoldsTheGil(flag: In[Flag]) -> None:
    flag.set()
    re.match(r"(a+)+b", "a" * 60)


@component
async def Resists(flag: In[Flag]) -> None:
    flag.set()
    while True:
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            pass


@component
async def StopsItself(flag: In[Flag]) -> None:
    flag.set()
    os.kill(os.getpid(), signal.SIGSTOP)


@component
async def WaitsInThread(flag: In[Flag]) -> None:
    flag.set()
    await asyncio.to_thread(time.sleep, PATIENCE_S)


@pytest.mark.parametrize(
    "node", [Sleeps, Spins, HoldsTheGil, Resists, StopsItself, WaitsInThread], ids=lambda each: each.__name__
)
def test_a_failure_ends_the_run_within_grace_whatever_else_runs(flags: list[Flag], node: Any) -> None:
    graph = Graph()
    graph.fails = Fails
    graph.busy = node
    graph.fails.flag < flags[0]
    graph.busy.flag < flags[0]
    graph.pin(graph.fails, 0)
    graph.pin(graph.busy, 1)
    began = time.monotonic()
    with pytest.raises(ComponentError, match="as asked") as caught:
        graph.run(num_workers=2, grace=GRACE_S)
    assert in_time(GRACE_S + SOON_S, since=began)
    if node is not WaitsInThread:  # there only a thread stays behind: the node itself has ended
        (note,) = caught.value.__notes__
        assert "worker 1 (busy) did not stop within 0.4 s" in note


@component(thread=True)
def BlocksItsThread(flag: In[Flag], over: In[Flag]) -> None:
    flag.set()
    over.wait_blocking()


def test_inline_what_resists_is_left_behind_after_grace(flags: list[Flag], capfd: Any) -> None:
    graph = Graph()
    graph.fails = Fails
    graph.busy = Resists
    graph.fails.flag < flags[0]
    graph.busy.flag < flags[0]
    began = time.monotonic()
    with pytest.raises(ComponentError, match="as asked") as caught:
        graph.run(engine="inline", grace=GRACE_S)
    assert in_time(GRACE_S + SOON_S, since=began)
    (note,) = caught.value.__notes__
    assert note.startswith("busy did not stop within 0.4 s, and was left behind")
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_inline_a_blocked_thread_is_left_behind_after_grace(flags: list[Flag], capfd: Any) -> None:
    """Nobody can kill a thread, but nobody waits for it either."""
    graph = Graph()
    graph.fails = Fails
    graph.busy = BlocksItsThread
    graph.fails.flag < flags[0]
    graph.busy.flag < flags[0]
    graph.busy.over < flags[1]
    began = time.monotonic()
    try:
        with pytest.raises(ComponentError, match="as asked"):
            graph.run(engine="inline", grace=GRACE_S)
        assert in_time(GRACE_S + SOON_S, since=began)
    finally:
        left = [each for each in threading.enumerate() if each.name.startswith("busy")]
        flags[1].set()
        for each in left:
            each.join()
    assert capfd.readouterr() == ("", "")


@component
async def SleepsAfter(item: In[int]) -> None:
    time.sleep(PATIENCE_S)  # noqa: ASYNC251


@component
async def SendsThenFails(out: Out[int]) -> None:
    await out.send(1)
    raise ValueError("as asked")


def test_a_blocked_neighbour_on_the_same_worker_does_not_hide_a_failure(flags: list[Flag]) -> None:
    graph = Graph()
    graph.fails = SendsThenFails
    graph.sleeps = SleepsAfter
    graph.fails.out >> graph.sleeps.item
    began = time.monotonic()
    with pytest.raises(ComponentError, match="as asked"):
        graph.run(num_workers=1, grace=GRACE_S)
    assert in_time(GRACE_S + SOON_S, since=began)


def test_grace_is_spent_only_on_what_resists(flags: list[Flag]) -> None:
    graph = Graph()
    graph.fails = Fails
    graph.fails.flag < flags[0]
    graph.waits = Waits
    graph.waits.flag < flags[0]
    began = time.monotonic()
    with pytest.raises(ComponentError, match="as asked") as caught:
        graph.run(num_workers=2, grace=60.0)
    assert in_time(SOON_S, since=began)
    assert not hasattr(caught.value, "__notes__")


@component
async def Waits(flag: In[Flag]) -> None:
    flag.set()
    await asyncio.sleep(PATIENCE_S)


def test_no_grace_kills_at_once(flags: list[Flag]) -> None:
    graph = Graph()
    graph.fails = Fails
    graph.fails.flag < flags[0]
    graph.busy = Resists
    graph.busy.flag < flags[0]
    began = time.monotonic()
    with pytest.raises(ComponentError, match="as asked"):
        graph.run(num_workers=2, grace=0.0)
    assert in_time(SOON_S, since=began)


def test_a_stopped_run_that_cannot_drain_waits_for_its_source(flags: list[Flag]) -> None:
    """`stop` has no time limit of its own: a source may take its time to come to its next send."""
    graph = Graph()
    graph.source = WaitsThenSends
    graph.source.begun < flags[0]
    graph.source.go_on < flags[1]
    graph.start(num_workers=1)
    flags[0].wait_blocking()
    graph.stop()
    flags[1].set()
    graph.join()  # for ever, if it were not stopped at a send


@component
async def WaitsThenSends(begun: In[Flag], go_on: In[Flag], out: Out[int]) -> None:
    begun.set()
    await go_on.wait()
    while True:
        await out.send(1)
