"""The caller's side of a running graph: its sources and sinks, and what feeds and reads them."""

from .nodes import Sink as Sink
from .nodes import Source as Source
