"""How a run comes to its end by itself: downstream when streams end, upstream when nobody reads any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascata import Graph, In, Out, component
from tests.engine.parts import Count, Each, Endless, Flag, Keep, KeepPair, Notes, Pass, keep

Options = dict[str, Any]


def few(graph: Graph, notes: Notes, count: int = 3) -> Any:
    """Adds a node that reads `count` items of its port `right` and then ends; returns that port."""
    graph.few = Count
    graph.few.upto < count
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.few.number >> graph.pair.left
    return graph.pair.right


def test_an_endless_producer_is_stopped_when_its_reader_has_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.endless.number >> few(graph, notes)
    report = graph.run(**engine)
    kept = notes.read()
    (sent,) = [number for what, number in kept if what == "endless stopped at"]
    assert [pair for pair in kept if pair != ("endless stopped at", sent)] == [(0, 0), (1, 1), (2, 2)]
    node, (_, edge) = report.nodes["endless"], report.edges
    assert (node.sent, node.failed) == (sent, 0)
    assert edge.source == "endless.number"
    assert (edge.sent, edge.delivered, edge.failed, edge.dropped) == (sent, 3, 0, sent - 3)


def test_a_whole_chain_is_stopped_from_its_end(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.first = Pass
    graph.second = Pass
    graph.endless >> graph.first >> graph.second
    graph.second.same >> few(graph, notes, 250)
    report = graph.run(**engine)
    kept = notes.read()
    assert [note for note in kept if note[0] != "endless stopped at"] == [(each, each) for each in range(250)]
    assert [note[0] for note in kept].count("endless stopped at") == 1
    assert all(edge.balanced for edge in report.edges)
    assert all(node.failed == 0 for node in report.nodes.values())


def test_a_stopped_generator_runs_its_finally(engine: Options, notes: Notes) -> None:
    for source in (EndlessGenerator, EndlessAsyncGenerator):
        graph = Graph()
        graph.endless = source
        graph.endless.notes < notes
        graph.endless.number >> few(graph, notes)
        graph.run(**engine)
    assert notes.read().count("stopped") == 2


@component
def EndlessGenerator(notes: In[Notes], number: Out[int]) -> Any:
    try:
        while True:
            yield 1
    finally:
        notes.add("stopped")


@component
async def EndlessAsyncGenerator(notes: In[Notes], number: Out[int]) -> Any:
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        notes.add("stopped")


@component
async def Stubborn(number: Out[int], notes: In[Notes]) -> None:
    """Does not want to be stopped by an `except Exception`, and cleans up by sending."""
    try:
        while True:
            try:
                await number.send(1)
            except Exception:
                notes.add("caught")
    finally:
        notes.add("stopped")


def test_a_stop_is_no_exception_that_code_would_swallow(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.stubborn = Stubborn
    graph.stubborn.notes < notes
    graph.stubborn.number >> few(graph, notes)
    graph.run(**engine)
    kept = notes.read()
    assert "caught" not in kept
    assert kept.count("stopped") == 1


@component
async def GoesOn(number: Out[int], notes: In[Notes]) -> None:
    """Notices the stop, and returns of its own will."""
    try:
        while True:
            await number.send(1)
    except asyncio.CancelledError:
        notes.add("noticed")


def test_a_runner_that_takes_the_stop_for_its_end_has_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.source = GoesOn
    graph.source.notes < notes
    graph.source.number >> few(graph, notes)
    report = graph.run(**engine)
    assert notes.read().count("noticed") == 1
    assert report.nodes["source"].failed == 0


@component
async def TwoPorts(left: Out[int], right: Out[int], notes: In[Notes], upto: In[int] = 1000) -> None:
    """Sends the same numbers on both out-ports."""
    sent = 0
    try:
        for sent in range(upto):  # how far it came is noted
            await left.send(sent)
            await right.send(sent)
    finally:
        notes.add(("came to", sent))


def test_a_node_goes_on_while_one_of_its_out_ports_is_read(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.two = TwoPorts
    graph.two.notes < notes
    graph.two.left >> few(graph, notes)
    graph.other = Tagged
    graph.other.notes < notes
    graph.two.right >> graph.other.item
    report = graph.run(**engine)
    kept = notes.read()
    assert ("came to", 999) in kept
    assert [number for tag, number in kept if tag == "tagged"] == [*range(1000)]
    assert all(edge.balanced for edge in report.edges)


@component
async def Tagged(item: In[Any], notes: In[Notes]) -> None:
    notes.add(("tagged", item))


def test_a_node_is_stopped_when_all_of_its_out_ports_are_read_no_more(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.two = TwoPorts
    graph.two.notes < notes
    graph.two.upto < 10_000_000
    graph.two.left >> few(graph, notes)
    graph.fewer = Count
    graph.fewer.upto < 2
    graph.second = KeepPair
    graph.second.notes < notes
    graph.fewer.number >> graph.second.left
    graph.two.right >> graph.second.right
    graph.run(**engine)
    (came_to,) = [number for tag, number in notes.read() if tag == "came to"]
    assert 3 <= came_to < 10_000_000 - 1


def test_an_out_port_goes_on_while_one_of_its_readers_reads(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1000
    graph.count.number >> few(graph, notes)
    graph.tagged = Tagged
    graph.tagged.notes < notes
    graph.count.number >> graph.tagged.item
    report = graph.run(**engine)
    assert [number for tag, number in notes.read() if tag == "tagged"] == [*range(1000)]
    assert report.nodes["count"].sent == 1000
    assert all(edge.balanced for edge in report.edges)


def test_a_fan_out_is_stopped_when_all_of_its_readers_have_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.endless.number >> few(graph, notes)
    graph.fewer = Count
    graph.fewer.upto < 200
    graph.second = KeepPair
    graph.second.notes < notes
    graph.fewer.number >> graph.second.left
    graph.endless.number >> graph.second.right
    report = graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 204
    assert all(edge.balanced for edge in report.edges)


def test_an_unread_out_port_does_not_keep_a_node_alive(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.two = TwoPorts
    graph.two.notes < notes
    graph.two.upto < 10_000_000
    graph.two.left >> few(graph, notes)
    graph.run(**engine)
    (came_to,) = [number for tag, number in notes.read() if tag == "came to"]
    assert came_to < 10_000_000 - 1


def test_both_of_two_merged_producers_are_stopped(engine: Options, notes: Notes) -> None:
    graph = Graph()
    port = few(graph, notes, 300)
    for name in ("one", "two"):
        endless = graph.add(Endless, name)
        endless.notes < notes
        endless.number >> port
    graph.run(**engine)
    assert [note[0] for note in notes.read()].count("endless stopped at") == 2


def test_a_node_that_waits_for_room_is_stopped_too(engine: Options, notes: Notes, flags: list[Flag]) -> None:
    """The reader holds still until the writer cannot send any more, then ends."""
    graph = Graph()
    graph.full = SendsUntilFull
    graph.full.full < flags[0]
    graph.full.notes < notes
    graph.once = WaitsThenEnds
    graph.once.full < flags[0]
    graph.full.number >> graph.once.item
    graph.one = Count
    graph.one.upto < 1
    graph.one.number >> graph.once.tick
    graph.run(**engine)
    assert notes.read() == ["stopped"]


@component
async def SendsUntilFull(full: In[Flag], notes: In[Notes], number: Out[int]) -> None:
    try:
        while True:
            sending = asyncio.ensure_future(number.send(1))
            await asyncio.wait([sending], timeout=0.1)
            if not sending.done():
                full.set()
            await sending
    finally:
        notes.add("stopped")


@component
async def WaitsThenEnds(item: In[int], tick: In[int], full: In[Flag]) -> None:
    await full.wait()


def test_a_run_ends_while_a_group_shares_a_stream_that_nobody_reads_to_its_end(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.members = Pass * 2
    graph.endless >> graph.members
    graph.members.same >> few(graph, notes, 100)
    report = graph.run(**engine)
    assert [note[0] for note in notes.read()].count("endless stopped at") == 1
    assert all(edge.balanced for edge in report.edges)


def test_nodes_that_are_not_connected_all_run(engine: Options, notes: Notes) -> None:
    graph = Graph()
    for name in "abcde":
        node = graph.add(Keep, name)
        node.item < name
        node.notes < notes
    graph.run(**engine)
    assert sorted(notes.read()) == [*"abcde"]


@pytest.mark.parametrize("items", [0, 1, 99, 100, 101, 10_000])
def test_every_item_arrives_whatever_their_number(engine: Options, notes: Notes, items: int) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < items
    graph.sum = Sum
    graph.sum.notes < notes
    graph.count.number >> graph.sum.number
    report = graph.run(**engine)
    assert report.nodes["sum"].received == items
    assert report.edges[0].delivered == items


@component
async def Sum(number: In[int], notes: In[Notes]) -> None:
    pass


def test_what_is_sent_just_before_the_end_arrives(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.each = Each
    graph.each.items < ["only"]
    out = graph.each.item
    for number in range(4):
        step = graph.add(Pass, f"step_{number}")
        out >> step.item
        out = step.same
    keep(graph, out, notes)
    graph.run(**engine)
    assert notes.read() == ["only"]
