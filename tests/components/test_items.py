"""Map, Filter, FlatMap, Take, Distinct, Print: on every engine, and called once on their own."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import Graph
from cascata.components import Distinct, Filter, FlatMap, Map, Print, Take
from cascata.errors import ComponentError
from tests.components.helpers import around, through
from tests.engine.parts import Count, Endless, Notes, keep

Options = dict[str, Any]


async def doubled(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


async def is_even(item: int) -> bool:
    await asyncio.sleep(0)
    return item % 2 == 0


async def twice(item: int) -> list[int]:
    await asyncio.sleep(0)
    return [item, item]


async def down(item: int) -> AsyncIterator[int]:
    for each in range(item, 0, -1):
        await asyncio.sleep(0)
        yield each


def up(item: int) -> Iterator[int]:
    yield from range(item)


CASES: list[tuple[str, Any, dict[str, Any], list[Any], list[Any]]] = [
    ("a function of C", Map, {"fn": operator.neg}, [1, 2], [-1, -2]),
    ("a lambda", Map, {"fn": lambda item: item + "!"}, ["a", "b"], ["a!", "b!"]),
    ("a class", Map, {"fn": str}, [1, None], ["1", "None"]),
    ("an async function", Map, {"fn": doubled}, [1, 2, 3], [2, 4, 6]),
    ("a function that gives None", Map, {"fn": {1: "one"}.get}, [1, 2], ["one", None]),
    ("a lambda", Filter, {"fn": lambda item: item > 1}, [1, 2, 3, 0], [2, 3]),
    ("an async function", Filter, {"fn": is_even}, [1, 2, 3, 4], [2, 4]),
    ("none", Filter, {}, [0, 1, "", "a", None], [1, "a"]),
    ("a method", FlatMap, {"fn": str.split}, ["a b", "", "c"], ["a", "b", "c"]),
    ("a generator", FlatMap, {"fn": up}, [2, 0, 1], [0, 1, 0]),
    ("an async generator", FlatMap, {"fn": down}, [2, 1], [2, 1, 1]),
    ("an async function", FlatMap, {"fn": twice}, [1, 2], [1, 1, 2, 2]),
    ("none", FlatMap, {}, [[1, 2], (), {"k": 1}, "ab"], [1, 2, "k", "a", "b"]),
    ("fewer", Take, {"n": 2}, [1, 2, 3], [1, 2]),
    ("more", Take, {"n": 5}, [1, 2, 3], [1, 2, 3]),
    ("nothing", Take, {"n": 0}, [1, 2, 3], []),
    ("equal items", Distinct, {}, [1, 2, 1, 1.0, "1", 2], [1, 2, "1"]),
    ("a key", Distinct, {"key": str.lower}, ["a", "A", "b", "B", "a"], ["a", "b"]),
    ("a memory", Distinct, {"memory": 2}, [1, 2, 1, 3, 1, 2, 3], [1, 2, 3, 2, 3]),
    ("a memory of one", Distinct, {"memory": 1}, [1, 1, 2, 2, 1], [1, 2, 1]),
]
EACH = pytest.mark.parametrize(
    ("component", "constants", "items", "expected"),
    [case[1:] for case in CASES],
    ids=[f"{case[1].__name__} with {case[0]}" for case in CASES],
)


@EACH
def test_what_a_node_sends(
    engine: Options, notes: Notes, component: Any, constants: dict[str, Any], items: list[Any], expected: list[Any]
) -> None:
    sent, report = through(component, items, notes, engine, **constants)
    assert sent == expected
    assert [type(each) for each in sent] == [type(each) for each in expected]
    assert report.nodes["node"].failed == 0


@EACH
def test_an_empty_stream_makes_nothing(
    notes: Notes, component: Any, constants: dict[str, Any], items: list[Any], expected: list[Any]
) -> None:
    assert through(component, [], notes, {"engine": "inline"}, **constants)[0] == []


def test_one_call_on_its_own() -> None:
    assert Map.test(inp=3, fn=operator.neg) == {"out": [-3]}
    assert Filter.test(inp=3, fn=is_even) == {"out": []}
    assert FlatMap.test(inp=3, fn=down) == {"out": [3, 2, 1]}
    assert Take.test(inp="abc", n=2) == {"out": ["a", "b"]}
    assert Distinct.test(inp=3) == {"out": [3]}
    assert Print.test(inp=3) == {"out": [3]}


@pytest.mark.parametrize(
    ("component", "constants", "items", "text"),
    [
        (Map, {"fn": 3}, [1], "TypeError: 'fn' must be a function of one item, not 3"),
        (Filter, {"fn": "no"}, [1], "TypeError: 'fn' must be a function of one item, not 'no'"),
        (FlatMap, {"fn": []}, [1], "TypeError: 'fn' must be a function of one item"),
        (FlatMap, {"fn": abs}, [1], "TypeError: what 'fn' gave is no iterable, but 1"),
        (FlatMap, {}, [1], "TypeError: the item is no iterable, but 1"),
        (Take, {"n": -1}, [], "ValueError: 'n' must be a whole number of at least 0, not -1"),
        (Take, {"n": 1.5}, [], "ValueError: 'n' must be a whole number"),
        (Take, {"n": True}, [], "ValueError: 'n' must be a whole number"),
        (Distinct, {"memory": 0}, [1], "ValueError: 'memory' must be a whole number of at least 1, not 0"),
        (Distinct, {"key": 0}, [1], "TypeError: 'key' must be a function"),
        (Distinct, {}, [[]], "TypeError: unhashable type: 'list', so that .* write `node.key < function`"),
        (Print, {"text": "{0.name}"}, [1], "AttributeError"),
    ],
)
def test_a_constant_that_means_nothing_is_an_error_of_the_node(
    notes: Notes, component: Any, constants: dict[str, Any], items: list[Any], text: str
) -> None:
    with pytest.raises(ComponentError, match=rf"'node' \({component.__name__}\) failed .*{text}"):
        around(component, items, notes, **constants).run(engine="inline")


@pytest.mark.parametrize("component", [Map, Filter, FlatMap])
def test_items_for_which_the_function_raises_can_be_skipped(engine: Options, notes: Notes, component: Any) -> None:
    graph = around(component, [2, 0, 1], notes, fn=lambda item: [2 // item])
    report = graph.run(**engine, on_error="skip")
    assert report.nodes["node"].failed == 1
    assert len(notes.read()) == 2


def test_a_group_of_maps_shares_the_work(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 100
    graph.square = Map * 2
    graph.square.fn < (lambda number: number**2)
    graph.count >> graph.square
    keep(graph, graph.square.out, notes)
    graph.run(**engine)
    assert sorted(notes.read()) == [number**2 for number in range(100)]


def test_take_stops_a_sender_that_would_never_end(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.endless.notes < notes
    graph.double = Map
    graph.double.fn < (lambda number: 2 * number)
    graph.first = Take
    graph.first.n < 4
    graph.endless >> graph.double >> graph.first
    keep(graph, graph.first.out, notes)
    report = graph.run(**engine)
    assert [note for note in notes.read() if isinstance(note, int)] == [0, 2, 4, 6]
    assert any(isinstance(note, tuple) and note[0] == "endless stopped at" for note in notes.read())
    assert report.nodes["first"].received == 4


def test_take_of_nothing_reads_nothing(engine: Options, notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.none = Take
    graph.none.n < 0
    graph.endless >> graph.none
    keep(graph, graph.none.out, notes)
    report = graph.run(**engine)
    assert notes.read() == []
    assert report.nodes["none"].received == 0


def test_the_state_of_distinct_can_begin_with_what_is_known(engine: Options, notes: Notes) -> None:
    graph = around(Distinct, [1, 2, 3], notes)
    graph.node.seen < ({2: None},)
    graph.run(**engine)
    assert notes.read() == [1, 3]


def test_print_prints_and_sends_on(engine: Options, notes: Notes, capfd: pytest.CaptureFixture[str]) -> None:
    sent, _ = through(Print, [1.5, 2.25], notes, engine, text="<{:.1f}>")
    assert sent == [1.5, 2.25]
    assert capfd.readouterr().out == "<1.5>\n<2.2>\n"


def test_print_alone_ends_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    graph = Graph()
    graph.count = Count
    graph.show = Print
    graph.count.upto < 2
    graph.count >> graph.show
    graph.run(engine="inline")
    assert capfd.readouterr().out == "0\n1\n"
