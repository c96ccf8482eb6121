"""Components of these tests. Workers import this module."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any, Final

from cascata import Failure, In, Out, State, Stream, component, log
from tests.engine.parts import Flag, Notes

__all__ = [
    "SOON_S",
    "AgainAtRight",
    "At",
    "AtLeft",
    "AtLens",
    "AtNowhere",
    "AtRight",
    "Blocks",
    "CountsUntil",
    "Dies",
    "Says",
    "Tells",
    "at",
    "dawdle",
    "hurry",
    "until",
]


SOON_S: Final = 15.0
"""Seconds within which a death has ended a run: some, on a machine whose load is 20."""

DAWDLES_S: Final = 2.5


def until(notes: Notes, count: int) -> list[Any]:
    """What has been noted, when that is so much."""
    deadline = time.monotonic() + 30
    while len(found := notes.read()) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def dawdle() -> None:
    """What a process of Ray's does before anything else: it takes its time."""
    time.sleep(DAWDLES_S)


def hurry() -> None:
    """What a process of Ray's does before anything else: it is to give up soon whom it cannot reach."""
    from cascata.transport.tcp import station

    station.CONNECT_S = 0.3  # type: ignore[misc]


def at(notes: Notes, name: str) -> Iterator[str]:
    """State that notes the process and the Ray node that it is made on, and its end."""
    import ray

    notes.add((name, "at", os.getpid(), ray.get_runtime_context().get_node_id()))
    try:
        yield name
    finally:
        notes.add((name, "torn down"))


@component
async def At(number: In[int], same: Out[int], place: State[str] = State(at)) -> None:
    """Sends what it gets, and notes where."""
    await same.send(number)


@component(resources={"left": 1})
async def AtLeft(number: In[int], same: Out[int], place: State[str] = State(at)) -> None:
    await same.send(number)


@component(resources={"right": 1})
async def AtRight(number: In[int], same: Out[int], place: State[str] = State(at)) -> None:
    await same.send(number)


@component(resources={"left": 1})
async def CountsUntil(over: In[Flag], notes: In[Notes], number: Out[int]) -> None:
    """Sends numbers until a flag is set, and notes how many."""
    for each in itertools.count():
        if over.is_set():
            notes.add(each)
            return
        await number.send(each)
        await asyncio.sleep(0.001)


@component(resources={"right": 1}, on_worker_death="restart")
async def AgainAtRight(number: In[int], same: Out[int], place: State[str] = State(at)) -> None:
    await same.send(number)


@component(resources={"left": 1})
async def Tells(results: Stream[int], failures: Stream[Failure], notes: In[Notes]) -> None:
    """Notes all results, and what failed."""
    found = [each async for each in results]
    notes.add((found, [(each.item, type(each.error)) async for each in failures]))


@component(resources={"nowhere": 2})
async def AtNowhere(number: In[int]) -> None:
    """Has no place."""


@component(resources={"lens": 1})
async def AtLens(number: In[int], same: Out[int], place: State[str] = State(at)) -> None:
    await same.send(number)


@component
async def Dies(number: In[int], same: Out[int], signal: In[int], told: In[Notes | None] = None) -> None:
    """Ends its process at the third item, once something has been noted: by a signal, or with os._exit for 0."""
    if number == 2:
        while told is not None and not told.read():  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.01)
        if signal:
            os.kill(os.getpid(), signal)
        os._exit(3)
    await same.send(number)


@component
async def Says(number: In[int], what: In[str]) -> None:
    """Logs and prints."""
    log.info("%s %d", what, number)
    print(what, number)


@component
async def Blocks(number: In[int], flag: In[Flag]) -> None:
    """Blocks its loop until a flag is set."""
    flag.wait_blocking()
