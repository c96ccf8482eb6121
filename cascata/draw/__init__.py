"""Pictures of a graph: SVG and PNG, Graphviz, Mermaid. They read the resolved graph only."""

from .dot import to_dot
from .files import Drawing, draw
from .mermaid import to_mermaid
from .svg import svg

__all__ = ["Drawing", "draw", "svg", "to_dot", "to_mermaid"]
