"""The kernel's side of a crossing channel: its ends, made by the parent and handed to the workers."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from socket import AF_UNIX, SHUT_RDWR, SHUT_WR, SO_SNDBUF, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from typing import Final

from ...records import dataclass
from ..codec import frames
from ..ends.carrier import ReceivingCarrier, SendingCarrier, SocketReceiver, SocketSender
from ..ends.unread import Unread
from . import credits, ring
from .credits import credit_pipe
from .fd_hub import Hub

__all__ = ["Pair", "RingPair", "count_unread", "make_pair", "make_ring_pairs"]

SOCKET_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Pair:
    """The four ends of a crossing channel, as fds, and its capacity in items."""

    send: int
    receive: int
    take: int
    give: int
    capacity: int

    def sender(self, hub: Hub, *, shared: bool = False) -> SendingCarrier:
        """A sending end in this process; `shared` when others write, too."""
        return SocketSender(hub, self.send, self.take, self.give if shared else None)

    def receiver(self, hub: Hub) -> ReceivingCarrier:
        """A receiving end in this process."""
        return SocketReceiver(hub, self.receive, self.give)

    def end_writing(self) -> None:
        """No writer is left: the reader gets what is there, then the end."""
        self._shut(SHUT_WR)

    def end_reading(self) -> None:
        """No reader is left: writers are told."""
        self._shut(SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with socket(fileno=os.dup(self.send)) as sock, suppress(OSError):
            sock.shutdown(how)

    def grow(self, capacity: int, extra: int) -> None:
        """Makes room for more items than `capacity`, as far as the system allows."""
        credits.grow(self.give, capacity, extra)

    def count_unread(self) -> dict[int, Unread]:
        """What nobody has received, by edge, when nobody reads or writes any more. Takes it."""
        return count_unread(self.receive)

    def close(self) -> None:
        for fd in (self.send, self.receive, self.take, self.give):
            os.close(fd)


@dataclass(slots=True)
class RingPair:
    """The ends of a crossing channel with one writer and one reader: a ring, a socket beside it, and two bells."""

    send: int
    receive: int
    room_bell: int
    item_bell: int
    capacity: int
    memory: ring.RingMemory
    index: int
    lane: ring.Lane

    def sender(self, hub: Hub) -> SendingCarrier:
        """The sending end, in this process."""
        return ring.RingSender(hub, self.lane.share(), self.send, self.room_bell, self.item_bell)

    def receiver(self, hub: Hub) -> ReceivingCarrier:
        """The receiving end, in this process."""
        return ring.RingReceiver(hub, self.lane.share(), self.receive, self.item_bell, self.room_bell)

    def end_writing(self) -> None:
        """No writer is left: the reader gets what is there, then the end."""
        self.lane.words[ring.ENDED] = 1
        os.eventfd_write(self.item_bell, 1)

    def end_reading(self) -> None:
        """No reader is left: the writer is told."""
        self.lane.words[ring.ENDED] = self.lane.words[ring.CLOSED] = 1
        os.eventfd_write(self.item_bell, 1)
        os.eventfd_write(self.room_bell, 1)

    def grow(self, capacity: int, extra: int) -> None:
        """Makes room for more items than `capacity`."""
        self.lane.words[ring.CAPACITY] = capacity + extra
        os.eventfd_write(self.room_bell, 1)

    def count_unread(self) -> dict[int, Unread]:
        """What nobody has received, by edge, when nobody reads or writes any more."""
        return self.lane.count_unread()

    def close(self) -> None:
        for fd in (self.send, self.receive, self.room_bell, self.item_bell):
            os.close(fd)
        self.lane.close()
        self.memory.close_one()


def _sockets() -> tuple[int, int]:
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    near.setsockopt(SOL_SOCKET, SO_SNDBUF, SOCKET_BYTES)
    near.setblocking(False)
    far.setblocking(False)
    return near.detach(), far.detach()


def make_pair(capacity: int) -> Pair:
    """Makes the kernel's side of a crossing channel."""
    send, receive = _sockets()
    try:
        reading, writing, capacity = credit_pipe(capacity)
    except BaseException:
        os.close(send)
        os.close(receive)
        raise
    return Pair(send, receive, reading, writing, capacity)


def make_ring_pairs(capacities: Iterable[int]) -> list[RingPair]:
    """Makes the kernel's side of crossing channels that have one writer and one reader each.

    Raises:
        OSError: the system is short of fds or of memory; nothing is left open then.
    """
    capacities = list(capacities)
    pairs: list[RingPair] = []
    if not capacities:
        return pairs
    memory = ring.RingMemory(len(capacities))
    fds: list[int] = []
    try:
        for index, capacity in enumerate(capacities):
            fds += _sockets()
            fds += (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
            lane = memory.lane(index)
            limited = lane.words[ring.CAPACITY] = min(capacity, credits.MOST_CREDITS)
            send, receive, room_bell, item_bell = fds
            pairs.append(RingPair(send, receive, room_bell, item_bell, limited, memory, index, lane))
            fds = []
    except BaseException:
        for fd in fds:
            os.close(fd)
        for pair in pairs:
            pair.close()
        for _ in range(len(capacities) - len(pairs)):
            memory.close_one()
        raise
    return pairs


def count_unread(receive: int) -> dict[int, Unread]:
    """Takes what is left in a channel, when nobody else reads or writes it any more, and counts it by edge."""
    left: dict[int, Unread] = {}
    buffer = bytearray(frames.HEADER_BYTES)
    with socket(fileno=os.dup(receive)) as sock:
        while True:
            try:
                message = frames.receive(sock, buffer)
            except OSError as problem:
                if problem.errno == errno.ECONNRESET:
                    continue
                return left
            if message is None:
                return left
            view, fd = message
            if fd >= 0:
                os.close(fd)
            _, edge, total, count, _ = frames.HEADER.unpack_from(view)
            before = left.get(edge)
            left[edge] = Unread(count + (before.items if before else 0), total)
