"""A run that can no longer move gets room where that helps, and an error where nothing can, on every engine."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from cascata.errors import DeadlockError
from tests.engine.parts import Count, Endless, Notes, Pass, keep

Options = dict[str, Any]

LIMIT_S = 10
"""Seconds after which a run that hangs is ended."""


@component
async def FirstThenSecond(upto: In[int], first: Out[int], second: Out[int]) -> None:
    """Sends all of its items on one port, and then all of them on the other."""
    for each in range(upto):
        await first.send(each)
    for each in range(upto):
        await second.send(each)


@component
@inport("left", capacity=4)
@inport("right", capacity=4)
async def KeepNarrowPair(left: In[Any], right: In[Any], notes: In[Notes]) -> None:
    notes.add((left, right))


@component
@inport("left", capacity=1)
@inport("right", capacity=1)
async def KeepNarrowestPair(left: In[Any], right: In[Any], notes: In[Notes]) -> None:
    notes.add((left, right))


def reconvergent(upto: int, notes: Notes) -> Graph:
    """Two ways from one node to another one, which the items need in turn."""
    graph = Graph()
    graph.source = FirstThenSecond
    graph.source.upto < upto
    graph.pair = KeepNarrowPair
    graph.pair.notes < notes
    graph.source.first >> graph.pair.left
    graph.source.second >> graph.pair.right
    return graph


def growth(messages: list[str]) -> list[tuple[str, int, int]]:
    """What the warnings tell: port, capacity before, capacity after."""
    told = []
    for message in messages:
        port, numbers = message.split("the capacity of ")[1].split(". ")[0].split(" was raised from ")
        before, after = numbers.split(" to ")
        told.append((port, int(before), int(after)))
    return told


def test_a_port_with_too_little_room_is_given_more_and_named_each_time(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    report = reconvergent(40, notes).run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(number, number) for number in range(40)]
    assert growth(caplog.messages) == [
        ("pair.left", 4, 8),
        ("pair.left", 8, 16),
        ("pair.left", 16, 32),
        ("pair.left", 32, 64),
    ]
    assert {(record.name, record.levelname) for record in caplog.records} == {("cascata", "WARNING")}
    for message in caplog.messages:  # and who waits for whom
        assert "source waits for room in pair.left" in message
        assert "pair waits on 'right' for items of source.second" in message
    assert all(edge.balanced for edge in report.edges)


def test_room_that_is_enough_is_not_raised(engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    reconvergent(4, notes).run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(number, number) for number in range(4)]
    assert caplog.messages == []


def test_room_is_given_for_one_run_only(engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    graph = reconvergent(6, notes)
    graph.run(**engine, timeout=LIMIT_S)
    graph.run(**engine, timeout=LIMIT_S)
    assert growth(caplog.messages) == [("pair.left", 4, 8)] * 2


@component
async def Tenth(item: In[int], tenth: Out[int]) -> None:
    if item % 10 == 9:
        await tenth.send(item)


def test_a_way_that_filters_and_one_that_does_not_meet_again(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 60
    graph.tenth = Tenth
    graph.pair = KeepNarrowestPair
    graph.pair.notes < notes
    graph.count.number >> graph.tenth.item
    graph.tenth.tenth >> graph.pair.left
    graph.count.number >> graph.pair.right
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(10 * number + 9, number) for number in range(6)]
    assert {port for port, *_ in growth(caplog.messages)} == {"pair.right"}


def test_a_way_that_gathers_everything_and_one_that_does_not_meet_again(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 30
    graph.pair = KeepNarrowPair
    graph.pair.notes < notes
    graph.count.number >>= graph.pair.left
    graph.count.number >> graph.pair.right
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [([*range(30)], 0)]


def test_the_smallest_of_the_full_ports_is_given_room(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """Two knots in one graph, with 4 and with 1 as capacity."""
    graph = reconvergent(5, notes)
    graph.other = FirstThenSecond
    graph.other.upto < 5
    graph.narrowest = KeepNarrowestPair
    graph.narrowest.notes < notes
    graph.other.first >> graph.narrowest.left
    graph.other.second >> graph.narrowest.right
    graph.run(**engine, timeout=LIMIT_S)
    told = growth(caplog.messages)
    assert sorted(told) == [
        ("narrowest.left", 1, 2),
        ("narrowest.left", 2, 4),
        ("narrowest.left", 4, 8),
        ("pair.left", 4, 8),
    ]
    assert told[:2] == [("narrowest.left", 1, 2), ("narrowest.left", 2, 4)]


def test_a_part_that_cannot_move_waits_while_another_part_works(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """The knot is seen when the other part has ended, at the latest."""
    graph = reconvergent(5, notes)
    graph.sleeper = Sleep
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(number, number) for number in range(5)]
    assert growth(caplog.messages) == [("pair.left", 4, 8)]


@component
async def Sleep() -> None:
    await asyncio.sleep(0.5)


def test_a_run_inside_a_loop_that_has_other_tasks_gets_room_too(engine: Options, notes: Notes) -> None:
    async def main() -> None:
        other = asyncio.create_task(asyncio.sleep(60))
        try:
            await reconvergent(10, notes).run_async(**engine, timeout=LIMIT_S)
        finally:
            other.cancel()

    asyncio.run(main())
    assert notes.read() == [(number, number) for number in range(10)]


# -- nothing can help


@component
async def Meet(outside: In[int], back: In[int], again: Out[int]) -> None:
    await again.send(outside + back)


def never_begun(source: Any) -> Graph:
    """A zip of a stream with what comes back, and nothing ever comes back. The check takes it as fed from outside."""
    graph = Graph()
    graph.source = source
    graph.meet = Meet
    graph.back = Pass
    graph.meet.again >> graph.back.item
    graph.back.same >> graph.meet.back
    out = graph.source.number
    out >> graph.meet.outside
    return graph


@pytest.mark.parametrize("upto", [1, 50])
def test_a_feedback_that_never_begins_is_told(engine: Options, upto: int) -> None:
    graph = never_begun(Count)
    graph.source.upto < upto
    graph.check()
    with pytest.raises(DeadlockError, match=r"can no longer move.*first value") as caught:
        graph.run(**engine, timeout=LIMIT_S)
    issues = "\n".join(caught.value.issues)
    assert "meet" in issues
    assert "'back'" in issues
    assert "source" not in issues  # it has ended


def test_a_feedback_that_never_begins_is_told_however_much_comes_from_outside(
    engine: Options, caplog: pytest.LogCaptureFixture
) -> None:
    """No room for the endless stream would help: it must not be given more and more."""
    with pytest.raises(DeadlockError):
        never_begun(Endless).run(**engine, timeout=3)
    assert len(caplog.messages) <= 2


def test_two_nodes_that_wait_for_each_other_are_told(engine: Options) -> None:
    graph = never_begun(Count)
    graph.source.upto < 3
    graph.second = Meet
    graph.source.number >> graph.second.outside
    graph.meet.again >> graph.second.back
    with pytest.raises(DeadlockError, match="meet") as caught:
        graph.run(**engine, timeout=LIMIT_S)
    assert any(issue.startswith("second ") for issue in caught.value.issues)


# -- no false alarm

PAUSE_S = 0.6
"""Longer than several looks at a run that does not move."""


@component
async def Sleeps(item: In[int], same: Out[int]) -> None:
    await asyncio.sleep(PAUSE_S)
    await same.send(item)


@component
async def Computes(item: In[int], same: Out[int]) -> None:
    until = time.perf_counter() + PAUSE_S
    while time.perf_counter() < until:
        pass
    await same.send(item)


@component(thread=True)
def SleepsInItsThread(item: In[int], same: Out[int]) -> None:
    time.sleep(PAUSE_S)
    same.send(item)  # type: ignore[unused-coroutine]  # it blocks, in a thread


@component
async def SleepsInAnExecutor(item: In[int], same: Out[int]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, PAUSE_S)
    await same.send(item)


@component
async def WaitsForATimer(item: In[int], same: Out[int]) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_later(PAUSE_S, future.set_result, None)
    await future
    await same.send(item)


@component
async def WaitsForAProcess(item: In[int], same: Out[int]) -> None:
    process = await asyncio.create_subprocess_exec("sleep", str(PAUSE_S))
    await process.wait()
    await same.send(item)


@component(concurrency=2)
async def SleepsConcurrently(item: In[int], same: Out[int]) -> None:
    await asyncio.sleep(PAUSE_S)
    await same.send(item)


@component(retries=1, backoff=PAUSE_S)
async def TriesAgain(item: In[int], same: Out[int], before: In[list[int]]) -> None:
    before.append(item)
    if len(before) < 2:
        raise ValueError
    await same.send(item)


SLOW = [
    Sleeps,
    Computes,
    SleepsInItsThread,
    SleepsInAnExecutor,
    WaitsForATimer,
    WaitsForAProcess,
    SleepsConcurrently,
    TriesAgain,
]

SOME_ENGINES = pytest.mark.parametrize(
    "engine", [{"engine": "inline"}, {"num_workers": 2}], ids=["inline", "2 workers"]
)


@SOME_ENGINES
@pytest.mark.parametrize("slow", SLOW)
def test_a_node_that_works_while_all_others_wait_raises_no_alarm(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture, slow: Any
) -> None:
    """Those before it have no room, and those behind it no items."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1
    graph.slow = slow
    if slow is TriesAgain:
        graph.slow.before < []
    graph.count.number >> graph.slow.item
    graph.full = Count
    graph.full.upto < 10
    graph.pair = KeepNarrowestPair
    graph.pair.notes < notes
    graph.slow.same >> graph.pair.left
    graph.full.number >> graph.pair.right
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(0, 0)]
    assert caplog.messages == []


@component
async def SendsLater(upto: In[int], number: Out[int]) -> None:
    """A task of its own sends, long after everything else has come to rest."""

    async def later() -> None:
        await asyncio.sleep(PAUSE_S)
        for each in range(upto):
            await number.send(each)

    await asyncio.create_task(later())


@component
async def WaitsAndSendsLater(item: In[int], same: Out[int], tasks: In[list[Any]], last: In[int]) -> None:
    """Its runner waits for items, while a task of its own is still to send; the last item waits for the tasks."""

    async def later() -> None:
        await asyncio.sleep(PAUSE_S)
        await same.send(item)

    tasks.append(asyncio.create_task(later()))
    if item == last:
        await asyncio.gather(*tasks)


@SOME_ENGINES
def test_a_task_of_a_node_that_sends_later_raises_no_alarm(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """All nodes wait: what the first one sends later lets the last one go on, which lets the second item come."""
    graph = Graph()
    graph.begin = SendsLater
    graph.begin.upto < 2
    graph.behind = WaitsAndSendsLater
    graph.behind.tasks < []
    graph.behind.last < 1
    graph.begin.number >> graph.behind.item
    graph.full = Count
    graph.full.upto < 10
    graph.pair = KeepNarrowestPair
    graph.pair.notes < notes
    graph.behind.same >> graph.pair.left
    graph.full.number >> graph.pair.right
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [(0, 0), (1, 1)]
    assert caplog.messages == []


@component
async def FromAForgottenTask(item: In[int], same: Out[int], tasks: In[list[Any]]) -> None:
    async def later() -> None:
        await asyncio.sleep(PAUSE_S)
        await same.send(item)

    if item == 0:
        tasks.append(asyncio.create_task(later()))


@SOME_ENGINES
def test_a_task_that_outlives_its_call_raises_no_alarm(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """The runner has returned and waits for its second item, which comes when what the task sends has gone round."""
    graph = Graph()
    graph.task = FromAForgottenTask
    graph.task.tasks < []
    graph.once = Meet  # zips the outside with what comes back
    graph.outside = Count
    graph.outside.upto < 1
    graph.task.item < 0
    graph.task.same >> graph.once.back
    graph.outside.number >> graph.once.outside
    graph.once.again >> graph.task.item
    keep(graph, graph.once.again, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [0]
    assert caplog.messages == []
