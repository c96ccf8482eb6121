"""Random graphs for calls, and what each call may get by them. Workers import this module: no pytest here.

An item is the number of its call and the way that it came: `(7, "7.a.b")`. What a node drops, or fails at, depends on
its name and on the number alone. So what a call may get is told by a model that looks at this call only.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any
from zlib import crc32

from cascata import BlockingOut, Failure, Graph, In, Out, Sink, Source, State, Stream, component, inport, outport
from cascata.components import (
    Batch,
    CollectToList,
    Delay,
    Distinct,
    Filter,
    FlatMap,
    Map,
    Merge,
    RateLimit,
    TimeWindow,
    Window,
    ZipLatest,
)

__all__ = ["Passing", "build", "outcomes", "passing"]

Item = tuple[int, str]


def chosen(name: str, number: int, of: int) -> bool:
    """One in so many, always the same ones."""
    return crc32(f"{name}:{number}".encode()) % of == 0


def onward(item: Item, name: str) -> Item:
    """The item behind a node."""
    return item[0], f"{item[1]}.{name}"


async def a_while() -> None:
    if random.random() < 0.5:
        await asyncio.sleep(random.random() * 0.002)


@component
async def Plain(x: In[Any], y: Out[Item], name: In[str]) -> None:
    await a_while()
    await y.send(onward(x, name))


@component
@outport("y")
def Returns(x: In[Any], name: In[str]) -> Item:
    return onward(x, name)


@component
@outport("y")
async def Yields(x: In[Any], name: In[str]) -> AsyncIterator[Item]:
    await a_while()
    yield onward(x, name)
    yield onward(x, name)


@component(thread=True)
@inport("x", capacity=4)
def InThread(x: In[Any], y: BlockingOut[Item], name: In[str]) -> None:
    time.sleep(random.random() * 0.0005)
    y.send(onward(x, name))


@component(thread=True)
@outport("y")
def YieldsInThread(x: In[Any], name: In[str]) -> Iterator[Item]:
    yield onward(x, name)


@component(concurrency=8)
async def AtOnce(x: In[Any], y: Out[Item], name: In[str]) -> None:
    await a_while()
    await y.send(onward(x, name))


@component(concurrency=8, ordered=False)
@inport("x", capacity=3)
async def AtOnceAnyhow(x: In[Any], y: Out[Item], name: In[str]) -> None:
    await a_while()
    await y.send(onward(x, name))


@component
async def Children(x: In[Any], y: Out[Item], name: In[str]) -> None:
    """Sends from tasks that it waits for."""

    async def child() -> None:
        await a_while()
        await y.send(onward(x, name))

    await asyncio.gather(child(), child())


@component(retries=2, backoff=0.0)
async def SecondTry(x: In[Any], y: Out[Item], name: In[str], seen: State[set[int]] = State(set)) -> None:
    await y.send(onward(x, name))
    if x[0] not in seen.value:
        seen.value.add(x[0])
        raise ValueError("the first time")


@component(timeout=30, concurrency=4)
async def InTime(x: In[Any], y: Out[Item], name: In[str]) -> None:
    await a_while()
    await y.send(onward(x, name))


@component
async def Drops(x: In[Any], y: Out[Item], name: In[str], count: State[dict[str, int]] = State(dict)) -> None:
    await a_while()
    if chosen(name, x[0], 4):
        count.value["dropped"] = count.value.get("dropped", 0) + 1
    else:
        await y.send(onward(x, name))


@component
async def Fails(x: In[Any], y: Out[Item], name: In[str]) -> None:
    await a_while()
    if chosen(name, x[0], 6):
        raise ValueError(f"{x[1]} fails at {name}")
    await y.send(onward(x, name))


@component
async def Mends(x: In[Failure], y: Out[Item]) -> None:
    item = x.item if type(x.item) is tuple else x.item["x"]
    await y.send(onward(item, "mended"))


@component(keeps=False)
async def Reads(x: Stream[Item], y: Out[Item], name: In[str]) -> None:
    async for item in x:
        await y.send(onward(item, name))


@component
@inport("x", capacity=5_000)  # what goes round never has to wait for room, which would take its time
async def Round(x: In[Any], y: Out[Item], back: Out[Item], name: In[str]) -> None:
    """Goes round a cycle twice."""
    item = onward(x, name)
    await (back if item[1].count(f".{name}") < 3 else y).send(item)


@component
async def Zips(x: In[Any], other: In[Any], y: Out[Item], name: In[str]) -> None:
    await a_while()
    await y.send((x[0], f"({x[1]}&{other[1]}).{name}"))


@component
async def Logs(x: In[Any], name: In[str]) -> None:
    """A side branch: nothing of it comes to the sink."""


@component
async def KeepsStream(x: Stream[Item], y: Out[Item]) -> None:
    before: Item | None = None
    async for item in x:
        if before is not None:
            await y.send(before)
        before = item


@component
async def Samples(x: In[Any], other: In[Any], y: Out[Item]) -> None:
    await y.send(other)


OWN = {
    each.__name__: each
    for each in (
        *(Plain, Returns, Yields, InThread, YieldsInThread, AtOnce, AtOnceAnyhow, Children, SecondTry, InTime, Drops),
        *(Fails, Reads, Round, Zips),
    )
}
GROUPED = ("Plain", "Returns", "Yields", "AtOnceAnyhow", "Children", "Drops", "Fails", "SecondTry")
READY = ("Map", "Filter", "FlatMap", "Merge", "Distinct", "RateLimit")
REFUSED = (
    "Batch",
    "Window",
    "TimeWindow",
    "CollectToList",
    "Delay",
    "ZipLatest",
    "KeepsStream",
    "Samples",
    "edge",
    "all",
)


@dataclass(frozen=True)
class Step:
    """A node, or a group, and the steps that feed it: -1 is the source."""

    kind: str
    feeds: tuple[int, ...]
    other: tuple[int, ...] = ()
    size: int = 1
    ordered: bool = False
    mended: bool = False

    @property
    def refused(self) -> bool:
        return self.kind in REFUSED


@dataclass(frozen=True)
class Passing:
    """A graph: its steps, and what becomes of the results of those that nobody reads."""

    steps: tuple[Step, ...]
    logged: frozenset[int] = field(default_factory=frozenset)

    def name(self, index: int) -> str:
        return f"{self.steps[index].kind.lower()}{index}x"

    @property
    def leaves(self) -> list[int]:
        fed = {each for step in self.steps for each in (*step.feeds, *step.other)}
        return [index for index in range(len(self.steps)) if index not in fed]

    @property
    def ends(self) -> list[int]:
        """The steps that feed the sink."""
        return [each for each in self.leaves if each not in self.logged] or [self.leaves[-1]]

    @property
    def leading(self) -> set[int]:
        """The steps from which something comes to the sink."""
        leading = set(self.ends)
        for index in reversed(range(len(self.steps))):
            if index in leading:
                leading |= {*self.steps[index].feeds, *self.steps[index].other}
        return leading

    @property
    def refused(self) -> list[str]:
        """The nodes on the way to the sink that may mix calls."""
        return [self.name(index) for index in sorted(self.leading) if index >= 0 and self.steps[index].refused]


def passing(rng: random.Random) -> Passing:
    """A random graph of 1 to 8 steps; one in five has one that must be refused."""
    count = rng.randint(1, 8)
    wrong = rng.randrange(count) if rng.random() < 0.2 else None
    steps: list[Step] = []
    unread: list[int] = [-1]

    def feed(most: int) -> tuple[int, ...]:
        found = {rng.choice(unread) if rng.random() < 0.7 else rng.randrange(-1, len(steps)) for _ in range(most)}
        return tuple(sorted(found))

    for index in range(count):
        kind = rng.choice(REFUSED) if index == wrong else rng.choice([*OWN, *OWN, *READY, "Zips", "Fails", "Drops"])
        feeds = feed(rng.choice((1, 1, 2)))
        other = feed(1) if kind in ("Zips", "ZipLatest", "Samples") else ()
        size = rng.choice((1, 2, 3 + index)) if kind in GROUPED else 1
        ordered = (
            size > 2 and kind != "AtOnceAnyhow"
        )  # no two of a size: those would be wired member to member, which an ordered one cannot be
        steps.append(Step(kind, feeds, other, size, ordered, kind == "Fails" and rng.random() < 0.5))
        unread = [each for each in unread if each not in (*feeds, *other)] + [index]
    shape = Passing(tuple(steps))
    return Passing(shape.steps, frozenset(each for each in shape.leaves[:-1] if rng.random() < 0.3))


# -- the graph


def build(shape: Passing) -> Graph:
    graph = Graph()
    graph.source, graph.sink = Source(), Sink()
    outs: dict[int, list[Any]] = {-1: [graph.source.out]}
    for index, step in enumerate(shape.steps):
        name = shape.name(index)
        port, out = _add(graph, name, step)
        for feed in step.feeds:
            for each in outs[feed]:
                if step.kind in ("edge", "all"):
                    each.connect(port, batch=8 if step.kind == "edge" else "all")
                else:
                    each >> port
        for feed in step.other:
            for each in outs[feed]:
                each >> (graph.nodes[name].latest if step.kind == "ZipLatest" else graph.nodes[name].other)
        if step.kind == "Samples":
            graph.nodes[name].clk(graph.nodes[name].x)
        outs[index] = [out]
        if step.mended:
            mends = f"{name}mends"
            graph.add(Mends, mends)
            getattr(graph, name).errors >> graph.nodes[mends].x
            outs[index].append(graph.nodes[mends].y)
    for index in shape.leaves:
        for each in outs[index]:
            if index in shape.ends:
                each >> graph.sink.inp
            else:
                graph.add(Logs, f"logs{index}x")
                graph.nodes[f"logs{index}x"].name < "logs"
                each.connect(graph.nodes[f"logs{index}x"].x, batch=3)
    return graph


def _add(graph: Graph, name: str, step: Step) -> tuple[Any, Any]:
    """Adds the node of a step. Returns the in-port that its feeds go to, and its out-port."""
    kind = step.kind
    if kind in OWN:
        setattr(graph, name, OWN[kind] * step.size if step.size > 1 else OWN[kind])
        node = getattr(graph, name)
        node.name < name
        if step.ordered:
            node.ordered()
        if kind == "Round":
            node.back >> node.x
        return node.x, node.y
    if kind in ("KeepsStream", "Samples"):
        node = graph.add({"KeepsStream": KeepsStream, "Samples": Samples}[kind], name)
        return node.x, node.y
    ready: dict[str, Any] = {
        **{each.__name__: each for each in (Batch, Window, TimeWindow, CollectToList, Delay, ZipLatest)},
        **{each.__name__: each for each in (Map, Filter, FlatMap, Merge, Distinct, RateLimit)},
        "edge": Map,
        "all": Map,
    }
    node = graph.add(ready[kind], name)
    if kind in ("Map", "edge", "all"):
        node.fn < _Onward(name)
    elif kind == "FlatMap":
        node.fn < _Twice(name)
    elif kind == "Filter":
        node.fn < _Passes(name)
    elif kind == "Distinct":
        node.key < itemgetter(0)
    elif kind == "RateLimit":
        node.per_second < 5_000
    elif kind in ("Batch", "Window"):
        node.size < 2
    elif kind in ("TimeWindow", "Delay"):
        node.seconds < 0.01
    return node.inp, node.out


class _Onward:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, item: Item) -> Any:
        return onward(item, self.name)


class _Twice(_Onward):
    def __call__(self, item: Item) -> list[Item]:
        return [onward(item, self.name)] * 2


class _Passes(_Onward):
    def __call__(self, item: Item) -> bool:
        return not chosen(self.name, item[0], 5)


# -- the model


def outcomes(shape: Passing, number: int) -> tuple[frozenset[Item], bool, bool]:
    """The answers that a call may get, whether it may fail, and whether it may get nothing."""
    results: dict[int, set[Item]] = {-1: {(number, str(number))}}
    failed = failed_on_the_way = False
    leading = shape.leading
    for index, step in enumerate(shape.steps):
        name, kind = shape.name(index), step.kind
        came = set().union(*(results[each] for each in step.feeds))
        if kind == "Zips":
            others = set().union(*(results[each] for each in step.other))
            results[index] = {(number, f"({left[1]}&{right[1]}).{name}") for left in came for right in others}
            continue
        if kind == "Fails" and came and chosen(name, number, 6):
            failed = failed or not step.mended
            failed_on_the_way = failed_on_the_way or (not step.mended and index in leading)
            results[index] = {onward(item, "mended") for item in came} if step.mended else set()
        elif kind == "Drops" and chosen(name, number, 4):
            results[index] = set()
        elif kind == "Filter":
            results[index] = set() if chosen(name, number, 5) else came
        elif kind in ("Merge", "Distinct", "RateLimit"):
            results[index] = came
        elif kind == "Round":
            results[index] = {onward(onward(onward(item, name), name), name) for item in came}
        else:
            results[index] = {onward(item, name) for item in came}
    answers = frozenset().union(*(results[each] for each in shape.ends))
    return answers, failed, not (answers or failed_on_the_way)
