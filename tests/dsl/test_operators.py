"""Operators that Python lets a user write but that mean nothing raise, and the text has the right form."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascata.dsl import Graph
from cascata.errors import DefinitionError

from .nodes import Double, Show, Source, Three


@pytest.fixture
def graph() -> Graph:
    graph = Graph()
    graph.source = Source
    graph.double = Double
    graph.show = Show
    graph.three = Three
    graph.group = Double * 2
    return graph


def refused(statement: Callable[[], object], *parts: str) -> None:
    """The statement raises, and the text has all of the parts."""
    with pytest.raises(DefinitionError) as raised:
        statement()
    assert isinstance(raised.value, TypeError)
    for part in parts:
        assert part in str(raised.value)


def in_place(symbol: str, left: Any, right: Any) -> Callable[[], object]:
    return lambda: exec(f"left {symbol} right", {"left": left, "right": right})  # noqa: S102 - as a user writes it


# --- in-ports ---------------------------------------------------------------------------------------


def test_a_chain_of_comparisons_is_refused(graph: Graph) -> None:
    refused(
        in_place("< 1 <", graph.source.n, 2),
        "`source.n < 1` is a statement",
        "`x < 1 < y`",
        "a line of its own",
    )


def test_a_constant_is_no_condition(graph: Graph) -> None:
    refused(lambda: bool(graph.source.n < 1), "`source.n < 1` is a statement", "condition")


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("value", [10**5000, Unshown()], ids=["a number too long for a text", "a repr that raises"])
def test_a_value_that_cannot_be_shown_can_be_given(graph: Graph, value: Any) -> None:
    graph.source.n < value
    assert graph.resolve().nodes["source"].inputs["n"].constant is value
    assert "source" in repr(graph)
    refused(in_place(">", graph.source.n, value), "means nothing")


@pytest.mark.parametrize("symbol", [">", ">=", "<="])
def test_other_comparisons_with_an_in_port_are_refused(graph: Graph, symbol: str) -> None:
    refused(in_place(symbol, graph.source.n, 5), f"`source.n {symbol} 5` means nothing", "write `source.n < value`")


def test_an_array_compared_with_an_in_port_is_refused(graph: Graph) -> None:
    for array in (np.arange(3), np.float64(2)):
        refused(lambda array=array: array > graph.source.n, "> source.n` means nothing", "`source.n < value`")  # type: ignore[misc]
    assert graph.resolve().nodes["source"].inputs["n"].constant is not np.arange


def test_an_array_is_one_value_for_an_in_port(graph: Graph) -> None:
    array = np.arange(3)
    graph.source.n < array
    assert graph.resolve().nodes["source"].inputs["n"].constant is array


def test_an_array_shifted_into_a_port_is_refused(graph: Graph) -> None:
    refused(lambda: np.arange(3) >> graph.show.data, ">> show.data` means nothing", "`show.data < value`")


def test_values_do_not_flow_into_an_in_port(graph: Graph) -> None:
    refused(lambda: [1, 2] >> graph.show.data, "`[1, 2] >> show.data` means nothing", "`show.data < value`")


def test_an_in_port_is_no_source(graph: Graph) -> None:
    refused(lambda: graph.show.data >> graph.double.y, "from an out-port to an in-port: `double.y >> show.data`")
    refused(lambda: graph.show.data >> graph.double.x, "show.data is an in-port", "from an out-port to an in-port")
    refused(lambda: graph.show.data >> graph.double, "from an out-port to an in-port")
    refused(in_place(">>=", graph.show.data, graph.double.y), "`double.y >> show.data`")


@pytest.mark.parametrize("other", ["double.y", "double.x", "double", "three.seen"])
def test_a_port_or_a_node_is_no_value(graph: Graph, other: str) -> None:
    value: Any = graph
    for name in other.split("."):
        value = getattr(value, name)
    refused(lambda: graph.show.data < value, f"`show.data < {other}` means nothing", "wiring goes from an out-port")
    refused(lambda: graph.show.data.set(value), "wiring goes from an out-port")


def test_assigning_to_an_in_port_is_refused(graph: Graph) -> None:
    refused(lambda: setattr(graph.source, "n", 5), "`source.n = ...`", "write `source.n < value`")


# --- out-ports --------------------------------------------------------------------------------------


def test_a_value_for_an_out_port_is_refused(graph: Graph) -> None:
    refused(lambda: graph.double.y < 5, "`double.y < 5` means nothing", "double.y is an out-port", "`inp < value`")


def test_a_connection_with_a_value_in_one_line_is_refused(graph: Graph) -> None:
    refused(
        lambda: graph.double.y >> graph.show.data < 5,
        "double.y is an out-port",
        "each in a line of its own: `inp < value`",
    )


def test_a_batch_without_its_size_is_refused(graph: Graph) -> None:
    refused(
        lambda: graph.double.y >= graph.show.data,
        "`double.y >> 3 >= show.data`",
        "`double.y >>= show.data`",
    )


@pytest.mark.parametrize("symbol", ["<", "<=", ">"])
def test_comparisons_of_ports_are_refused(graph: Graph, symbol: str) -> None:
    refused(in_place(symbol, graph.double.y, graph.show.data), "means nothing", "`double.y >> inp`")


def test_arrows_to_the_left_are_refused(graph: Graph) -> None:
    refused(lambda: graph.show.data << graph.double.y, "`double.y >> show.data`")
    refused(lambda: graph.double.y << graph.show.data, "`double.y >> inp`")
    refused(lambda: 5 << graph.show.data, "`5 << show.data` means nothing")
    refused(in_place("<<=", graph.double, graph.show), "`double <<= show` means nothing", "`double >> other`")


@pytest.mark.parametrize("target", ["source.out", "three.seen"])
def test_an_out_port_connects_to_in_ports_only(graph: Graph, target: str) -> None:
    node, port = target.split(".")
    refused(lambda: graph.double.y >> getattr(getattr(graph, node), port), f"`double.y >> {target}` means nothing")


def test_an_out_port_connects_to_no_value_and_no_class(graph: Graph) -> None:
    refused(lambda: graph.double.y >> "show", "`double.y >> 'show'` means nothing", "`double.y >> inp`")
    refused(lambda: graph.double.y >> Show, "Add the component first: `graph.name = Show`")
    refused(lambda: graph.double.y.connect(5), "`double.y >> 5` means nothing")
    refused(in_place(">>=", graph.double.y, 5), "`double.y >>= 5` means nothing")
    refused(lambda: graph.double.y >> True, "`double.y >> True` means nothing")


def test_assigning_to_an_out_port_is_refused(graph: Graph) -> None:
    refused(lambda: setattr(graph.double, "y", graph.source.out), "`double.y = ...`", "cannot be replaced")


# --- nodes ------------------------------------------------------------------------------------------


def test_batches_between_nodes_are_refused(graph: Graph) -> None:
    refused(
        in_place(">>=", graph.double, graph.show),
        "`double >>= show` means nothing",
        "`double >> other`",
        "`double.y >>= show.inp`",
    )
    refused(in_place(">>=", graph.group, graph.show), "`group >>= show` means nothing")
    refused(lambda: graph.double >> 3, "`double >> 3` means nothing", "`double.y >> 3 >= inp`")


@pytest.mark.parametrize("symbol", ["<", "<=", ">", ">="])
def test_a_value_for_a_node_is_refused(graph: Graph, symbol: str) -> None:
    refused(in_place(symbol, graph.double, 5), f"`double {symbol} 5` means nothing", "`double.x < value`")
    refused(in_place(symbol, graph.group, 5), f"`group {symbol} 5` means nothing", "`group.x < value`")


def test_a_node_connects_to_no_port_and_no_class(graph: Graph) -> None:
    refused(lambda: graph.double >> graph.show.data, "Name the out-port as well: `double.y >> show.data`")
    refused(lambda: graph.double >> Show, "Add the component first: `graph.name = Show`")
    refused(lambda: graph.double >> None, "`double >> None` means nothing")
    refused(lambda: 5 >> graph.double, "`5 >> double` means nothing")


def test_an_array_compared_with_a_node_is_refused(graph: Graph) -> None:
    refused(lambda: np.arange(3) > graph.double, "> double` means nothing", "`double.x < value`")


# --- state, batches, broadcasts, errors -------------------------------------------------------------


def test_state_is_no_port(graph: Graph) -> None:
    refused(lambda: graph.three.seen >> graph.show.data, "three.seen is state, not a port: `three.seen < args`")
    refused(lambda: graph.three.seen > 5, "`three.seen < args`")
    refused(lambda: graph.three.seen < graph.double.y, "`three.seen < args`")


def test_the_first_half_of_a_batch_only_takes_the_second(graph: Graph) -> None:
    refused(lambda: graph.double.y >> 3 >> graph.show.data, "Write `double.y >> 3 >= inp` for lists of 3")
    refused(lambda: graph.double.y >> 3 > graph.show.data, "Write `double.y >> 3 >= inp`")
    refused(lambda: graph.double.y >> 3 >= 5, "`double.y >= 5` means nothing")
    refused(lambda: graph.double.y >> 0, "a batch holds at least one item")


def test_a_broadcast_only_connects(graph: Graph) -> None:
    refused(lambda: graph.double.y.broadcast() < 5, "Write `double.y.broadcast() >> group.port`")
    refused(lambda: graph.double.y.broadcast() >> 5, "`double.y >> 5` means nothing")


def test_ordered_is_for_groups_and_gives_the_group_back(graph: Graph) -> None:
    assert graph.group.ordered() is graph.group
    refused(graph.double.ordered, "double.ordered()", "for groups")


def test_parts_of_a_statement_show_what_was_written(graph: Graph) -> None:
    assert repr(graph.double.y >> 3) == "double.y >> 3"
    assert repr(graph.double.y.broadcast()) == "double.y.broadcast()"
    assert re.fullmatch(r"source\.n < \[1, 2\]", repr(graph.source.n < [1, 2]))
