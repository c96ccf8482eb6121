"""Graphs with feedback, on every engine: they end by themselves, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from tests.engine.parts import Add, Count, Each, Endless, Keep, Notes, Pass, keep

Options = dict[str, Any]

LIMIT_S = 10
"""Seconds after which a run that hangs is ended."""


@component
async def Walk(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    """Sends a number, and those that stand below it in a binary tree."""
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)


def walk(graph: Graph, component: Any, below: int, name: str = "walk") -> Any:
    """Adds a walk of a tree, fed back to itself."""
    node = graph.add(component, name)
    node.below < below
    node.again >> node.item
    return node


@pytest.mark.parametrize("below", [1, 2, 63, 1000])
def test_a_walk_of_a_tree_finds_everything_once_and_ends(engine: Options, notes: Notes, below: int) -> None:
    graph = Graph()
    walk(graph, Walk, below).item < 0
    keep(graph, graph.walk.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(below)]
    assert report.nodes["walk"].received == below
    assert [edge.sent for edge in report.edges if edge.source == "walk.again"] == [below - 1]
    assert all(edge.balanced and edge.undelivered == edge.dropped == 0 for edge in report.edges)


@component
@inport("item", capacity=1)
async def NarrowWalk(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)


@component
async def Fibonacci(left: In[int], right: In[int], below: In[int], total: Out[int], found: Out[int]) -> None:
    await found.send(left + right)
    if left + right < below:
        await total.send(left + right)


def test_fibonacci_by_feedback(engine: Options, notes: Notes) -> None:
    """Two first values, and a node whose own first value delays what comes back by one."""
    graph = Graph()
    graph.add_up = Fibonacci
    graph.delay = Pass
    graph.add_up.below < 1000
    graph.add_up.left < 0
    graph.add_up.right < 1
    graph.delay.item < 1
    graph.add_up.total >> graph.add_up.right
    graph.add_up.total >> graph.delay.item
    graph.delay.same >> graph.add_up.left
    keep(graph, graph.add_up.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597]
    assert all(edge.balanced for edge in report.edges)


@component
async def Collatz(number: In[int], again: Out[int], steps: Out[int]) -> None:
    await steps.send(number)
    if number != 1:
        await again.send(3 * number + 1 if number % 2 else number // 2)


def collatz(number: int) -> list[int]:
    steps = [number]
    while steps[-1] != 1:
        steps.append(3 * steps[-1] + 1 if steps[-1] % 2 else steps[-1] // 2)
    return steps


def test_a_single_item_goes_round_in_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.collatz = Collatz
    graph.back = Pass
    graph.collatz.number < 27
    graph.collatz.again >> graph.back.item
    graph.back.same >> graph.collatz.number
    keep(graph, graph.collatz.steps, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == collatz(27)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_cycle_may_be_pinned_across_workers(notes: Notes, workers: int) -> None:
    graph = Graph()
    graph.walk = Walk
    graph.walk.below < 300
    nodes = [graph.add(Pass, f"back_{number}") for number in range(workers - 1)]
    graph.walk.item < 0
    out = graph.walk.again
    for node in nodes:
        out >> node.item
        out = node.same
    out >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    graph.pin(graph.walk, 0)
    for number, node in enumerate(nodes):
        graph.pin(node, number + 1)
    report = graph.run(num_workers=workers, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(300)]
    assert len({report.nodes[name].worker for name in ("walk", *(f"back_{n}" for n in range(workers - 1)))}) == workers
    assert all(edge.balanced and edge.undelivered == edge.dropped == 0 for edge in report.edges)


def test_a_single_item_goes_round_three_workers(notes: Notes) -> None:
    """Each worker in turn has nothing to do, and the cycle has not ended."""
    graph = Graph()
    graph.collatz = Collatz
    graph.first = Pass
    graph.second = Pass
    graph.collatz.number < 97
    graph.collatz.again >> graph.first.item
    graph.first >> graph.second
    graph.second.same >> graph.collatz.number
    keep(graph, graph.collatz.steps, notes)
    for worker, node in enumerate([graph.collatz, graph.first, graph.second]):
        graph.pin(node, worker)
    graph.run(num_workers=3, timeout=LIMIT_S)
    assert notes.read() == collatz(97)


def test_several_cycles_side_by_side_and_in_a_row_end(engine: Options, notes: Notes) -> None:
    """Two cycles on their own, and one that is fed by another one."""
    graph = Graph()
    walk(graph, Walk, 50, "first").item < 0
    walk(graph, Walk, 30, "second").item < 0
    graph.third = Collatz
    graph.third.again >> graph.third.number
    graph.plus = Add
    graph.second.found >> graph.plus.number
    graph.plus.total >> graph.third.number
    keep(graph, graph.first.found, notes)
    graph.keep_steps = KeepTagged
    graph.keep_steps.notes < notes
    graph.third.steps >> graph.keep_steps.item
    graph.run(**engine, timeout=LIMIT_S)
    kept = notes.read()
    assert sorted(each for each in kept if isinstance(each, int)) == [*range(50)]
    steps = Counter(each[1] for each in kept if not isinstance(each, int))
    assert steps == Counter(step for number in range(1, 31) for step in collatz(number))


@component
async def KeepTagged(item: In[Any], notes: In[Notes]) -> None:
    notes.add(("kept", item))


def test_cycles_that_share_a_node_end_together(engine: Options, notes: Notes) -> None:
    """A figure of eight: both ways back lead to the same node."""
    graph = Graph()
    graph.split = Walk
    graph.split.below < 200
    graph.split.item < 0
    graph.short = Pass
    graph.long = Pass
    graph.longer = Pass
    graph.even = OneOf
    graph.split.again >> graph.even.item
    graph.even.even >> graph.short.item
    graph.even.odd >> graph.long.item
    graph.long >> graph.longer
    graph.short.same >> graph.split.item
    graph.longer.same >> graph.split.item
    keep(graph, graph.split.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(200)]


@component
async def OneOf(item: In[int], even: Out[int], odd: Out[int]) -> None:
    await (odd if item % 2 else even).send(item)


def test_members_of_a_group_share_a_walk(engine: Options, notes: Notes) -> None:
    """What is found by one member goes to whichever is free: through a node, which all of them send to."""
    graph = Graph()
    graph.walk = Walk * 3
    graph.walk.below < 400
    graph.share = Pass
    graph.share.item < 0
    graph.share.same >> graph.walk.item
    graph.walk.again >> graph.share.item
    keep(graph, graph.walk.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(400)]
    assert sum(report.nodes[f"walk_{member}"].received for member in range(3)) == 400


def test_each_member_of_a_group_has_a_cycle_of_its_own(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, Walk * 3, 40).item < 0
    keep(graph, graph.walk.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    assert Counter(notes.read()) == Counter([*range(40)] * 3)
    assert [report.nodes[f"walk_{member}"].received for member in range(3)] == [40] * 3


def test_an_ordered_group_stands_in_a_cycle(engine: Options, notes: Notes) -> None:
    """Breadth first: the order of a queue, although three members do the work."""
    graph = Graph()
    graph.walk = Walk * 3
    graph.walk.ordered()
    graph.walk.below < 200
    graph.share = Pass
    graph.share.item < 0
    graph.share.same >> graph.walk.item
    graph.walk.again >> graph.share.item
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [*range(200)]


def test_a_cycle_that_is_fed_from_outside_ends_after_what_feeds_it(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, Walk, 100)
    graph.roots = Each
    graph.roots.items < [3, 4, 5, 6] * 5
    graph.roots.item >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert Counter(notes.read()) == Counter([*range(3, 100)] * 5)


def test_a_cycle_may_be_fed_from_outside_and_by_a_first_value(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, Walk, 100).item < 2
    graph.roots = Each
    graph.roots.items < [1, 0]
    graph.roots.item >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert Counter(notes.read()) == Counter([*range(1, 100), *range(100)])


def test_a_cycle_that_is_fed_nothing_ends(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, Walk, 100)
    graph.roots = Each
    graph.roots.items < []
    graph.roots.item >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == []


@component
async def SendsWhenFound(item: In[int], wanted: In[int], go: Out[str]) -> None:
    """Lets the next walk begin when this one has found something."""
    if item == wanted:
        await go.send("go")


@component
async def WaitsForGo(gate: In[str], first: Out[int]) -> None:
    await asyncio.sleep(0.2)  # longer than anything that looks for rest waits
    await first.send(0)


def test_a_cycle_waits_for_what_still_can_enter_it(engine: Options, notes: Notes) -> None:
    """It rests for a while, and then the outside goes on."""
    graph = Graph()
    walk(graph, Walk, 10, "first").item < 0
    graph.found = SendsWhenFound
    graph.found.wanted < 9
    graph.first.found >> graph.found.item
    graph.wait = WaitsForGo
    graph.found.go >> graph.wait.gate
    walk(graph, Walk, 20, "second")
    graph.wait.first >> graph.second.item
    keep(graph, graph.second.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(20)]


@component
async def SleepyWalk(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    await asyncio.sleep(0.02)
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)


@component(thread=True)
def WalkInThread(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    time.sleep(0.02)
    found.send(item)  # type: ignore[unused-coroutine]  # it blocks, in a thread
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            again.send(child)  # type: ignore[unused-coroutine]  # as above


@component(concurrency=4)
async def ConcurrentWalk(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    await asyncio.sleep(0.02)
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)


@component(retries=3, backoff=0.01)
async def RetriedWalk(item: In[int], below: In[int], found: Out[int], again: Out[int], before: In[list[int]]) -> None:
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)
    before.append(item)
    if before.count(item) < 3:
        raise ValueError(item)


@pytest.mark.parametrize("component_", [SleepyWalk, WalkInThread, ConcurrentWalk])
def test_a_cycle_does_not_end_while_a_node_works(engine: Options, notes: Notes, component_: Any) -> None:
    graph = Graph()
    walk(graph, component_, 15).item < 0
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(15)]


def test_a_cycle_does_not_end_while_a_node_tries_again(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, RetriedWalk, 7).item < 0
    graph.walk.before < []
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(7)]


tasks: set[asyncio.Task[None]] = set()


@component
async def WalkBehindTheBack(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    """Returns at once, and sends from a task of its own."""

    async def later() -> None:
        await asyncio.sleep(0.02)
        await found.send(item)
        for child in (2 * item + 1, 2 * item + 2):
            if child < below:
                await again.send(child)

    task = asyncio.create_task(later())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def test_a_cycle_does_not_end_while_a_task_of_a_node_may_send(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, WalkBehindTheBack, 15).item < 0
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(15)]


@component
async def JoinWalk(item: In[int], tick: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)


@pytest.mark.parametrize("ticks", [0, 1, 20, 50])
def test_a_cycle_with_a_zip_ends_with_the_shorter_of_both(engine: Options, notes: Notes, ticks: int) -> None:
    """Each item that goes round needs a tick from outside: whichever runs out first ends it."""
    graph = Graph()
    walk(graph, JoinWalk, 30).item < 0
    graph.ticks = Count
    graph.ticks.upto < ticks
    graph.ticks.number >> graph.walk.tick
    keep(graph, graph.walk.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [*range(min(ticks, 30))]  # breadth first: the port is a queue
    assert all(edge.balanced for edge in report.edges)


def test_a_cycle_with_a_zip_to_a_full_endless_stream_ends(engine: Options, notes: Notes) -> None:
    """The endless stream can never be used up, and what it waits for can never come."""
    graph = Graph()
    walk(graph, JoinWalk, 30).item < 0
    graph.ticks = Endless
    graph.ticks.number >> graph.walk.tick
    keep(graph, graph.walk.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [*range(30)]
    assert report.nodes["ticks"].sent < 5000


@component
async def FeedBatch(items: In[list[int]], below: In[int], found: Out[int], again: Out[int]) -> None:
    for item in items:
        await found.send(item)
        for child in (2 * item + 1, 2 * item + 2):
            if child < below:
                await again.send(child)


def test_a_batching_edge_in_a_cycle_with_full_lists_goes_round(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.walk = FeedBatch
    graph.walk.below < 63  # every node of the tree has two children or none
    graph.walk.items < [0]
    graph.walk.again >> 2 >= graph.walk.items
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(63)]


def test_a_batching_edge_in_a_cycle_delivers_its_rest(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.walk = FeedBatch
    graph.walk.below < 60
    graph.walk.items < [0]
    graph.walk.again >> 7 >= graph.walk.items
    keep(graph, graph.walk.found, notes)
    report = graph.run(**engine, timeout=LIMIT_S)
    kept = notes.read()
    assert len(kept) == len(set(kept))
    assert all(edge.balanced for edge in report.edges)
    assert sorted(kept) == [*range(60)]


def test_a_cycle_that_overflows_its_own_port_is_given_room(
    engine: Options, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    graph = Graph()
    walk(graph, NarrowWalk, 40).item < 0
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(40)]
    assert caplog.messages
    assert all("the capacity of walk.item was raised from" in message for message in caplog.messages)
    raised = [message.split("raised from ")[1].split(".")[0] for message in caplog.messages]
    assert raised == [f"{2**power} to {2 ** (power + 1)}" for power in range(len(raised))]


def test_a_cycle_runs_again(engine: Options, notes: Notes) -> None:
    graph = Graph()
    walk(graph, Walk, 50).item < 0
    keep(graph, graph.walk.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    graph.run(**engine, timeout=LIMIT_S)
    assert Counter(notes.read()) == Counter([*range(50)] * 2)


def test_a_failure_in_a_cycle_is_skipped_and_the_rest_goes_on(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.walk = FailingWalk
    graph.walk.below < 31
    graph.walk.item < 0
    graph.walk.again >> graph.walk.item
    graph.keep = Keep
    graph.keep.notes < notes
    graph.walk.found >> graph.keep.item
    report = graph.run(**engine, on_error="skip", timeout=LIMIT_S)
    below_two = {2, 5, 6, 11, 12, 13, 14, *range(23, 31)}
    assert sorted(notes.read()) == [*sorted({*range(31)} - below_two)]
    assert report.nodes["walk"].failed == 1


@component
async def FailingWalk(item: In[int], below: In[int], found: Out[int], again: Out[int]) -> None:
    if item == 2:
        raise ValueError(item)
    await found.send(item)
    for child in (2 * item + 1, 2 * item + 2):
        if child < below:
            await again.send(child)


@component
async def Beats(beat: In[int], again: Out[int], shown: Out[int], notes: In[Notes], upto: In[int] = -1) -> None:
    """Makes its own items, and shows all of them, or the first ones only."""
    try:
        if upto < 0 or beat < upto:
            await shown.send(beat)
        await again.send(beat + 1)
    except asyncio.CancelledError:
        notes.add("stopped")
        raise


@component
async def First(number: In[int], of: In[int], notes: In[Notes]) -> None:
    notes.add(number)


def read_first(graph: Graph, notes: Notes, out: Any) -> None:
    """Reads the first three items, and then no more."""
    graph.upto = Count
    graph.upto.upto < 3
    graph.first = First
    graph.first.notes < notes
    out >> graph.first.number
    graph.upto.number >> graph.first.of


@pytest.mark.parametrize("upto", [-1, 5], ids=["sends on", "sends outside no more"])
def test_a_cycle_whose_last_reader_has_ended_is_stopped(engine: Options, notes: Notes, upto: int) -> None:
    graph = Graph()
    graph.beats = Beats
    graph.beats.notes < notes
    graph.beats.upto < upto
    graph.beats.beat < 0
    graph.between = Pass
    graph.beats.again >> graph.between.item
    graph.between.same >> graph.beats.beat
    read_first(graph, notes, graph.beats.shown)
    report = graph.run(**engine, timeout=LIMIT_S)
    kept = notes.read()
    assert [note for note in kept if note != "stopped"] == [0, 1, 2]
    assert all(node.failed == 0 for node in report.nodes.values())
    assert all(edge.balanced for edge in report.edges)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_cycle_across_workers_is_stopped_when_all_of_its_readers_have_ended(notes: Notes, workers: int) -> None:
    graph = Graph()
    graph.beats = Beats
    graph.beats.notes < notes
    graph.beats.beat < 0
    graph.between = Pass
    graph.beats.again >> graph.between.item
    graph.between.same >> graph.beats.beat
    read_first(graph, notes, graph.beats.shown)
    graph.more = Add
    graph.more.constant < 100
    graph.between.same >> graph.more.number
    graph.late = Count
    graph.late.upto < 200
    graph.zipped = First
    graph.zipped.notes < notes
    graph.more.total >> graph.zipped.number
    graph.late.number >> graph.zipped.of
    graph.pin(graph.beats, 0)
    graph.pin(graph.between, 1)
    graph.run(num_workers=workers, timeout=LIMIT_S)
    kept = [note for note in notes.read() if note != "stopped"]
    assert sorted(kept) == sorted([0, 1, 2, *range(101, 301)])


def test_a_cycle_that_shows_nobody_anything_runs_until_it_is_stopped(engine: Options, notes: Notes) -> None:
    """Its nodes are there for what they do, as a node without out-ports is."""
    graph = Graph()
    graph.beats = CountsDown
    graph.beats.notes < notes
    graph.beats.left < 30
    graph.beats.again >> graph.beats.left
    graph.run(**engine, timeout=LIMIT_S)
    assert notes.read() == [*range(30, -1, -1)]


@component
async def CountsDown(left: In[int], notes: In[Notes], again: Out[int], shown: Out[int]) -> None:
    notes.add(left)
    await shown.send(left)  # to nobody
    if left:
        await again.send(left - 1)
