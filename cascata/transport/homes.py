"""The channels of a run on the portable transport: which worker keeps which, and the ends that a worker makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import SerializationError
from ..model import ChannelSpec, EdgeSpec, GraphSpec, Plan
from ..observe.board import Board
from .brokered_reader import BrokeredReader
from .brokered_writer import BrokeredWriter
from .misfits import unreadable, unsendable
from .station import Station

__all__ = ["BrokeredEnds", "home_of"]


def home_of(channel: ChannelSpec, placed: Mapping[str, int]) -> int:
    """The worker that keeps a channel: that of its first reader. `placed` maps a node to its worker."""
    return placed[channel.readers[0].node]


class BrokeredEnds:
    """Makes this worker the home of the channels that it is to keep, and the ends that its nodes need.

    Implements `runtime.worker.Links`. Make it before the station is opened.

    Args:
        station: of this worker.
        spec: the graph.
        plan: which node runs on which worker.
        board: the stats board.
        refused: told of an item that cannot cross: the error, the nodes whose failure it is, and the item.
    """

    def __init__(
        self,
        station: Station,
        spec: GraphSpec,
        plan: Plan,
        board: Board,
        refused: Callable[[SerializationError, Sequence[str], Any], None],
    ) -> None:
        self._station = station
        self._spec = spec
        self._board = board
        self._refused = refused
        self._homes: dict[int, int] = {}
        self._divided: set[int] = set()
        me = station.me
        placed = {node: worker for worker, nodes in enumerate(plan.parts) for node in nodes}
        edges: dict[int, int] = {}
        peers: set[int] = set()
        for number in sorted(plan.crossing):
            channel = spec.channels[number]
            home = self._homes[number] = home_of(channel, placed)
            readers = sorted({placed[reader.node] for reader in channel.readers})
            writers = {edge: placed[spec.edges[edge].source.node] for edge in channel.edges}
            if len(readers) > 1:
                self._divided.add(number)
            if home == me:
                station.keep(number, channel.capacity, writers, readers)
                peers.update(readers, writers.values())
            elif me in readers or me in writers.values():
                peers.add(home)
            else:
                continue
            edges.update(dict.fromkeys(channel.edges, number))
        station.knows(edges, peers - {me})

    def reader(self, channel: ChannelSpec, users: int) -> BrokeredReader:
        """The receiving end for this worker, taken from by `users` nodes."""

        def seen(edge: int, items: int) -> None:
            self._board.set_seen(edge, self._station.me, items)

        def bad(edge: int, count: int, problem: BaseException) -> None:
            self._board.add_failed(edge, self._station.me, count)
            source = self._spec.edges[edge].source
            error = unreadable(self._spec.edges[edge], channel, self._station.me, count, problem)
            readers = [reader.node for reader in channel.readers]
            for _ in range(count):
                self._refused(error, readers, f"<an item of {source} that could not be unpickled>")

        return BrokeredReader(self._station, channel.id, self._homes[channel.id], users=users, bad=bad, seen=seen)

    def writer(self, edge: EdgeSpec, forgotten: Callable[[], None]) -> BrokeredWriter:
        """The sending end of an edge."""
        channel = self._spec.channels[edge.channel]
        edges = self._spec.nodes[edge.source.node].outputs[edge.source.port].edges

        def bad(item: Any, problem: BaseException) -> None:
            self._board.add_failed(edge.id, self._station.me, 1)
            self._refused(unsendable(edge, channel, item, problem), [edge.source.node], item)

        return BrokeredWriter(
            self._station,
            edge.id,
            channel.id,
            self._homes[channel.id],
            channel.capacity,
            share=len(channel.edges),
            divided=channel.id in self._divided,
            shared=sum(self._spec.edges[other].channel in self._homes for other in edges) > 1,
            bad=bad,
            forgotten=forgotten,
        )
