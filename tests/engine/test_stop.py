"""`graph.stop()`: sources end, what is in flight arrives, and the run gives its report, whatever its nodes do."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import BlockingOut, Graph, In, Out, State, Stopping, component
from cascata.errors import DefinitionError
from cascata.observe.report import RunReport
from tests.engine.parts import Count, Flag, Keep, Notes, Pass

Options = dict[str, Any]


def held(notes: Notes, name: str) -> Iterator[str]:
    try:
        yield name
    finally:
        notes.add(f"{name} torn down")


async def never() -> None:
    await asyncio.Event().wait()


def started(graph: Graph, begun: Flag, **options: Any) -> None:
    """Starts a graph, and returns when one of its nodes says that it is at work."""
    graph.start(**options)
    begun.wait_blocking()


def balanced(report: RunReport) -> bool:
    return all(edge.balanced for edge in report.edges)


# --- sources that wait for something else than a send --------------------------------------------------


@component
async def Waits(out: Out[Any], notes: In[Notes], begun: In[Flag], state: State[str] = State(held)) -> None:
    await out.send("first")
    begun.set()
    try:
        await never()
    finally:
        await out.send("last")


@component
async def WaitsInGenerator(begun: In[Flag], out: Out[Any]) -> AsyncIterator[str]:
    yield "generated"
    try:
        await never()
    finally:
        yield "generated last"


@component
async def WaitsInTasks(out: Out[Any]) -> None:
    async def one(number: int) -> None:
        try:
            async with asyncio.timeout(60):
                await never()
        finally:
            await out.send(f"task {number}")

    async with asyncio.TaskGroup() as tasks:
        for number in range(2):
            tasks.create_task(one(number))


@component(concurrency=2)
async def WaitsInCall(out: Out[Any]) -> None:
    await out.send("call")
    await never()


async def never_made() -> None:
    await never()


@component
async def WaitsForItsState(state: State[None] = State(never_made)) -> None:
    raise AssertionError("its state is never made")


@component
async def WaitsAndSwallows(out: Out[Any]) -> None:
    try:
        await never()
    except asyncio.CancelledError:
        await out.send("swallowed")


def test_a_source_that_waits_is_ended_there_and_what_it_sends_then_arrives(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.keep = Keep
    graph.keep.notes < notes
    graph.middle = Pass
    for each in (Waits, WaitsInGenerator, WaitsInTasks, WaitsInCall, WaitsAndSwallows):
        node = graph.add(each, each.__name__)
        node.out >> graph.middle.item
    graph.middle.same >> graph.keep.item
    graph.add(WaitsForItsState, "no_state")
    for node in (graph.Waits, graph.WaitsInGenerator):
        node.begun < flags[0]
    graph.Waits.notes < notes
    graph.Waits.state < (notes, "state")
    started(graph, flags[0], **engine)
    graph.stop(within=3.0)
    report = graph.join()
    kept = [each for each in notes.read() if each != "call"]  # of a call beside others, which has not succeeded
    assert sorted(kept) == sorted(
        ["first", "generated", "generated last", "last", "state torn down", "swallowed", "task 0", "task 1"]
    )
    assert balanced(report)
    assert report.nodes["keep"].received == report.nodes["middle"].sent == len(notes.read()) - 1
    assert all(node.failed == 0 for node in report.nodes.values())


@component
async def SendsAndSaysGoodbye(left: Out[Any], right: Out[Any], begun: In[Flag]) -> None:
    number = 0
    try:
        while True:
            await left.send(number)
            await right.send(number)
            number += 1
            if number == 50:
                begun.set()
    finally:
        await left.send("bye")
        await right.send("bye")


def test_what_a_source_sends_when_it_was_stopped_at_a_send_arrives_everywhere(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.source = SendsAndSaysGoodbye
    graph.source.begun < flags[0]
    for name, port in (("one", "left"), ("two", "left"), ("three", "right")):
        node = graph.add(Keep, name)
        node.notes < notes
        getattr(graph.source, port) >> node.item
    started(graph, flags[0], **engine)
    graph.stop()
    report = graph.join()
    assert notes.read().count("bye") == 3
    one, two, three = (report.nodes[name].received for name in ("one", "two", "three"))
    assert abs(one - two) <= 1  # a send that waited for room had been taken by the other in-port, perhaps
    assert abs(one - three) <= 1
    assert all(edge.sent == edge.delivered for edge in report.edges)


# --- sources that await the stop -----------------------------------------------------------------------


@component
async def Polite(out: Out[Any], begun: In[Flag], pause: In[float], *, stopping: Stopping) -> None:
    assert not await stopping.wait(0.001)
    begun.set()
    await stopping.wait()
    for number in range(3):
        await asyncio.sleep(pause)
        await out.send(number)


@component(thread=True)
def PoliteInAThread(out: BlockingOut[Any], begun: In[Flag], pause: In[float], stopping: Stopping) -> None:
    begun.set()
    while not stopping.wait(0.01):
        pass
    for number in range(3):
        time.sleep(pause)
        out.send(number)


@component(thread=True)
def LooksNowAndThen(out: Out[Any], begun: In[Flag], pause: In[float], stopping: Stopping) -> Iterator[int]:
    begun.set()
    while not stopping.is_set():
        time.sleep(0.01)
    yield from range(3)


@pytest.mark.parametrize("source", [Polite, PoliteInAThread, LooksNowAndThen])
def test_a_source_that_awaits_the_stop_ends_as_it_likes(
    engine: Options, notes: Notes, flags: list[Flag], source: Any
) -> None:
    graph = Graph()
    graph.source = source
    graph.source.begun < flags[0]
    graph.source.pause < 0.15  # three of them are more than half of the time
    graph.keep = Keep
    graph.keep.notes < notes
    graph.source.out >> graph.keep.item
    started(graph, flags[0], **engine)
    graph.stop(within=0.8 if source is Polite else 5.0)
    report = graph.join()
    if source is not Polite or report.nodes["source"].sent == 3:  # a machine may be slow; it is not cut short unless so
        assert notes.read() == [0, 1, 2]
    assert balanced(report)


@component
async def WaitsForTheStopAndFails(stopping: Stopping, begun: In[Flag], ended: In[Flag]) -> None:
    begun.set()
    try:
        await never()
    finally:
        assert stopping.is_set()
        ended.set()


def test_one_that_does_not_heed_the_stop_is_cancelled_at_the_end_of_its_time(
    engine: Options, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.source = WaitsForTheStopAndFails
    graph.source.begun < flags[0]
    graph.source.ended < flags[1]
    started(graph, flags[0], **engine)
    graph.stop(within=0.2)
    report = graph.join()
    assert flags[1].is_set()
    assert report.nodes["source"].failed == 0


@component(thread=True)
def WaitsInAThread(stopping: Stopping, begun: In[Flag], ended: In[Flag]) -> None:
    begun.set()
    try:
        assert stopping.wait()
    finally:
        ended.set()


@component
async def FailsWhen(begun: In[Flag]) -> None:
    await begun.wait()
    raise ValueError("as asked")


def test_a_thread_that_awaits_the_stop_ends_with_a_run_that_fails(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.source = WaitsInAThread
    graph.source.begun < flags[0]
    graph.source.ended < flags[1]
    graph.fails = FailsWhen
    graph.fails.begun < flags[0]
    with pytest.raises(Exception, match="as asked"):
        graph.run(**engine, grace=5)
    assert flags[1].is_set()


# --- what does not end ---------------------------------------------------------------------------------


@component
async def NeverDone(item: In[Any], begun: In[Flag], notes: In[Notes], state: State[str] = State(held)) -> None:
    begun.set()
    await never()


def test_what_is_left_at_the_end_of_the_time_is_cancelled_and_the_report_counts_it(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10
    graph.node = NeverDone
    graph.node.begun < flags[0]
    graph.node.notes < notes
    graph.node.state < (notes, "state")
    graph.count.number >> graph.node.item
    started(graph, flags[0], **engine)
    run = graph._started[0]
    graph.stop(within=0.2)
    report = graph.join()
    assert notes.read() == ["state torn down"]
    (edge,) = report.edges
    assert (edge.sent, edge.undelivered + edge.dropped, edge.balanced) == (10, 9, True)
    assert run.state == "ended"


@component
async def Resists(begun: In[Flag]) -> None:
    begun.set()
    while True:
        try:
            await never()
        except asyncio.CancelledError:
            pass


def test_what_resists_is_killed_or_left_after_grace_and_the_report_is_there(
    engine: Options, notes: Notes, flags: list[Flag], caplog: pytest.LogCaptureFixture
) -> None:
    graph = Graph()
    graph.source = Resists
    graph.source.begun < flags[0]
    graph.waits = Waits
    graph.waits.begun < flags[1]
    graph.waits.notes < notes
    graph.waits.state < (notes, "state")
    started(graph, flags[0], **engine, grace=0.3)
    flags[1].wait_blocking()
    graph.stop(within=0.2)
    report = graph.join()
    assert balanced(report)
    assert "source" in caplog.text
    assert "did not stop" in caplog.text or "was killed" in caplog.text


# --- cycles that nothing feeds -------------------------------------------------------------------------


@component
async def Ticks(number: In[int], again: Out[int], told: Out[int], begun: In[Flag]) -> None:
    if number == 100:
        begun.set()
    await told.send(number)
    await again.send(number + 1)


def test_a_cycle_that_nothing_feeds_ends_after_half_of_the_time(
    engine: Options, notes: Notes, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.ticks = Ticks
    graph.ticks.number < 0
    graph.ticks.begun < flags[0]
    graph.back = Pass
    graph.ticks.again >> graph.back.item
    graph.back.same >> graph.ticks.number
    graph.keep = Keep
    graph.keep.notes < notes
    graph.ticks.told >> graph.keep.item
    started(graph, flags[0], **engine)
    graph.stop(within=10.0 if sys.gettrace() else 3.0)
    report = graph.join()
    told = notes.read()
    assert told == [*range(len(told))]
    assert report.nodes["ticks"].failed == 0
    assert all(edge.delivered + edge.dropped == edge.sent for edge in report.edges)


# --- the handle ----------------------------------------------------------------------------------------


def becomes(run: Any, state: str) -> bool:
    deadline = time.monotonic() + 5
    while run.state != state and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(run.state == state)


def test_a_started_run_says_how_far_it_has_come(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.source = WaitsForTheStopAndFails
    graph.source.begun < flags[0]
    graph.source.ended < flags[1]
    run = graph.start(**engine)
    flags[0].wait_blocking()
    assert becomes(run, "running")
    run.stop(within=5)
    assert becomes(run, "draining")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        run.join()
    assert run.state == "cancelled"


@pytest.mark.parametrize("within", [-1, "1", float("nan"), True])
def test_the_time_of_a_stop_is_a_number_of_seconds(flags: list[Flag], within: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1
    graph.start(engine="inline")
    with pytest.raises(DefinitionError, match="within must be a number of seconds"):
        graph.stop(within=within)
    graph.join()


# --- tasks that a component leaves behind --------------------------------------------------------------


@component
async def LeavesATask(out: Out[int], how: In[str], ended: In[Flag]) -> None:
    async def stray() -> None:
        try:
            while True:
                try:
                    await never()
                except asyncio.CancelledError:
                    if how == "ends":
                        raise
        finally:
            ended.set()

    stray.task = asyncio.ensure_future(stray())  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    await out.send(1)


WAYS = {
    "run": "graph.run(**options)",
    "start": "graph.start(**options); graph.join()",
    "run_async": "asyncio.run(graph.run_async(**options))",
    "stream": "print([*graph.stream([1], **options)])",
    "open": "asyncio.run(opened())",
}


@pytest.mark.parametrize("how", ["ends", "resists"])
@pytest.mark.parametrize("way", WAYS)
def test_inline_a_task_that_a_component_left_ends_with_the_run(
    script: Any, flags: list[Flag], how: str, way: str
) -> None:
    """Also for `asyncio.run` of the program, which waits for all tasks of its loop."""
    text = f"""
        import asyncio
        from cascata import BlockingOut, Graph, Sink, Source
        from tests.engine.parts import Flag
        from tests.engine.test_stop import LeavesATask

        graph = Graph()
        graph.leaves = LeavesATask
        graph.leaves.how < {how!r}
        graph.leaves.ended < Flag({flags[0].path!r})
        if {way!r} in ("stream", "open"):
            graph.source = Source()
            graph.sink = Sink()
            graph.source.out >> graph.sink.inp
            graph.leaves.out >> graph.sink.inp
        options = {{"engine": "inline", "grace": 0.2}}

        async def opened():
            mine = asyncio.ensure_future(asyncio.sleep(0.5))  # a task of the program is its own
            async with graph.open(**options) as live:
                live.source.close()
                async for value in live.sink:
                    pass
            await mine

        {WAYS[way]}
        print("the end")
        """
    done = script(text, environment={"PYTHONPATH": ":".join(sys.path)})
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["the end"]), done.stderr
    assert "Error" not in done.stderr, done.stderr
    assert flags[0].is_set()
