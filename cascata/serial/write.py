"""From an outline to JSON. docs/saving.md describes the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import Endpoint
from .outline import ConnectionOutline, GraphOutline, NodeOutline, Settings
from .schema import SCHEMA, VERSION
from .values import plain

__all__ = ["write"]


def write(graph: GraphOutline) -> dict[str, Any]:
    """The graph as a dict that `json.dumps` takes. The same graph gives the same dict; nothing in it is shared.

    What says nothing is left out, so that a saved graph reads as it was written.

    Raises:
        DefinitionError: a value cannot be held by JSON; the text names node and port.
    """
    return {
        SCHEMA: VERSION,
        "nodes": [_node(each) for each in graph.nodes],
        **_unless_empty("connections", [_connection(each) for each in graph.connections]),
        **_unless_empty(
            "subgraphs",
            [
                {"name": each.name, "nodes": list(each.nodes), **_unless_empty("exports", _ports(each.exports))}
                for each in graph.subgraphs
            ],
        ),
        **_unless_empty("exports", _ports(graph.exports)),
        **_unless_empty("pins", dict(graph.pins)),
    }


def _unless_empty(key: str, value: Any) -> dict[str, Any]:
    return {key: value} if value else {}


def _ports(ports: Mapping[str, Endpoint]) -> dict[str, str]:
    return {name: str(port) for name, port in ports.items()}


def _node(node: NodeOutline) -> dict[str, Any]:
    head: dict[str, Any] = {"name": node.name, "component": node.component}
    if node.size is None:
        return head | _settings(node.name, node.settings[0])
    head["size"] = node.size
    if node.ordered:
        head["ordered"] = True
    members = [_settings(f"{node.name}_{index}", each) for index, each in enumerate(node.settings)]
    if all(_same(each, members[0]) for each in members):  # as it is when everything was said to the group
        return head | members[0]
    return head | {"members": members}


def _same(one: Any, other: Any) -> bool:
    """Equal and of the same types: 1, 1.0 and True are equal, and not the same constant."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _settings(node: str, settings: Settings) -> dict[str, Any]:
    constants = {port: plain(value, f"{node}.{port}") for port, value in settings.constants.items()}
    states = {
        state: {
            **_unless_empty("args", plain(list(given.args), f"{node}.{state}")),
            **_unless_empty("kwargs", plain(dict(given.kwargs), f"{node}.{state}")),
        }
        for state, given in settings.states.items()
    }
    return {
        **_unless_empty("constants", constants),
        **_unless_empty("states", states),
        **_unless_empty("triggers", [list(group) for group in settings.triggers]),
    }


def _connection(each: ConnectionOutline) -> dict[str, Any]:
    written: dict[str, Any] = {"from": str(each.source), "to": str(each.target)}
    if each.batch is not None:
        written["batch"] = each.batch
    if each.broadcast:
        written["broadcast"] = True
    return written
