"""Batch, Window, TimeWindow, CollectToList."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata import Graph, In, Out, component
from cascata.components import Batch, CollectToList, FlatMap, Take, TimeWindow, Window
from cascata.errors import ComponentError
from tests.components.helpers import around, through
from tests.engine.parts import Endless, Flag, Notes, keep
from tests.speed import allowed

Options = dict[str, Any]


@component
async def Paced(items: In[list[list[Any]]], seen: In[list[Flag]], item: Out[Any]) -> None:
    """Sends the items of a list, then waits for a flag, and so on: the next list needs what was made of the last."""
    for part, flag in zip(items, seen, strict=True):
        for each in part:
            await item.send(each)
        await flag.wait()


@component
async def Raise(item: In[Any], notes: In[Notes], seen: In[list[Flag]]) -> None:
    """Notes each item; the first one raises the first flag, and so on."""
    notes.add(item)
    count = len(notes.read())
    if count <= len(seen):
        seen[count - 1].set()


def paced(component_: Any, parts: list[list[Any]], notes: Notes, **constants: Any) -> Graph:
    """A graph in which each part is sent when something has been made of the one before."""
    seen = [Flag(f"{notes.path}_{number}") for number in range(len(parts))]
    graph = Graph()
    graph.paced = Paced
    graph.paced.items < parts
    graph.paced.seen < seen
    graph.node = component_
    for port, value in constants.items():
        getattr(graph.node, port).set(value)
    graph.keep = Raise
    graph.keep.notes < notes
    graph.keep.seen < seen
    graph.paced.item >> graph.node.inp
    graph.node.out >> graph.keep.item
    return graph


# --- Batch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upto", "constants", "sizes"),
    [
        (7, {"size": 3}, [3, 3, 1]),
        (6, {"size": 3}, [3, 3]),
        (2, {"size": 1}, [1, 1]),
        (0, {"size": 3}, []),
        (7, {"size": 3, "seconds": 60}, [3, 3, 1]),
        (7, {"seconds": 60}, [7]),
        (0, {"seconds": 60}, []),
    ],
)
def test_a_batch_is_sent_when_it_is_full_and_the_rest_at_the_end(
    engine: Options, notes: Notes, upto: int, constants: dict[str, Any], sizes: list[int]
) -> None:
    sent, _ = through(Batch, range(upto), notes, engine, **constants)
    assert [len(batch) for batch in sent] == sizes
    assert [item for batch in sent for item in batch] == [*range(upto)]


def test_a_batch_is_sent_after_its_time_though_no_further_item_comes(engine: Options, notes: Notes) -> None:
    """Each part of the items comes only when the batch before has been seen."""
    graph = paced(Batch, [[1, 2], [3], [4, 5, 6]], notes, size=100, seconds=0.05)
    graph.run(**engine, timeout=30)
    assert [item for batch in notes.read() for item in batch] == [1, 2, 3, 4, 5, 6]
    assert len(notes.read()) >= 3


def test_a_batch_that_is_full_is_not_kept_until_its_time(engine: Options, notes: Notes) -> None:
    graph = paced(Batch, [[1, 2], [3, 4]], notes, size=2, seconds=60)
    graph.run(**engine, timeout=30)
    assert notes.read() == [[1, 2], [3, 4]]


def test_the_time_of_a_batch_passes_also_while_items_keep_coming(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.batch = Batch
    graph.batch.seconds < 0.02
    graph.first = Take
    graph.first.n < 2
    graph.endless >> graph.batch
    graph.batch.out >> graph.first.inp
    keep(graph, graph.first.out, notes)
    graph.run(**engine, timeout=30)
    one, two = notes.read()
    assert one + two == [*range(len(one) + len(two))]
    assert one
    assert two


def test_the_time_of_a_batch_begins_with_its_first_item(notes: Notes) -> None:
    """After a pause longer than the time, a batch does not begin with its time over."""

    @component
    async def PauseThenTwo(item: Out[int]) -> None:
        await asyncio.sleep(allowed(0.3))
        await item.send(1)
        await asyncio.sleep(0.02)
        await item.send(2)

    graph = Graph()
    graph.source = PauseThenTwo
    graph.batch = Batch
    graph.batch.seconds < allowed(0.25)
    graph.source.item >> graph.batch.inp
    keep(graph, graph.batch.out, notes)
    graph.run(engine="inline")
    assert notes.read() == [[1, 2]]


def test_batches_come_apart_again(engine: Options, notes: Notes) -> None:
    graph = around(Batch, range(10), notes, size=4)
    graph.apart = FlatMap
    graph.node.out >> graph.apart.inp
    keep(graph, graph.apart.out, notes, "keep_apart")
    graph.run(**engine)
    assert [note for note in notes.read() if isinstance(note, int)] == [*range(10)]


def test_a_batch_in_a_cycle_is_sent_before_the_cycle_ends(engine: Options, notes: Notes) -> None:
    """Nothing moves while a batch waits for its time, and yet the cycle has not come to rest."""
    graph = Graph()
    graph.batch = Batch
    graph.batch.seconds < 0.03
    graph.batch.inp < 4
    graph.less = FlatMap
    graph.less.fn < (lambda batch: [each - 1 for each in batch if each > 1])
    graph.batch >> graph.less
    graph.less.out >> graph.batch.inp
    keep(graph, graph.less.out, notes)
    graph.run(**engine, timeout=30)
    assert notes.read() == [3, 2, 1]


# --- Window -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upto", "constants", "windows"),
    [
        (4, {"size": 2}, [[0, 1], [1, 2], [2, 3]]),
        (1, {"size": 2}, []),
        (5, {"size": 2, "step": 2}, [[0, 1], [2, 3]]),
        (5, {"size": 3, "step": 2}, [[0, 1, 2], [2, 3, 4]]),
        (8, {"size": 2, "step": 3}, [[0, 1], [3, 4], [6, 7]]),
        (3, {"size": 1}, [[0], [1], [2]]),
        (5, {"size": 2, "step": 2, "partial": True}, [[0, 1], [2, 3], [4]]),
        (4, {"size": 3, "partial": True}, [[0, 1, 2], [1, 2, 3], [2, 3], [3]]),
        (0, {"size": 3, "partial": True}, []),
    ],
)
def test_windows_by_count(
    engine: Options, notes: Notes, upto: int, constants: dict[str, Any], windows: list[list[int]]
) -> None:
    assert through(Window, range(upto), notes, engine, **constants)[0] == windows


@given(upto=st.integers(0, 40), size=st.integers(1, 8), step=st.integers(1, 10), partial=st.booleans())
def test_windows_are_slices(upto: int, size: int, step: int, partial: bool) -> None:
    items = [*range(upto)]
    slices = [items[at : at + size] for at in range(0, upto, step)]
    expected = [each for each in slices if partial or len(each) == size]
    assert Window.test(inp=items, size=size, step=step, partial=partial) == {"out": expected}


@given(upto=st.integers(0, 40), size=st.integers(1, 8))
def test_batches_are_slices(upto: int, size: int) -> None:
    items = [*range(upto)]
    expected = [items[at : at + size] for at in range(0, upto, size)]
    assert Batch.test(inp=items, size=size) == Batch.test(inp=items, size=size, seconds=60) == {"out": expected}


# --- TimeWindow -------------------------------------------------------------------------------------


def test_a_window_closes_after_its_time_though_no_further_item_comes(engine: Options, notes: Notes) -> None:
    graph = paced(TimeWindow, [[1, 2], [3], [4]], notes, seconds=0.05)
    graph.run(**engine, timeout=30)
    windows = notes.read()
    assert [item for window in windows for item in window] == [1, 2, 3, 4]
    assert all(windows)


def test_an_item_is_in_as_many_windows_as_reach_back_to_it(engine: Options, notes: Notes) -> None:
    """The only item is in a window at every step; the source ends when it has been seen in three of them."""
    graph = paced(TimeWindow, [["a"], [], []], notes, seconds=5, step=0.02)
    graph.run(**engine, timeout=30)
    assert len(notes.read()) >= 3


def test_at_the_end_the_open_windows_are_sent_at_once() -> None:
    assert TimeWindow.test(inp=[1, 2, 3], seconds=60) == {"out": [[1, 2, 3]]}
    assert TimeWindow.test(inp=[1, 2, 3], seconds=60, step=20) == {"out": [[1, 2, 3]] * 3}
    assert TimeWindow.test(inp=[], seconds=60) == {"out": []}


def test_items_between_two_windows_are_in_none(notes: Notes) -> None:
    """A window reaches 20 ms back every 60 s: what comes first is too old when the first one closes."""
    assert TimeWindow.test(inp=[1], seconds=0.02, step=60) == {"out": []}


def test_windows_keep_to_their_grid_over_a_silence(notes: Notes) -> None:
    @component
    async def TwoBursts(item: Out[int]) -> None:
        await item.send(1)
        await asyncio.sleep(0.12)
        await item.send(2)
        await item.send(3)

    graph = Graph()
    graph.source = TwoBursts
    graph.node = TimeWindow
    graph.node.seconds < 0.03
    graph.source.item >> graph.node.inp
    keep(graph, graph.node.out, notes)
    graph.run(engine="inline")
    assert notes.read()[0] == [1]
    assert [item for window in notes.read() for item in window] == [1, 2, 3]


# --- CollectToList ----------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [[], [1], [[1], [2]], [*range(1000)]], ids=["none", "one", "lists", "many"])
def test_everything_is_collected_in_one_list(engine: Options, notes: Notes, items: list[Any]) -> None:
    assert through(CollectToList, items, notes, engine)[0] == [items]


# --- wrong constants --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component_", "constants", "text"),
    [
        (Batch, {}, "a batch needs a bound: write `node.size < 100`"),
        (Batch, {"size": 0}, "'size' must be a whole number of at least 1, not 0"),
        (Batch, {"seconds": 0}, "'seconds' must be a number of seconds above 0, not 0"),
        (Batch, {"seconds": float("inf")}, "'seconds' must be a number of seconds above 0, not inf"),
        (Batch, {"seconds": float("nan")}, "'seconds' must be a number of seconds above 0, not nan"),
        (Batch, {"size": "3"}, "'size' must be a whole number"),
        (Window, {"size": 0}, "'size' must be a whole number"),
        (Window, {"size": 2, "step": 0}, "'step' must be a whole number"),
        (TimeWindow, {"seconds": -1}, "'seconds' must be a number of seconds"),
        (TimeWindow, {"seconds": 1, "step": 0}, "'step' must be a number of seconds"),
    ],
)
def test_a_wrong_constant_is_an_error_also_when_no_item_comes(
    notes: Notes, component_: Any, constants: dict[str, Any], text: str
) -> None:
    with pytest.raises(ComponentError, match=rf"'node' \({component_.__name__}\) failed .*ValueError: {text}"):
        around(component_, [], notes, **constants).run(engine="inline")
