"""Graphs for the tests of saving and drawing: some written by hand, others made by hypothesis."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from cascata import Graph, In, Out, State, component, inport, outport
from cascata.errors import DefinitionError

__all__ = ["SEEN", "Collect", "Join", "Numbers", "Scale", "Tally", "everything", "graphs"]

SEEN: list[Any] = []
"""What `Collect` took, in runs within this process."""


@component
async def Numbers(count: In[Any], number: Out[Any]) -> None:
    """Sends the numbers up to `count`."""
    for each in range(count):
        await number.send(each)


@component
@inport("value", capacity=7)
@inport("factor", default=2)
@outport("result")
async def Scale(value: Any, factor: Any, result: Any) -> None:
    await result.send(value * factor)


@component
async def Join(left: In[Any], right: In[Any], config: In[Any], both: Out[Any], rest: Out[Any]) -> None:
    await both.send([left, right, config])


def tally(start: int, *more: int, step: int = 1) -> list[int]:
    """What `Tally` counts with."""
    return [start, step, *more]


@component
async def Tally(item: In[Any], counted: Out[Any], count: State[list[int]] = State(tally)) -> None:
    count.value[0] += count.value[1]
    await counted.send([item, count.value[0]])


@component
async def Collect(item: In[Any]) -> None:
    SEEN.append(item)


def everything() -> Graph:
    """A graph with all that a graph can have, which runs to its end."""
    inner = Graph()
    inner.scale = Scale * 3
    inner.tally = Tally
    inner.scale.ordered()
    inner.scale.factor < 10
    inner.scale.result >> inner.tally.item
    inner.tally.count < (100,)
    inner.export(inner.scale.value, "value")
    inner.export(inner.tally.counted, "counted")

    middle = Graph()
    middle.before = Scale
    middle.part = inner
    middle.before.result >> middle.part.value
    middle.export(middle.before.value, "value")
    middle.export(middle.part.counted, "counted")

    graph = Graph()
    graph.numbers = Numbers
    graph.one = inner
    graph.two = middle
    graph.two_besides = Scale  # not in the subgraph, whatever its name begins with
    graph.pool = Scale * 2
    graph.meet = Join
    graph.collect = Collect
    graph.lists = Collect * 2
    graph.numbers.count < 5
    graph.two_tally = Tally
    graph.two_tally.count < {"start": 3, "step": 2}
    graph.pool_0.factor < 3
    graph.pool_1.factor < 3.0
    graph.two_besides.value < -1  # comes first, then the stream
    for port in (graph.one.value, graph.two.value, graph.two_besides.value, graph.pool.value):
        graph.numbers.number >> port
    graph.one.counted >> graph.meet.left
    graph.two.counted >> graph.meet.right
    graph.meet.config < {"a": [1, 2.5, None, True], "b": {"text": 'with <&"> and ü'}}
    graph.meet.sync("left", "right")
    graph.meet.both >> graph.collect.item
    graph.two_besides.result >> graph.two_tally.item
    graph.two_tally.counted >> 2 >= graph.collect.item
    graph.pool.result.broadcast() >> graph.lists.item
    graph.numbers.number.connect(graph.collect.item, batch="all")
    graph.pin(graph.numbers, 0)
    graph.export(graph.meet.rest, "rest")
    return graph


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> Graph:
    """Graphs that need not be able to run: nodes, groups, subgraphs, wires of each kind, values, triggers, pins."""
    graph = Graph()
    for index in range(draw(st.integers(0 if depth < 2 else 1, 5))):
        kind = draw(st.sampled_from([Numbers, Scale, Join, Tally, Collect]))
        size = draw(st.sampled_from([None, None, None, 1, 2, 3]))
        node = graph.add(kind if size is None else kind * size, f"n{index}")
        if size is not None and draw(st.booleans()):
            node.ordered()
    if depth:
        for index in range(draw(st.integers(0, 2))):
            graph.add(draw(graphs(depth=depth - 1)), f"s{index}")
    _tell(draw, graph)
    _wire(draw, graph)
    return graph


def _tell(draw: st.DrawFn, graph: Graph) -> None:
    vertices = [graph.nodes[name] for name in graph.nodes]
    vertices += [getattr(graph, edge) for edge in dir(graph) if edge.startswith("n") and edge[1:].isdigit()]
    for node in draw(st.lists(st.sampled_from(vertices), max_size=6, unique_by=str)) if vertices else []:
        names = [port.name for port in node._draft.spec.inports]
        for name in draw(st.lists(st.sampled_from(names), unique=True)):
            getattr(node, name).set(draw(_values))
        with suppress(DefinitionError):  # a port triggers already
            if draw(st.booleans()):
                node.sync(*draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
            else:
                node.clk(*draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
        if node._draft.spec.states:
            node.count.set((draw(st.integers()), draw(st.integers())))
        if draw(st.booleans()):
            graph.pin(node, draw(st.integers(0, 3)))
    for node in graph.nodes.values():  # an initializer without its arguments cannot be resolved
        for member in node._draft.members:
            if member.spec.states and not member.state_args:
                getattr(node, member.spec.states[0].name).set({"start": 0})


def _wire(draw: st.DrawFn, graph: Graph) -> None:
    vertices = [vertex for name, vertex in graph._views.items() if name in graph._draft.nodes | graph._draft.groups]
    outs = [getattr(node, port.name) for node in vertices for port in node._draft.spec.outports]
    ins = [getattr(node, port.name) for node in vertices for port in node._draft.spec.inports]
    if not outs or not ins:
        return
    for _ in range(draw(st.integers(0, 8))):
        source, target = draw(st.sampled_from(outs)), draw(st.sampled_from(ins))
        with suppress(DefinitionError):  # connected already
            if draw(st.integers(0, 4)):
                source.connect(target, batch=draw(st.sampled_from([None, None, 1, 3, "all"])))
            else:
                source.broadcast() >> target
    for index, port in enumerate(draw(st.lists(st.sampled_from(outs + ins), max_size=3))):
        graph.export(port, f"port{index}")
