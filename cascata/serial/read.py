"""From JSON to an outline: every part is checked, and an error says where it stands.

What is checked here is the form. Whether components, ports and names fit together is checked by the graph
language when it builds the graph, in the same way as when a user writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from ..errors import DefinitionError, short_repr
from ..model import Endpoint, StateArgs
from ..options import suggestion
from .outline import Batch, ConnectionOutline, GraphOutline, NodeOutline, Settings, SubgraphOutline
from .schema import KEYS, SCHEMA, VERSION
from .values import plain

__all__ = ["read"]

T = TypeVar("T")

_WANTS: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    bool: "true or false",
}
_COMPONENT: Final = re.compile(r"[^:\s]+:[^:\s]+")


def read(data: Mapping[str, Any] | str | bytes) -> GraphOutline:
    """The outline of a saved graph. Nothing in it is shared with `data`.

    Args:
        data: what `write` gave, or its text.

    Raises:
        DefinitionError: it is no saved graph, or one of another version, or has a wrong form somewhere.
    """
    if isinstance(data, str | bytes | bytearray):
        data = _parsed(data)
    if not isinstance(data, Mapping):
        raise DefinitionError(f"a saved graph is a JSON object, not {short_repr(data)}.")
    _check_version(data)
    graph = _Part(data, "the saved graph", KEYS["graph"])
    graph.get("nodes", list)  # a graph without nodes says so
    return GraphOutline(
        nodes=tuple(map(_node, graph.parts("nodes"))),
        connections=tuple(map(_connection, graph.parts("connections"))),
        subgraphs=tuple(map(_subgraph, graph.parts("subgraphs"))),
        exports=graph.mapping("exports", _endpoint),
        pins=graph.mapping("pins", lambda value, where: _typed(value, int, where)),
    )


def _parsed(text: str | bytes | bytearray) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(
            f"a saved graph is JSON, and this text is not: {error}. To read a file, pass its text: "
            "`Graph.from_json(path.read_text())`."
        ) from error


def _check_version(data: Mapping[str, Any]) -> None:
    if SCHEMA not in data:
        raise DefinitionError(
            f'this is no saved graph: its key "{SCHEMA}", the version of the schema, is missing.'
            f"{suggestion(SCHEMA, map(str, data))}"
        )
    version = data[SCHEMA]
    if type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        raise DefinitionError(
            f'the saved graph has version {version!r} of the schema ("{SCHEMA}"), and this cascata reads version '
            f"{VERSION}. {'Load it with a newer cascata.' if newer else 'Save it again with Graph.to_json().'}"
        )


def _typed(value: Any, kind: type[T], where: str) -> T:
    # bool is an int to Python, and not to a reader of JSON
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DefinitionError(f"{where} must be {_WANTS[kind]}, not {short_repr(value)}.")
    return value


class _Part:
    """An object of a saved graph, with the place where it stands."""

    def __init__(self, data: Any, where: str, keys: tuple[str, ...]) -> None:
        if not isinstance(data, Mapping):
            raise DefinitionError(f"{where} must be an object, not {short_repr(data)}.")
        for key in data:
            if key not in keys:
                raise DefinitionError(f"{where} has a key {key!r}, which means nothing.{suggestion(str(key), keys)}")
        self.data = data
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def get(self, key: str, kind: type[T]) -> T:
        """A value that must be there."""
        if key not in self.data:
            raise DefinitionError(f"{self.where} has no {key!r}, which must be {_WANTS[kind]}.")
        return _typed(self.data[key], kind, f"{self.where}: {key!r}")

    def flag(self, key: str) -> bool:
        """Whether a key is there and true."""
        return key in self.data and self.get(key, bool)

    def items(self, key: str) -> Iterator[tuple[Any, str]]:
        """The items of a list, which may be left out, each with its place."""
        found: list[Any] = self.get(key, list) if key in self.data else []
        for number, each in enumerate(found):
            yield each, f"{self.where}: {key!r}[{number}]"

    def parts(self, key: str) -> Iterator[tuple[Any, str]]:
        """As `items`; an item that has a name is called by it."""
        for each, where in self.items(key):
            name = each.get("name") if isinstance(each, Mapping) else None
            yield each, f"{where} ({name})" if isinstance(name, str) else where

    def mapping(self, key: str, read: Callable[[Any, str], T]) -> dict[str, T]:
        """An object with names of its own as keys, which may be left out."""
        found: dict[Any, Any] = self.get(key, dict) if key in self.data else {}
        return {
            _typed(name, str, f"{self.where}: a key of {key!r}"): read(each, f"{self.where}: {key!r}: {name!r}")
            for name, each in found.items()
        }


def _node(given: tuple[Any, str]) -> NodeOutline:
    data, where = given
    is_group = isinstance(data, Mapping) and "size" in data
    part = _Part(data, where, KEYS["group" if is_group else "node"])
    component = part.get("component", str)
    if not _COMPONENT.fullmatch(component):
        raise DefinitionError(
            f"{where}: the component {component!r} must be written 'module:Name', as in 'package.module:Name'."
        )
    if not is_group:
        return NodeOutline(part.get("name", str), component, (_settings(part),))
    size = part.get("size", int)
    if size < 1:
        raise DefinitionError(f"{where}: a group has at least 1 member, and 'size' is {size}.")
    settings = [_settings(part)] * size
    if "members" in part:
        twice = [key for key in KEYS["settings"] if key in part]
        if twice:
            raise DefinitionError(f"{where} has both 'members' and {twice[0]!r}, which would stand for every member.")
        members = list(part.items("members"))
        if len(members) != size:
            raise DefinitionError(f"{where}: 'members' has {len(members)} entries, and 'size' is {size}.")
        settings = [_settings(_Part(each, place, KEYS["settings"])) for each, place in members]
    return NodeOutline(part.get("name", str), component, tuple(settings), size, part.flag("ordered"))


def _settings(part: _Part) -> Settings:
    return Settings(
        constants=part.mapping("constants", plain),
        states=part.mapping("states", _state_args),
        triggers=tuple(
            tuple(_typed(port, str, f"{place}[{number}]") for number, port in enumerate(_typed(group, list, place)))
            for group, place in part.items("triggers")
        ),
    )


def _state_args(data: Any, where: str) -> StateArgs:
    part = _Part(data, where, KEYS["state"])
    return StateArgs(
        args=tuple(plain(each, place) for each, place in part.items("args")), kwargs=part.mapping("kwargs", plain)
    )


def _connection(given: tuple[Any, str]) -> ConnectionOutline:
    part = _Part(*given, KEYS["connection"])
    batch: Batch = None
    if "batch" in part:
        batch = "all" if part.data["batch"] == "all" else part.get("batch", int)
    return ConnectionOutline(
        _endpoint(part.get("from", str), f"{part.where}: 'from'"),
        _endpoint(part.get("to", str), f"{part.where}: 'to'"),
        batch,
        part.flag("broadcast"),
    )


def _subgraph(given: tuple[Any, str]) -> SubgraphOutline:
    part = _Part(*given, KEYS["subgraph"])
    return SubgraphOutline(
        part.get("name", str),
        tuple(_typed(each, str, place) for each, place in part.items("nodes")),
        part.mapping("exports", _endpoint),
    )


def _endpoint(value: Any, where: str) -> Endpoint:
    node, dot, port = _typed(value, str, where).partition(".")
    if not (dot and node and port) or "." in port:
        raise DefinitionError(f"{where} must name a port as 'node.port', not {value!r}.")
    return Endpoint(node, port)
