"""The graphs whose processes `random_kills` kills. Workers import this module: so it imports little."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from cascata import Failure, Graph, In, Out, Sink, Source, State, component
from cascata.errors import WorkerDied

__all__ = ["ITEMS", "Double", "DoubleAgain", "between", "chain", "feed", "note"]

ITEMS: Final = 2000


@component
async def Numbers(upto: In[int], phase: In[str], out: Out[int]) -> None:
    note(phase, 1)
    for number in range(upto):
        await out.send(number)
    note(phase, 2)


@component
async def Double(number: In[int], out: Out[int]) -> None:
    await out.send(2 * number)


@component(on_worker_death="restart")
async def DoubleAgain(number: In[int], out: Out[int]) -> None:
    await out.send(2 * number)


def at_least() -> Iterator[list[int]]:
    yield [-1]


@component
async def InOrder(number: In[int], last: State[list[int]] = State(at_least)) -> None:
    if number <= last.value[0]:
        raise ValueError(f"{number} came after {last.value[0]}")
    last.value[0] = number


@component
async def Keep(failure: In[Failure]) -> None:
    if not isinstance(failure.error, WorkerDied):
        raise failure.error


def note(path: str, phase: int) -> None:
    """Tells the lane how far the run is."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, bytes([phase]), 0)
    os.close(fd)


def chain(phase: str, double: Any) -> Graph:
    graph = Graph()
    graph.numbers = Numbers
    graph.numbers.upto < ITEMS
    graph.numbers.phase < phase
    graph.double = double
    graph.numbers.out >> graph.double.number
    graph.check_order = InOrder
    graph.double.out >> graph.check_order.number
    if double is DoubleAgain:
        graph.dead = Keep
        graph.double.errors >> graph.dead.failure
    return graph


def between() -> Graph:
    graph = Graph()
    graph.numbers = Source()
    graph.double = Double
    graph.results = Sink()
    graph.numbers.out >> graph.double.number
    graph.double.out >> graph.results.inp
    return graph


def feed(phase: str) -> Iterator[int]:
    note(phase, 1)
    yield from range(ITEMS)
    note(phase, 2)
