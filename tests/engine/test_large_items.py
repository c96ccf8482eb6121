"""Large items between nodes, as users see them: whose they are, what they weigh, what a lack of memory does."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascata import Graph, In, Out, State, component
from cascata.engine.choice import is_portable
from cascata.errors import SerializationError
from tests.engine.parts import Notes, keep

MB = 1 << 20


@component
async def Arrays(count: In[int], size: In[int], out: Out[Any]) -> None:
    array = np.zeros(size // 8)
    for number in range(count):
        array[:] = number
        await out.send(array)  # and uses the array again at once


@component
async def Kinds(out: Out[Any]) -> None:
    view: Any = np.arange(MB, dtype="i4").reshape(4, -1)
    await out.send(b"b" * MB)
    await out.send({"a": [bytearray(b"a" * MB)], "n": 1})
    await out.send((1, (b"t" * MB, memoryview(view))))
    await out.send("s" * MB)


@component
async def Describe(x: In[Any], out: Out[Any]) -> None:
    if isinstance(x, dict):
        await out.send((type(x["a"][0]).__name__, bytes(x["a"][0][-1:])))
    elif isinstance(x, tuple):
        plain, view = x[1]
        await out.send((len(plain), view.format, view.shape, int(view[3, 5])))
    else:
        await out.send((type(x).__name__, len(x)))


@component
async def Look(x: In[Any], out: Out[Any]) -> None:
    await out.send((bool(x.flags.writeable), float(x[0]), float(x[-1])))


@component
async def KeepsAll(x: In[Any], out: Out[Any], kept: State[list[Any]] = State(list)) -> None:
    kept.value.append(x)
    await out.send(sum(float(each[0]) for each in kept.value))


@component
def Mapped(x: In[Any], out: Out[int]) -> int:
    maps = Path("/proc/self/maps").read_text().splitlines()
    bounds = [line.split()[0].split("-") for line in maps if "cascata-" in line]
    return sum(int(end, 16) - int(start, 16) for start, end in bounds)


@component
async def InTwo(count: In[int], size: In[int], first: Out[Any], second: Out[int]) -> None:
    for number in range(count):
        await first.send(np.full(size, number, "u1"))
    for number in range(count):
        await second.send(number)


@component
async def Same(array: In[Any], number: In[int], out: Out[bool]) -> None:
    await out.send(int(array[-1]) == number)


@component
async def LittleMemory(out: Out[Any]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    await out.send(np.ones(MB))
    await out.send(np.ones(MB // 64))


def apart(reader: Any, notes: Notes, count: int, size: int, source: Any = Arrays) -> Graph:
    """Arrays from one worker to another."""
    graph = Graph()
    graph.source = source
    graph.reader = reader
    graph.pin(graph.source, 0)
    graph.pin(graph.reader, 1)
    if source is Arrays:
        graph.source.count < count
        graph.source.size < size
    graph.source.out >> graph.reader.x
    keep(graph, graph.reader.out, notes)
    return graph


def test_an_array_belongs_to_its_only_receiver_and_the_sender_may_use_its_own_again(notes: Notes) -> None:
    apart(Look, notes, 50, MB).run(num_workers=2)
    assert notes.read() == [(True, number, number) for number in range(50)]


def test_large_bytes_and_their_kin_arrive_as_they_were_wherever_they_are(engine: dict[str, Any], notes: Notes) -> None:
    graph = Graph()
    graph.kinds = Kinds
    graph.describe = Describe
    graph.kinds.out >> graph.describe.x
    keep(graph, graph.describe.out, notes)
    graph.run(**engine)
    assert notes.read() == [("bytes", MB), ("bytearray", b"a"), (MB, "i", (4, MB // 4), 3 * MB // 4 + 5), ("str", MB)]


def test_receivers_on_other_workers_share_a_copy_that_none_of_them_can_write(notes: Notes) -> None:
    graph = Graph()
    graph.source = Arrays
    graph.source.count < 30
    graph.source.size < MB
    graph.pin(graph.source, 0)
    for number, name in enumerate(("first", "second"), 1):
        reader = graph.add(Look, name)
        graph.pin(reader, number)
        graph.source.out >> reader.x
        keep(graph, reader.out, notes, f"keep_{name}")
    graph.run(num_workers=3)
    assert sorted(notes.read()) == sorted([(False, number, number) for number in range(30)] * 2)


def test_a_receiver_that_keeps_all_it_gets_stops_nobody(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascata.transport.linux.arena.ARENA_BYTES", 8 * MB)
    apart(KeepsAll, notes, 60, MB).run(num_workers=2, start_method="fork")
    assert notes.read()[-1] == sum(range(60))


def test_a_thousand_arrays_need_the_memory_of_a_few(notes: Notes) -> None:
    apart(Mapped, notes, 1_000, MB).run(num_workers=2)
    mapped = notes.read()
    assert len(mapped) == 1_000
    assert max(mapped) < 100 * MB


def test_an_item_above_the_budget_of_its_channel_passes_alone(notes: Notes) -> None:
    apart(Look, notes, 3, 70 * MB).run(num_workers=2)
    assert notes.read() == [(True, number, number) for number in range(3)]


def test_a_run_that_cannot_move_for_want_of_bytes_gets_more_of_them(notes: Notes) -> None:
    graph = Graph()
    graph.source = InTwo
    graph.source.count < 7
    graph.source.size < 16 * MB
    graph.same = Same
    graph.pin(graph.source, 0)
    graph.pin(graph.same, 1)
    graph.source.first >> graph.same.array
    graph.source.second >> graph.same.number
    keep(graph, graph.same.out, notes)
    graph.run(num_workers=2)
    assert notes.read() == [True] * 7


@pytest.mark.skipif(is_portable(), reason="it takes no shared memory, of which there could be too little")
def test_when_memory_is_short_the_error_names_node_and_port(notes: Notes) -> None:
    with pytest.raises(SerializationError, match="short of memory") as caught:
        apart(Look, notes, 0, 0, LittleMemory).run(num_workers=2)
    assert (caught.value.node, caught.value.port) == ("source", "out")


@pytest.mark.skipif(is_portable(), reason="it takes no shared memory, of which there could be too little")
def test_when_memory_is_short_only_the_items_that_need_it_are_skipped(notes: Notes) -> None:
    report = apart(Look, notes, 0, 0, LittleMemory).run(num_workers=2, on_error="skip")
    assert notes.read() == [(True, 1.0, 1.0)]
    assert sum(edge.failed for edge in report.edges) == 1
