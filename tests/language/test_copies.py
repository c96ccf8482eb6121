"""A graph that was copied, and one that was saved and loaded, give what the graph itself gives, on every engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from tests.engine.parts import Count, Notes, Pass

Options = dict[str, Any]


@component
async def Flat(numbers: In[list[int]], number: Out[int]) -> None:
    for each in numbers:
        await number.send(each)


@component
@inport("number", capacity=3)
async def Times(number: In[int], factor: In[int], product: Out[int]) -> None:
    await product.send(number * factor)


@component
async def Halve(number: In[int], again: Out[int], seen: Out[int]) -> None:
    await seen.send(number)
    if number > 1:
        await again.send(number // 2)


@component
async def Join(left: In[int], latest: In[int], both: Out[tuple[int, int]]) -> None:
    await both.send((left, latest))


@component
async def KeepAs(item: In[Any], name: In[str], notes: In[Notes]) -> None:
    notes.add((name, item))


def inner() -> Graph:
    """Two members in order, then lists of three, taken apart again."""
    graph = Graph()
    graph.times = Times * 2
    graph.times.ordered()
    graph.times.factor < 3
    graph.flat = Flat
    graph.times.product >> 3 >= graph.flat.numbers
    graph.export(graph.times.number, "number")
    graph.export(graph.flat.number, "number_out")
    return graph


def everything() -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    twice = Graph()
    part = inner()
    twice.first = part
    twice.second = part
    twice.first.number_out >> twice.second.number
    twice.export(twice.first.number, "number")
    twice.export(twice.second.number_out, "number_out")
    graph.twice = twice
    graph.count.number >> graph.twice.number
    graph.everybody = Pass * 3
    graph.count.number.broadcast() >> graph.everybody.item
    graph.halve = Halve
    graph.halve.number < 40
    graph.halve.again >> graph.halve.number
    graph.joined = Join
    graph.joined.clk(graph.joined.left)
    graph.count.number >> graph.joined.left
    graph.joined.latest < 7
    for name, out in (
        ("twice", graph.twice.number_out),
        ("everybody", graph.everybody.same),
        ("halved", graph.halve.seen),
        ("joined", graph.joined.both),
    ):
        keeper = graph.add(KeepAs, f"keep_{name}")
        keeper.name < name
        out >> keeper.item
    graph.keep_list = KeepAs
    graph.keep_list.name < "list"
    graph.twice.number_out >>= graph.keep_list.item
    return graph


def put_into_another(graph: Graph) -> Graph:
    outer = Graph()
    outer.whole = graph
    return outer


COPIES: dict[str, Callable[[Graph], Graph]] = {
    "saved and loaded": lambda graph: Graph.from_json(json.loads(json.dumps(graph.to_json()))),
    "put into another, copied, saved and loaded": lambda graph: Graph.from_json(
        put_into_another(graph).copy().to_json()
    ),
}


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
def test_a_copy_gives_what_the_graph_gives(engine: Options, notes: Notes, made: Callable[[Graph], Graph]) -> None:
    graph = made(everything())
    for name, node in graph.nodes.items():
        if "keep_" in name:
            node.notes < notes  # what no JSON can hold is given afterwards
    graph.run(**engine)
    told = notes.read()
    nines = [9 * each for each in range(20)]
    assert [item for name, item in told if name == "twice"] == nines
    assert [item for name, item in told if name == "list"] == [nines]
    assert sorted(item for name, item in told if name == "everybody") == sorted([*range(20)] * 3)
    assert [item for name, item in told if name == "halved"] == [40, 20, 10, 5, 2, 1]
    assert [item for name, item in told if name == "joined"] == [(each, 7) for each in range(20)]
