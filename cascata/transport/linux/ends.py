"""The crossing channels of a run: made by the parent, and the ends that each worker gets of them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from ...channel.unawaited import Forgotten
from ...errors import SerializationError
from ...model import ChannelSpec, EdgeSpec, Endpoint, GraphSpec, Plan
from ...observe.board import SEEN, Board
from ...records import dataclass
from ..ends.budget import fill_of
from ..ends.carrier import ReceivingCarrier, SendingCarrier
from ..ends.item_errors import unreadable, unsendable
from ..ends.reader import CrossingReader
from ..ends.writer import CrossingWriter
from . import ring
from .blocks import MOST_WORKERS, make_arena
from .fd_hub import Hub
from .journal_memory import JournalReader, Region
from .large_items import Large, Sharing
from .sockets import Pair, RingPair, SocketReceiver, SocketSender, make_pair, make_ring_pairs

if TYPE_CHECKING:
    from .arena import Arena, Arenas

__all__ = ["AnyPair", "ChannelEnds", "Ends", "LinkedEnds", "ends_for", "make_arenas", "make_pairs"]


_FDS: Final = ("receive", "send", "take", "give", "room_bell", "item_bell", "memory")


@dataclass(slots=True)
class ChannelEnds:
    """The fds of one crossing channel that a worker holds; None for those that it has no use for."""

    capacity: int
    receive: int | None = None
    send: int | None = None
    take: int | None = None
    give: int | None = None
    room_bell: int | None = None
    item_bell: int | None = None
    memory: int | None = None
    lane: tuple[int, int] | None = None
    """Of a ring: which lane of the memory, and how many bytes each has."""

    def fds(self) -> dict[str, int]:
        found = {name: getattr(self, name) for name in _FDS}
        return {name: fd for name, fd in found.items() if fd is not None}


@dataclass(slots=True)
class Ends:
    """What a worker needs to know of the channels that cross its border."""

    channels: dict[int, ChannelEnds] = field(default_factory=dict)
    divided: frozenset[int] = frozenset()
    """Channels that several workers read."""
    journaled: frozenset[int] = frozenset()
    """Channels whose readers may start again: what is large is lost with who has received it."""
    arenas: dict[int, int] = field(default_factory=dict)
    """Fds of the arenas that large items come through, by the number of the part that sends."""
    spin: bool = False
    """Whether each part of the run has a core of its own, so that it may look for a moment before it waits."""

    def fds(self) -> set[int]:
        return {fd for held in self.channels.values() for fd in held.fds().values()} | {*self.arenas.values()}

    def numbered(self, number: Callable[[int], int]) -> Ends:
        """The same with other numbers for the fds; `number` is called once for each."""
        numbers = {fd: number(fd) for fd in self.fds()}
        channels = {}
        for channel, held in self.channels.items():
            channels[channel] = other = replace(held)
            for name, fd in held.fds().items():
                setattr(other, name, numbers[fd])
        return replace(self, channels=channels, arenas={part: numbers[fd] for part, fd in self.arenas.items()})


AnyPair = Pair | RingPair


def _placed(plan: Plan) -> dict[str, int]:
    return {node: index for index, nodes in enumerate(plan.parts) for node in nodes}


def _is_ring(channel: ChannelSpec, placed: Mapping[str, int]) -> bool:
    """Whether a channel has one writer and one reading process."""
    readers = {placed[reader.node] for reader in channel.readers}
    return ring.AVAILABLE and len(channel.edges) == 1 and len(readers) == 1


def _nodes(spec: GraphSpec, channel: ChannelSpec) -> set[str]:
    return {*(spec.edges[edge].source.node for edge in channel.edges), *(reader.node for reader in channel.readers)}


def make_pairs(spec: GraphSpec, plan: Plan, alone: AbstractSet[str] = frozenset()) -> dict[int, AnyPair]:
    """The kernel's side of each crossing channel.

    Args:
        spec: the graph.
        plan: which node runs on which worker.
        alone: nodes that may start again. What an end of a ring knows would die with it: theirs are sockets.

    Raises:
        OSError: the system is short of fds or of memory; nothing is left open then.
    """
    placed = _placed(plan)
    crossing = sorted(plan.crossing)
    theirs = {channel.id for channel in spec.channels if not alone.isdisjoint(_nodes(spec, channel))}
    rings = [each for each in crossing if each not in theirs and _is_ring(spec.channels[each], placed)]
    made = make_ring_pairs(spec.channels[channel].capacity for channel in rings)
    pairs: dict[int, AnyPair] = dict(zip(rings, made, strict=True))
    try:
        for channel in crossing:
            if channel not in pairs:
                pairs[channel] = make_pair(spec.channels[channel].capacity)
    except BaseException:
        for pair in pairs.values():
            pair.close()
        raise
    return pairs


def make_arenas(spec: GraphSpec, plan: Plan) -> dict[int, int]:
    """The arena of each part of the run that sends to others.

    Raises:
        OSError: the system is short of fds or of memory; nothing is left open then.
    """
    arenas: dict[int, int] = {}
    if len(plan.parts) > MOST_WORKERS:
        return arenas
    placed = _placed(plan)
    edges = [spec.edges[edge] for channel in plan.crossing for edge in spec.channels[channel].edges]
    try:
        for part in sorted({placed[edge.source.node] for edge in edges}):
            arenas[part] = make_arena()
    except BaseException:
        for fd in arenas.values():
            os.close(fd)
        raise
    return arenas


def ends_for(
    worker: int,
    spec: GraphSpec,
    plan: Plan,
    pairs: Mapping[int, AnyPair],
    arenas: Mapping[int, int],
    alone: AbstractSet[str] = frozenset(),
) -> Ends:
    """The fds that a worker gets, as the parent's numbers. `alone` are the nodes that may start again."""
    placed = _placed(plan)
    journaled = frozenset(
        channel for channel in pairs if any(reader.node in alone for reader in spec.channels[channel].readers)
    )
    ends = Ends(spin=len(plan.parts) <= len(os.sched_getaffinity(0)), journaled=journaled)
    divided = set()
    for channel, pair in pairs.items():
        specified = spec.channels[channel]
        readers = {placed[reader.node] for reader in specified.readers}
        if len(readers) > 1:
            divided.add(channel)
        held = ChannelEnds(pair.capacity)
        reads = worker in readers
        senders = {placed[spec.edges[edge].source.node] for edge in specified.edges}
        writes = worker in senders
        if reads:
            held.receive = pair.receive
            ends.arenas.update((sender, arenas[sender]) for sender in senders if sender in arenas)
        if writes:
            if worker in arenas:
                ends.arenas[worker] = arenas[worker]
            held.send = pair.send
        if isinstance(pair, RingPair):
            if reads or writes:
                held.room_bell, held.item_bell = pair.room_bell, pair.item_bell
                held.memory, held.lane = pair.memory.fd, (pair.index, pair.memory.lane_size)
        else:
            if writes:
                held.take = pair.take
            if reads or writes:
                held.give = pair.give
        if held.fds():
            ends.channels[channel] = held
    ends.divided = frozenset(divided)
    return ends


class LinkedEnds:
    """Makes readers and writers of the ends that this worker holds. Implements `runtime.worker.Links`.

    Args:
        hub: of the running loop.
        ends: with this process's fds.
        spec: the graph.
        board: the stats board.
        worker: index of this worker.
        refused: told of an item that cannot cross: the error, the nodes whose failure it is, and the item.
        journal: of a worker that may be started again: for each channel that it reads, its part.
    """

    def __init__(
        self,
        hub: Hub,
        ends: Ends,
        spec: GraphSpec,
        board: Board,
        worker: int,
        refused: Callable[[SerializationError, Sequence[str], Any], None],
        journal: Mapping[int, Region] | None = None,
    ) -> None:
        self._hub = hub
        self._ends = ends
        self._spec = spec
        self._board = board
        self._worker = worker
        self._refused = refused
        self._arena_fds = {part: os.dup(fd) for part, fd in ends.arenas.items()}
        self._arena: Arena | None = None
        self._arenas: Arenas | None = None
        self._sharing: dict[Endpoint, Sharing] = {}
        self._journal = journal
        self._memories: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # the lanes keep them

    def _own_arena(self) -> Arena | None:
        """Where this part of the run puts large items; made when the first one is sent."""
        if self._arena is None and self._worker in self._arena_fds:
            from .arena import Arena  # ctypes: only where large items come

            with suppress(OSError):  # the system is short: perhaps it is not next time
                self._arena = Arena(self._arena_fds[self._worker], self._worker)
        return self._arena

    def _all_arenas(self) -> Arenas:
        """Where the items lie that this part is told of."""
        if self._arenas is None:
            from .arena import Arenas

            self._arenas = Arenas(self._arena_fds, self._worker)
        return self._arenas

    def _shared(self, source: Endpoint) -> Sharing | None:
        """What the edges of an out-port share, when several cross."""
        edges = self._spec.nodes[source.node].outputs[source.port].edges
        if sum(self._spec.edges[edge].channel in self._ends.channels for edge in edges) < 2:
            return None
        return self._sharing.setdefault(source, Sharing())

    def _lane(self, held: ChannelEnds) -> ring.Lane:
        assert held.lane is not None  # `ends_for` gave it
        assert held.memory is not None
        memory = self._memories.get(held.memory)
        if memory is None:
            memory = self._memories[held.memory] = mmap.mmap(held.memory, 0)
        return ring.map_lane(memory, *held.lane)

    def _receiver(self, held: ChannelEnds) -> ReceivingCarrier:
        assert held.receive is not None  # `ends_for` gave it
        if held.lane is not None:
            assert held.item_bell is not None
            assert held.room_bell is not None
            bells = held.item_bell, held.room_bell
            return ring.RingReceiver(self._hub, self._lane(held), held.receive, *bells, self._all_arenas)
        assert held.give is not None
        return SocketReceiver(self._hub, held.receive, held.give, self._all_arenas)

    def _sender(self, held: ChannelEnds, large: Large, *, shared: bool) -> SendingCarrier:
        assert held.send is not None  # `ends_for` gave it
        if held.lane is not None:
            assert held.item_bell is not None
            assert held.room_bell is not None
            return ring.RingSender(self._hub, self._lane(held), held.send, held.room_bell, held.item_bell, large)
        assert held.take is not None
        return SocketSender(self._hub, held.send, held.take, held.give if shared else None, large)

    def reader(self, channel: ChannelSpec, users: int) -> CrossingReader:
        held = self._ends.channels[channel.id]
        measured: Callable[[float], None] | None = None
        if channel.id in self._ends.divided:
            board, worker = self._board, self._worker

            def measured(seconds: float) -> None:
                board.set_work(channel.id, worker, seconds)

        def seen(edge: int, items: int) -> None:
            self._board.set_seen(edge, self._worker, items)

        def bad(edge: int, count: int, problem: BaseException) -> None:
            self._board.add_failed(edge, self._worker, count)
            source = self._spec.edges[edge].source
            error = unreadable(self._spec.edges[edge], channel, self._worker, count, problem)
            readers = [reader.node for reader in channel.readers]
            for _ in range(count):
                self._refused(error, readers, f"<an item of {source} that could not be unpickled>")

        if self._journal is not None:
            assert held.receive is not None  # its channels are no rings
            assert held.give is not None
            return JournalReader(
                self._hub,
                held.receive,
                held.give,
                held.capacity,
                self._journal[channel.id],
                {edge: self._board.outcome(edge, self._worker, SEEN) for edge in channel.edges},
                bad=bad,
                seen=seen,
                measured=measured,
                arenas=self._all_arenas,
            )
        return CrossingReader(
            self._receiver(held),
            held.capacity,
            users=users,
            bad=bad,
            seen=seen,
            measured=measured,
            spin=self._ends.spin,
        )

    def writer(self, edge: EdgeSpec, forgotten: Forgotten) -> CrossingWriter:
        channel = self._spec.channels[edge.channel]
        held = self._ends.channels[channel.id]
        fill: Callable[[], int] | None = None
        if channel.id in self._ends.divided:
            board = self._board

            def fill() -> int:
                return fill_of(board.work(channel.id))

        def bad(item: Any, problem: BaseException) -> None:
            self._board.add_failed(edge.id, self._worker, 1)
            error = unsendable(edge, channel, item, problem)
            self._refused(error, [edge.source.node], item)

        share = len(channel.edges)
        together = share
        again = self._journal is not None
        if again:
            # Nothing may be in hand of a worker that dies but what it is at: an item goes as soon as it is put, with
            # a credit that was taken for it; and no arena of its own, which would have to be found as it was.
            together = max(2, held.capacity)
            fill = partial(fill_of, 0.0)
        large = Large(
            arena=None if again else self._own_arena,
            sharing=None if again else self._shared(edge.source),
            singly=channel.id in self._ends.journaled,
        )
        return CrossingWriter(
            self._sender(held, large, shared=together > 1),
            edge.id,
            held.capacity,
            share=together,
            fill=fill,
            spin=self._ends.spin,
            bad=bad,
            forgotten=forgotten,
        )

    def release(self) -> None:
        """Closes the fds that came with the worker's set-up: readers and writers have their own."""
        for fd in self._ends.fds():
            os.close(fd)

    def close(self) -> None:
        """Closes the arenas, when nobody sends or receives here any more. What was received stays."""
        for fd in self._arena_fds.values():
            os.close(fd)
