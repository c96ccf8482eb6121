"""RateLimit and Delay. What is measured are lower bounds, which a slow machine keeps as well."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cascata import Graph, In, Out, component
from cascata.components import Delay, RateLimit
from cascata.errors import ComponentError
from tests.components.helpers import around, through
from tests.engine.parts import Notes
from tests.speed import in_time

Options = dict[str, Any]

TICK_S = 0.001
"""Two clocks, or one that is read before a rounding, may differ by this."""


@component
async def Stamp(upto: In[int], stamped: Out[tuple[int, float]]) -> None:
    """Sends numbers with the time at which they were sent."""
    for number in range(upto):
        await stamped.send((number, time.monotonic()))


@component
async def Arrived(item: In[Any], notes: In[Notes]) -> None:
    """Notes items with the time at which they came."""
    notes.add((item, time.monotonic()))


def stamped(component_: Any, upto: int, notes: Notes, **constants: Any) -> Graph:
    graph = Graph()
    graph.stamp = Stamp
    graph.stamp.upto < upto
    graph.node = component_
    for port, value in constants.items():
        getattr(graph.node, port).set(value)
    graph.arrived = Arrived
    graph.arrived.notes < notes
    graph.stamp.stamped >> graph.node.inp
    graph.node.out >> graph.arrived.item
    return graph


# --- Delay ------------------------------------------------------------------------------------------


def test_each_item_comes_so_much_later_and_in_order(engine: Options, notes: Notes) -> None:
    stamped(Delay, 50, notes, seconds=0.1).run(**engine, timeout=30)
    got = notes.read()
    assert [number for (number, _), _ in got] == [*range(50)]
    assert min(arrived - sent for (_, sent), arrived in got) >= 0.1 - TICK_S


def test_items_are_delayed_side_by_side(notes: Notes) -> None:
    began = time.monotonic()
    stamped(Delay, 200, notes, seconds=0.2).run(engine="inline")
    assert len(notes.read()) == 200
    assert time.monotonic() - began < 20  # one after the other: 40 s


def test_a_bound_on_what_is_held_keeps_all_items_and_their_order(engine: Options, notes: Notes) -> None:
    sent, report = through(Delay, range(10), notes, engine, seconds=0.005, holds=1)
    assert sent == [*range(10)]
    assert report.nodes["node"].dropped == 0


def test_no_more_is_taken_than_may_be_held(notes: Notes) -> None:
    """One at a time: the whole takes at least as long as all the delays."""
    began = time.monotonic()
    through(Delay, range(6), notes, {"engine": "inline"}, seconds=0.03, holds=1)
    assert time.monotonic() - began >= 6 * 0.03 - TICK_S


def test_delaying_nothing_ends_at_once(engine: Options, notes: Notes) -> None:
    assert through(Delay, [], notes, engine, seconds=60)[0] == []


# --- RateLimit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [1, 4])
def test_no_more_items_go_out_than_the_rate_and_the_burst_allow(engine: Options, notes: Notes, burst: int) -> None:
    stamped(RateLimit, 12, notes, per_second=100, burst=burst).run(**engine, timeout=30)
    got = notes.read()
    assert [number for (number, _), _ in got] == [*range(12)]
    (_, first_sent), _ = got[0]
    _, last_arrived = got[-1]
    assert last_arrived - first_sent >= (12 - burst) / 100 - TICK_S


def test_items_do_not_wait_when_they_come_slower_than_the_rate() -> None:
    began = time.monotonic()
    assert RateLimit.test(inp=[1], per_second=0.001) == {"out": [1]}
    assert RateLimit.test(inp=[1, 2, 3], per_second=0.001, burst=3) == {"out": [1, 2, 3]}
    assert time.monotonic() - began < 20


def test_a_high_rate_is_reached_though_timers_are_coarse(notes: Notes) -> None:
    """One timer for each of 20,000 items would take 20 s and more."""
    began = time.monotonic()
    _, report = through(RateLimit, range(20_000), notes, {"engine": "inline"}, per_second=100_000)
    assert report.nodes["node"].sent == 20_000
    assert time.monotonic() - began >= 0.2 - 0.01 - TICK_S
    assert in_time(10, since=began)


# --- wrong constants --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component_", "constants", "text"),
    [
        (Delay, {"seconds": 0}, "'seconds' must be a number of seconds above 0, not 0"),
        (Delay, {"seconds": 1, "holds": 0}, "'holds' must be a whole number of at least 1, not 0"),
        (RateLimit, {"per_second": 0}, "'per_second' must be a number of items above 0, not 0"),
        (RateLimit, {"per_second": "5"}, "'per_second' must be a number of items above 0, not '5'"),
        (RateLimit, {"per_second": 5, "burst": 0}, "'burst' must be a whole number of at least 1, not 0"),
    ],
)
def test_a_wrong_constant_is_an_error_also_when_no_item_comes(
    notes: Notes, component_: Any, constants: dict[str, Any], text: str
) -> None:
    with pytest.raises(ComponentError, match=rf"'node' \({component_.__name__}\) failed .*ValueError: {text}"):
        around(component_, [], notes, **constants).run(engine="inline")
