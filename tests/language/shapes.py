"""Random acyclic graphs: how one is described, what it must give, and how it is built. Workers import this module.

A `Shape` is a list of steps. `expected` plays it with plain lists, one step after the other, and `build` makes
the graph of it. What a stream holds is always certain; in which order it comes is certain as long as one
sender at a time had a say in it. Where two such streams are merged, each keeps its own order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from cascata import Graph, In, Out, component, inport
from tests.engine.parts import Notes

__all__ = ["GROUPED", "PORTS", "Batch", "Edge", "Kind", "Shape", "Step", "Stream", "build", "expected", "problems"]

Kind = Literal["source", "pass", "filter", "repeat", "split", "zip", "with endless", "either", "sample"]
Batch = int | Literal["all"] | None

PORTS: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "source": ((), ("out",)),
    "pass": (("inp",), ("out",)),
    "filter": (("inp",), ("out",)),
    "repeat": (("inp",), ("out",)),
    "split": (("inp",), ("out", "rest")),
    "zip": (("inp", "other"), ("out",)),
    "with endless": (("inp",), ("out",)),
    "either": (("inp", "other"), ("out",)),
    "sample": (("inp", "other"), ("out",)),
}
"""In-ports and out-ports of each kind of node."""

GROUPED: frozenset[Kind] = frozenset({"pass", "filter", "repeat", "split"})
"""The kinds whose results do not depend on which member of a group has which item."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What feeds an in-port: an out-port of an earlier step, whole or in lists that the reader takes apart."""

    step: int
    port: str
    batch: Batch = None
    broadcast: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A node or a group. `number` is what it does things with: items of a source, a divisor, a count."""

    kind: Kind
    number: int = 0
    capacity: int = 100
    size: int | None = None
    ordered: bool = False
    feeds: dict[str, tuple[Edge, ...]] = field(default_factory=dict)
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A graph. `wrapped`: it runs as a subgraph of another one. `workers`: how many, where there are workers."""

    steps: tuple[Step, ...]
    wrapped: bool = False
    workers: int = 2

    def size_of(self, step: int) -> int | None:
        """Members of a step's group, or None."""
        return self.steps[step].size


# ── the model ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent on an out-port; whether its order is certain, or only that of each of the streams merged in it."""

    items: list[Any]
    certain: bool
    merged: tuple[list[Any], ...] = ()


def expected(shape: Shape) -> dict[tuple[int, str], Stream]:
    """What each out-port sends."""
    sent: dict[tuple[int, str], Stream] = {}
    for index, step in enumerate(shape.steps):
        came = {port: _come(shape, step, edges, sent) for port, edges in step.feeds.items()}
        keeps_order = step.size is None or step.ordered
        certain = all(each.certain for each in came.values()) and keeps_order
        items = {port: each.items for port, each in came.items()}
        merged = (
            [_played(step, index, {**items, "inp": each}) for each in came["inp"].merged]
            if keeps_order and came
            else []
        )
        for port, values in _played(step, index, items).items():
            # Which of two ports of a trigger was first is never certain; all that they send is the same, then.
            same = step.kind in {"either", "zip"}
            sent[index, port] = Stream(values, certain or same, () if same else tuple(each[port] for each in merged))
    return sent


def _come(shape: Shape, step: Step, edges: Sequence[Edge], sent: dict[tuple[int, str], Stream]) -> Stream:
    items: list[Any] = []
    for edge in edges:
        items += sent[edge.step, edge.port].items * ((step.size or 1) if edge.broadcast else 1)
    senders = [sent[edge.step, edge.port] for edge in edges]
    if any(edge.broadcast for edge in edges):
        return Stream(items, certain=False)
    if len(senders) == 1:
        return Stream(items, senders[0].certain, senders[0].merged)
    certain = [each for each in senders if each.certain]
    return Stream(items, certain=False, merged=tuple(each.items for each in certain) if certain == senders else ())


def _played(step: Step, index: int, came: dict[str, list[Any]]) -> dict[str, list[Any]]:
    inp, number = came.get("inp", []), step.number
    match step.kind:
        case "source":
            return {"out": [(index, each) for each in range(number)]}
        case "pass" | "sample" | "with endless":
            return {"out": inp}
        case "filter":
            return {"out": [each for each in inp if each[1] % number == 0]}
        case "repeat":
            return {"out": [each for each in inp for _ in range(number)]}
        case "split":
            return {
                "out": [each for each in inp if each[1] % number == 0],
                "rest": [each for each in inp if each[1] % number],
            }
        case "zip":  # what meets what may not be certain, so it sends the same for every pair
            return {"out": [(index, 0)] * min(len(inp), len(came["other"]))}
        case "either":
            return {"out": [(index, 0)] * (len(inp) + len(came["other"]))}


def problems(shape: Shape, kept: list[tuple[str, Any]]) -> list[str]:
    """What is wrong with what was kept of a run: pairs of "step.port" and item."""
    found = []
    by_port: dict[str, list[Any]] = {}
    for port, item in kept:
        by_port.setdefault(port, []).append(item)
    for (index, out), stream in expected(shape).items():
        port = f"{index}.{out}"
        items = by_port.pop(port, [])
        if stream.certain:
            if items != stream.items:
                found.append(f"{port}: {items} instead of {stream.items}")
        elif Counter(items) != Counter(stream.items):
            more, less = Counter(items) - Counter(stream.items), Counter(stream.items) - Counter(items)
            found.append(f"{port}: {dict(more)} too many, {dict(less)} missing")
        elif len(stream.merged) == 2 and not merges(items, *stream.merged):
            found.append(f"{port}: {items} does not keep the orders of {' and '.join(map(str, stream.merged))}")
    return found + [f"{port}: kept, and nobody sends on it" for port in by_port]


def merges(items: list[Any], left: list[Any], right: list[Any]) -> bool:
    """Whether a list is two others merged, each in its order. It has the items of both, and no others."""
    took = {0}  # how many of the left one may have been taken
    for count, item in enumerate(items):
        took = {
            *(each + 1 for each in took if each < len(left) and left[each] == item),
            *(each for each in took if count - each < len(right) and right[count - each] == item),
        }
    return bool(took)


# ── the graph ─────────────────────────────────────────────────────────────────────────────────────────────


def _flat(item: Any) -> list[Any]:
    return item if isinstance(item, list) else [item]


@component
async def Numbers(number: In[int], index: In[int], out: Out[Any]) -> None:
    for each in range(number):
        await out.send((index, each))


@component
async def Endless(out: Out[int]) -> None:
    each = 0
    while True:
        await out.send(each)
        each += 1


@component
async def KeepNamed(item: In[Any], name: In[str], notes: In[Notes]) -> None:
    notes.add((name, item))


@cache
def kind_of(kind: Kind, capacity: int) -> Any:  # one small component for each kind
    """The component of a kind whose in-ports have so much room."""
    one, other = inport("inp", capacity=capacity), inport("other", capacity=capacity)

    @component
    @one
    async def Pass(inp: In[Any], out: Out[Any]) -> None:
        for each in _flat(inp):
            await out.send(each)

    @component
    @one
    async def Filter(inp: In[Any], number: In[int], out: Out[Any]) -> None:
        for each in _flat(inp):
            if each[1] % number == 0:
                await out.send(each)

    @component
    @one
    async def Repeat(inp: In[Any], number: In[int], out: Out[Any]) -> None:
        for each in _flat(inp):
            for _ in range(number):
                await out.send(each)

    @component
    @one
    async def Split(inp: In[Any], number: In[int], out: Out[Any], rest: Out[Any]) -> None:
        for each in _flat(inp):
            await (rest if each[1] % number else out).send(each)

    @component
    @one
    @other
    async def Two(inp: In[Any], other: In[Any], index: In[int], out: Out[Any]) -> None:
        await out.send((index, 0))

    @component
    @one
    @other
    async def WithEndless(inp: In[Any], other: In[int], out: Out[Any]) -> None:
        await out.send(inp)

    @component
    @one
    @other
    async def Sample(inp: In[Any], other: In[Any], out: Out[Any]) -> None:
        await out.send(inp)

    kinds: dict[Kind, Any] = {
        "source": Numbers,
        "pass": Pass,
        "filter": Filter,
        "repeat": Repeat,
        "split": Split,
        "zip": Two,
        "with endless": WithEndless,
        "either": Two,
        "sample": Sample,
    }
    return kinds[kind]


def build(shape: Shape, notes: Notes, *, pins: bool) -> Graph:
    """The graph; each out-port is kept as "step.port"."""
    graph = Graph()
    for index, step in enumerate(shape.steps):
        made = kind_of(step.kind, step.capacity)
        node = graph.add(made if step.size is None else made * step.size, f"step_{index}")
        if step.kind in {"source", "filter", "repeat", "split"}:
            node.number < step.number
        if step.kind in {"source", "zip", "either"}:
            node.index < index
        if step.kind == "either":
            node.clk(node.inp, node.other)
        if step.kind == "sample":
            node.clk(node.inp)
            node.other < (index, 0)
        if step.kind == "with endless":
            graph.add(Endless, f"endless_{index}").out >> node.other
        if step.ordered:
            node.ordered()
        if pins and step.worker is not None:
            graph.pin(node, step.worker % shape.workers)
        for port, edges in step.feeds.items():
            for edge in edges:
                out = getattr(getattr(graph, f"step_{edge.step}"), edge.port)
                if edge.broadcast:
                    out.broadcast() >> getattr(node, port)
                else:
                    out.connect(getattr(node, port), batch=edge.batch)
        for out_name in PORTS[step.kind][1]:
            keeper = graph.add(KeepNamed, f"keep_{index}_{out_name}")
            keeper.name < f"{index}.{out_name}"
            keeper.notes < notes
            getattr(node, out_name) >> keeper.item
    if not shape.wrapped:
        return graph
    outer = Graph()
    outer.inner = graph
    return outer
