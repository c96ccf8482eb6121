"""The channels of a run on the portable transport: which worker keeps which, and the ends that a worker makes."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ...channel.unawaited import Forgotten
from ...model import ChannelSpec, EdgeSpec, GraphSpec, Plan
from ...observe.board import FAILED_ITEMS, Board
from ..ends.bookkeeping import Bookkeeping, Refused
from ..ends.reader import CrossingReader
from ..ends.writer import CrossingWriter
from .broker_carrier import BrokerReceiver, BrokerSender
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
        refused: Refused,
        alone: AbstractSet[str] = frozenset(),
        *,
        again: bool = False,
    ) -> None:
        self._station = station
        self._spec = spec
        self._board = board
        self._books = Bookkeeping(spec, board, station.me, refused)
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

    def reader(self, channel: ChannelSpec, users: int) -> CrossingReader:
        """The receiving end for this worker, taken from by `users` nodes."""
        bad, seen = self._books.unreadable(channel), self._books.seen
        home = self._homes[channel.id]
        if not self._returning:
            carrier = BrokerReceiver(self._station, channel.id, home)
            return CrossingReader(carrier, channel.capacity, users=users, bad=bad, seen=seen, measured=carrier.worked)
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

    def writer(self, edge: EdgeSpec, forgotten: Forgotten) -> CrossingWriter:
        """The sending end of an edge."""
        channel = self._spec.channels[edge.channel]
        divided = channel.id in self._divided
        share = len(channel.edges)
        carrier = BrokerSender(
            self._station,
            edge.id,
            channel.id,
            self._homes[channel.id],
            channel.capacity,
            share=share,
            shared=self._books.is_shared(edge.source, self._homes),
            returning=self._returning,
            again=self._again,
            # What goes to where the items come from arrives there before the word that they are done.
            confirms=self._returning and self._read_at != {self._homes[channel.id]},
        )
        fill = carrier.fill if divided or self._returning else None
        return CrossingWriter(
            carrier,
            edge.id,
            channel.capacity,
            share=share,
            fill=fill,
            bad=self._books.unsendable(edge),
            forgotten=forgotten,
        )
