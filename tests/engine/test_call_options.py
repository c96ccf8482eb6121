"""How a runner is called: several calls at once, in threads, with retries and a time limit, on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascata import BlockingOut, Graph, In, Out, State, component, inport
from cascata.errors import ComponentError
from tests.engine.parts import Count, Flag, Notes, keep

Options = dict[str, Any]


@component(concurrency=3)
async def SideBySide(number: In[int], notes: In[Notes], full: In[Flag], same: Out[int]) -> int:
    """Each call waits until three are under way; the first ends last."""
    notes.add(("begins", number))
    if [what for what, _ in notes.read()].count("begins") == 3:
        full.set()
    await full.wait()
    await asyncio.sleep(0.02 if number == 0 else 0)
    notes.add(("ends", number))
    return number


def side_by_side(component_: Any, notes: Notes, kept: Notes, full: Flag) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 9
    graph.calls = component_
    graph.calls.notes < notes
    graph.calls.full < full
    graph.count >> graph.calls
    keep(graph, graph.calls.same, kept)
    return graph


def most_at_once(notes: Notes) -> int:
    now = most = 0
    for what, _ in notes.read():
        now += 1 if what == "begins" else -1
        most = max(most, now)
    return most


@pytest.fixture
def kept(tmp_path: Any) -> Notes:
    return Notes(str(tmp_path / "kept"))


def test_so_many_calls_are_in_flight_and_results_keep_the_order_of_their_inputs(
    engine: Options, notes: Notes, kept: Notes, flags: list[Flag]
) -> None:
    side_by_side(SideBySide, notes, kept, flags[0]).run(**engine)
    assert most_at_once(notes) == 3
    assert notes.read().index(("ends", 1)) < notes.read().index(("ends", 0))
    assert kept.read() == [*range(9)]


@component(concurrency=3, ordered=False)
async def AsTheyAreDone(number: In[int], notes: In[Notes], full: In[Flag], same: Out[int]) -> int:
    """The first call ends when all others have sent their results."""
    notes.add(("begins", number))
    if number == 0:
        await full.wait()
    elif number == 8:
        full.set()
    notes.add(("ends", number))
    return number


def test_without_order_results_leave_as_they_are_done(
    engine: Options, notes: Notes, kept: Notes, flags: list[Flag]
) -> None:
    side_by_side(AsTheyAreDone, notes, kept, flags[0]).run(**engine)
    assert most_at_once(notes) <= 3
    assert sorted(kept.read()) == [*range(9)]
    assert kept.read().index(0) > kept.read().index(5)


@component(retries=2, backoff=0.0)
async def SucceedsTheThirdTime(
    number: In[int], notes: In[Notes], same: Out[Any], rest: Out[Any], tries: State[list[int]] = State(list)
) -> None:
    tries.value.append(number)
    attempt = tries.value.count(number)
    await same.send((number, attempt))
    await rest.send((number, attempt))
    notes.add((number, attempt))
    if attempt < 3:
        raise ConnectionError("not yet")


def test_what_an_attempt_sent_leaves_only_when_it_succeeded(engine: Options, notes: Notes, kept: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2
    graph.tries = SucceedsTheThirdTime
    graph.tries.notes < notes
    graph.count.number >> graph.tries.number
    keep(graph, graph.tries.same, kept)
    keep(graph, graph.tries.rest, kept, "keep_rest")
    report = graph.run(**engine)
    assert notes.read() == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert sorted(kept.read()) == [(0, 3), (0, 3), (1, 3), (1, 3)]
    assert (report.nodes["tries"].sent, report.nodes["tries"].failed) == (4, 0)


@component(retries=1, backoff=0.0)
async def NeverSucceeds(number: In[int], notes: In[Notes]) -> None:
    notes.add(number)
    raise ConnectionError("never")


def test_when_the_last_attempt_fails_the_node_does(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.tries = NeverSucceeds
    graph.tries.notes < notes
    graph.tries.number < 5
    with pytest.raises(ComponentError) as caught:
        graph.run(**engine)
    assert notes.read() == [5, 5]
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert caught.value.node == "tries"


@component(timeout=0.05)
async def TooSlow(number: In[int], notes: In[Notes]) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        notes.add("cancelled")
        raise


def test_a_call_has_so_many_seconds(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.slow = TooSlow
    graph.slow.notes < notes
    graph.slow.number < 5
    with pytest.raises(ComponentError) as caught:
        graph.run(**engine)
    assert notes.read() == ["cancelled"]
    assert isinstance(caught.value.__cause__, TimeoutError)


@component(thread=True)
def Blocks(go: In[Flag], notes: In[Notes], number: BlockingOut[int]) -> None:
    """Blocks until its neighbour has been at work; then fills the port of a reader that takes its time."""
    go.wait_blocking()
    for each in range(5):
        number.send(each)
        notes.add(("sent", each))


@component
async def Neighbour(go: In[Flag]) -> None:
    go.set()


@component
@inport("number", capacity=1)
async def OneByOne(number: In[int], notes: In[Notes]) -> None:
    notes.add(("took", number))
    await asyncio.sleep(0.002)


def test_a_runner_in_a_thread_blocks_and_stops_nobody(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.blocks = Blocks
    graph.blocks.go < flags[0]
    graph.blocks.notes < notes
    graph.neighbour = Neighbour
    graph.neighbour.go < flags[0]
    graph.reader = OneByOne
    graph.reader.notes < notes
    graph.blocks.number >> graph.reader.number
    graph.run(**engine)
    told = notes.read()
    assert [number for what, number in told if what == "took"] == [*range(5)]
    for each in range(3):  # one is in hand and one in the port: `send` has blocked until there was room
        assert told.index(("took", each)) < told.index(("sent", each + 2))
