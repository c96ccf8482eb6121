"""Merge and ZipLatest."""

from __future__ import annotations

from typing import Any

import pytest

from cascata import Graph, In, Out, component
from cascata.components import Map, Merge, Take, ZipLatest
from cascata.errors import ComponentError
from tests.engine.parts import Count, Each, Endless, Flag, Notes, keep

Options = dict[str, Any]


def test_merge_sends_what_all_senders_send_each_in_its_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.low, graph.high = Each, Each
    graph.low.items < [*range(100)]
    graph.high.items < [*range(1000, 1100)]
    graph.both = Merge
    graph.low.item >> graph.both.inp
    graph.high.item >> graph.both.inp
    keep(graph, graph.both.out, notes)
    graph.run(**engine)
    assert [item for item in notes.read() if item < 1000] == [*range(100)]
    assert [item for item in notes.read() if item >= 1000] == [*range(1000, 1100)]


def test_a_subgraph_exports_the_merged_stream(engine: Options, notes: Notes) -> None:
    inner = Graph()
    inner.one, inner.two = Count, Count
    inner.one.upto < 3
    inner.two.upto < 2
    inner.all = Merge
    inner.one.number >> inner.all.inp
    inner.two.number >> inner.all.inp
    inner.export(inner.all.out, "out")
    graph = Graph()
    graph.sub = inner
    keep(graph, graph.sub.out, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == [0, 0, 1, 1, 2]


@component
async def Latest(values: In[list[Any]], seen: In[list[Flag]], value: Out[Any]) -> None:
    """Sends a value after each flag."""
    for each, flag in zip(values, seen, strict=True):
        await flag.wait()
        await value.send(each)


@component
async def UntilPaired(item: Out[int], started: In[Flag]) -> None:
    """Sends items for ever, after a flag is up."""
    number = 0
    while True:
        await item.send(number)
        number += 1
        started.set()


@component
async def UntilNew(pair: In[tuple[int, str]], notes: In[Notes], wanted: In[str], new: In[Flag], out: Out[str]) -> None:
    """Notes the values that it sees, each once; sends when the wanted one has come."""
    if pair[1] not in notes.read():
        notes.add(pair[1])
        new.set()
    if pair[1] == wanted:
        await out.send(wanted)


def test_each_item_is_paired_with_the_latest_value(engine: Options, notes: Notes) -> None:
    """The second value is sent when the first has been seen in a pair, and the run ends when the second has been."""
    first, second = Flag(notes.path + "_1"), Flag(notes.path + "_2")
    graph = Graph()
    graph.items = UntilPaired
    graph.items.started < first
    graph.values = Latest
    graph.values.values < ["a", "b"]
    graph.values.seen < [first, second]
    graph.zip = ZipLatest
    graph.items.item >> graph.zip.inp
    graph.values.value >> graph.zip.latest
    graph.until = UntilNew
    graph.until.notes < notes
    graph.until.wanted < "b"
    graph.until.new < second
    graph.zip.out >> graph.until.pair
    graph.end = Take
    graph.end.n < 1
    graph.until.out >> graph.end.inp
    graph.run(**engine, timeout=40)
    assert notes.read() == ["a", "b"]


def test_the_last_value_stays_when_the_values_have_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 300
    graph.value = Each
    graph.value.items < ["only"]
    graph.zip = ZipLatest
    graph.count.number >> graph.zip.inp
    graph.value.item >> graph.zip.latest
    keep(graph, graph.zip.out, notes)
    graph.run(**engine)
    assert notes.read() == [(number, "only") for number in range(300)]


def test_values_that_never_end_are_stopped_when_the_items_have_ended(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 5
    graph.values = Endless
    graph.zip = ZipLatest
    graph.count.number >> graph.zip.inp
    graph.values.number >> graph.zip.latest
    keep(graph, graph.zip.out, notes)
    graph.run(**engine, timeout=30)
    assert [item for item, _ in notes.read()] == [*range(5)]
    values = [value for _, value in notes.read()]
    assert values == sorted(values)


def test_a_setting_can_come_back_from_behind(engine: Options, notes: Notes) -> None:
    """A loop that controls itself: it ends with the items."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < 50
    graph.zip = ZipLatest
    graph.zip.latest < 0
    graph.more = Map
    graph.more.fn < sum
    graph.count.number >> graph.zip.inp
    graph.zip.out >> graph.more.inp
    graph.more.out >> graph.zip.latest
    keep(graph, graph.more.out, notes)
    graph.run(**engine, timeout=30)
    assert len(notes.read()) == 50


def test_values_that_end_before_the_first_are_an_error(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.values = Count
    graph.values.upto < 0
    graph.zip = ZipLatest
    graph.count.number >> graph.zip.inp
    graph.values.number >> graph.zip.latest
    with pytest.raises(ComponentError, match="'latest' ended before its first value"):
        graph.run(**engine)


def test_one_call_on_its_own() -> None:
    assert Merge.test(inp=1) == {"out": [1]}
    assert ZipLatest.test(inp=[1, 2], latest=["a"]) == {"out": [(1, "a"), (2, "a")]}
