"""How well a group shares a stream when one of its members is slow.

    source ──> one stream ──> wait_0, wait_1, wait_2, each on a worker of its own

Two members take `PAUSE_S` for an item, the third ten times as long. If nobody ever had to wait for another one, the
third would get one of 21 items, and all would have been done after `ideal` seconds.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from bench.components import Source
from cascata import Graph, In, State, component

__all__ = ["ideal", "one_slow_member"]

PAUSE_S: Final = 0.01
SLOWER: Final = 10
MEMBERS: Final = 3


def noted(folder: str) -> Iterator[list[float]]:
    """When a member began with its first item and was done with its last one, in a file of its own."""
    times: list[float] = []
    yield times
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".json", delete=False, encoding="utf-8") as file:
        json.dump([*times[:1], *times[-1:]], file)


@component
async def Wait(item: In[Any], pause: In[float], times: State[list[float]] = State(noted)) -> None:
    """Takes its time for an item."""
    times.value.append(perf_counter())
    await asyncio.sleep(pause)
    times.value.append(perf_counter())


def one_slow_member(count: int) -> dict[str, float]:
    """Returns "span": seconds from the beginning of the first item to the end of the last one."""
    graph = Graph()
    graph.source = Source
    graph.source.kind < "ints"
    graph.source.count < count
    graph.wait = Wait * MEMBERS
    graph.wait.pause < PAUSE_S
    graph.wait[MEMBERS - 1].pause < PAUSE_S * SLOWER
    graph.source >> graph.wait
    for number, member in enumerate(graph.wait):
        graph.pin(member, number)
    with tempfile.TemporaryDirectory() as folder:
        graph.wait.times < folder
        graph.run(num_workers=MEMBERS)
        found = [each for file in Path(folder).glob("*.json") for each in json.loads(file.read_text(encoding="utf-8"))]
    return {"span": max(found) - min(found)}


def ideal(count: int) -> dict[str, float]:
    """Returns what "span" would be if no member ever waited for another one."""
    return {"span": count * PAUSE_S / (MEMBERS - 1 + 1 / SLOWER)}
