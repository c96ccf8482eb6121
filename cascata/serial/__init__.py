"""Saving and loading: an outline of a graph as versioned JSON and back; and graphs as networkx knows them."""

from .outline import ConnectionOutline, GraphOutline, NodeOutline, Settings, SubgraphOutline
from .read import read
from .write import write

__all__ = ["ConnectionOutline", "GraphOutline", "NodeOutline", "Settings", "SubgraphOutline", "read", "write"]
