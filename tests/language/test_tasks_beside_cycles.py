"""What runs beside a graph with feedback: a cycle waits for what its components began, and for nothing else."""

from __future__ import annotations

import asyncio
import sys
import time
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Final

import pytest

from cascata import Graph, In, Out, Stream, component
from tests.engine.parts import Each, Notes, keep

Options = dict[str, Any]
Send = Callable[[], Coroutine[Any, Any, None]]

LIMIT_S: Final = 10
"""Seconds after which a run that hangs is ended."""

PAUSE_S: Final = 0.03
"""Seconds after which something that a component began sends."""


def below(item: int, upto: int) -> list[int]:
    """The numbers that stand below another one in a binary tree."""
    return [child for child in (2 * item + 1, 2 * item + 2) if child < upto]


# -- the package's own tasks are no component's


@component
async def Walk(item: In[int], upto: In[int], found: Out[int], again: Out[int]) -> None:
    await found.send(item)
    for child in below(item, upto):
        await again.send(child)


@component(concurrency=3)
async def ConcurrentWalk(item: In[int], upto: In[int], found: Out[int], again: Out[int]) -> None:
    await found.send(item)
    for child in below(item, upto):
        await again.send(child)


@component
async def StreamWalk(item: Stream[int], upto: In[int], found: Out[int], again: Out[int]) -> None:
    async for each in item:
        await found.send(each)
        for child in below(each, upto):
            await again.send(child)


@component
async def SamplingWalk(item: In[int], upto: In[int], found: Out[int], again: Out[int]) -> None:
    await found.send(item)
    for child in below(item, upto):
        await again.send(child)


@component
async def SendsNothing(item: In[int], out: Out[int]) -> None:
    pass


def plain(graph: Graph) -> None:
    graph.walk = Walk
    graph.walk.upto < 40


def concurrent(graph: Graph) -> None:
    graph.walk = ConcurrentWalk
    graph.walk.upto < 40


def streaming(graph: Graph) -> None:
    graph.walk = StreamWalk
    graph.walk.upto < 40


def sampling(graph: Graph) -> None:
    graph.walk = SamplingWalk
    graph.limit = Each
    graph.limit.items < [40]
    graph.limit.item >> graph.walk.upto
    graph.walk.clk(graph.walk.item)


@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 2}], ids=["inline", "2 workers"])
@pytest.mark.parametrize("kind", [plain, concurrent, streaming, sampling])
def test_a_cycle_that_is_fed_from_outside_ends_however_its_node_takes_items(
    options: Options, notes: Notes, kind: Callable[[Graph], None]
) -> None:
    """Also when what feeds it has ended, its in-port has two channels of the cycle."""
    graph = Graph()
    kind(graph)
    graph.feed = Each
    graph.feed.items < [1, 2]
    graph.feed.item >> graph.walk.item
    graph.walk.again >> graph.walk.item
    graph.other = SendsNothing
    graph.walk.found >> graph.other.item
    graph.other.out >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    graph.run(**options, timeout=LIMIT_S)
    assert Counter(notes.read()) == Counter([*range(1, 40)])


def test_cycles_in_a_row_end_one_after_the_other(engine: Options, notes: Notes) -> None:
    graph = Graph()
    for name in ("first", "second", "third"):
        node = graph.add(Walk, name)
        node.again >> node.item
    graph.first.upto < 30
    graph.second.upto < 0
    graph.third.upto < 0
    graph.first.item < 0
    graph.first.found >> graph.second.item
    graph.second.found >> graph.third.item
    keep(graph, graph.third.found, notes)
    graph.run(**engine, timeout=LIMIT_S)
    assert sorted(notes.read()) == [*range(30)]


# -- what a component began is waited for


class Awaitable:
    """What is no coroutine: asyncio wraps its own around it."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def __await__(self) -> Generator[Any, Any, None]:
        return self.send().__await__()


@types.coroutine
def by_hand(send: Send) -> Generator[Any, Any, None]:
    yield from send().__await__()


def by_a_thread(send: Send) -> asyncio.Task[Any]:
    def then(_: object) -> None:
        kept.add(asyncio.ensure_future(send()))

    task = asyncio.create_task(asyncio.to_thread(time.sleep, PAUSE_S))
    task.add_done_callback(then)
    return task


async def in_a_group(send: Send) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(send())


async def left_open(send: Send) -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await send()


async def leave_open(send: Send) -> None:
    async for _ in left_open(send):
        break


BEGUN: Final[dict[str, Callable[[Send], Any]]] = {
    "a coroutine": lambda send: asyncio.create_task(send()),
    "an awaitable": lambda send: asyncio.ensure_future(Awaitable(send)),
    "a generator as a coroutine": lambda send: asyncio.ensure_future(by_hand(send)),
    "gather": lambda send: asyncio.gather(send()),
    "wait_for": lambda send: asyncio.create_task(asyncio.wait_for(send(), LIMIT_S)),
    "a task group": lambda send: asyncio.create_task(in_a_group(send)),
    "what follows a thread": by_a_thread,
    "the closing of an async generator": leave_open,
}

kept: set[Any] = set()


@component
async def WalkBehindTheBack(item: In[int], upto: In[int], how: In[str], found: Out[int], again: Out[int]) -> None:
    """Returns at once, and what it began sends later."""

    async def send() -> None:
        await asyncio.sleep(PAUSE_S)
        await found.send(item)
        for child in below(item, upto):
            await again.send(child)

    begun = BEGUN[how](send)
    if asyncio.iscoroutine(begun):
        await begun
    else:
        kept.add(begun)


@pytest.mark.parametrize("how", BEGUN)
def test_a_cycle_does_not_end_while_something_that_a_component_began_may_send(notes: Notes, how: str) -> None:
    graph = Graph()
    graph.walk = WalkBehindTheBack
    graph.walk.upto < 6
    graph.walk.how < how
    graph.walk.item < 0
    graph.walk.again >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    graph.run(engine="inline", timeout=LIMIT_S)
    kept.clear()
    assert sorted(notes.read()) == [*range(6)]


# -- a program that shares its loop with the run


def fed(notes: Notes) -> Graph:
    graph = Graph()
    plain(graph)
    graph.feed = Each
    graph.feed.items < [0]
    graph.feed.item >> graph.walk.item
    graph.walk.again >> graph.walk.item
    keep(graph, graph.walk.found, notes)
    return graph


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a task does not tell its context before")
def test_a_cycle_does_not_wait_for_tasks_that_the_program_makes_meanwhile(notes: Notes) -> None:
    async def serve() -> None:
        while True:  # there is always one that has just been made
            await asyncio.create_task(asyncio.sleep(0.05))

    async def main() -> None:
        serving = [asyncio.create_task(serve()) for _ in range(2)]
        try:
            await fed(notes).run_async(engine="inline", timeout=LIMIT_S)
        finally:
            for each in serving:
                each.cancel()

    asyncio.run(main())
    assert sorted(notes.read()) == [*range(40)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks before")
@pytest.mark.parametrize("how", ["a coroutine", "an awaitable"])
def test_a_cycle_ends_in_a_loop_whose_tasks_are_eager(notes: Notes, how: str) -> None:
    graph = fed(notes)
    graph.late = WalkBehindTheBack
    graph.late.upto < 6
    graph.late.how < how
    graph.late.item < 0
    graph.late.again >> graph.late.item
    keep(graph, graph.late.found, notes, "late_kept")

    async def main() -> None:
        factory: Any = vars(asyncio)["eager_task_factory"]
        asyncio.get_running_loop().set_task_factory(factory)
        await graph.run_async(engine="inline", timeout=LIMIT_S)

    asyncio.run(main())
    kept.clear()
    assert Counter(notes.read()) == Counter([*range(40), *range(6)])
