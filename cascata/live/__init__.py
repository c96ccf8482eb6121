"""The caller's side of a running graph: its sources and sinks, and what feeds and reads them."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .nodes import Sink as Sink
from .nodes import Source as Source

if _TYPE_CHECKING:
    from .opened import Live as Live

__all__ = ["Live", "Sink", "Source"]


def __getattr__(name: str) -> object:
    """`Live` is for annotations, and brings the engines along: only when it is used."""
    if name != "Live":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _import_module(".opened", __name__).Live
