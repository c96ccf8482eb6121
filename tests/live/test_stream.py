"""`graph.stream` and `graph.astream`: any iterables in, results out."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

import pytest

from cascata import Graph, Sink, Source
from cascata.errors import ComponentError, DefinitionError, RunTimeout, WorkerDied
from tests.engine.parts import Flag, Notes
from tests.live.parts import Asked, Double, Gate, Held, Killed, Picky, doubling, through


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


class Mine(Exception):
    """Raised by what feeds a source."""


def raising(after: int) -> Iterator[int]:
    yield from range(after)
    raise Mine("my own")


async def raising_async(after: int) -> AsyncIterator[int]:
    for number in range(after):
        yield number
    raise Mine("my own")


class Breaking:
    """Gives two items, sync and async, then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.given = 0

    def __next__(self) -> int:
        if self.given == 2:
            raise self.error
        self.given += 1
        return self.given


class BreakingSync(Breaking):
    def __iter__(self) -> BreakingSync:
        return self


class BreakingAsync(Breaking):
    def __aiter__(self) -> BreakingAsync:
        return self

    async def __anext__(self) -> int:
        return next(self)


class NeverBegins:
    """Cannot be iterated over, though it looks so."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Iterator[int]:
        raise self.error


async def breaking(error: BaseException) -> AsyncIterator[int]:
    yield 1
    raise error


class Hard(BaseException):
    """No `Exception`."""


RAISED = (ValueError, GeneratorExit, StopAsyncIteration, KeyboardInterrupt, SystemExit, asyncio.CancelledError, Hard)
"""What an iterable may raise. `StopIteration` is how a sync one ends, and `StopAsyncIteration` an async one."""


def two_by_two() -> Graph:
    graph = Graph()
    graph.left, graph.right = Source(), Source()
    graph.double, graph.twice = Double, Double
    graph.low, graph.high = Sink(), Sink()
    graph.left.out >> graph.double.x
    graph.right.out >> graph.twice.x
    graph.double.y >> graph.low.inp
    graph.twice.y >> graph.high.inp
    return graph


@pytest.mark.parametrize(
    "items", [range(250), [*range(250)], iter(range(250)), numbers(250)], ids=lambda i: type(i).__name__
)
def test_a_stream_takes_any_iterable(items: Any) -> None:
    assert list(doubling().stream(items, engine="inline")) == list(range(0, 500, 2))


def test_a_stream_needs_no_asyncio_and_can_be_made_again(engine: dict[str, Any]) -> None:
    graph = doubling()
    assert list(graph.stream(iter(range(1000)), **engine)) == list(range(0, 2000, 2))
    assert list(graph.stream(numbers=[1, 2], **engine)) == [2, 4]


def test_sources_are_named_and_several_sinks_give_pairs(engine: dict[str, Any]) -> None:
    graph = two_by_two()
    pairs = list(graph.stream(left=range(300), right=numbers(3), **engine))
    assert [value for name, value in pairs if name == "low"] == list(range(0, 600, 2))
    assert [value for name, value in pairs if name == "high"] == [0, 2, 4]

    async def main() -> list[Any]:
        return [pair async for pair in graph.astream(left=[1], right=[2], **engine)]

    assert sorted(asyncio.run(main())) == [("high", 4), ("low", 2)]


def test_a_stream_works_where_a_loop_runs(engine: dict[str, Any]) -> None:
    """As in a notebook."""

    async def cell() -> list[int]:
        return list(doubling().stream(range(5), **engine))

    assert asyncio.run(cell()) == [0, 2, 4, 6, 8]


def test_a_graph_without_sinks_runs_to_its_end(engine: dict[str, Any], notes: Notes) -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.asked = Asked
    graph.asked.notes < notes
    graph.numbers.out >> graph.asked.x
    assert list(graph.stream(range(20), **engine)) == []
    assert notes.read() == list(range(20))


def test_breaking_out_of_a_loop_leaves_nothing(engine: dict[str, Any], notes: Notes) -> None:
    graph = through(Held)
    graph.node.state < (notes, "held")
    for value in graph.stream(itertools.count(), **engine):
        if value == 30:
            break
    assert notes.read() == [("held", "made"), ("held", "torn down")]


def test_what_nobody_began_never_ran_and_what_nobody_holds_is_cancelled(engine: dict[str, Any]) -> None:
    begun = []

    def items() -> Iterator[int]:
        begun.append(True)
        yield from itertools.count()

    doubling().stream(items(), **engine)
    assert not begun
    stream = doubling().stream(items(), **engine)
    assert next(stream) == 0
    del stream
    gc.collect()
    with closing(doubling().stream(items(), **engine)) as stream:
        assert next(stream) == 0


def test_an_interrupt_in_the_loops_body_leaves_nothing(engine: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        for value in doubling().stream(itertools.count(), **engine):
            if value == 10:
                raise KeyboardInterrupt


def test_what_an_iterable_raises_reaches_the_caller_as_it_is(engine: dict[str, Any]) -> None:
    async def main() -> None:
        for items in (raising(5), raising_async(5)):
            with pytest.raises(Mine, match="my own"):
                async for _ in doubling().astream(items, **engine):
                    pass

    for items in (raising(5), raising_async(5)):
        with pytest.raises(Mine, match="my own"):
            list(doubling().stream(items, **engine))
    asyncio.run(main())


def test_a_failure_of_the_graph_reaches_the_caller(engine: dict[str, Any]) -> None:
    got = []
    with pytest.raises(ComponentError, match="not 13") as caught:
        for value in through(Picky).stream(itertools.count(), **engine):
            got.append(value)  # noqa: PERF402  # what came before the error counts
    assert got == list(range(0, 26, 2))[: len(got)]
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_killed_worker_ends_the_stream(workers: dict[str, Any]) -> None:
    with pytest.raises(WorkerDied, match="SIGKILL"):
        list(through(Killed).stream(itertools.count(), **workers))


def test_a_timeout_of_the_run_tells_what_everybody_did(engine: dict[str, Any], flags: list[Flag]) -> None:
    graph = through(Gate)
    graph.node.flag < flags[0]
    with pytest.raises(RunTimeout, match=r"numbers: .*results: "):
        list(graph.stream([1], timeout=0.3, **engine))


@pytest.mark.parametrize("leave", ["break", "aclosing", "cancel"])
def test_an_async_stream_that_is_left_early_leaves_nothing(engine: dict[str, Any], leave: str) -> None:
    async def main() -> None:
        stream = doubling().astream(itertools.count(), **engine)
        if leave == "aclosing":
            async with aclosing(stream) as values:
                async for value in values:
                    if value == 20:
                        break
        elif leave == "break":
            async for value in stream:
                if value == 20:
                    break
        else:
            got = asyncio.Event()

            async def read() -> None:
                async for _ in stream:
                    got.set()

            reading = asyncio.ensure_future(read())
            await got.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    asyncio.run(main())


def test_an_iterable_that_blocks_does_not_block_the_loop(engine: dict[str, Any]) -> None:
    beaten = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert beaten.wait(20)  # set by the loop's heart: who blocks the loop never comes further
        yield 2

    async def main() -> None:
        beats = 0

        async def heart() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0)
                beats += 1
                if beats == 100:
                    beaten.set()

        stream = doubling().astream(items(), **engine)
        assert await anext(stream) == 2
        beating = asyncio.ensure_future(heart())
        assert [value async for value in stream] == [4]
        beating.cancel()

    asyncio.run(main())


def test_an_iterable_that_blocks_for_ever_does_not_keep_the_stream_from_ending() -> None:
    released = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        released.wait(20)

    async def main() -> None:
        async with aclosing(doubling().astream(items(), engine="inline")) as values:
            assert await anext(values) == 2

    asyncio.run(main())
    (blocked,) = [thread for thread in threading.enumerate() if thread.name == "cascata-numbers"]
    released.set()
    blocked.join()


def test_a_stream_is_bounded(engine: dict[str, Any]) -> None:
    given = 0

    def items() -> Iterator[int]:
        nonlocal given
        for number in itertools.count():
            given = number
            yield number

    with closing(doubling().stream(items(), **engine)) as stream:
        for _ in range(100):
            next(stream)
    assert given < 2000


def test_wrong_arguments_are_told_at_once() -> None:
    one, two = doubling(), two_by_two()
    with pytest.raises(DefinitionError, match=r"nothing feeds right.*left=…, right=…"):
        two.stream(left=[])
    with pytest.raises(DefinitionError, match=r"one source.*this graph has 2: write `graph.stream\(left=…, right=…\)`"):
        two.stream([])
    with pytest.raises(DefinitionError, match=r"no source 'number'.*Did you mean 'numbers'"):
        one.astream(number=[])
    with pytest.raises(DefinitionError, match="'numbers' is no iterable: int"):
        one.stream(5)  # type: ignore[call-overload]  # that is the question
    with pytest.raises(DefinitionError, match="'num_workers' must be"):
        one.stream([], num_workers=0)
    with pytest.raises(DefinitionError, match="nothing feeds numbers"):
        one.stream()


def checked_streams(engine: dict[str, Any], error: type[BaseException], make: Any) -> None:
    graph = doubling()
    with pytest.raises(error):
        list(graph.stream(make(error("mine")), **engine))

    async def main() -> None:
        with pytest.raises(
            RuntimeError if error is StopAsyncIteration else error
        ):  # PEP 525: no generator may raise it
            [value async for value in graph.astream(make(error("mine")), **engine)]

    asyncio.run(main())


@pytest.mark.parametrize("error", RAISED)
def test_whatever_an_iterable_raises_is_raised_by_the_stream(error: type[BaseException]) -> None:
    """The run never ends as if the data were complete."""
    for make in (BreakingSync, NeverBegins, BreakingAsync, breaking):
        if error is StopAsyncIteration and make in (BreakingAsync, breaking):
            continue
        checked_streams({"engine": "inline"}, error, make)


def test_whatever_an_iterable_raises_is_raised_on_every_engine(engine: dict[str, Any]) -> None:
    for error in (GeneratorExit, KeyboardInterrupt, asyncio.CancelledError):
        checked_streams(engine, error, BreakingSync)
    checked_streams(engine, GeneratorExit, breaking)


def test_an_async_iterable_that_raises_stop_iteration_has_not_ended() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(doubling().stream(BreakingAsync(StopIteration()), engine="inline"))
