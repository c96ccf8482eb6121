"""What `send` promises on every engine: strict capacity, cancellation, and a loop that goes on turning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from tests.engine.parts import Count, Endless, Flag, Keep, Notes

Options = dict[str, Any]

STUCK_S = 0.5
"""Seconds after which a send that has not completed is taken to wait for room."""


@component
async def SendsUntilStuck(
    holding: In[Flag], release: In[Flag], notes: In[Notes], out: Out[int], in_hand: In[int] = 1
) -> None:
    """Sends what its readers take in hand; when they hold it, as much as there is room for."""
    sent = 0
    for sent in range(1, in_hand + 1):
        await out.send(sent)
    await holding.wait()
    while True:
        try:
            await asyncio.wait_for(out.send(sent + 1), STUCK_S)
        except TimeoutError:
            break
        sent += 1
    notes.add(("completed", sent))
    release.set()


def holding(capacity: int) -> Any:
    """A component that holds its first item until it is released; its port has room for `capacity` items."""

    @component
    @inport("item", capacity=capacity)
    @inport("holding")
    @inport("release")
    @inport("notes")
    async def Holding(item: Any, holding: Flag, release: Flag, notes: Notes) -> None:
        if not release.is_set():
            holding.set()
            await release.wait()
        notes.add(("received", item))

    return Holding


def received(notes: Notes) -> list[int]:
    return [number for what, number in notes.read() if what == "received"]


@pytest.mark.parametrize("capacity", [1, 2, 10, 257])
def test_exactly_capacity_sends_complete_while_the_reader_holds_an_item(
    engine: Options, notes: Notes, flags: list[Flag], capacity: int
) -> None:
    graph = Graph()
    graph.sender = SendsUntilStuck
    graph.reader = holding(capacity)
    for node in (graph.sender, graph.reader):
        node.holding < flags[0]
        node.release < flags[1]
        node.notes < notes
    graph.sender.out >> graph.reader.item
    graph.run(**engine)
    assert ("completed", capacity + 1) in notes.read()
    assert received(notes) == [*range(1, capacity + 2)]  # the send that was given up left nothing behind


@pytest.mark.parametrize("capacity", [1, 3, 10])
def test_senders_that_share_a_port_share_its_capacity(
    engine: Options, notes: Notes, flags: list[Flag], capacity: int
) -> None:
    graph = Graph()
    graph.reader = holding(capacity)
    graph.reader.holding < flags[0]
    graph.reader.release < flags[1]
    graph.reader.notes < notes
    graph.first = SendsUntilStuck
    graph.first.in_hand < 1
    graph.second = SendsUntilStuck
    graph.second.in_hand < 0
    for sender in (graph.first, graph.second):
        sender.holding < flags[0]
        sender.release < flags[2]  # of no consequence: the last one to be stuck releases the reader
        sender.notes < notes
        sender.out >> graph.reader.item
    graph.releases = ReleasesWhenBothAreStuck
    graph.releases.notes < notes
    graph.releases.release < flags[1]
    graph.run(**engine)
    completed = [number for what, number in notes.read() if what == "completed"]
    assert sum(completed) == capacity + 1
    assert len(received(notes)) == capacity + 1


@component
async def ReleasesWhenBothAreStuck(notes: In[Notes], release: In[Flag]) -> None:
    while [what for what, _ in notes.read()].count("completed") < 2:  # noqa: ASYNC110  # other processes write them
        await asyncio.sleep(0.01)
    release.set()


@component
async def UsesTools(out: Out[int]) -> None:
    """Sends with everything that asyncio has for coroutines: 20 numbers in all."""
    await asyncio.create_task(out.send(0))
    await asyncio.gather(*(out.send(number) for number in range(1, 8)))
    for number in range(8, 12):
        await asyncio.wait_for(out.send(number), 10)
    await asyncio.wait([asyncio.ensure_future(out.send(number)) for number in range(12, 16)])
    async with asyncio.timeout(10):
        await out.send(16)
    sending = out.send(17)
    await sending
    await asyncio.shield(out.send(18))
    asyncio.run_coroutine_threadsafe(out.send(19), asyncio.get_running_loop())
    await asyncio.sleep(0.01)


@component
@inport("item", capacity=1)
@inport("notes")
async def Tight(item: int, notes: Notes) -> None:
    await asyncio.sleep(0)
    notes.add(item)


@pytest.mark.parametrize("reader", [Keep, Tight])
def test_send_can_be_used_with_everything_that_takes_a_coroutine(engine: Options, notes: Notes, reader: Any) -> None:
    """With room and without."""
    graph = Graph()
    graph.uses = UsesTools
    graph.reader = reader
    graph.reader.notes < notes
    graph.uses.out >> graph.reader.item
    graph.run(**engine)
    assert sorted(notes.read()) == [*range(20)]


@component
async def GivesUp(holding: In[Flag], release: In[Flag], notes: In[Notes], out: Out[str]) -> None:
    """Cancels sends in all kinds of moments; only what completed may arrive."""
    await out.send("in hand")
    await holding.wait()
    await out.send("in the port")
    waiting = [asyncio.ensure_future(out.send(f"cancelled {number}")) for number in range(5)]
    kept = asyncio.ensure_future(out.send("waits its turn"))
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    release.set()
    await asyncio.wait(waiting)
    await kept
    at_once = asyncio.ensure_future(out.send("never begun"))
    at_once.cancel()
    await asyncio.wait([at_once])
    notes.add(("was cancelled", at_once.cancelled()))
    await out.send("last")


def test_a_cancelled_send_leaves_nothing_behind(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.gives_up = GivesUp
    graph.reader = holding(1)
    for node in (graph.gives_up, graph.reader):
        node.holding < flags[0]
        node.release < flags[1]
        node.notes < notes
    graph.gives_up.out >> graph.reader.item
    report = graph.run(**engine)
    got: list[Any] = received(notes)
    assert [text for text in got if text != "never begun"] == ["in hand", "in the port", "waits its turn", "last"]
    assert report.edges[0].balanced
    assert report.edges[0].delivered == len(got)


# --- the loop goes on turning -----------------------------------------------------------------------


@component
async def Ticks(over: In[Flag], notes: In[Notes]) -> None:
    """Notes by how much timers were late, then lets the others end."""
    late = []
    for _ in range(20):
        due = time.perf_counter() + 0.005
        await asyncio.sleep(0.005)
        late.append(time.perf_counter() - due)
    notes.add(sorted(late)[len(late) // 2])
    over.set()


@component
async def SendsUntil(over: In[Flag], out: Out[int]) -> None:
    while not over.is_set():
        for number in range(10):
            await out.send(number)


@component
def YieldsUntil(over: In[Flag], out: Out[int]) -> Iterator[int]:
    while not over.is_set():
        yield 1


@component
async def Discards(item: In[int]) -> None:
    pass


@component
async def Multiplies(item: In[int], out: Out[int]) -> None:
    for number in range(50):
        await out.send(item * number)


@pytest.mark.parametrize("source", [SendsUntil, YieldsUntil])
@pytest.mark.parametrize("readers", [0, 1, 2])
def test_a_busy_sender_does_not_starve_timers(
    engine: Options, notes: Notes, flags: list[Flag], source: Any, readers: int
) -> None:
    graph = Graph()
    graph.ticks = Ticks
    graph.ticks.notes < notes
    graph.source = source
    for node in (graph.ticks, graph.source):
        node.over < flags[0]
        if "num_workers" in engine:
            graph.pin(node, 0)
    for number in range(readers):
        reader = graph.add(Discards, f"reader_{number}")
        graph.source.out >> reader.item
    graph.run(**engine)
    (late,) = notes.read()
    assert late < 0.1


def test_a_busy_reader_does_not_starve_timers(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    graph = Graph()
    graph.ticks = Ticks
    graph.ticks.notes < notes
    graph.source = SendsUntil
    graph.multiplies = Multiplies
    graph.reader = Discards
    for node in (graph.ticks, graph.source):
        node.over < flags[0]
    if "num_workers" in engine:
        graph.pin(graph.ticks, 0)
        graph.pin(graph.reader, 0)
    graph.source >> graph.multiplies >> graph.reader
    graph.run(**engine)
    (late,) = notes.read()
    assert late < 0.1


def test_what_was_sent_arrives_without_a_further_send(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """What was sent leaves without a further send."""
    graph = Graph()
    graph.source = SendsThenWaits
    graph.source.over < flags[0]
    graph.raises = RaisesFlag
    graph.raises.over < flags[0]
    graph.source.out >> graph.raises.item
    graph.run(**engine)
    assert flags[0].is_set()


@component
async def SendsThenWaits(over: In[Flag], out: Out[int]) -> None:
    await out.send(1)
    await over.wait()


@component
async def RaisesFlag(item: In[int], over: In[Flag]) -> None:
    over.set()


def test_back_pressure_reaches_the_source_through_a_chain(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """However fast a source is, no more is under way than the ports and the hands hold."""
    graph = Graph()
    graph.sender = SendsUntilStuck
    graph.sender.in_hand < 1
    graph.middle = Tightly
    graph.reader = holding(5)
    for node in (graph.sender, graph.reader):
        node.holding < flags[0]
        node.release < flags[1]
        node.notes < notes
    graph.sender >> graph.middle
    graph.middle.same >> graph.reader.item
    graph.run(**engine)
    # In hand at the reader and in the middle, 5 in the reader's port, 7 in the middle's.
    assert ("completed", 1 + 5 + 1 + 7) in notes.read()
    assert received(notes) == [*range(1, 15)]


@component
@inport("item", capacity=7)
async def Tightly(item: int, same: Out[int]) -> None:
    await same.send(item)


def test_an_endless_stream_can_be_cut_at_its_reader(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.few = Count
    graph.few.upto < 2000
    graph.cuts = Cuts
    graph.endless.number >> graph.cuts.item
    graph.few.number >> graph.cuts.clock
    report = graph.run(**engine)
    assert report.nodes["cuts"].received == 4000


@component
async def Cuts(item: In[int], clock: In[int]) -> None:
    assert item == clock
