"""Declaring in-ports that a runner reads itself, wrong declarations, and trying such a component on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cascata import Graph, In, Out, Stream, component, inport
from cascata.dsl import registry
from cascata.errors import ComponentError, DeadlockError, DefinitionError
from cascata.model import MISSING
from tests.components.helpers import InPairs, InPairsByThread, InPairsDecorated
from tests.engine.parts import Count

PAIRING = pytest.mark.parametrize("pairing", [InPairs, InPairsByThread, InPairsDecorated], ids=lambda c: c.spec.name)


def test_both_styles_declare_the_same_stream() -> None:
    for declared in (InPairs, InPairsDecorated):
        (port,) = declared.spec.inports
        assert (port.name, port.stream, port.default) == ("items", True, MISSING)
    assert InPairs.spec.inports[0].type is int
    assert InPairsDecorated.spec.inports[0].capacity == 3
    assert "items: int (stream, capacity 100)" in repr(registry[InPairs.spec.module, "InPairs"])


def test_options_may_stand_above_an_annotated_stream() -> None:
    @component
    @inport("items", capacity=7)
    async def Seven(items: Stream[str]) -> None: ...

    (port,) = Seven.spec.inports
    assert (port.type, port.capacity, port.stream) == (str, 7, True)


def test_an_annotation_that_cannot_be_resolved_is_a_stream_all_the_same() -> None:
    @component
    async def Unknown(items: Stream[Missing], other: Stream) -> None: ...  # type: ignore[name-defined,type-arg]  # noqa: F821

    assert [(port.stream, port.type) for port in Unknown.spec.inports] == [(True, Any), (True, Any)]


def test_the_type_of_the_items_is_checked_on_connect() -> None:
    @component
    async def Texts(items: Stream[str]) -> None: ...

    graph = Graph()
    graph.count = Count
    graph.texts = Texts
    with pytest.raises(TypeError, match=r"count.number sends int, and texts.items takes str"):
        graph.count.number >> graph.texts.items


def refused(*parts: str) -> Any:
    return pytest.raises(DefinitionError, match=".*".join(parts))


def test_a_stream_in_a_plain_function_says_what_to_write() -> None:
    with refused("@component of total", "'items' is a stream", "async for item in items", "thread=True"):

        @component
        def total(items: Stream[int], out: Out[int]) -> int:
            return 0


@pytest.mark.parametrize(("option", "value"), [("concurrency", 2), ("retries", 1), ("timeout", 1.0)])
def test_options_of_single_calls_are_refused_for_streams(option: str, value: Any) -> None:
    with refused("@component of total", f"option '{option}'", "'items' is a stream", r"items: In\[...\]"):

        @component(**{option: value})
        async def total(items: Stream[int]) -> None: ...


def test_a_stream_has_no_default() -> None:
    with refused("@component of total", "'items' is a stream and has a default", "3"):

        @component
        @inport("items", stream=True, default=3)
        async def total(items: Any) -> None: ...


def test_a_stream_and_a_single_item_cannot_be_declared_together() -> None:
    with refused("'items' is declared as a stream above the function", r"items: Stream\[...\]"):

        @component
        @inport("items", stream=True)
        async def total(items: In[int]) -> None: ...


@pytest.mark.parametrize("method", ["clk", "sync"])
def test_a_stream_triggers_nothing(method: str) -> None:
    graph = Graph()
    graph.pairs = InPairs
    with refused(f"pairs.{method}", "reads this stream itself"):
        getattr(graph.pairs, method)(graph.pairs.items)


def test_a_stream_that_nothing_feeds_is_found_by_the_check() -> None:
    graph = Graph()
    graph.pairs = InPairs
    with pytest.raises(DeadlockError, match=r"pairs\.items: nothing feeds this in-port"):
        graph.check()


def test_a_plain_for_over_a_stream_says_what_to_write() -> None:
    @component
    async def Wrong(items: Stream[int]) -> None:
        for _ in items:
            pass

    graph = Graph()
    graph.wrong = Wrong
    graph.wrong.items < 1
    with pytest.raises(ComponentError, match=r"TypeError: <stream wrong\.items> is read by `async for`"):
        graph.run(engine="inline")


@PAIRING
def test_a_trial_takes_an_iterable_of_items(pairing: Any) -> None:
    assert pairing.test(items=range(3)) == {"pair": [[0, 1], [2]]}
    assert pairing.test(items=[]) == {"pair": []}
    with pytest.raises(TypeError, match="'items' is a stream, and 3 is no iterable"):
        pairing.test(items=3)


def test_a_trial_takes_an_asynchronous_iterable_and_bounds_its_waits() -> None:
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    @component
    async def Impatient(items: Stream[int], out: Out[Any]) -> None:
        await out.send(await items.next(20))
        try:
            await items.next(0.001)
        except TimeoutError:
            await out.send("late")

    assert Impatient.test(items=slow()) == {"out": [1, "late"]}
