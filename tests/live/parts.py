"""Components and graphs for tests of the caller's side. Workers import this module: no pytest here."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from cascata import Graph, In, Out, Sink, Source, State, component, inport
from tests.engine.parts import Flag, Notes, noting

__all__ = ["Asked", "Double", "First", "Gate", "Held", "Picky", "doubling", "through"]


@component
@inport("x", capacity=10)
async def Double(x: In[int], y: Out[int]) -> None:
    """Sends the double of each number."""
    await y.send(2 * x)


@component
@inport("x", capacity=10)
async def Picky(x: In[int], y: Out[int], bad: In[int] = 13) -> None:
    """As `Double`, but there is a number that it raises at."""
    if x == bad:
        raise ValueError(f"not {x}")
    await y.send(2 * x)


@component
@inport("x", capacity=10)
async def Killed(x: In[int], y: Out[int], at: In[int] = 13) -> None:
    """As `Double`, but its worker is killed at a number."""
    if x == at:
        os.kill(os.getpid(), signal.SIGKILL)
    await y.send(2 * x)


@component
@inport("x", capacity=10)
async def Gate(x: In[Any], y: Out[Any], flag: In[Flag]) -> None:
    """Sends what it gets when a flag is set."""
    await flag.wait()
    await y.send(x)


@component
@inport("x", capacity=10)
async def First(x: In[int], y: Out[int], count: In[int], seen: State[int] = State(int)) -> None:
    """Sends the first items and then ends, as `head` does."""
    await y.send(x)
    seen.value += 1
    if seen.value == count:
        raise asyncio.CancelledError


@component
@inport("x", capacity=10)
async def Held(x: In[Any], y: Out[Any], state: State[str] = State(noting)) -> None:
    """Sends what it gets; notes when its state is made and torn down."""
    await y.send(x)


@component
@inport("x", capacity=10)
async def Asked(x: In[Any], notes: In[Notes]) -> None:
    """Notes each item."""
    notes.add(x)


def through(component: Any) -> Graph:
    """A source, a node of a component with in-port `x` and out-port `y`, and a sink."""
    graph = Graph()
    graph.numbers = Source()
    graph.node = component
    graph.results = Sink()
    graph.numbers.out >> graph.node.x
    graph.node.y >> graph.results.inp
    return graph


def doubling() -> Graph:
    """A graph that doubles numbers."""
    return through(Double)
