"""SIGKILL for any worker at any moment: the run ends with `WorkerDied`, soon, and nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascata import Graph, In, Out, State, component
from cascata.errors import WorkerDied
from cascata.options import StartMethod
from tests import leaks
from tests.engine.parts import PATIENCE_S, Flag, Notes
from tests.processes import below
from tests.programs import SOON_S
from tests.speed import in_time

KILLS = int(os.environ.get("CASCATA_KILLS_EACH", "3"))
"""Kills for each shape, moment and seed."""


def here(notes: Notes) -> Iterator[None]:
    """State that tells the test which process it is in."""
    notes.add(os.getpid())
    yield


@component
async def Endless(out: Out[Any], notes: State[None] = State(here), die_at: In[int] = -1) -> None:
    number = 0
    while True:
        if number == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        await out.send(np.zeros(20_000) if number % 64 == 63 else {"number": number})
        number += 1


@component
async def Pass(item: In[Any], out: Out[Any], notes: State[None] = State(here), die_at: In[int] = -1) -> None:
    if die_at >= 0 and isinstance(item, dict) and item["number"] >= die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    await out.send(item)


@component
async def Swallow(item: In[Any], notes: State[None] = State(here), die_at: In[int] = -1) -> None:
    if die_at >= 0 and isinstance(item, dict) and item["number"] >= die_at:
        os.kill(os.getpid(), signal.SIGKILL)


def chain() -> Graph:
    graph = Graph()
    graph.source = Endless
    graph.first = Pass
    graph.second = Pass
    graph.sink = Swallow
    graph.source.out >> graph.first.item
    graph.first.out >> graph.second.item
    graph.second.out >> graph.sink.item
    return graph


def fan_out() -> Graph:
    graph = Graph()
    graph.source = Endless
    for name in ("one", "two", "three"):
        sink = graph.add(Swallow, name)
        graph.source.out >> sink.item
    return graph


def group() -> Graph:
    graph = Graph()
    graph.source = Endless
    graph.members = Pass * 3
    graph.sink = Swallow
    graph.source.out >> graph.members.item
    graph.members.out >> graph.sink.item
    return graph


def merge() -> Graph:
    graph = Graph()
    graph.sink = Swallow
    for name in ("one", "two", "three"):
        source = graph.add(Endless, name)
        source.out >> graph.sink.item
    return graph


def told(graph: Graph, notes: Notes) -> Graph:
    """The graph, every node of which tells its process."""
    for node in graph.nodes.values():
        node.notes < notes
    return graph


def fresh(notes: Notes, number: int) -> Notes:
    return Notes(f"{notes.path}_{number}")


def must_be_the_death_of(error: WorkerDied, graph: Graph) -> None:
    assert (error.exitcode, error.signal) == (-signal.SIGKILL, "SIGKILL")
    assert error.nodes == graph.shard(3).workers[error.worker]
    assert all(node in str(error) for node in error.nodes)
    assert not error.others


@pytest.mark.parametrize("shape", [chain, fan_out, group, merge])
def test_a_worker_that_is_killed_at_some_item(shape: Any, notes: Notes) -> None:
    choose = random.Random(shape.__name__)
    before = leaks.take()
    for number in range(KILLS):
        graph = told(shape(), fresh(notes, number))
        victim = choose.choice([*graph.nodes])
        graph.nodes[victim].die_at < int(10 ** choose.uniform(0, 3.7))
        began = time.monotonic()
        with pytest.raises(WorkerDied) as caught:
            graph.run(num_workers=3)
        assert in_time(SOON_S + 1, since=began)
        must_be_the_death_of(caught.value, graph)
        assert victim in caught.value.nodes
        assert leaks.left_since(before) == []


@pytest.mark.parametrize("shape", [chain, fan_out, group, merge])
def test_a_worker_that_is_killed_while_items_flow(shape: Any, notes: Notes) -> None:
    """From outside: in the middle of a frame, a wait, a flush, whatever it is at."""
    choose = random.Random(shape.__name__)
    before = leaks.take()
    for number in range(KILLS):
        pids = fresh(notes, number)
        graph = told(shape(), pids)
        graph.start(num_workers=3)
        deadline = time.monotonic() + PATIENCE_S
        while len(set(pids.read())) < 3 or len(pids.read()) < len(graph.nodes):
            assert time.monotonic() < deadline
            time.sleep(0.002)  # the thread of the run needs this interpreter as well
        spin(choose.expovariate(1 / 0.01))
        os.kill(choose.choice(sorted(set(pids.read()))), signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(WorkerDied) as caught:
            graph.join()
        assert in_time(SOON_S, since=killed)
        must_be_the_death_of(caught.value, graph)
        assert leaks.left_since(before) == []


@pytest.mark.parametrize("start_method", ["forkserver", "fork", "spawn"])
def test_a_worker_that_is_killed_while_it_starts(start_method: StartMethod, notes: Notes) -> None:
    choose = random.Random(start_method)
    before = leaks.take()
    mine = set(below(os.getpid()))
    for number in range(KILLS if start_method != "spawn" else max(1, KILLS // 2)):
        graph = told(chain(), fresh(notes, number))
        graph.start(num_workers=3, start_method=start_method)
        victims: set[int] = set()
        wanted = choose.randint(1, 3)
        deadline = time.monotonic() + PATIENCE_S
        while len(victims) < wanted:
            assert time.monotonic() < deadline
            victims = {pid for pid in below(os.getpid()) if pid not in mine}
        spin(choose.uniform(0, 0.03 if start_method != "spawn" else 0.2))
        os.kill(choose.choice(sorted(victims)), signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(WorkerDied) as caught:
            graph.join()
        assert in_time(SOON_S, since=killed)
        must_be_the_death_of(caught.value, graph)
        assert leaks.left_since(before) == []


def test_all_workers_killed_at_once(notes: Notes) -> None:
    graph = told(chain(), notes)
    graph.start(num_workers=3)
    while len(notes.read()) < len(graph.nodes):
        pass
    killed = 0
    for pid in set(notes.read()):
        with contextlib.suppress(ProcessLookupError):  # the run has seen the death of another, and ended this one
            os.kill(pid, signal.SIGKILL)
            killed += 1
    assert killed
    with pytest.raises(WorkerDied) as caught:
        graph.join()
    deaths = [caught.value, *caught.value.others]
    workers = [death.worker for death in deaths if isinstance(death, WorkerDied)]
    assert len(workers) == len(set(workers))
    assert set(workers) <= {0, 1, 2}


def test_a_worker_that_is_killed_and_reaped_before_anybody_holds_it(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = os.pidfd_open

    def too_late(pid: int, flags: int = 0) -> int:
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + SOON_S
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline
        return hold(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", too_late)
    with pytest.raises(WorkerDied) as caught:
        told(chain(), notes).run(num_workers=2)
    assert caught.value.signal == "SIGKILL"


def test_the_fork_server_may_be_killed_and_the_next_run_has_a_new_one(script: Any) -> None:
    lines = script.prints(
        """
        import os, signal
        from cascata import *

        @component
        async def Prints(server: Out[int]):
            await server.send(os.getppid())

        @component
        async def Kills(server: In[int]):
            os.kill(server, signal.SIGKILL)
            print("killed")

        graph = Graph()
        graph.prints = Prints
        graph.kills = Kills
        prints >> kills
        for _ in range(2):
            graph.run(num_workers=2)
        """
    )
    assert lines == ["killed", "killed"]


def test_a_worker_is_killed_while_it_is_being_cancelled(notes: Notes, flags: list[Flag]) -> None:
    """The first failure is the one that is raised."""
    graph = Graph()
    graph.fails = FailsAfter
    graph.fails.flag < flags[0]
    graph.dies = DiesWhenCancelled
    graph.dies.flag < flags[0]
    graph.pin(graph.fails, 0)
    graph.pin(graph.dies, 1)
    from cascata.errors import ComponentError

    with pytest.raises(ComponentError, match="as asked") as caught:
        graph.run(num_workers=2)
    assert [type(other) for other in caught.value.others] in ([WorkerDied], [])


@component
async def FailsAfter(flag: In[Flag]) -> None:
    await flag.wait()
    raise ValueError("as asked")


@component
async def DiesWhenCancelled(flag: In[Flag]) -> None:
    import asyncio

    try:
        flag.set()
        await asyncio.sleep(PATIENCE_S)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_thread_that_kills_is_as_good_as_anybody(notes: Notes) -> None:
    """A stopped worker (SIGSTOP) can be killed as well."""
    graph = told(chain(), notes)
    graph.start(num_workers=3)
    while len(notes.read()) < len(graph.nodes):
        pass
    victim = notes.read()[0]
    os.kill(victim, signal.SIGSTOP)
    killer = threading.Thread(target=os.kill, args=(victim, signal.SIGKILL))
    killer.start()
    killer.join()
    with pytest.raises(WorkerDied):
        graph.join()
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGCONT)


def spin(seconds: float) -> None:
    """Lets a moment pass: the random moments of these tests are times."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0)
