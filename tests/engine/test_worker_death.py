"""A worker that is gone before its nodes had ended is named, with its signal or exit code and its nodes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, State, component
from cascata.engine.worker.sigterm import WORD_S
from cascata.errors import CascataError, WorkerDied
from cascata.options import StartMethod
from tests.engine.parts import Count, Each, Endless, Flag, Keep, Notes, Pass, keep
from tests.speed import in_time

SOON_S = 2.0


def exit_at_once(code: int) -> None:
    os._exit(code)


def kill(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(20)


def segfault(_: int) -> None:
    ctypes.string_at(0)


def exit_in_thread(code: int) -> None:
    threading.Thread(target=os._exit, args=(code,)).start()
    time.sleep(20)


DEATHS: dict[str, Any] = {
    "_exit": exit_at_once,
    "kill": kill,
    "segfault": segfault,
    "_exit in a thread": exit_in_thread,
}


@component
async def Dies(number: In[int], how: In[str], code: In[int], out: Out[int]) -> None:
    if number == 150:
        DEATHS[how](code)
    await out.send(number)


def dying(how: str, code: int, notes: Notes) -> Graph:
    """The node that dies is on worker 1 together with one other."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10_000
    graph.dies = Dies
    graph.dies.how < how
    graph.dies.code < code
    graph.friend = Pass
    graph.count.number >> graph.dies.number
    graph.dies.out >> graph.friend.item
    keep(graph, graph.friend.same, notes)
    for node, worker in ((graph.count, 0), (graph.dies, 1), (graph.friend, 1), (graph.keep, 2)):
        graph.pin(node, worker)
    return graph


@pytest.mark.parametrize(
    ("how", "code", "exitcode", "name", "words"),
    [
        ("_exit", 0, 0, None, "exited with code 0"),
        ("_exit", 1, 1, None, "exited with code 1"),
        ("_exit", 255, 255, None, "exited with code 255"),
        ("_exit in a thread", 7, 7, None, "exited with code 7"),
        ("kill", signal.SIGKILL, -9, "SIGKILL", "killed by SIGKILL"),
        ("kill", signal.SIGTERM, -15, "SIGTERM", "killed by SIGTERM"),
        ("kill", signal.SIGABRT, -6, "SIGABRT", "killed by SIGABRT"),
        ("kill", signal.SIGRTMIN + 1, -(signal.SIGRTMIN + 1), f"signal {signal.SIGRTMIN + 1}", "killed by"),
        ("segfault", 0, -11, "SIGSEGV", "killed by SIGSEGV"),
    ],
)
def test_a_worker_that_dies_is_named_with_its_nodes(
    notes: Notes, how: str, code: int, exitcode: int, name: str | None, words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=words) as caught:
        dying(how, code, notes).run(num_workers=3)
    word = WORD_S if code == signal.SIGTERM else 0  # a worker waits so long whether its whole program is to end
    assert in_time(SOON_S + word, since=began)
    error = caught.value
    assert (error.worker, error.exitcode, error.signal, error.nodes) == (1, exitcode, name, ("dies", "friend"))
    for part in ("worker 1", "dies", "friend"):
        assert part in str(error)
    assert error.others == ()
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.worker, copy.exitcode, copy.signal, copy.nodes) == (1, exitcode, name, ("dies", "friend"))
    kept = notes.read()
    assert kept == [*range(len(kept))]


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize(("how", "exitcode"), [("kill", -9), ("_exit", 9)])
def test_it_is_named_under_every_start_method(notes: Notes, start_method: StartMethod, how: str, exitcode: int) -> None:
    with pytest.raises(WorkerDied) as caught:
        dying(how, 9, notes).run(num_workers=3, start_method=start_method)
    assert (caught.value.worker, caught.value.exitcode) == (1, exitcode)


def dies_in_initializer(code: int) -> int:
    os._exit(code)


def dies_in_teardown(code: int) -> Iterator[int]:
    yield 1
    os._exit(code)


def stateful(initializer: Any) -> Any:
    @component
    async def Stateful(state: State[int] = State(initializer)) -> None:
        pass

    return Stateful


@pytest.mark.parametrize("initializer", [dies_in_initializer, dies_in_teardown])
def test_a_death_while_state_is_made_or_torn_down_is_named(initializer: Any) -> None:
    graph = Graph()
    graph.node = stateful(initializer)
    graph.node.state < 4
    with pytest.raises(WorkerDied) as caught:
        graph.run(num_workers=1)
    assert (caught.value.exitcode, caught.value.nodes) == (4, ("node",))


class DiesWhenUnpickled:
    def __reduce__(self) -> Any:
        return os._exit, (6,)


@component
async def Takes(item: In[Any]) -> None:
    pass


def test_a_death_at_a_constant_is_named() -> None:
    graph = Graph()
    graph.takes = Takes
    graph.takes.item < DiesWhenUnpickled()
    with pytest.raises(WorkerDied) as caught:
        graph.run(num_workers=1)
    assert (caught.value.exitcode, caught.value.nodes) == (6, ("takes",))


def test_a_death_at_an_item_is_named() -> None:
    graph = Graph()
    graph.each = Each
    graph.each.items < [1, 2]
    graph.sends = SendsDeath
    graph.takes = Takes
    graph.each.item >> graph.sends.number
    graph.sends.out >> graph.takes.item
    graph.pin(graph.each, 0)
    graph.pin(graph.sends, 0)
    graph.pin(graph.takes, 1)
    with pytest.raises(WorkerDied) as caught:
        graph.run(num_workers=2)
    assert (caught.value.worker, caught.value.exitcode, caught.value.nodes) == (1, 6, ("takes",))


@component
async def SendsDeath(number: In[int], out: Out[Any]) -> None:
    await out.send(DiesWhenUnpickled())


@component
async def DiesWith(ready: In[Flag], go_on: In[Flag]) -> None:
    ready.set()
    go_on.wait_blocking()
    os.kill(os.getpid(), signal.SIGKILL)


def test_several_deaths_are_told_one_by_one(flags: list[Flag]) -> None:
    graph = Graph()
    for number in range(2):
        node = graph.add(DiesWith, f"node_{number}")
        node.ready < flags[number]
        node.go_on < flags[1 - number]
        graph.pin(node, number)
    with pytest.raises(WorkerDied) as caught:
        graph.run(num_workers=2)
    deaths = [caught.value, *caught.value.others]
    assert sorted(getattr(death, "nodes", ()) for death in deaths) == [("node_0",), ("node_1",)]


def test_a_worker_whose_own_child_lives_on_is_missed_all_the_same(notes: Notes, flags: list[Flag]) -> None:
    """The child holds the worker's fds, so that their end does not tell."""
    graph = Graph()
    graph.parent = LeavesChild
    graph.parent.over < flags[0]
    graph.parent.notes < notes
    began = time.monotonic()
    try:
        with pytest.raises(WorkerDied) as caught:
            graph.run(num_workers=1)
        assert in_time(SOON_S + 1, since=began)
        assert caught.value.signal == "SIGKILL"
    finally:
        flags[0].set()
        (child,) = notes.read()
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:  # noqa: PTH110
            try:
                os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(0.01)


@component
async def LeavesChild(over: In[Flag], notes: In[Notes]) -> None:
    child = os.fork()
    if not child:
        over.wait_blocking()
        os._exit(0)
    notes.add(child)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_runner_may_use_processes_of_its_own(notes: Notes) -> None:
    graph = Graph()
    graph.uses = UsesProcesses
    graph.uses.notes < notes
    graph.run(num_workers=1)
    assert notes.read() == [[0, 1, 4, 9]]


@component
async def UsesProcesses(notes: In[Notes]) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        notes.add(pool.map(square, range(4)))


def square(number: int) -> int:
    return number * number


def test_a_death_while_nothing_is_left_to_do_is_a_death(notes: Notes) -> None:
    """At the exit of the worker's interpreter, after its nodes had ended: nothing is lost, the run has succeeded."""
    graph = Graph()
    graph.node = DiesAtExit
    graph.node.notes < notes
    graph.run(num_workers=1)
    assert notes.read() == ["ran"]


@component
async def DiesAtExit(notes: In[Notes]) -> None:
    import atexit

    atexit.register(os._exit, 9)
    notes.add("ran")


def test_a_run_in_which_a_worker_dies_can_be_run_again(notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.node = DiesUnless
    graph.node.flag < flags[0]
    with pytest.raises(WorkerDied):
        graph.run(num_workers=1)
    flags[0].set()
    graph.run(num_workers=1)


@component
async def DiesUnless(flag: In[Flag]) -> None:
    if not flag.is_set():
        os._exit(1)


def test_inline_a_runner_that_exits_is_an_error_like_any_other(notes: Notes) -> None:
    graph = Graph()
    graph.node = Exits
    with pytest.raises(CascataError, match="SystemExit: 4"):
        graph.run(engine="inline")


@component
async def Exits() -> None:
    sys.exit(4)


def test_the_death_of_a_worker_ends_endless_sources_elsewhere(notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.keep = Keep
    graph.keep.notes < notes
    graph.endless.number >> graph.keep.item
    graph.dies = DiesUnless
    graph.dies.flag < flags[0]
    for worker, node in enumerate((graph.endless, graph.keep, graph.dies)):
        graph.pin(node, worker)
    began = time.monotonic()
    with pytest.raises(WorkerDied) as caught:
        graph.run(num_workers=3)
    assert in_time(SOON_S, since=began)
    assert caught.value.nodes == ("dies",)
    assert caught.value.others == ()
