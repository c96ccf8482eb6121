"""Names of nodes as names of the module or notebook in which their graph is written."""

from __future__ import annotations

import builtins
import types
import warnings
import weakref
from typing import Any, Final

from ..errors import CascataWarning
from .vertex import Vertex

__all__ = ["home_of", "inject"]

_injected: Final[weakref.WeakKeyDictionary[Vertex, str]] = weakref.WeakKeyDictionary()
"""What an injection has put somewhere, and under which name."""


def home_of(frame: types.FrameType) -> dict[str, Any] | None:
    """The names of a module or notebook when the frame runs at its top level, else None."""
    return frame.f_globals if frame.f_locals is frame.f_globals else None


def inject(home: dict[str, Any], name: str, vertex: Vertex, *, stacklevel: int) -> None:
    """Puts a node into the names of a module.

    A name that an earlier injection made is replaced, so that a notebook's cell can run again. Any other
    name, builtins included, is left as it is, with a `CascataWarning`.

    Args:
        home: the globals of the module.
        name: of the node.
        vertex: the node, group or subgraph.
        stacklevel: of the line to warn at, counted from the caller.
    """
    if name in home:
        present = home[name]
        # The type first: only nodes are asked further, since anything else may have any idea of a hash.
        ours = isinstance(present, Vertex) and _injected.get(present) == name
        what = f"the name {name!r} is in use here ({type(present).__name__})"
    else:
        ours = not hasattr(builtins, name)
        what = f"{name!r} is a builtin of Python"
    if not ours:
        warnings.warn(
            f"{what} and was left as it is: the node is `graph.{name}`.", CascataWarning, stacklevel=stacklevel + 1
        )
        return
    home[name] = vertex
    _injected[vertex] = name
