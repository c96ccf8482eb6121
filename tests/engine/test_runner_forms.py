"""Every form that a runner may have, on every engine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport, outport
from cascata.errors import ComponentError
from tests.engine.parts import Count, Notes, Pass, keep

Options = dict[str, Any]


@component
async def Sends(number: In[int], out: Out[int]) -> None:
    await out.send(number * 10)


@component
async def Returns(number: In[int], out: Out[int]) -> int:
    return number * 10


@component
async def Yields(number: In[int], out: Out[int]) -> AsyncIterator[int]:
    yield number * 10


@component
def PlainReturns(number: In[int], out: Out[int]) -> int:
    return number * 10


@component
def PlainYields(number: In[int], out: Out[int]) -> Iterator[int]:
    yield number * 10


@component
async def SendsAndReturns(number: In[int], out: Out[int]) -> int | None:
    if number % 2:
        return number * 10
    await out.send(number * 10)
    return None


@component
async def ReturnsAfterWaiting(number: In[int], out: Out[int]) -> int:
    await asyncio.sleep(0)
    return number * 10


async def later(number: int) -> int:
    return number * 10


@component
def ReturnsAwaitable(number: In[int], out: Out[int]) -> Awaitable[int]:
    return later(number)


@component
@outport("out")
@inport("number")
def Decorated(out, number):  # type: ignore[no-untyped-def]  # the out-port first, and no types
    return number * 10


@component
async def ByKeyword(*, out: Out[int], number: In[int], factor: In[int] = 10) -> None:
    await out.send(number * factor)


@component
async def Mixed(factor: In[int], out: Out[int], number: In[int], *, extra: In[int] = 0) -> None:
    await out.send(number * (factor or 10) + extra)


FORMS = [
    Sends,
    Returns,
    Yields,
    PlainReturns,
    PlainYields,
    SendsAndReturns,
    ReturnsAfterWaiting,
    ReturnsAwaitable,
    Decorated,
    ByKeyword,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda each: each.__name__)
def test_every_form_of_a_runner_sends(engine: Options, notes: Notes, form: Any) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 50
    graph.node = form
    graph.count.number >> graph.node.number
    keep(graph, graph.node.out, notes)
    report = graph.run(**engine)
    assert notes.read() == [number * 10 for number in range(50)]
    assert (report.nodes["node"].received, report.nodes["node"].sent) == (50, 50)


def test_parameters_are_matched_by_name_whatever_their_kind(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 5
    graph.node = Mixed
    graph.node.factor < 2
    graph.node.extra < 1
    graph.count.number >> graph.node.number
    keep(graph, graph.node.out, notes)
    graph.run(**engine)
    assert notes.read() == [1, 3, 5, 7, 9]


@component
def SeveralYields(number: In[int], out: Out[int]) -> Iterator[int]:
    yield from range(number)


def test_a_generator_sends_each_value_that_it_yields_none_included(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 4
    graph.several = SeveralYields
    graph.nones = YieldsNone
    graph.count >> graph.several >> graph.nones
    keep(graph, graph.nones.out, notes)
    graph.run(**engine)
    assert notes.read() == [None, 0, None, 0, None, 1, None, 0, None, 1, None, 2]


@component
async def YieldsNone(number: In[int], out: Out[int | None]) -> AsyncIterator[int | None]:
    yield None
    yield number


@component
async def ReturnsNone(number: In[int], out: Out[int]) -> int | None:
    return None if number % 2 else number


def test_none_that_is_returned_is_not_sent(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 6
    graph.node = ReturnsNone
    graph.count >> graph.node
    keep(graph, graph.node.out, notes)
    graph.run(**engine)
    assert notes.read() == [0, 2, 4]


@component
async def SourceReturns(out: Out[str]) -> str:
    return "once"


@component
def SourceYields(out: Out[str]) -> Iterator[str]:
    yield from ("one", "two")


def test_a_source_may_return_or_yield(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.returns = SourceReturns
    graph.yields = SourceYields
    keep(graph, graph.returns.out, notes, "keep_returned")
    keep(graph, graph.yields.out, notes, "keep_yielded")
    graph.run(**engine)
    kept = notes.read()
    assert sorted(kept) == ["once", "one", "two"]
    assert kept.index("one") < kept.index("two")


@component
async def ReturnsWithTwoPorts(number: In[int], left: Out[int], right: Out[int]) -> int | None:
    if number == 3:
        return number
    await left.send(number)
    return None


def test_a_value_that_is_returned_with_two_out_ports_is_an_error(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 10
    graph.node = ReturnsWithTwoPorts
    graph.count.number >> graph.node.number
    keep(graph, graph.node.left, notes)
    with pytest.raises(ComponentError, match="2 out-ports") as caught:
        graph.run(**engine)
    assert (caught.value.node, caught.value.item) == ("node", "3")


@component
async def SpawnsTasks(number: In[int], out: Out[int]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in range(3):
            tasks.create_task(out.send(number * 3 + each))


def test_a_runner_may_use_tasks_of_its_own(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.spawns = SpawnsTasks
    graph.count >> graph.spawns
    keep(graph, graph.spawns.out, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == [*range(300)]


def test_a_component_that_was_made_inside_a_function_runs_with_its_closure(engine: Options, notes: Notes) -> None:
    offset = 100

    @functools.cache
    def shifted(number: int) -> int:
        return number + offset

    @component
    async def Local(number: In[int], out: Out[int]) -> None:
        await out.send(shifted(number))

    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.node = Local
    graph.passes = Pass
    graph.count >> graph.node >> graph.passes
    keep(graph, graph.passes.same, notes)
    graph.run(**engine)
    assert notes.read() == [100, 101, 102]
