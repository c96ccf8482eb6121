"""What a component loses by a fault of its own code fails the run, with node, port, count and what to write instead."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, Sink, Source, Stream, component, inport
from cascata.errors import ComponentError
from tests.engine.parts import Count, Flag, Notes

Options = dict[str, Any]

LIMIT_S = 60.0


@pytest.fixture(params=[{"engine": "inline"}, {"num_workers": 2}], ids=["inline", "2 workers"])
def engine(request: pytest.FixtureRequest) -> Options:
    """One loop, and edges that cross: a third worker would lose nothing more."""
    options: Options = request.param
    return options


@component
@inport("item", capacity=2)
async def Holds(item: Any, holding: In[Flag | None] = None) -> None:
    """Holds its first item until the run is over."""
    if holding is not None:
        holding.set()
    await asyncio.Event().wait()


@component
@inport("item", capacity=1)
async def KeepNarrow(item: Any, notes: In[Notes]) -> None:
    await asyncio.sleep(0)
    notes.add(item)


def keep(graph: Graph, out: Any, notes: Notes, name: str = "keep") -> None:
    """Adds a node that notes what `out` sends, and has room for one item."""
    node = graph.add(KeepNarrow, name)
    node.notes < notes
    out >> node.item


def lost_by(
    options: Options, sender: Any, holding: Flag, *, readers: int = 1, **more: Any
) -> tuple[int, ComponentError]:
    """How many items a run says that its sender has lost. Its readers have room for two more than they hold."""
    graph = Graph()
    graph.careless = sender
    graph.careless.holding < holding
    for number in range(readers):
        reader = graph.add(Holds, f"reader_{number}")
        if number == 0:
            reader.holding < holding
        graph.careless.out >> reader.item
    with pytest.raises(ComponentError) as raised:
        graph.run(**options, timeout=LIMIT_S, **more)
    error = raised.value
    assert error.node == "careless"
    text = str(error)
    assert "careless.out" in text
    assert "`await out.send(...)`" in text
    assert re.search(r"test_lost_sends\.py:\d+\)", text)
    found = re.search(r"(\d+) items? sent on careless\.out (is|are) lost", text)
    assert found is not None, text
    return int(found[1]), error


@component
async def NeverAwaits(holding: In[Flag], out: Out[int]) -> None:
    await out.send(0)
    await holding.wait()
    for number in range(6):
        out.send(number)  # type: ignore[unused-coroutine]  # the mistake that this is about
    await asyncio.Event().wait()  # told at once, not when the node ends


@component
async def KeepsThem(holding: In[Flag], out: Out[int]) -> None:
    await out.send(0)
    await holding.wait()
    kept.extend(out.send(number) for number in range(6))


@component
async def KeepsThemInACircle(holding: In[Flag], out: Out[int]) -> None:
    await out.send(0)
    await holding.wait()
    circle: list[Any] = [out.send(number) for number in range(6)]
    circle.append(circle)


kept: list[Any] = []


@pytest.mark.parametrize("sender", [NeverAwaits, KeepsThem, KeepsThemInACircle])
def test_a_send_that_is_never_awaited_fails_the_run_with_node_port_and_count(
    engine: Options, flags: list[Flag], sender: Any
) -> None:
    lost, error = lost_by(engine, sender, flags[0])
    assert lost >= 4  # there was room for two of them, when the loop had not to turn
    assert error.report.edges[0].sent == 7 - lost


@pytest.mark.parametrize("sender", [NeverAwaits, KeepsThem])
def test_an_item_that_is_lost_on_several_edges_is_one_item(engine: Options, flags: list[Flag], sender: Any) -> None:
    lost, error = lost_by(engine, sender, flags[0], readers=2)
    assert 4 <= lost <= 6
    assert error.report.nodes["careless"].sent <= 7


@pytest.mark.parametrize("on_error", ["skip", "routed", "debug"])
def test_a_forgotten_await_is_no_failure_of_an_item(flags: list[Flag], notes: Notes, on_error: str) -> None:
    graph = Graph()
    graph.careless = NeverAwaits
    graph.reader = Holds
    for node in (graph.careless, graph.reader):
        node.holding < flags[0]
    graph.careless.out >> graph.reader.item
    others: dict[str, Options] = {"debug": {"debug": True}, "skip": {"on_error": "skip"}}
    more = others.get(on_error, {})
    if on_error == "routed":
        keep(graph, graph.careless.errors, notes)
    with pytest.raises(ComponentError, match=r"sent on careless\.out are lost"):
        graph.run(engine="inline", timeout=LIMIT_S, **more)
    assert notes.read() == []


@component
async def NeverAwaitsAnything(holding: In[Flag], out: Out[int]) -> None:
    await out.send(0)
    await holding.wait()
    while True:
        out.send(1)  # type: ignore[unused-coroutine]


def test_a_loop_that_awaits_nothing_is_ended(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.careless = NeverAwaitsAnything
    graph.reader = Holds
    for node in (graph.careless, graph.reader):
        node.holding < flags[0]
    graph.careless.out >> graph.reader.item
    with pytest.raises(ComponentError, match=r"careless.*await port\.send\(item\)"):
        graph.run(**engine, timeout=LIMIT_S)


# --- a plain `def` ----------------------------------------------------------------------------------


@component
def PlainSends(number: In[int], out: Out[int]) -> None:
    out.send(number)  # type: ignore[unused-coroutine]


@component
def PlainReturnsTheSend(number: In[int], out: Out[int]) -> Any:
    return out.send(number)


@component
def PlainYieldsAndSends(number: In[int], out: Out[int]) -> Iterator[int]:
    yield number
    out.send(number)  # type: ignore[unused-coroutine]


@component
def PlainSuppresses(number: In[int], out: Out[int]) -> None:
    try:
        out.send(number)  # type: ignore[unused-coroutine]
    except Exception:  # noqa: S110  # what such a runner hides is told all the same
        pass


def plain(sender: Any, notes: Notes) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.plain = sender
    graph.count >> graph.plain
    keep(graph, graph.plain.out, notes)
    return graph


FIX = r"is a plain `def`.* return the item or yield items.*`async def` and `await out\.send\(\.\.\.\)`.*thread=True"


@pytest.mark.parametrize("sender", [PlainSends, PlainReturnsTheSend, PlainYieldsAndSends, PlainSuppresses])
def test_a_plain_def_that_sends_is_told_at_once(engine: Options, notes: Notes, sender: Any) -> None:
    """Though there is room."""
    with pytest.raises(ComponentError, match=FIX) as raised:
        plain(sender, notes).run(**engine)
    assert raised.value.node == "plain"
    if engine.get("engine") == "inline":
        with pytest.raises(ComponentError, match=FIX):
            plain(sender, notes).run(**engine, on_error="skip")


async def send_thrice(number: int, out: Out[int]) -> None:
    for _ in range(3):
        await out.send(number)


@component
def PlainReturnsACoroutine(number: In[int], out: Out[int]) -> Any:
    return send_thrice(number, out)


@component
def PlainMakesATask(number: In[int], out: Out[int]) -> None:
    kept.append(asyncio.get_running_loop().create_task(send_thrice(number, out)))


@pytest.mark.parametrize("sender", [PlainReturnsACoroutine, PlainMakesATask])
def test_coroutines_of_a_plain_def_may_send(engine: Options, notes: Notes, sender: Any) -> None:
    plain(sender, notes).run(**engine)
    assert sorted(notes.read()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


# --- what is no value -------------------------------------------------------------------------------


async def fetch(number: int) -> int:
    return number


@component
async def ReturnsACoroutine(number: In[int], out: Out[int]) -> Any:
    return fetch(number)


@component
async def YieldsACoroutine(number: In[int], out: Out[int]) -> AsyncIterator[Any]:
    yield fetch(number)


@component
async def ReturnsTheSend(number: In[int], out: Out[int]) -> Any:
    return out.send(number)


@component
async def ReturnsATask(number: In[int], out: Out[int]) -> Any:
    return asyncio.create_task(fetch(number))


@component
def ReturnsAGenerator(number: In[int], out: Out[int]) -> Any:
    return (each for each in range(number))


@component(thread=True)
def ThreadReturnsACoroutine(number: In[int], out: Out[int]) -> Any:
    return fetch(number)


@pytest.mark.parametrize(
    ("sender", "told"),
    [
        (ReturnsACoroutine, r"returned the coroutine fetch, which it did not await.* Write `return await"),
        (YieldsACoroutine, r"yielded the coroutine fetch, which it did not await.* Write `yield await"),
        (ReturnsTheSend, r"returned the coroutine .*put.*, which it did not await"),
        (ReturnsATask, r"returned a Task, which it did not await"),
        (ReturnsAGenerator, r"returned the generator .*, and not what it gives.* `yield from \.\.\.`, or `return list"),
        (ThreadReturnsACoroutine, r"returned the coroutine fetch, which it did not await"),
    ],
)
def test_what_stands_for_a_value_is_told_and_not_sent(notes: Notes, sender: Any, told: str) -> None:
    with pytest.raises(ComponentError, match=told):
        plain(sender, notes).run(engine="inline")
    with pytest.raises(TypeError, match=told):
        sender.test(number=1)
    assert notes.read() == []


# --- tasks ------------------------------------------------------------------------------------------


@component
async def LeavesTasks(out: Out[int]) -> None:
    """Awaits none of the tasks in which it sends: those that have begun before it ends are waited for."""
    loop = asyncio.get_running_loop()
    kept.extend(loop.create_task(out.send(number)) for number in range(10))
    kept.extend(loop.create_task(asyncio.wait_for(out.send(number), LIMIT_S)) for number in range(10, 20))
    kept.append(asyncio.gather(*(out.send(number) for number in range(20, 30))))
    kept.append(loop.create_task(send_thrice(30, out)))


def test_tasks_that_have_begun_to_send_are_waited_for(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.leaves = LeavesTasks
    keep(graph, graph.leaves.out, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == [*range(30), 30, 30, 30]


@component
async def LeavesATaskBehind(ended: In[Flag], out: Out[int], over: Out[int]) -> None:
    async def late() -> None:
        await ended.wait()
        await out.send(1)

    kept.append(asyncio.get_running_loop().create_task(late()))
    await out.send(0)


@component
async def SetsAtTheEnd(items: Stream[int], ended: In[Flag]) -> None:
    async for _ in items:
        pass
    ended.set()


def test_what_a_task_sends_after_the_end_of_its_node_fails_the_run(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.careless = LeavesATaskBehind
    graph.reader = Holds
    graph.at_the_end = SetsAtTheEnd
    graph.careless.ended < flags[0]
    graph.at_the_end.ended < flags[0]
    graph.careless.out >> graph.reader.item
    graph.careless.over >> graph.at_the_end.items
    graph.pin(graph.careless, 0)
    graph.pin(graph.reader, 0)  # it keeps the worker, and with it the task
    graph.pin(graph.at_the_end, 1)
    with pytest.raises(ComponentError, match=r"1 item sent on careless\.out is lost: a task .* left behind .*await"):
        graph.run(**engine, timeout=LIMIT_S)


# --- what is no loss --------------------------------------------------------------------------------


@component
async def GivesUp(holding: In[Flag], release: In[Flag], out: Out[int]) -> None:
    """Cancels sends at all moments, and awaits none of them to its end."""
    loop = asyncio.get_running_loop()
    await out.send(0)
    await holding.wait()
    while True:
        try:
            await asyncio.wait_for(out.send(1), 0.02)
        except TimeoutError:
            break
    never_begun: list[Any] = [loop.create_task(out.send(2)), asyncio.shield(out.send(2))]
    begun: list[Any] = [loop.create_task(out.send(3)), loop.create_task(asyncio.wait_for(out.send(3), LIMIT_S))]
    gathered = asyncio.gather(out.send(4), out.send(5))
    for task in never_begun:
        task.cancel()
    await asyncio.sleep(0)
    for task in (*begun, gathered):
        task.cancel()
    await asyncio.gather(*never_begun, *begun, gathered, return_exceptions=True)
    try:
        async with asyncio.timeout(0):
            await asyncio.gather(out.send(6), out.send(7))
    except TimeoutError:
        pass
    out.send(8).close()
    release.set()


@component
@inport("item", capacity=2)
async def HoldsForAWhile(item: Any, holding: In[Flag], release: In[Flag]) -> None:
    holding.set()
    await release.wait()


@pytest.mark.parametrize(("readers", "debug"), [(1, False), (2, True)])
def test_a_send_that_is_cancelled_is_not_lost(engine: Options, flags: list[Flag], readers: int, debug: bool) -> None:
    graph = Graph()
    graph.gives_up = GivesUp
    nodes = [graph.gives_up, *(graph.add(HoldsForAWhile, f"reader_{number}") for number in range(readers))]
    for node in nodes:
        node.holding < flags[0]
        node.release < flags[1]
    for node in nodes[1:]:
        graph.gives_up.out >> node.item
    report = graph.run(**engine, debug=debug, timeout=LIMIT_S)
    assert all(edge.sent == edge.delivered for edge in report.edges)


def raises() -> int:
    raise ValueError("the second item cannot be made")


@component
async def FailsBetweenTwoSends(number: In[int], out: Out[int], other: Out[int]) -> None:
    if number % 2:
        await asyncio.gather(out.send(number), other.send(raises()))
    else:
        first = out.send(number)
        second = out.send(raises()) if number % 4 else out.send(number)
        await first
        await second


@pytest.mark.parametrize("routed", [False, True])
def test_what_a_failing_call_has_not_awaited_fails_with_its_item(engine: Options, notes: Notes, routed: bool) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.fails = FailsBetweenTwoSends
    graph.count.number >> graph.fails.number
    keep(graph, graph.fails.out, notes)
    if routed:
        keep(graph, graph.fails.errors, Notes(notes.path + "_failures"), "failures")
    report = graph.run(**engine, on_error="skip")
    assert report.nodes["fails"].failed == 75
    assert [number for number in notes.read() if number % 4 == 0] == sorted(2 * [*range(0, 100, 4)])


@component
async def SendsAList(out: Out[int]) -> None:
    while True:
        sends = [out.send(number) for number in range(10)]
        for send in sends:
            await send


@component
async def First(items: Stream[int]) -> None:
    async for _ in items:
        return


def test_what_a_stopped_node_has_not_awaited_is_not_lost(engine: Options) -> None:
    graph = Graph()
    graph.sends = SendsAList
    graph.first = First
    graph.sends.out >> graph.first.items
    graph.run(**engine, timeout=LIMIT_S)


@component
async def NobodyReads(out: Out[int]) -> None:
    for number in range(1000):
        out.send(number)  # type: ignore[unused-coroutine]  # nothing is lost: it is discarded anyway
        if number % 100 == 0:
            await asyncio.sleep(0)


def test_an_out_port_without_edges_loses_nothing() -> None:
    graph = Graph()
    graph.nobody = NobodyReads
    assert graph.run(engine="inline").nodes["nobody"].sent == 1000


# --- other threads ----------------------------------------------------------------------------------


@component
async def SendsFromAThread(upto: In[int], out: Out[int]) -> None:
    loop = asyncio.get_running_loop()

    def work() -> None:
        for number in range(upto):
            asyncio.run_coroutine_threadsafe(out.send(number), loop).result()  # type: ignore[arg-type,unused-ignore]

    await asyncio.to_thread(work)


def test_another_thread_may_have_the_loop_send(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.sends = SendsFromAThread
    graph.sends.upto < 200
    keep(graph, graph.sends.out, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [*range(200)]


@component
async def SendsInAThread(holding: In[Flag], out: Out[int]) -> None:
    await out.send(0)
    await holding.wait()
    thread = threading.Thread(target=lambda: [out.send(number) for number in range(10)])
    thread.start()
    await asyncio.Event().wait()


def test_a_send_in_another_thread_that_nobody_awaits_fails_the_run(engine: Options, flags: list[Flag]) -> None:
    graph = Graph()
    graph.careless = SendsInAThread
    graph.reader = Holds
    for node in (graph.careless, graph.reader):
        node.holding < flags[0]
    graph.careless.out >> graph.reader.item
    with pytest.raises(ComponentError, match=r"careless\.out in another thread .*run_coroutine_threadsafe"):
        graph.run(**engine, timeout=LIMIT_S)


# --- the caller -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calls", "kept_forever"), [(False, True), (True, False)])
def test_a_send_of_the_caller_that_is_never_awaited_fails_the_run(
    engine: Options, flags: list[Flag], kept_forever: bool, calls: bool
) -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.reader = Holds
    graph.reader.holding < flags[0]
    graph.numbers.out >> graph.reader.item
    if calls:
        graph.results = Sink()
        graph.numbers.out >> graph.results.inp

    async def main() -> None:
        async with graph.open(**engine, timeout=LIMIT_S) as live:
            await live.numbers.send(0)
            await flags[0].wait()
            for number in range(200):
                sent = live.numbers.send(number)
                if kept_forever:
                    kept.append(sent)

    with pytest.raises(ComponentError, match=r"numbers\.out .*`await live\.numbers\.send\(\.\.\.\)`") as raised:
        asyncio.run(main())
    assert raised.value.node == "numbers"


# --- outside any graph ------------------------------------------------------------------------------


@component
async def HalfAwaits(number: In[int], out: Out[int]) -> None:
    await out.send(number)
    out.send(number)  # type: ignore[unused-coroutine]


@component
async def MakesTasks(number: In[int], out: Out[int]) -> None:
    kept.append(asyncio.get_running_loop().create_task(asyncio.wait_for(out.send(number), LIMIT_S)))


def test_a_test_tells_what_a_run_would_lose() -> None:
    with pytest.raises(ComponentError, match=r"1 of 2 calls of `out\.send\(\.\.\.\)` were never awaited") as raised:
        HalfAwaits.test(number=1)
    assert raised.value.node == "HalfAwaits"
    assert MakesTasks.test(number=1) == {"out": [1]}


@pytest.mark.parametrize("sender", [PlainSends, PlainReturnsTheSend, PlainYieldsAndSends])
def test_a_test_of_a_plain_def_that_sends_is_told_the_same(sender: Any) -> None:
    with pytest.raises(TypeError, match=FIX):
        sender.test(number=1)


def test_a_test_awaits_the_coroutine_that_a_plain_def_returns() -> None:
    assert PlainReturnsACoroutine.test(number=1) == {"out": [1, 1, 1]}
