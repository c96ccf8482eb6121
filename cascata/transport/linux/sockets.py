"""Channels of the kernel's means: a SEQPACKET socket for frames and a pipe for credits, made by the parent.

    parent ── make_pair ──> Pair ── fds to the workers ──> SocketSender, SocketReceiver there

`ring` has the other kind, for one writer and one reader.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from socket import AF_UNIX, SHUT_RDWR, SHUT_WR, SO_SNDBUF, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from typing import TYPE_CHECKING, Any, Final

from ...records import dataclass
from ..ends.carrier import Message, ReceivingCarrier, ReceivingUser, SendingCarrier, SendingUser
from ..ends.unread import Unread
from . import credits, messages, ring
from .credits import credit_pipe
from .fd_hub import HUNG_UP, READABLE, WRITABLE, Hub
from .large_items import IN_FILES, Large, Messages, find, messages_over
from .messages import HEADER, HEADER_BYTES, INLINE_LIMIT, Frame

if TYPE_CHECKING:
    from .arena import Arenas

__all__ = ["Pair", "RingPair", "SocketReceiver", "SocketSender", "count_unread", "make_pair", "make_ring_pairs"]

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
    buffer = bytearray(HEADER_BYTES)
    with socket(fileno=os.dup(receive)) as sock:
        while True:
            try:
                found = messages.receive(sock, buffer)
            except OSError as problem:
                if problem.errno == errno.ECONNRESET:
                    continue
                return left
            if found is None:
                return left
            view, fd = found
            if fd >= 0:
                os.close(fd)
            _, edge, total, count, _ = HEADER.unpack_from(view)
            before = left.get(edge)
            left[edge] = Unread(count + (before.items if before else 0), total)


class SocketSender:
    """Frames into a socket, credits from a pipe.

    Args:
        hub: of the running loop.
        send, take_credits: fds of the channel; this object makes its own of them.
        give_credits: where credits that are not used are given back; None for an edge that is alone.
        large: how what is large is sent.
    """

    recalls = False

    def __init__(
        self, hub: Hub, send: int, take_credits: int, give_credits: int | None, large: Large = IN_FILES
    ) -> None:
        self._hub = hub
        self.socket = socket(fileno=os.dup(send))
        self.credit = os.dup(take_credits)
        self._give = None if give_credits is None else os.dup(give_credits)
        self._awaits_credit = self._awaits_socket = False
        self._large = large
        self.sharing = large.sharing

    def framing(self, edge: int) -> Messages:
        return messages_over(self.socket, edge, self._large)

    def watch(self, user: SendingUser) -> None:
        self._user = user
        self._hub.watch(self.credit, 0, self._on_credit)
        self._hub.watch(self.socket.fileno(), 0, self._on_socket)

    def take(self, most: int) -> int:
        return credits.take(self.credit, most)

    def give(self, count: int) -> None:
        if self._give is not None:
            credits.give(self._give, count)

    def want_room(self) -> None:
        if not self._awaits_credit:
            self._awaits_credit = True
            self._hub.change(self.credit, READABLE)

    def want_passage(self) -> None:
        if not self._awaits_socket:
            self._awaits_socket = True
            self._hub.change(self.socket.fileno(), WRITABLE)

    def _on_credit(self, events: int) -> None:
        if not self._user.on_room() and events & READABLE:
            self._awaits_credit = False
            self._hub.change(self.credit, 0)

    def _on_socket(self, events: int) -> None:
        if events & HUNG_UP:
            self._user.hang_up()
        elif not self._user.on_passage():  # readers make room all the time: only who waits for it shall be woken
            self._awaits_socket = False
            self._hub.change(self.socket.fileno(), 0)

    def transmit(self, frame: Frame) -> None:
        messages.transmit(self.socket, frame)

    def transmit_small(self, edge: int, total: int, count: int, body: bytes) -> bool:
        return False

    async def arrived(self, sent: int) -> None:
        """What was sent is in a socket that the parent holds, too."""

    async def parted(self) -> None:
        """The supervisor tells the other side."""

    def close(self) -> None:
        self._hub.forget(self.credit)
        self._hub.forget(self.socket.fileno())
        os.close(self.credit)
        if self._give is not None:
            os.close(self._give)
            self._give = None
        self.socket.close()


class SocketReceiver:
    """Frames from a socket, credits into a pipe.

    Args:
        hub: of the running loop.
        receive, give_credits: fds of the channel; this object makes its own of them.
        arenas: gives those of who sends.
    """

    def __init__(self, hub: Hub, receive: int, give_credits: int, arenas: Callable[[], Arenas] | None = None) -> None:
        self._hub = hub
        self._socket = socket(fileno=os.dup(receive))
        self._credit = os.dup(give_credits)
        self._arenas = arenas
        self._buffer = bytearray(HEADER_BYTES + INLINE_LIMIT)

    def watch(self, user: ReceivingUser) -> None:
        self._user = user
        self._hub.watch(self._socket.fileno(), READABLE, self._on_socket)

    def _on_socket(self, _: int) -> None:
        self._user.on_frame()  # what others wait for, the hub tells again

    def receive(self, buffer: bytearray | memoryview | None = None) -> Message | None:
        """As every carrier does; into memory of the caller's, if it gives some."""
        try:
            return messages.next_message(self._socket, buffer or self._buffer)
        except BlockingIOError:
            return None

    def find(self, body: Any, where: Any) -> tuple[Any, Sequence[memoryview], Sequence[memoryview]]:
        return find(body, where, self._arenas)

    def done(self) -> None:
        pass

    def give(self, count: int) -> None:
        credits.give(self._credit, count)

    def sleep(self) -> bool:
        owed = self._user.owed()
        if owed:
            self.give(owed)
        return True  # what comes between a look and the wait stays noted in the hub

    def close(self) -> None:
        self._hub.forget(self._socket.fileno())
        self._socket.close()
        os.close(self._credit)
