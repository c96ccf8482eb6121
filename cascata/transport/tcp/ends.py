"""The channels of a run on the portable transport: which worker keeps which, and the ends that a worker makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from ...channel.unawaited import Forgotten
from ...errors import SerializationError
from ...model import ChannelSpec, EdgeSpec, GraphSpec, Plan
from ...observe.board import FAILED_ITEMS, Board
from ..ends.item_errors import unreadable, unsendable
from .brokered_reader import BrokeredReader
from .brokered_writer import BrokeredWriter
from .restartable_reader import KeptReader
from .station import Station

__all__ = ["BrokeredEnds", "home_of"]


def home_of(channel: ChannelSpec, spec: GraphSpec, plan: Plan, alone: AbstractSet[str] = frozenset()) -> int:
    """The worker that keeps a channel: that of its first reader, or of its first writer, if those do not start again.

    Else it is the first worker that does not. There is one, or the caller's part: what feeds a node that starts again
    does not itself, at last.

    Args:
        channel: one that crosses.
        spec: the graph.
        plan: which node runs on which worker.
        alone: the nodes that start again when their worker dies.
    """
    ends = [reader.node for reader in channel.readers] + [spec.edges[edge].source.node for edge in channel.edges]
    lasting = [node for node in (*ends, *(node for nodes in plan.parts for node in nodes)) if node not in alone]
    return next(part for part, nodes in enumerate(plan.parts) if lasting[0] in nodes)


class BrokeredEnds:
    """Makes this worker the home of the channels that it is to keep, and the ends that its nodes need.

    Implements `runtime.worker.Links`. Make it before the station is opened.

    Args:
        station: of this worker.
        spec: the graph.
        plan: which node runs on which worker.
        board: the stats board.
        refused: told of an item that cannot cross: the error, the nodes whose failure it is, and the item.
        alone: the nodes that start again when their worker dies; each has a worker of its own.
        again: whether this worker has.
    """

    def __init__(
        self,
        station: Station,
        spec: GraphSpec,
        plan: Plan,
        board: Board,
        refused: Callable[[SerializationError, Sequence[str], Any], None],
        alone: AbstractSet[str] = frozenset(),
        *,
        again: bool = False,
    ) -> None:
        self._station = station
        self._spec = spec
        self._board = board
        self._refused = refused
        self._homes: dict[int, int] = {}
        self._divided: set[int] = set()
        me = station.me
        placed = {node: worker for worker, nodes in enumerate(plan.parts) for node in nodes}
        self._again = again
        self._returning = not alone.isdisjoint(plan.parts[me])
        station.expect_again(frozenset(placed[node] for node in alone))
        read_at: set[int] = set()  # homes of what is read here
        edges: dict[int, int] = {}
        peers: set[int] = set()
        for number in sorted(plan.crossing):
            channel = spec.channels[number]
            home = self._homes[number] = home_of(channel, spec, plan, alone)
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
            if me in readers:
                read_at.add(home)
            edges.update(dict.fromkeys(channel.edges, number))
        self._read_at = read_at
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

        home = self._homes[channel.id]
        if not self._returning:
            return BrokeredReader(self._station, channel.id, home, users=users, bad=bad, seen=seen)
        failed = 0

        def news() -> bytes:
            """What was counted here, when something has failed since the last time."""
            nonlocal failed
            before = failed
            failed = sum(self._board.outcome(edge, self._station.me, FAILED_ITEMS) for edge in channel.edges)
            return self._board.snapshot() if failed != before else b""

        return KeptReader(
            self._station,
            channel.id,
            home,
            channel.capacity,
            bad=bad,
            seen=seen,
            news=news,
            learn=self._board.catch_up,
            again=self._again,
        )

    def writer(self, edge: EdgeSpec, forgotten: Forgotten) -> BrokeredWriter:
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
            returning=self._returning,
            again=self._again,
            # What goes to where the items come from arrives there before the word that they are done.
            confirms=self._returning and self._read_at != {self._homes[channel.id]},
            bad=bad,
            forgotten=forgotten,
        )
