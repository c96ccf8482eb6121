"""`await live.call(value)`: the answer to this very item, or its own error."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import BlockingOut, CascataError, Failure, Graph, In, Out, Sink, Source, State, Stream, component, outport
from cascata.errors import ChannelClosed, ComponentError, NoAnswer, SerializationError, WorkerDied
from tests.engine.parts import Flag
from tests.live.parts import Double, Gate, Killed, Picky, doubling, through


@component
async def Jumbled(x: In[int], y: Out[int]) -> None:
    """Doubles; the later an item, the sooner, perhaps."""
    await asyncio.sleep(random.random() * 0.003)
    await y.send(2 * x)


@component(concurrency=8, ordered=False)
async def AtOnce(x: In[int], y: Out[int]) -> None:
    await asyncio.sleep(random.random() * 0.003)
    await y.send(2 * x)


@component(concurrency=4)
@outport("y")
async def AtOnceInOrder(x: In[int]) -> int:
    await asyncio.sleep(random.random() * 0.003)
    return 2 * x


@component(thread=True)
def InThread(x: In[int], y: BlockingOut[int]) -> None:
    y.send(2 * x)


@component(thread=True)
@outport("y")
def YieldsInThread(x: In[int]) -> Iterator[int]:
    yield 2 * x


@component
@outport("y")
async def Yields(x: In[int]) -> AsyncIterator[int]:
    yield 2 * x


@component
@outport("y")
def Returns(x: In[int]) -> int:
    return 2 * x


@component(retries=2, backoff=0.0)
async def SecondTry(x: In[int], y: Out[int], seen: State[set[int]] = State(set)) -> None:
    await y.send(2 * x)
    if x not in seen.value:
        seen.value.add(x)
        raise ValueError("the first time")


@component(timeout=30)
async def InTime(x: In[int], y: Out[int]) -> None:
    await y.send(2 * x)


@component(keeps=False)
async def Reads(x: Stream[int], y: Out[int]) -> None:
    async for each in x:
        await asyncio.sleep(0)
        await y.send(2 * each)


@component(thread=True, keeps=False)
def ReadsInThread(x: Stream[int], y: BlockingOut[int]) -> None:
    for each in x:
        y.send(2 * each)


@component
async def Odd(x: In[int], y: Out[int]) -> None:
    """Sends the double of odd numbers, and nothing for the others."""
    if x % 2:
        await y.send(2 * x)


@component
async def Twice(x: In[int], y: Out[int]) -> None:
    await y.send(2 * x)
    await y.send(-1)


@component
async def Both(left: In[int], right: In[int], both: Out[int]) -> None:
    await both.send(left + right)


@component
async def Repair(x: In[Failure], y: Out[str]) -> None:
    await y.send(f"{x.node} at {x.item}")


@component
async def Lambdas(x: In[int], y: Out[Any]) -> None:
    await y.send(asyncio.get_running_loop() if x == 13 else x)


FORMS = [
    *(Double, Jumbled * 3, AtOnce, AtOnceInOrder, InThread, YieldsInThread, Yields, Returns, SecondTry, InTime),
    *(Reads, ReadsInThread),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 2}], ids=["inline", "2 workers"])
def test_each_call_gets_its_own_answer(form: Any, options: dict[str, Any]) -> None:
    graph = through(form)

    async def main() -> None:
        async with graph.open(**options) as live:
            assert await asyncio.gather(*map(live.call, range(60))) == list(range(0, 120, 2))

    asyncio.run(main())


def test_calls_from_many_tasks_through_an_ordered_group_and_a_fan_out_that_is_zipped(engine: dict[str, Any]) -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.double = Jumbled * 3
    graph.double.ordered()
    graph.again = Double
    graph.both = Both
    graph.results = Sink()
    graph.numbers.out >> graph.double.x
    graph.double.y >> graph.both.left
    graph.double.y >> graph.again.x
    graph.again.y >> graph.both.right
    graph.both.both >> graph.results.inp

    async def main() -> None:
        async with graph.open(**engine) as live:
            assert await asyncio.gather(*map(live.call, range(100))) == [6 * number for number in range(100)]

    asyncio.run(main())


def test_one_that_fails_raises_in_its_own_caller_and_the_run_goes_on(engine: dict[str, Any]) -> None:
    graph = through(Picky * 2)

    async def main() -> None:
        async with graph.open(**engine) as live:
            answers = await asyncio.gather(*map(live.call, range(30)), return_exceptions=True)
            assert [each for each in answers if not isinstance(each, Exception)] == [
                2 * n for n in range(30) if n != 13
            ]
            failed = answers[13]
            assert isinstance(failed, ComponentError)
            assert (failed.item, type(failed.__cause__)) == ("13", ValueError)
            assert await live.call(50) == 100
        assert sum(node.failed for node in live.report.nodes.values()) == 1

    asyncio.run(main())


def test_one_that_comes_to_nothing_is_told(engine: dict[str, Any]) -> None:
    graph = through(Odd * 2)

    async def main() -> None:
        async with graph.open(**engine) as live:
            answers = await asyncio.gather(*map(live.call, range(20)), return_exceptions=True)
            assert answers[1::2] == [2 * number for number in range(1, 20, 2)]
            assert all(isinstance(each, NoAnswer) for each in answers[::2])
            assert "nothing came of 4" in str(answers[4])

    asyncio.run(main())


def test_a_late_answer_is_dropped_and_a_second_one_too(engine: dict[str, Any], flags: list[Flag]) -> None:
    graph = through(Gate)
    graph.node.flag < flags[0]
    graph.twice = Twice
    graph.node.y >> graph.twice.x
    graph.twice.y >> graph.results.inp

    async def main() -> None:
        async with graph.open(**engine) as live:
            with pytest.raises(TimeoutError, match=r"no answer to 1 within 0\.05 s"):
                await live.call(1, timeout=0.05)
            cancelled = asyncio.ensure_future(live.call(2))
            await asyncio.sleep(0)
            cancelled.cancel()
            flags[0].set()
            assert await live.call(3) in {3, 6}
        results = live.report.nodes["results"]
        assert results.received == 1
        assert results.received + results.dropped == 3 * (live.report.nodes["node"].received)

    asyncio.run(main())


def test_what_is_sent_for_nobody_is_for_who_reads(engine: dict[str, Any]) -> None:
    async def main() -> None:
        async with doubling().open(**engine) as live:

            async def read() -> list[int]:
                return [value async for value in live.results]

            reading = asyncio.ensure_future(read())
            for number in range(100):
                await live.numbers.send(number)
                assert await live.call(1000 + number) == 2000 + 2 * number
        assert await reading == list(range(0, 200, 2))

    asyncio.run(main())


def test_a_failure_that_is_routed_can_be_the_answer(engine: dict[str, Any]) -> None:
    graph = through(Picky)
    graph.repair = Repair
    graph.node.errors >> graph.repair.x
    graph.repair.y >> graph.results.inp

    async def main() -> None:
        async with graph.open(**engine) as live:
            assert await asyncio.gather(*map(live.call, (12, 13, 14))) == [24, "node at 13", 28]

    asyncio.run(main())


def test_an_item_that_cannot_cross_fails_alone(workers: dict[str, Any]) -> None:
    async def main() -> None:
        async with through(Lambdas).open(**workers) as live:
            answers = await asyncio.gather(*map(live.call, (12, 13, 14)), return_exceptions=True)
            assert (answers[0], answers[2]) == (12, 14)
            assert isinstance(answers[1], SerializationError)
            with pytest.raises(SerializationError, match=r"type _UnixSelectorEventLoop sent by numbers\.out"):
                await live.call(asyncio.get_running_loop())
            assert await live.call(1) == 1

    asyncio.run(main())


def test_a_killed_worker_fails_all_calls(workers: dict[str, Any]) -> None:
    async def main() -> None:
        async with through(Killed).open(**workers) as live:
            answers = await asyncio.gather(*map(live.call, range(13, 20)), return_exceptions=True)
            assert all(isinstance(each, WorkerDied) for each in answers)

    asyncio.run(main())


def test_calls_in_flight_when_the_block_is_left_are_answered(engine: dict[str, Any]) -> None:
    async def main() -> None:
        async with through(Jumbled).open(**engine) as live:
            calls = [asyncio.ensure_future(live.call(number)) for number in range(5)]
        assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8]
        with pytest.raises(ChannelClosed):
            await live.call(5)

    asyncio.run(main())


def test_calls_need_one_source_and_one_sink() -> None:
    graph = doubling()
    graph.more = Sink()
    graph.node.y >> graph.more.inp

    async def main() -> None:
        async with graph.open(engine="inline") as live:
            with pytest.raises(CascataError, match=r"one source and one sink.*this one has 1 and 2"):
                await live.call(1)

    asyncio.run(main())


class Item:
    """That tells when it is gone."""


@component
async def LeavesATaskBehind(
    x: In[Any], y: Out[int], tasks: State[list[asyncio.Task[Any]]] = State(list), before: State[list[int]] = State(list)
) -> None:
    tasks.value.append(asyncio.create_task(asyncio.Event().wait()))
    await y.send(1)


def test_an_item_is_not_kept_in_the_memory_by_a_task_that_its_call_has_left_behind() -> None:
    graph = through(LeavesATaskBehind)

    async def main() -> None:
        async with graph.open(engine="inline") as live:
            item = Item()
            gone = weakref.ref(item)
            calling = live.call(item)
            del item
            assert await calling == 1
            del calling
            assert await live.call(None) == 1  # a loop has the item that it took last
            gc.collect()
            assert gone() is None

    asyncio.run(main())
