"""The ends of crossing channels that a worker on Linux makes, of the fds that it got."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ...channel.unawaited import Forgotten
from ...model import ChannelSpec, EdgeSpec, Endpoint, GraphSpec
from ...observe.board import SEEN, Board
from ..ends.bookkeeping import Bookkeeping, Refused
from ..ends.budget import fill_of
from ..ends.carrier import ReceivingCarrier, SendingCarrier
from ..ends.reader import CrossingReader
from ..ends.writer import CrossingWriter
from . import ring
from .fd_hub import Hub
from .fds import ChannelEnds, Ends
from .journal_memory import JournalReader, Region
from .large_items import Large, Sharing
from .sockets import SocketReceiver, SocketSender

if TYPE_CHECKING:
    from .arena import Arena, Arenas

__all__ = ["LinkedEnds"]


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
        refused: Refused,
        journal: Mapping[int, Region] | None = None,
    ) -> None:
        self._hub = hub
        self._ends = ends
        self._spec = spec
        self._board = board
        self._worker = worker
        self._books = Bookkeeping(spec, board, worker, refused)
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
        if not self._books.is_shared(source, self._ends.channels):
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
                bad=self._books.unreadable(channel),
                seen=self._books.seen,
                measured=measured,
                arenas=self._all_arenas,
            )
        return CrossingReader(
            self._receiver(held),
            held.capacity,
            users=users,
            bad=self._books.unreadable(channel),
            seen=self._books.seen,
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
            bad=self._books.unsendable(edge),
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
