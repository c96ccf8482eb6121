"""The names of the schema. A change that an older cascata would misread raises the version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["KEYS", "SCHEMA", "VERSION"]

SCHEMA: Final = "cascata"
"""The key that says that this is a saved graph, and by which version of the schema."""

VERSION: Final = 1

_SETTINGS: Final = ("constants", "states", "triggers")

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "graph": (SCHEMA, "nodes", "connections", "subgraphs", "exports", "pins"),
    "node": ("name", "component", *_SETTINGS),
    "group": ("name", "component", "size", "ordered", "members", *_SETTINGS),
    "settings": _SETTINGS,
    "state": ("args", "kwargs"),
    "connection": ("from", "to", "batch", "broadcast"),
    "subgraph": ("name", "nodes", "exports"),
}
"""What each object of a saved graph may have. An unknown key is an error: skipping it would change the graph."""
