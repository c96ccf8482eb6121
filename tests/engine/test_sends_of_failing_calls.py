"""What a failing call has not awaited is a part of its failure: its error is told, and no forgotten `await`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cascata import Graph, In, Out, Sink, Source, State, component, inport
from cascata.errors import ComponentError
from tests.engine.parts import Count, Notes

LIMIT_S = 20.0
BAD = 3


def parse(number: int, part: int) -> int:
    if number == BAD and part == 2:
        raise ValueError("this one cannot be parsed")
    return number


def block() -> None:
    """So long that a `send` has to let the loop turn."""
    time.sleep(0.002)


@component
@inport("item", capacity=1)
async def Narrow(item: Any) -> None:
    await asyncio.sleep(0)


async def send_three(number: int, out: Out[int]) -> None:
    block()
    await asyncio.gather(*[out.send(parse(number, part)) for part in range(3)])


@component
async def CleansUp(number: In[int], out: Out[int]) -> None:
    try:
        await send_three(number, out)
    finally:
        await asyncio.sleep(0.01)


@component
async def CleansUpAndSends(number: In[int], out: Out[int]) -> None:
    try:
        await send_three(number, out)
    finally:
        await out.send(number)
        await asyncio.sleep(0.01)


@component(concurrency=3)
async def SideBySide(number: In[int], out: Out[int]) -> None:
    await send_three(number, out)


@component(concurrency=3)
async def OutOfItsTurn(number: In[int], out: Out[int]) -> None:
    """The call before it ends later: what it sends is kept, until then."""
    await asyncio.sleep(0.02 if number == BAD - 1 else 0)
    block()
    first = out.send(number)
    if number == BAD:
        raise ValueError("this one cannot be parsed")
    await first


@component(concurrency=3, ordered=False)
async def Unordered(number: In[int], out: Out[int]) -> None:
    await send_three(number, out)


async def slowly_undone() -> AsyncIterator[int]:
    try:
        yield 0
    finally:
        await asyncio.sleep(0.01)


@component
async def HasState(number: In[int], out: Out[int], state: State[int] = State(slowly_undone)) -> None:
    await send_three(number, out)


@component(retries=1, backoff=0.0)
async def TriesAgain(number: In[int], out: Out[int]) -> None:
    await send_three(number, out)


FAILING = [CleansUp, CleansUpAndSends, SideBySide, OutOfItsTurn, Unordered, HasState, TriesAgain]


def failing(sender: Any) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 6
    graph.fails = sender
    graph.reader = Narrow
    graph.count.number >> graph.fails.number
    graph.fails.out >> graph.reader.item
    return graph


@pytest.mark.parametrize("sender", FAILING)
def test_the_error_of_a_call_that_has_sends_in_hand_is_the_error_of_the_run(sender: Any) -> None:
    with pytest.raises(ComponentError) as raised:
        failing(sender).run(engine="inline", timeout=LIMIT_S)
    assert isinstance(raised.value.__cause__, ValueError)
    assert raised.value.item == str(BAD)
    assert "awaited" not in "".join(map(str, [raised.value, *raised.value.others]))


@pytest.mark.parametrize("sender", FAILING)
def test_a_call_that_has_sends_in_hand_is_skipped(sender: Any) -> None:
    report = failing(sender).run(engine="inline", timeout=LIMIT_S, on_error="skip")
    assert report.nodes["fails"].failed == 1


failed_before: list[int] = []


@component(retries=1, backoff=0.0)
async def SucceedsAtLast(number: In[int], out: Out[int]) -> None:
    block()
    first = out.send(number)
    if number == BAD and not failed_before:
        failed_before.append(number)
        await asyncio.gather(*[out.send(parse(number, part)) for part in range(3)])
    await first


def test_an_attempt_that_had_sends_in_hand_is_tried_again() -> None:
    failed_before.clear()
    report = failing(SucceedsAtLast).run(engine="inline", timeout=LIMIT_S)
    assert failed_before == [BAD]
    assert report.nodes["reader"].received == 6


@component(concurrency=2, ordered=False)
async def OneForgets(number: In[int], out: Out[int]) -> None:
    if number == 0:
        for _ in range(3):
            out.send(number)  # type: ignore[unused-coroutine]  # the mistake that this is about
        await asyncio.sleep(0.02)
    elif number == 1:
        await send_three(BAD, out)


def test_a_failed_call_excuses_no_other_that_has_forgotten_an_await() -> None:
    with pytest.raises(ComponentError, match=r"[23] items sent on fails\.out are lost"):
        failing(OneForgets).run(engine="inline", timeout=LIMIT_S, on_error="skip")


def test_the_error_of_a_caller_that_has_sends_in_hand_is_what_is_raised() -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.reader = Narrow
    graph.numbers.out >> graph.reader.item

    async def main() -> None:
        async with graph.open(engine="inline", timeout=LIMIT_S) as live:
            try:
                await asyncio.gather(*[live.numbers.send(parse(BAD, part)) for part in range(3)])
            finally:
                await asyncio.sleep(0.01)

    with pytest.raises(ValueError, match="cannot be parsed"):
        asyncio.run(main())


kept: list[Any] = []


@component
async def InACircle(number: In[int], back: Out[int], out: Out[int]) -> None:
    block()
    first = back.send(number + 10)
    if number == BAD:
        raise ValueError("this one cannot be parsed")
    await first
    await out.send(number)


@component
async def KeepsWhatItSends(number: In[int], back: Out[int], out: Out[int]) -> None:
    block()
    kept.append(back.send(number + 10))
    await out.send(number)


@component
async def Fewer(number: In[int], same: Out[int]) -> None:
    if number < 20:
        await same.send(number)


@component
async def KeepsFailures(failure: In[Any], notes: In[Notes]) -> None:
    kept.append(failure)
    notes.add(failure.item)


def circle(sender: Any) -> Graph:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 6
    graph.turns = sender
    graph.fewer = Fewer
    graph.reader = Narrow
    graph.count.number >> graph.turns.number
    graph.turns.back >> graph.fewer.number
    graph.fewer.same >> graph.turns.number
    graph.turns.out >> graph.reader.item
    return graph


def test_a_failure_that_is_kept_with_its_send_keeps_no_cycle_from_ending(notes: Notes) -> None:
    graph = circle(InACircle)
    graph.failures = KeepsFailures
    graph.failures.notes < notes
    graph.turns.errors >> graph.failures.failure
    graph.run(engine="inline", timeout=LIMIT_S)
    assert notes.read() == [BAD]
    kept.clear()


def test_a_send_that_is_kept_and_never_awaited_keeps_no_cycle_from_ending() -> None:
    with pytest.raises(ComponentError, match=r"sent on turns\.back are lost"):
        circle(KeepsWhatItSends).run(engine="inline", timeout=LIMIT_S)
    kept.clear()


late: list[asyncio.Task[None]] = []


@component
async def LeavesATask(number: In[int], log: Out[int], out: Out[int]) -> None:
    async def send_later() -> None:
        await asyncio.sleep(0)
        block()
        await out.send(number)

    late.append(asyncio.get_running_loop().create_task(send_later()))


def test_a_send_that_is_refused_on_one_of_its_edges_ends_no_other_call() -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.leaves = LeavesATask
    graph.log = Narrow
    graph.results = Sink()
    graph.numbers.out >> graph.leaves.number
    graph.leaves.out >> graph.log.item
    graph.leaves.out >> graph.results.inp

    async def main() -> None:
        async with graph.open(engine="inline", timeout=LIMIT_S) as live:
            for number in range(3):
                with pytest.raises(Exception, match=r"leaves|nothing came") as raised:
                    await live.call(number, timeout=LIMIT_S)
                assert "awaited" not in str(raised.value)
                await asyncio.gather(*late, return_exceptions=True)
                assert late[-1].exception() is not None
        assert live.report.nodes["leaves"].sent == 0

    asyncio.run(main())
    late.clear()
