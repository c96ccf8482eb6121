"""Large arrays from one process to another, and the least that it can cost: one copy.

    cascata   source (worker 0) ── an array ──> sink (worker 1)
    pipe      producer ── an array ──> multiprocessing.Pipe ──> consumer         (`send`; raw: its bytes, `send_bytes`)
    memcpy    from one array into others, in one process

The source sends the same array again and again, with its number written into it: a large one was copied when `send`
returned.
"""

from __future__ import annotations

import multiprocessing
from itertools import cycle
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any, Final

import numpy as np

from bench.components import run_and_read, written_down
from bench.items import marks, rate
from cascata import Graph, In, Out, State, component

__all__ = ["KINDS", "SIZES", "edge", "memcpy", "pipe"]

SIZES: Final = {
    "16 KiB": 1 << 14,
    "64 KiB": 1 << 16,
    "256 KiB": 1 << 18,
    "1 MiB": 1 << 20,
    "8 MiB": 8 << 20,
    "32 MiB": 32 << 20,
}

COPIED: Final = 1 << 16
"""Bytes of an array from which on it is copied within `send`."""

KINDS: Final = ("array", "bytes")

TARGETS: Final = 8
"""Arrays that memcpy copies into in turn: nobody sends into one place only."""


@component
async def Source(count: In[int], size: In[int], kind: In[str], out: Out[Any]) -> None:
    if kind == "bytes":
        for number in range(count):
            await out.send(number.to_bytes(8, "little") + bytes(size - 8))
        return
    if kind == "new array":  # where it is not copied within `send`, it is given away
        for number in range(count):
            array = np.ones(size, "u1")
            array[:8].view("i8")[0] = number
            await out.send(array)
        return
    array = np.ones(size, "u1")
    numbered = array[:8].view("i8")
    for number in range(count):
        numbered[0] = number
        await out.send(array if size >= COPIED else array.copy())


@component
async def Sink(item: In[Any], awaited: In[tuple[int, ...]], times: State[list[float]] = State(written_down)) -> None:
    if int.from_bytes(bytes(item[:8]), "little") in awaited:
        times.value.append(perf_counter())


def edge(kind: str, size: int, count: int, **options: Any) -> dict[str, float]:
    """Items of so many bytes over one edge that crosses; with options of `graph.run`.

    Returns "speed": bytes a second between the two marks.
    """
    graph = Graph()
    graph.source = Source
    graph.sink = Sink
    graph.pin(graph.source, 0)
    graph.pin(graph.sink, 1)
    graph.source.kind < kind
    graph.source.size < size
    graph.source.count < count
    graph.sink.awaited < marks(count)
    graph.source.out >> graph.sink.item
    times, _ = run_and_read(graph, graph.sink, count, {"num_workers": 2, **options})
    return {"speed": size * rate(count, times)}


def memcpy(size: int, count: int) -> dict[str, float]:
    """The same number of copies in one process."""
    array = np.ones(size, "u1")
    targets = [np.ones(size, "u1") for _ in range(TARGETS)]
    began = perf_counter()
    for _, target in zip(range(count), cycle(targets), strict=False):
        target[:] = array
    return {"speed": size * count / (perf_counter() - began)}


def _feed(sending: Connection, size: int, count: int, *, raw: bool) -> None:
    array: Any = np.ones(size, "u1")
    for _ in range(count):
        if raw:
            sending.send_bytes(memoryview(array))
        else:
            sending.send(array)


def pipe(size: int, count: int, *, raw: bool) -> dict[str, float]:
    """Arrays through a `multiprocessing.Pipe`; raw: no more than their bytes, not pickled. Returns as `edge` does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.arrays"])
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_feed, args=(sending, size, count), kwargs={"raw": raw})
    process.start()
    sending.close()
    receive = receiving.recv_bytes if raw else receiving.recv
    awaited = marks(count)
    times = []
    for number in range(count):
        receive()
        if number in awaited:
            times.append(perf_counter())
    process.join()
    process.close()
    receiving.close()
    return {"speed": size * rate(count, times)}
