"""Components and means of communication for tests of whole runs. Workers import this module: no pytest here.

A component tells its test something through `Notes`, a file that every process appends to, and things
are put in order across processes with `Flag`, a file that is there or not. Both are given to a node as a
constant, so that no test depends on where a node runs.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cascata import Graph, In, Out, State, component, inport

__all__ = [
    "PATIENCE_S",
    "Add",
    "Count",
    "Each",
    "Endless",
    "Flag",
    "Keep",
    "KeepPair",
    "Notes",
    "Pass",
    "count_to",
    "keep",
    "noting",
]

PATIENCE_S: Final = 20.0
"""Seconds after which a flag that nobody sets is an error: the test would hang otherwise."""

POLL_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Notes:
    """What components tell a test, in the order in which they did: a file of pickles."""

    path: str

    def add(self, note: Any) -> None:
        data = pickle.dumps(note)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            assert os.write(fd, data) == len(data)  # one write, so that notes of several processes do not mix
        finally:
            os.close(fd)

    def read(self) -> list[Any]:
        notes: list[Any] = []
        path = Path(self.path)
        if path.exists():
            with path.open("rb") as file:
                while True:
                    try:
                        notes.append(pickle.load(file))
                    except EOFError:
                        break
        return notes


@dataclass(frozen=True, slots=True)
class Flag:
    """An event that all processes see."""

    path: str

    def set(self) -> None:
        Path(self.path).touch()

    def is_set(self) -> bool:
        return os.path.exists(self.path)  # noqa: PTH110  # asked for each item by some components

    async def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_set():
            self._must_not_be_over(deadline)
            await asyncio.sleep(POLL_S)

    def wait_blocking(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_set():
            self._must_not_be_over(deadline)
            time.sleep(POLL_S)

    def _must_not_be_over(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{self.path} was never set")


@component
async def Count(upto: In[int], number: Out[int]) -> None:
    """Sends 0, 1, … below a number."""
    for each in range(upto):
        await number.send(each)


@component
async def Each(items: In[list[Any]], item: Out[Any]) -> None:
    """Sends what a list holds."""
    for each in items:
        await item.send(each)


@component
async def Endless(number: Out[int], notes: In[Notes | None] = None) -> None:
    """Sends 0, 1, … until it is stopped; notes its name and how far it came."""
    sent = 0
    try:
        while True:
            await number.send(sent)
            sent += 1
    finally:
        if notes is not None:
            notes.add(("endless stopped at", sent))


@component
async def Pass(item: In[Any], same: Out[Any]) -> None:
    """Sends what it gets."""
    await same.send(item)


@component
async def Add(number: In[int], total: Out[int], constant: In[int] = 1) -> None:
    """Sends a number with a constant added."""
    await total.send(number + constant)


@component
@inport("item")
@inport("notes")
async def Keep(item: Any, notes: Notes) -> None:
    """Notes each item."""
    notes.add(item)


@component
async def KeepPair(left: In[Any], right: In[Any], notes: In[Notes]) -> None:
    """Notes what comes on two ports together."""
    notes.add((left, right))


@contextmanager
def noting(notes: Notes, name: str = "state") -> Iterator[str]:
    """State that notes when it is made and when it is torn down."""
    notes.add((name, "made"))
    try:
        yield name
    finally:
        notes.add((name, "torn down"))


@component
async def Holding(item: In[Any], same: Out[Any], state: State[str] = State(noting)) -> None:
    """Sends what it gets, and has state to be torn down."""
    await same.send(item)


async def noting_async(notes: Notes, name: str = "state") -> AsyncIterator[str]:
    """As `noting`, asynchronously."""
    notes.add((name, "made"))
    try:
        yield name
    finally:
        await asyncio.sleep(0)
        notes.add((name, "torn down"))


def keep(graph: Graph, out: Any, notes: Notes, name: str = "keep") -> Any:
    """Adds a node that notes what `out` sends."""
    node = graph.add(Keep, name)
    node.notes < notes
    out >> node.item
    return node


def count_to(upto: int, notes: Notes) -> Graph:
    """A graph of two nodes: numbers below `upto` are sent and noted."""
    graph = Graph()
    graph.count = Count
    graph.count.upto < upto
    keep(graph, graph.count.number, notes)
    return graph
