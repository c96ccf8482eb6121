"""What the ends of every crossing channel tell the board and the run of items that came, and of those that failed."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from ...errors import SerializationError
from ...model import ChannelSpec, EdgeSpec, Endpoint, GraphSpec
from ...observe.board import Board
from .item_errors import unreadable, unsendable

__all__ = ["Bookkeeping", "Refused"]

Refused = Callable[[SerializationError, Sequence[str], Any], None]
"""Is told of an item that cannot cross: the error, the nodes whose failure it is, and the item."""


class Bookkeeping:
    """That of one worker.

    Args:
        spec: the graph.
        board: the stats board.
        worker: index of this worker.
        refused: told of an item that cannot cross.
    """

    def __init__(self, spec: GraphSpec, board: Board, worker: int, refused: Refused) -> None:
        self._spec = spec
        self._board = board
        self._worker = worker
        self._refused = refused

    def seen(self, edge: int, items: int) -> None:
        """So many items have come in here on an edge so far."""
        self._board.set_seen(edge, self._worker, items)

    def unreadable(self, channel: ChannelSpec) -> Callable[[int, int, BaseException], None]:
        """What a reader calls with the edge, the count and the error of items that cannot be unpickled."""

        def bad(edge: int, count: int, problem: BaseException) -> None:
            self._board.add_failed(edge, self._worker, count)
            source = self._spec.edges[edge].source
            error = unreadable(self._spec.edges[edge], channel, self._worker, count, problem)
            readers = [reader.node for reader in channel.readers]
            for _ in range(count):
                self._refused(error, readers, f"<an item of {source} that could not be unpickled>")

        return bad

    def unsendable(self, edge: EdgeSpec) -> Callable[[Any, BaseException], None]:
        """What a writer calls with an item that cannot be serialised, and why."""
        channel = self._spec.channels[edge.channel]

        def bad(item: Any, problem: BaseException) -> None:
            self._board.add_failed(edge.id, self._worker, 1)
            self._refused(unsendable(edge, channel, item, problem), [edge.source.node], item)

        return bad

    def is_shared(self, source: Endpoint, crossing: Container[int]) -> bool:
        """Whether the items of an out-port go out on several edges that cross, to these channels."""
        edges = self._spec.nodes[source.node].outputs[source.port].edges
        return sum(self._spec.edges[edge].channel in crossing for edge in edges) > 1
