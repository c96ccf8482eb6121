"""What arrives at an in-port, in which order, on every engine: constants, defaults, seeds, merges, fan-outs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cascata import Graph, In, Out, component, inport, outport
from tests.engine.parts import Add, Count, Each, Keep, KeepPair, Notes, Pass, keep

Options = dict[str, Any]


@component
@inport("data_in", capacity=10)
@inport("constant_in", default=1)
@outport("data_out")
async def DecoratedAdd(data_in, constant_in, data_out):  # type: ignore[no-untyped-def]  # this style has no types
    await data_out.send(data_in + constant_in)


def test_a_chain_delivers_every_item_in_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.plus = Add
    graph.count.upto < 1000
    graph.plus.constant < 5
    graph.count.number >> graph.plus.number
    keep(graph, graph.plus.total, notes)
    graph.run(**engine)
    assert notes.read() == [*range(5, 1005)]


def test_both_styles_of_declaration_do_the_same(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.decorated = DecoratedAdd
    graph.annotated = Add
    graph.count.upto < 10
    graph.decorated.constant_in < 5
    graph.count.number >> graph.decorated.data_in
    graph.decorated.data_out >> graph.annotated.number
    keep(graph, graph.annotated.total, notes)
    graph.run(**engine)
    assert notes.read() == [*range(6, 16)]


def test_a_default_is_used_where_neither_constant_nor_connection_is(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.plus = Add
    graph.count.upto < 3
    graph.count.number >> graph.plus.number
    keep(graph, graph.plus.total, notes)
    graph.run(**engine)
    assert notes.read() == [1, 2, 3]


def test_a_connection_replaces_a_default(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.numbers = Count
    graph.constants = Each
    graph.plus = Add
    graph.numbers.upto < 3
    graph.constants.items < [10, 20, 30]
    graph.numbers.number >> graph.plus.number
    graph.constants.item >> graph.plus.constant
    keep(graph, graph.plus.total, notes)
    graph.run(**engine)
    assert notes.read() == [10, 21, 32]


@pytest.mark.parametrize("value", [None, [], [1, 2], {"a": 1}, "text", (), 0], ids=repr)
def test_a_constant_is_one_value_whatever_it_is(engine: Options, notes: Notes, value: object) -> None:
    graph = Graph()
    graph.keep = Keep
    graph.keep.item < value
    graph.keep.notes < notes
    graph.run(**engine)
    assert notes.read() == [value]


def test_an_array_is_one_value(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.keep = Keep
    graph.keep.item < np.arange(1000.0)
    graph.keep.notes < notes
    graph.run(**engine)
    (array,) = notes.read()
    assert (array == np.arange(1000.0)).all()


@component
async def Once(notes: In[Notes]) -> None:
    notes.add("ran")


@component
async def Nothing(out: Out[int]) -> None:
    await out.send(1)


def test_a_node_without_anything_to_wait_for_runs_once(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.constant = Once
    graph.constant.notes < notes
    graph.bare = Nothing
    keep(graph, graph.bare.out, notes)
    graph.run(**engine)
    assert sorted(map(str, notes.read())) == ["1", "ran"]


@pytest.mark.parametrize("seed_first", [True, False])
def test_a_value_on_a_connected_port_comes_first(engine: Options, notes: Notes, seed_first: bool) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.plus = Add
    if seed_first:
        graph.plus.number < 100
    graph.count.number >> graph.plus.number
    if not seed_first:
        graph.plus.number < 100
    keep(graph, graph.plus.total, notes)
    report = graph.run(**engine)
    assert notes.read() == [101, 1, 2, 3]
    assert report.nodes["plus"].received == 4


def test_a_seeded_port_is_zipped_one_item_later(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.left = Count
    graph.right = Count
    graph.left.upto < 3
    graph.right.upto < 3
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.pair.left < "first"
    graph.left.number >> graph.pair.left
    graph.right.number >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == [("first", 0), (0, 1), (1, 2)]


def test_merged_streams_keep_each_senders_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.merged = Pass
    for sender in "abc":
        node = graph.add(Each, sender)
        node.items < [(sender, number) for number in range(300)]
        node.item >> graph.merged.item
    keep(graph, graph.merged.same, notes)
    graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 900
    for sender in "abc":
        assert [item for item in kept if item[0] == sender] == [(sender, number) for number in range(300)]


def test_two_out_ports_of_one_node_can_feed_one_port(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.split = EvenOdd
    graph.split.upto < 10
    graph.keep = Keep
    graph.keep.notes < notes
    graph.split.even >> graph.keep.item
    graph.split.odd >> graph.keep.item
    graph.run(**engine)
    kept = notes.read()
    assert [item for item in kept if item % 2 == 0] == [0, 2, 4, 6, 8]
    assert [item for item in kept if item % 2 == 1] == [1, 3, 5, 7, 9]


@component
async def EvenOdd(upto: In[int], even: Out[int], odd: Out[int]) -> None:
    for number in range(upto):
        await (odd if number % 2 else even).send(number)


def test_a_fan_out_delivers_every_item_to_every_port(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 500
    for number in (10_000, 20_000, 30_000):
        plus = graph.add(Add, f"plus_{number}")
        plus.constant < number
        graph.count.number >> plus.number
        keep(graph, plus.total, notes, f"keep_{number}")
    graph.run(**engine)
    kept = notes.read()
    assert len(kept) == 1500
    for base in (10_000, 20_000, 30_000):
        assert [item - base for item in kept if base <= item < base + 10_000] == [*range(500)]


def test_two_ports_of_one_node_each_get_what_one_out_port_sends(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 300
    graph.pair = KeepPair
    graph.pair.notes < notes
    graph.count.number >> graph.pair.left
    graph.count.number >> graph.pair.right
    graph.run(**engine)
    assert notes.read() == [(number, number) for number in range(300)]


def test_what_is_sent_on_a_port_without_a_connection_is_discarded_and_stops_nobody(
    engine: Options, notes: Notes
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 5000
    graph.aside = Aside
    graph.count.number >> graph.aside.item
    keep(graph, graph.aside.main, notes)
    report = graph.run(**engine)
    assert notes.read() == [*range(5000)]
    assert report.nodes["aside"].sent == 10_000


@component
async def Aside(item: In[int], main: Out[int], aside: Out[int]) -> None:
    await aside.send(item)
    await main.send(item)


@pytest.mark.parametrize("item", [None, 0, "", [], {}, b"", False, ()], ids=repr)
def test_any_value_is_an_item(engine: Options, notes: Notes, item: object) -> None:
    graph = Graph()
    graph.each = Each
    graph.each.items < [item, item]
    keep(graph, graph.each.item, notes)
    graph.run(**engine)
    assert notes.read() == [item, item]


def test_a_stream_of_nothing_ends_at_once(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.each = Each
    graph.each.items < []
    graph.passes = Pass
    graph.each >> graph.passes
    keep(graph, graph.passes.same, notes)
    report = graph.run(**engine)
    assert notes.read() == []
    assert report.nodes["passes"].received == 0


def test_large_arrays_arrive_as_they_were_sent(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.arrays = Arrays
    graph.checked = Checked
    graph.checked.notes < notes
    graph.arrays.array >> graph.checked.array
    graph.run(**engine)
    assert notes.read() == [(size, True) for size in (0, 10, 10_000, 100_000, 1_000_000)]


@component
async def Arrays(array: Out[Any]) -> None:
    for size in (0, 10, 10_000, 100_000, 1_000_000):
        await array.send(np.arange(size, dtype=np.float64))


@component
async def Checked(array: In[Any], notes: In[Notes]) -> None:
    array += 1  # it belongs to this node now
    notes.add((len(array), bool((array == np.arange(1, len(array) + 1)).all())))
