"""What fails goes where `node.errors` is connected, and the run goes on."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from cascata import Failure, Graph, In, Out, Stream, component
from cascata.errors import ComponentError, DefinitionError, RemoteError, SerializationError
from tests.engine.parts import Count, Each, Keep, Notes, Pass, keep
from tests.speed import in_time

Options = dict[str, Any]

ITEMS: Final = 60
BAD: Final = [number for number in range(ITEMS) if number % 7 == 3]
GOOD: Final = [number for number in range(ITEMS) if number % 7 != 3]


def check(number: int) -> int:
    if number % 7 == 3:
        raise ValueError(f"{number} is bad")
    return number


@component
async def Asynchronous(number: In[int], out: Out[int]) -> None:
    await out.send(check(number))


@component
def Plain(number: In[int], out: Out[int]) -> int:
    return check(number)


@component
def Generates(number: In[int], out: Out[int]) -> Iterator[int]:
    yield check(number)


@component
async def GeneratesLater(number: In[int], out: Out[int]) -> AsyncIterator[int]:
    yield check(number)


@component(thread=True)
def Threaded(number: In[int], out: Out[int]) -> None:
    out.send(check(number))  # type: ignore[unused-coroutine]  # in a thread it blocks


@component(concurrency=4)
async def Concurrent(number: In[int], out: Out[int]) -> None:
    await asyncio.sleep(0.001 * (number % 3))
    await out.send(check(number))


@component(concurrency=4, ordered=False)
async def Unordered(number: In[int], out: Out[int]) -> None:
    await asyncio.sleep(0)
    await out.send(check(number))


@component(retries=2, backoff=0.0)
async def Retried(number: In[int], out: Out[int]) -> None:
    await out.send(check(number))


FORMS: Final = (Asynchronous, Plain, Generates, GeneratesLater, Threaded, Concurrent, Unordered, Retried)


@component
async def KeepFailure(failure: In[Failure], notes: In[Notes]) -> None:
    shown = (failure.node, failure.item, type(failure.error), str(failure.error), failure.attempts)
    notes.add((*shown, "in check" in failure.traceback))


def dead_letters(graph: Graph, notes: Notes, *nodes: Any) -> None:
    graph.dead = KeepFailure
    graph.dead.notes < notes
    for node in nodes:
        node.errors >> graph.dead.failure


def balanced(report: Any) -> bool:
    return all(edge.balanced and edge.delivered >= 0 for edge in report.edges)


def test_every_form_of_runner_routes_what_fails(engine: Options, tmp_path: Any) -> None:
    letters, results = Notes(str(tmp_path / "letters")), Notes(str(tmp_path / "results"))
    graph = Graph()
    graph.count = Count
    graph.count.upto < ITEMS
    nodes = [graph.add(form, form.__name__.lower()) for form in FORMS]
    for node in nodes:
        graph.count.number >> node.number
        keep(graph, node.out, results, f"keep_{node}")
    graph.group = Asynchronous * 3
    graph.group.ordered()
    graph.count.number >> graph.group.number
    keep(graph, graph.group.out, Notes(str(tmp_path / "ordered")), "keep_ordered")
    dead_letters(graph, letters, *nodes, graph.group)
    report = graph.run(**engine)

    by_node: dict[str, list[Any]] = {}
    for node, item, kind, text, attempts, told in letters.read():
        assert (kind, text, told) == (ValueError, f"{item} is bad", True)
        assert attempts == (3 if node == "retried" else 1)
        by_node.setdefault(node, []).append(item)
    of_group = sorted(item for name in ("group_0", "group_1", "group_2") for item in by_node.pop(name, []))
    assert of_group == BAD
    assert {name: sorted(items) for name, items in by_node.items()} == {str(node): BAD for node in nodes}
    assert Counter(results.read()) == Counter(GOOD * len(nodes))
    assert Notes(str(tmp_path / "ordered")).read() == GOOD
    assert all(report.nodes[str(node)].failed == len(BAD) for node in nodes)
    assert balanced(report)
    (edge,) = (edge for edge in report.edges if edge.target == "concurrent.number")
    assert (edge.sent, edge.delivered, edge.failed) == (ITEMS, len(GOOD), len(BAD))


def test_results_of_calls_side_by_side_keep_their_order_when_some_fail(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < ITEMS
    graph.node = Uneven
    graph.count >> graph.node
    graph.ignored = Pass
    graph.node.errors >> graph.ignored.item
    keep(graph, graph.node.out, notes)
    graph.run(**engine)
    assert notes.read() == [number for number in range(ITEMS) if number % 3]


@component(concurrency=8)
async def Uneven(number: In[int], out: Out[int]) -> None:
    if number % 3 == 0:
        raise ValueError
    await asyncio.sleep(0.004 if number % 3 == 1 else 0)
    await out.send(number)


@component
async def FailsAsPair(left: In[int], right: In[str]) -> None:
    raise ValueError(left)


@component
async def FailsAtOnce(out: Out[int]) -> None:
    await out.send(1)
    raise ValueError("a source")


@component
async def FailsInAStream(items: Stream[int], out: Out[int]) -> None:
    async for item in items:
        await out.send(check(item))


@component
async def Leaves(item: In[int]) -> None:
    raise SystemExit(item)


@component
async def GivesUp(item: In[int]) -> None:
    raise asyncio.CancelledError(item)


def test_what_was_in_hand_comes_along(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.left = Count
    graph.left.upto < 1
    graph.right = Each
    graph.right.items < ["a"]
    graph.pair = FailsAsPair
    graph.left.number >> graph.pair.left
    graph.right.item >> graph.pair.right
    graph.source = FailsAtOnce
    graph.reads = FailsInAStream
    graph.many = Count
    graph.many.upto < 10
    graph.many >> graph.reads
    graph.leaves = Leaves
    graph.gives_up = GivesUp
    graph.left.number >> graph.leaves.item
    graph.left.number >> graph.gives_up.item
    dead_letters(graph, notes, graph.pair, graph.source, graph.reads, graph.leaves, graph.gives_up)
    report = graph.run(**engine)
    items = {node: (item, kind) for node, item, kind, *_ in notes.read()}
    assert items == {
        "pair": ({"left": 0, "right": "a"}, ValueError),
        "source": (None, ValueError),
        "reads": (3, ValueError),
        "leaves": (0, SystemExit),
        "gives_up": (0, asyncio.CancelledError),
    }
    assert balanced(report)


@component
async def Ends(items: Stream[Any], notes: In[Notes]) -> None:
    notes.add((await anext(items)).item)


def test_who_reads_failures_no_more_does_not_stop_the_node(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="cascata")
    graph = Graph()
    graph.count = Count
    graph.count.upto < 2000
    graph.node = Asynchronous
    graph.count >> graph.node
    graph.ends = Ends
    graph.ends.notes < notes
    graph.node.errors >> graph.ends.items
    report = graph.run(**engine)
    assert notes.read() == [3]
    assert (report.nodes["node"].received, report.nodes["node"].failed) == (2000, 286)
    assert "nobody reads the failures any more" in caplog.text
    assert balanced(report)


def test_who_reads_results_no_more_stops_the_node_although_failures_are_read(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10**9
    graph.node = Asynchronous
    graph.count >> graph.node
    graph.first = First
    graph.node.out >> graph.first.items
    dead_letters(graph, notes, graph.node)
    report = graph.run(**engine, timeout=30)
    assert report.nodes["count"].sent < 10**9


@component
async def First(items: Stream[Any]) -> None:
    await anext(items)


@component
async def Doubtful(number: In[int], out: Out[Any]) -> None:
    await out.send(iter_nothing() if number == 3 else Unreadable() if number == 5 else number)


def iter_nothing() -> Iterator[int]:
    yield from ()


class Unreadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> Any:
    raise LookupError("not here")


def test_items_that_cannot_cross_are_failures_of_sender_or_reader(notes: Notes) -> None:
    graph = Graph()
    graph.node = Doubtful
    graph.count = Count
    graph.count.upto < 10
    graph.count >> graph.node
    graph.after = Pass
    graph.node.out >> graph.after.item
    dead_letters(graph, notes, graph.node, graph.after)
    for name, worker in (("count", 0), ("node", 0), ("after", 1), ("dead", 1)):
        graph.pin(name, worker)
    report = graph.run(num_workers=2)
    told = {node: (item, kind, text) for node, item, kind, text, *_ in notes.read()}
    assert set(told) == {"node", "after"}
    assert told["node"][:2] == (told["node"][0], SerializationError)
    assert "generator object" in told["node"][0]  # as its repr
    assert "could not be unpickled" in told["after"][0]
    assert "LookupError" in told["after"][2]
    assert report.nodes["after"].received == 8
    assert (report.nodes["node"].failed, report.nodes["after"].failed) == (1, 1)
    assert balanced(report)


def test_a_failure_can_always_be_sent_to_another_process() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    failure = pickle.loads(pickle.dumps(Failure("node", iter_nothing(), Odd(1, 2), "its traceback", 3)))
    assert (failure.node, failure.traceback, failure.attempts) == ("node", "its traceback", 3)
    assert "generator object" in failure.item
    assert isinstance(failure.error, RemoteError)
    assert "Odd: odd" in str(failure.error)
    plain = pickle.loads(pickle.dumps(Failure("node", [1, 2], ValueError("text"), "")))
    assert (plain.item, repr(plain.error)) == ([1, 2], "ValueError('text')")
    assert "not here" in pickle.loads(pickle.dumps(Failure("node", Unreadable(), ValueError(), ""))).item


# --- time limits ------------------------------------------------------------------------------------


@component(timeout=0.05)
async def Slow(number: In[int], out: Out[int]) -> None:
    await asyncio.sleep(30 if number == 1 else 0)
    await out.send(number)


@component(timeout=0.05)
def SlowInTheLoop(number: In[int], out: Out[int]) -> int:
    time.sleep(0.1 if number == 1 else 0)
    return number


@component(timeout=0.05, thread=True)
def SlowInAThread(number: In[int], out: Out[int]) -> int:
    time.sleep(0.1 if number == 1 else 0)
    return number


@component(timeout=0.05)
async def Suppresses(number: In[int], out: Out[int]) -> None:
    if number == 1:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return
    await out.send(number)


@pytest.mark.parametrize("slow", [(Slow, SlowInAThread, Suppresses), (SlowInTheLoop,)], ids=["awaits", "blocks"])
def test_a_call_that_takes_too_long_is_stopped_and_routed(
    engine: Options, notes: Notes, tmp_path: Any, slow: tuple[Any, ...]
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    results = Notes(str(tmp_path / "results"))
    nodes = [graph.add(each, each.__name__.lower()) for each in slow]
    for node in nodes:
        graph.count.number >> node.number
        keep(graph, node.out, results, f"keep_{node}")
    dead_letters(graph, notes, *nodes)
    graph.run(**engine)
    assert Counter((node, item) for node, item, *_ in notes.read()) == Counter((str(node), 1) for node in nodes)
    assert {kind for _, _, kind, *_ in notes.read()} == {TimeoutError}
    assert Counter(results.read()) == {0: len(slow), 2: len(slow)}


@component(timeout=0.05, thread=True)
def BlocksAThread(number: In[int]) -> None:
    time.sleep(60)


@component(timeout=0.05)
async def BlocksTheLoop(number: In[int]) -> None:
    time.sleep(60)  # noqa: ASYNC251  # it is what a user should not do


@component(timeout=0.05)
async def NeverStops(number: In[int]) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize("node", [BlocksAThread, BlocksTheLoop, NeverStops])
def test_a_call_that_cannot_be_stopped_ends_the_run_and_is_named(node: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.node = node
    graph.count >> graph.node
    began = time.monotonic()
    with pytest.raises(ComponentError, match=r"did not stop within 0\.2 s") as caught:
        graph.run(num_workers=2, grace=0.2)
    assert in_time(5, since=began)
    assert (caught.value.node, caught.value.item) == ("node", "0")
    assert isinstance(caught.value.__cause__, TimeoutError)
    if node is not NeverStops:
        assert "time.sleep(60)" in str(caught.value)


# --- saying it --------------------------------------------------------------------------------------


def test_the_port_of_failures_is_saved_drawn_and_checked() -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1
    graph.group = Asynchronous * 2
    graph.dead = KeepFailure
    graph.dead.notes < Notes("nowhere")
    graph.keep = Keep
    graph.count.number >> graph.group.number
    graph.group.errors >>= graph.keep.item
    graph.group.errors >> graph.dead.failure
    assert [str(edge.source) for edge in graph.edges] == ["count.number", "group.errors", "group.errors"]
    graph.dead.notes < None
    graph.keep.notes < None
    again = Graph.from_json(graph.to_json())
    assert again.edges == graph.edges
    assert "errors" in graph.to_mermaid()
    assert "errors" in graph.to_dot()
    assert "errors" in str(graph.draw())
    assert not any("errors" in text for text in (str(graph.count), graph.copy().to_dot().split("group")[0]))
    with pytest.raises(DefinitionError, match=r"group\.errors sends Failure"):
        graph.group.errors >> graph.add(Asynchronous, "other").number
