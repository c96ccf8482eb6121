"""The ends of channels on one worker: which there are, which cross to other workers, and which node has them.

GraphSpec + node names ──> readers: local channels here, crossing ones by `Links`
                      └──> ends_of(node) ──> a reader for each in-port, a writer for each edge of an out-port
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, Protocol

from ..channel.base import Reader, Writer
from ..channel.batch import BatchReader
from ..channel.change_detector import CheckedDeque
from ..channel.local import LocalChannel
from ..channel.merge import MergedReader
from ..channel.unawaited import Forgotten, Unawaited
from ..model import MISSING, ChannelSpec, EdgeSpec, GraphSpec, NodeSpec
from ..records import dataclass

__all__ = ["Ends", "Links", "Wiring"]


class Links(Protocol):
    """Makes the ends of channels that cross a process border."""

    def reader(self, channel: ChannelSpec, users: int) -> Reader:
        """The receiving end for this worker, taken from by `users` nodes."""

    def writer(self, edge: EdgeSpec, forgotten: Forgotten) -> Writer:
        """The sending end of an edge."""


@dataclass(slots=True)
class Ends:
    """The ends that one node has.

    Attributes:
        readers: in-port -> its reader, for the ports with channels.
        writers: out-port -> the writers of its edges.
        takes_with_others: whether other nodes here take from a channel of its, too, that several edges write to.
    """

    readers: dict[str, Reader]
    writers: dict[str, list[Writer]]
    takes_with_others: bool


class Wiring:
    """The ends of all channels that nodes of one worker read or write.

    Args:
        spec: the whole graph.
        names: the nodes that run here.
        crossing: ids of the channels that cross a process border.
        links: makes the ends of those.
        forgotten: called with node and out-port when a `send` that had to wait was never awaited.
        debug: whether items are watched that are changed after they were sent.

    Attributes:
        crossing: the same.
        readers: channel -> its receiving end.
        writers: edge -> its sending end.
    """

    def __init__(
        self,
        spec: GraphSpec,
        names: Sequence[str],
        crossing: frozenset[int],
        links: Links | None,
        forgotten: Callable[[str, str, Unawaited | None], None],
        *,
        debug: bool,
    ) -> None:
        self.crossing = crossing
        self.readers: dict[int, Reader] = {}
        self.writers: dict[int, Writer] = {}
        self._spec = spec
        self._links = links
        self._forgotten = forgotten
        self._debug = debug
        self._open: Counter[int] = Counter()  # channel -> nodes here that still read it
        here = frozenset(names)
        for channel in spec.channels:
            users = sum(reader.node in here for reader in channel.readers)
            if users:
                self._open[channel.id] = users
                self.readers[channel.id] = self._reader(channel, users)

    def _reader(self, channel: ChannelSpec, users: int) -> Reader:
        if channel.id in self.crossing:
            assert self._links is not None  # a plan with crossing channels comes with links
            return self._links.reader(channel, users)
        local = LocalChannel(channel.capacity, users)
        if self._debug:
            local.items = CheckedDeque()
        return local

    def ends_of(self, node: NodeSpec, rested: Callable[[], None]) -> Ends:
        """Makes the ends of a node: those of all nodes before the first one runs.

        Args:
            node: it.
            rested: called when one of several channels that feed an in-port has ended.
        """
        readers: dict[str, Reader] = {}
        with_others = False
        for port, given in node.inputs.items():
            if given.channels:
                behind = [self._batching(channel) for channel in given.channels]
                seed = [] if given.seed is MISSING else [given.seed]
                readers[port] = behind[0] if len(behind) == 1 and not seed else MergedReader(behind, seed, rested)
                channels = [self._spec.channels[each] for each in given.channels]
                with_others |= any(self._open[each.id] > 1 and len(each.edges) > 1 for each in channels)
        writers = {
            port: [self._writer(self._spec.edges[edge]) for edge in output.edges]
            for port, output in node.outputs.items()
        }
        return Ends(readers, writers, with_others)

    def _batching(self, channel: int) -> Reader:
        reader = self.readers[channel]
        batch = self._batch(channel)
        return reader if batch is None else BatchReader(reader, None if batch == "all" else batch)

    def _writer(self, edge: EdgeSpec) -> Writer:
        forgotten = partial(_tell, self._forgotten, edge)
        writer: Writer
        if edge.channel in self.crossing:
            assert self._links is not None
            writer = self._links.writer(edge, forgotten)
        else:
            channel = self.readers[edge.channel]
            assert isinstance(channel, LocalChannel)
            writer = channel.writer(edge.id, forgotten)
        self.writers[edge.id] = writer
        return writer

    # -- what is known of them

    def _batch(self, channel: int) -> int | Literal["all"] | None:
        return self._spec.edges[self._spec.channels[channel].edges[0]].batch  # one for all edges of a channel

    def batches(self, channel: int) -> bool:
        """Whether what comes on a channel is put into lists."""
        return self._batch(channel) is not None

    def channel_of(self, edge: int) -> int:
        return self._spec.edges[edge].channel

    def crosses(self, edge: int) -> bool:
        return self.channel_of(edge) in self.crossing

    def crossing_edges(self, channels: Iterable[int]) -> set[int]:
        """The edges of those of the channels that cross."""
        return {edge for each in self.crossing.intersection(channels) for edge in self._spec.channels[each].edges}

    def received(self) -> dict[int, int]:
        """Crossing edge -> items that have come here by it."""
        received: dict[int, int] = {}
        for channel in self.crossing & self.readers.keys():
            received.update(self.readers[channel].received())
        return received

    # -- what happens to them

    def ended(self, node: NodeSpec) -> tuple[list[int], list[int]]:
        """A node has ended.

        Returns:
            The crossing edges that it wrote to, and the crossing channels without readers here from now on.
        """
        edges = [edge for output in node.outputs.values() for edge in output.edges if self.crosses(edge)]
        unread = []
        for given in node.inputs.values():
            for channel in given.channels:
                self._open[channel] -= 1
                if not self._open[channel] and channel in self.crossing:
                    unread.append(channel)
        return edges, unread

    def grow(self, channel: int, extra: int) -> None:
        """Gives a local channel room for more items."""
        reader = self.readers.get(channel)
        if isinstance(reader, LocalChannel):
            reader.grow(extra)

    def finish(self, channels: Iterable[int]) -> None:
        """Ends those of the channels that do not cross."""
        for channel in channels:
            reader = self.readers.get(channel)
            if isinstance(reader, LocalChannel):
                reader.finish()


def _tell(
    forgotten: Callable[[str, str, Unawaited | None], None], edge: EdgeSpec, those: Unawaited | None = None
) -> None:
    forgotten(edge.source.node, edge.source.port, those)
