"""Runners in threads: what they yield goes to the loop in order, and a little ahead of what is sent."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cascata import Graph, In, Out, component, inport
from cascata.errors import ComponentError
from cascata.runtime.threads import AHEAD, CallThread, Handover
from tests.engine.parts import Count, Flag, Notes, keep

Options = dict[str, Any]


def unwilling(function: Any) -> Any:
    """A decorator whose wrapper raises before the generator is made."""

    @functools.wraps(function)
    def wrapper(*_: Any) -> Any:
        raise OSError("not today")

    return wrapper


@component(thread=True)
@unwilling
def Unwilling(number: Out[int]) -> Iterator[int]:
    """Would yield a number."""
    yield 1


@component(thread=True)
def Upto(upto: In[int], number: Out[int]) -> Iterator[int]:
    """Numbers below a number."""
    yield from range(upto)


def test_what_a_thread_yields_is_sent_in_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.upto = Upto
    graph.upto.upto < 5000
    keep(graph, graph.upto.number, notes)
    report = graph.run(**engine)
    assert notes.read() == [*range(5000)]
    assert report.nodes["upto"].sent == 5000


def test_a_thread_is_called_for_each_item_and_its_results_keep_their_order(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    graph.upto = Upto
    graph.count.number >> graph.upto.upto
    keep(graph, graph.upto.number, notes)
    graph.run(**engine)
    assert notes.read() == [number for upto in range(20) for number in range(upto)]


OPTIONS: list[dict[str, Any]] = [{"concurrency": 3}, {"retries": 1}, {"timeout": 30}, {"concurrency": 2, "retries": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_of_calls_hold_for_threads_that_yield(engine: Options, notes: Notes, options: dict[str, Any]) -> None:
    @component(thread=True, **options)
    def Below(upto: In[int], number: Out[int]) -> Iterator[int]:
        yield from range(upto)

    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    graph.below = Below
    graph.count.number >> graph.below.upto
    keep(graph, graph.below.number, notes)
    graph.run(**engine)
    assert notes.read() == [number for upto in range(20) for number in range(upto)]


def test_threads_that_yield_stand_in_an_ordered_group(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 20
    graph.upto = Upto * 2
    graph.upto.ordered()
    graph.count.number >> graph.upto.upto
    keep(graph, graph.upto.number, notes)
    graph.run(**engine)
    assert notes.read() == [number for upto in range(20) for number in range(upto)]


def test_what_a_thread_yielded_before_it_failed_is_sent(engine: Options, notes: Notes) -> None:
    @component(thread=True)
    def Breaks(number: Out[int]) -> Iterator[int]:
        yield from range(100)
        raise OSError("broken")

    graph = Graph()
    graph.breaks = Breaks
    keep(graph, graph.breaks.number, notes)
    with pytest.raises(ComponentError, match="broken"):
        graph.run(**engine)
    # All that were sent may not be handled when the failure ends the run; what is handled is right.
    assert notes.read() == [*range(len(notes.read()))]


def test_a_failure_comes_after_all_that_was_yielded_before() -> None:
    async def main() -> list[Any]:
        def breaks() -> Any:
            yield from range(100)
            raise OSError("broken")

        got: list[Any] = []
        handover = Handover(lambda: None)
        thread = CallThread("breaks")
        making = asyncio.ensure_future(thread.run(lambda: handover.fill(breaks)))
        while values := await handover.take():
            got += values
        with pytest.raises(OSError, match="broken"):
            await making
        await thread.close()
        return got

    assert asyncio.run(main()) == [*range(100)]


def test_a_generator_that_cannot_even_begin_is_an_error(engine: Options) -> None:
    graph = Graph()
    graph.unwilling = Unwilling
    with pytest.raises(ComponentError, match="not today"):
        graph.run(**engine, timeout=20)


def test_a_generator_in_a_thread_is_closed_when_nobody_reads_any_more(engine: Options, notes: Notes) -> None:
    @component(thread=True)
    def Forever(notes: In[Notes], number: Out[int]) -> Iterator[int]:
        number_ = 0
        try:
            while True:
                yield number_
                number_ += 1
        finally:
            notes.add(("closed in", threading.current_thread().name))

    @component
    async def Three(number: In[int], same: Out[int], seen: In[int] = 0) -> None:
        if number == 2:
            raise StopThere
        await same.send(number)

    graph = Graph()
    graph.forever = Forever
    graph.forever.notes < notes
    graph.three = Three
    graph.forever.number >> graph.three.number
    with pytest.raises(ComponentError, match="StopThere"):
        graph.run(**engine)
    assert notes.read() == [("closed in", "forever-0")]


class StopThere(Exception):
    """Ends a run."""


def test_a_thread_is_never_far_ahead_of_what_is_sent(notes: Notes) -> None:
    made: list[int] = []

    @component(thread=True)
    def Making(number: Out[int]) -> Iterator[int]:
        for each in range(2000):
            made.append(each)
            yield each

    @component
    @inport("number", capacity=1)
    async def Measures(number: In[int], notes: In[Notes]) -> None:
        notes.add(len(made) - number)

    graph = Graph()
    graph.making = Making
    graph.measures = Measures
    graph.measures.notes < notes
    graph.making.number >> graph.measures.number
    graph.run(engine="inline")  # where both see the same list
    ahead = notes.read()
    assert len(ahead) == 2000
    assert max(ahead) <= 2 * AHEAD + 3  # made and not taken, taken and not sent; one in the port, one in the making


def test_a_thread_that_is_slow_is_hardly_ahead(flags: list[Flag]) -> None:
    """A hundred large results in a list would fill the memory."""

    async def main() -> None:
        made = 0

        def slow() -> Any:
            nonlocal made
            for each in range(10):
                threading.Event().wait(0.005)
                made += 1
                yield each

        handover = Handover(lambda: None)
        thread = CallThread("slow")
        making = asyncio.ensure_future(thread.run(lambda: handover.fill(slow)))
        taken = 0
        while values := await handover.take():
            taken += len(values)
            await asyncio.sleep(0.012)  # in which two or three could be made
            assert made - taken <= 2
        await making
        await thread.close()
        assert taken == 10

    asyncio.run(main())


def test_what_was_yielded_counts_as_being_sent_until_the_taker_asks_for_more() -> None:
    async def main() -> None:
        rested: list[bool] = []
        go, put = threading.Event(), threading.Event()

        def twice() -> Any:
            yield 1
            put.set()
            go.wait(20)
            yield 2

        handover = Handover(lambda: rested.append(handover.sending))
        thread = CallThread("twice")
        making = asyncio.ensure_future(thread.run(lambda: handover.fill(twice)))
        assert handover.sending
        assert await handover.take() == [1]
        await asyncio.to_thread(put.wait, 20)
        assert handover.sending
        taking = asyncio.ensure_future(handover.take())
        await asyncio.sleep(0)
        assert rested[-1:] == [False]
        go.set()
        assert await taking == [2]
        assert handover.sending
        assert await handover.take() == []
        await making
        await thread.close()

    asyncio.run(main())
