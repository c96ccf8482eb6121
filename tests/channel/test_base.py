"""The awaitables of puts, and the tally of a merged stream."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.channel.base import DONE, Pending, Tally


async def test_done_is_a_coroutine_for_everybody_who_asks() -> None:
    assert asyncio.iscoroutine(DONE)
    assert isinstance(DONE, Coroutine)
    await asyncio.gather(DONE, DONE, asyncio.create_task(DONE))
    await asyncio.wait_for(DONE, 1)
    await asyncio.ensure_future(DONE)
    DONE.close()
    await DONE
    with pytest.raises(KeyError):
        DONE.throw(KeyError("x"))
    with pytest.raises(KeyError):
        DONE.throw(KeyError, KeyError("x"))
    with pytest.raises(KeyError):
        DONE.throw(KeyError)


class Puts:
    """Makes a `Pending`, and sees what becomes of it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.go = asyncio.Event()

    def pending(self) -> Pending:
        return Pending(self.begin, lambda: self.events.append("forgotten"))

    async def begin(self) -> None:
        self.events.append("begun")
        await self.go.wait()
        self.events.append("put")


async def test_a_pending_put_begins_when_it_is_awaited_and_not_before() -> None:
    puts = Puts()
    pending = puts.pending()
    await asyncio.sleep(0)
    assert puts.events == []
    puts.go.set()
    await pending
    assert puts.events == ["begun", "put"]
    del pending
    gc.collect()
    assert "forgotten" not in puts.events


async def test_a_pending_put_is_a_coroutine_for_everybody_who_asks() -> None:
    puts = Puts()
    assert asyncio.iscoroutine(puts.pending())
    waiting = asyncio.gather(puts.pending(), asyncio.wait_for(puts.pending(), 10), asyncio.create_task(puts.pending()))
    await asyncio.sleep(0)
    puts.go.set()
    await waiting
    assert Counter(puts.events) == Counter(forgotten=1, begun=3, put=3)


async def test_a_pending_put_that_is_dropped_is_forgotten_once() -> None:
    puts = Puts()
    pending = puts.pending()
    del pending
    gc.collect()
    assert puts.events == ["forgotten"]


async def test_a_pending_put_that_was_cancelled_before_it_began_was_not_forgotten() -> None:
    puts = Puts()
    task = asyncio.create_task(puts.pending())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert puts.events == []


def test_a_closed_pending_put_does_nothing_more() -> None:
    events: list[str] = []

    async def begin() -> None:
        events.append("begun")

    pending = Pending(begin, lambda: events.append("forgotten"))
    pending.close()
    with pytest.raises(RuntimeError):
        pending.send(None)
    assert events == []


@given(st.lists(st.one_of(st.integers(0, 3), st.none()), max_size=60))
def test_a_tally_knows_the_edge_of_each_item(steps: list[int | None]) -> None:
    """A number: an item comes on that edge; None: one is taken."""
    tally = Tally()
    items: deque[int] = deque()
    taken: Counter[int] = Counter()
    for step in steps:
        if step is not None:
            items.append(step)
            tally.came(step)
        elif items:
            edge = items.popleft()
            taken[edge] += 1
            assert tally.settle(len(items)) == taken
            assert tally.last_edges() == {edge: 1}
    tally.settle(len(items))
    assert tally.left() == Counter(items)


def test_a_tally_counts_runs_of_items_that_came_together() -> None:
    tally = Tally()
    tally.came(1, 5)
    tally.came(2, 3)
    tally.came(2, 1)
    assert tally.settle(3) == {1: 5, 2: 1}
    assert tally.left() == {2: 3}
    assert tally.settle(3) == {1: 5, 2: 1}
    assert tally.settle(0) == {1: 5, 2: 4}
    assert tally.left() == {}


def throw_of(pending: Any, *arguments: Any) -> BaseException:
    try:
        pending.throw(*arguments)
    except BaseException as error:
        return error
    raise AssertionError


def test_an_exception_thrown_into_a_pending_put_comes_out() -> None:
    async def begin() -> None:
        raise AssertionError

    for arguments in ((KeyError("x"),), (KeyError, KeyError("x")), (KeyError,)):
        assert isinstance(throw_of(Pending(begin, lambda: None), *arguments), KeyError)
