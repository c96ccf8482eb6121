"""The carrier between one writer and one reader: a ring of frames in shared memory, and bells for those who sleep.

    writer ── frame, then `head` ──> [ ... frames ... ] ── frame, then `tail` ──> reader
       ▲                                                                            │
       └──────────────── `released`: items taken so far, all in all ────────────────┘

Every word has one writer, and is stored in one piece: who is killed between two stores leaves a ring that is whole, and
a frame that was not completed was never there. Room is counted, not handed over: capacity + released - put. While both
sides are busy no system call is made at all. Who wants to wait says so in a word of its own, looks once more, and
waits at its bell (an eventfd); the other side looks at that word after each of its stores, and rings.

That needs memory which all cores see change in the order of the stores (total store order), as on x86-64; Python has
no barriers that other machines would need. There, and between more than two ends, the carrier of `carrier` is used.

A frame that is too long for the ring, or that takes an fd along, goes through a socket; a mark in the ring tells
its place in the order.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import socket
from typing import TYPE_CHECKING, Any, Final

from ..ends.carrier import END, Message, ReceivingUser, SendingUser
from ..ends.unread import Unread
from . import messages
from .fd_hub import READABLE, Hub
from .large_items import IN_FILES, Large, Messages, find, messages_over
from .messages import HEADER, INLINE_LIMIT, PICKLE, Frame

if TYPE_CHECKING:
    from .arena import Arenas

__all__ = ["AVAILABLE", "Lane", "RingMemory", "RingReceiver", "RingSender", "lane_bytes", "map_lane"]

AVAILABLE: Final = sys.platform == "linux" and os.uname().machine in ("x86_64", "AMD64")
"""Whether the machine keeps the order of stores that a ring needs."""

# Words of a lane. Those of the writer, of the reader and of the parent do not share a line of the cores' caches.
HEAD: Final = 0
WRITER_SLEEPS: Final = 1
TAIL: Final = 8
RELEASED: Final = 9
READER_SLEEPS: Final = 10
CAPACITY: Final = 16
ENDED: Final = 17
CLOSED: Final = 18
DATA: Final = 24
"""Where the ring begins."""

WORD: Final = 8
SKIP: Final = 0
"""In place of a frame's length: the next one is at the beginning of the ring."""
ELSEWHERE: Final = -1
"""In place of a frame's length: it comes through the socket. Its header follows, for who only counts."""

RING_BYTES: Final = 128 * 1024
"""Of one ring, at most."""

ALL_BYTES: Final = 64 * 1024 * 1024
"""Of all rings of a run, unless that makes them too small."""

LEAST_BYTES: Final = 16 * 1024

_HEADER: Final = messages.HEADER_BYTES
_ENTRY: Final = struct.Struct("<q" + HEADER.format.removeprefix("<"))
"""A frame's length, and its header."""


def lane_bytes(count: int) -> int:
    """Bytes of a lane when there are so many."""
    ring = RING_BYTES
    while ring > LEAST_BYTES and ring * count > ALL_BYTES:
        ring //= 2
    return DATA * WORD + ring


def map_lane(memory: mmap.mmap, index: int, size: int) -> Lane:
    """One lane of a mapped memory of lanes."""
    return Lane(memoryview(memory)[index * size : (index + 1) * size])


class Lane:
    """The memory of one ring, as this process sees it."""

    __slots__ = ("bytes", "size", "words")

    def __init__(self, memory: memoryview) -> None:
        self.words = memory.cast("q")
        self.bytes = memory[DATA * WORD :]
        self.size = len(self.bytes)

    def share(self) -> Lane:
        """The same for another holder, who closes it."""
        return Lane(self.words.cast("B"))

    def close(self) -> None:
        self.bytes.release()
        self.words.release()

    def count_unread(self) -> dict[int, Unread]:
        """What nobody has read, by edge, when nobody writes or reads any more."""
        left: dict[int, Unread] = {}
        tail, head = self.words[TAIL], self.words[HEAD]
        while tail != head:
            at = tail % self.size
            length = self.words[DATA + at // WORD]
            if length == SKIP:
                tail += self.size - at
                continue
            _, edge, total, count, _ = HEADER.unpack_from(self.bytes, at + WORD)
            before = left.get(edge)
            left[edge] = Unread(count + (before.items if before else 0), total)
            tail += _entry(_HEADER if length == ELSEWHERE else length)
        return left


class RingMemory:
    """The lanes of a run, made by the parent. Closed when every lane of it is.

    Args:
        count: of lanes.

    Raises:
        OSError: the system is short of fds or of memory.
    """

    def __init__(self, count: int) -> None:
        self.lane_size = lane_bytes(count)
        self.fd = os.memfd_create("cascata-rings", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, self.lane_size * count)
            self.memory = mmap.mmap(self.fd, self.lane_size * count)
        except BaseException:
            os.close(self.fd)
            raise
        self._open = count

    def lane(self, index: int) -> Lane:
        return map_lane(self.memory, index, self.lane_size)

    def close_one(self) -> None:
        """One lane is closed."""
        self._open -= 1
        if not self._open:
            with suppress(BufferError):  # a traceback that somebody keeps may show a frame: then it goes with that
                self.memory.close()
            os.close(self.fd)


def _entry(length: int) -> int:
    """Bytes of the ring that a message takes."""
    return WORD + -(-length // WORD) * WORD


class RingSender:
    """The sending end of a ring.

    Args:
        hub: of the running loop.
        lane: the ring; this object closes it.
        send: fd of the socket, for what does not fit.
        room_bell: wakes this end.
        item_bell: wakes the other one. This object makes its own of the fds.
        large: how what is large is sent.
    """

    recalls = False

    def __init__(
        self, hub: Hub, lane: Lane, send: int, room_bell: int, item_bell: int, large: Large = IN_FILES
    ) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._lane = lane
        self._words = lane.words
        self._bytes = lane.bytes
        self._size = lane.size
        self._longest = lane.size // 4
        self.socket = socket(fileno=os.dup(send))
        self._large = large
        self.sharing = large.sharing
        self.bell = os.dup(room_bell)
        self._their_bell = os.dup(item_bell)
        self._fence = threading.Lock()
        self._head = 0
        self._taken = 0
        self._sleeps = 0
        self._rung = 0
        self._tail_seen = 0

    def framing(self, edge: int) -> Messages:
        return messages_over(self.socket, edge, self._large)

    def watch(self, user: SendingUser) -> None:
        self._user = user
        self._hub.watch(self.bell, READABLE, self._on_bell)

    def _on_bell(self, _: int) -> None:
        if self._words[CLOSED]:
            self._user.hang_up()
            return
        if self._words[WRITER_SLEEPS]:
            self._words[WRITER_SLEEPS] = 0
            self._user.on_passage()
            self._user.on_room()  # whoever still waits says so anew

    def take(self, most: int) -> int:
        words = self._words
        room: int = words[CAPACITY] + words[RELEASED] - self._taken
        if room > most:
            room = most
        elif room < 0:
            return 0
        self._taken += room
        return room

    def give(self, count: int) -> None:
        self._taken -= count

    def want_room(self) -> None:
        self._lie_down()
        words = self._words
        if words[CAPACITY] + words[RELEASED] > self._taken:
            self._loop.call_soon(self._look)

    def want_passage(self) -> None:
        self._lie_down()
        if self._words[TAIL] != self._tail_seen:
            self._loop.call_soon(self._look)

    def _lie_down(self) -> None:
        words = self._words
        if not words[WRITER_SLEEPS]:
            self._sleeps += 1
            words[WRITER_SLEEPS] = self._sleeps
            with self._fence:  # a barrier: the store is seen before the look
                pass

    def _look(self) -> None:
        if self.bell >= 0:
            self._on_bell(0)

    def transmit(self, frame: Frame) -> None:
        words = self._words
        if words[CLOSED]:
            raise BrokenPipeError(errno.EPIPE, "no reader is left")
        head = self._head
        size = self._size
        self._tail_seen = tail = words[TAIL]
        length = _HEADER + len(frame.body)
        inside = frame.fd < 0 and length <= self._longest
        entry = WORD + (-(-length // WORD) * WORD if inside else _HEADER)
        at = head % size
        skipped = size - at if at + entry > size else 0
        if head + skipped + entry - tail > size:
            raise BlockingIOError(errno.EAGAIN, "the ring is full")
        if not inside:
            messages.transmit(self.socket, frame)
        if skipped:
            words[DATA + at // WORD] = SKIP
            at = 0
        words[DATA + at // WORD] = length if inside else ELSEWHERE
        at += WORD
        memory = self._bytes
        body_at = at + _HEADER
        memory[at:body_at] = frame.header
        if inside:
            memory[body_at : at + length] = frame.body
        self._advance(head + skipped + entry)

    def transmit_small(self, edge: int, total: int, count: int, body: bytes) -> bool:
        length = _HEADER + len(body)
        entry = WORD + (length + WORD - 1 & -WORD)
        head = self._head
        at = head % self._size
        if (
            length > self._longest
            or at + entry > self._size
            or head + entry - self._tail_seen > self._size
            or self._words[CLOSED]
        ):
            return False  # `transmit` looks what there is to do
        memory = self._bytes
        _ENTRY.pack_into(memory, at, length, PICKLE, edge, total, count, 0)
        memory[at + _ENTRY.size : at + WORD + length] = body
        self._advance(head + entry)
        return True

    def _advance(self, head: int) -> None:
        """What is before `head` can be read now."""
        words = self._words
        self._head = words[HEAD] = head
        with self._fence:  # a barrier: the store is seen before the look
            pass
        sleeps = words[READER_SLEEPS]
        if sleeps and sleeps != self._rung:
            self._rung = sleeps
            os.eventfd_write(self._their_bell, 1)

    async def arrived(self, sent: int) -> None:
        """What was sent is in memory that the parent holds, too."""

    async def parted(self) -> None:
        """The supervisor tells the other side."""

    def close(self) -> None:
        self._hub.forget(self.bell)
        self._words[WRITER_SLEEPS] = 0
        os.close(self.bell)
        os.close(self._their_bell)
        self.bell = -1
        self.socket.close()
        self._lane.close()


class RingReceiver:
    """The receiving end of a ring.

    Args:
        hub: of the running loop.
        lane: the ring; this object closes it.
        receive: fd of the socket, for what did not fit.
        item_bell: wakes this end.
        room_bell: wakes the other one. This object makes its own of the fds.
        arenas: gives those of who sends.
    """

    def __init__(
        self,
        hub: Hub,
        lane: Lane,
        receive: int,
        item_bell: int,
        room_bell: int,
        arenas: Callable[[], Arenas] | None = None,
    ) -> None:
        self._hub = hub
        self._lane = lane
        self._words = lane.words
        self._bytes = lane.bytes
        self._size = lane.size
        self._socket = socket(fileno=os.dup(receive))
        self._arenas = arenas
        self._buffer: bytearray | None = None
        self._bell = os.dup(item_bell)
        self._their_bell = os.dup(room_bell)
        self._fence = threading.Lock()
        self._tail = self._next = 0
        self._released = 0
        self._sleeps = 0
        self._rung = 0

    def watch(self, user: ReceivingUser) -> None:
        self._user = user
        self._hub.watch(self._bell, READABLE, self._on_bell)

    def _on_bell(self, _: int) -> None:
        # Who is woken now sees what was stored before; for what comes later, others who wait need the bell again.
        others_wait = self._user.on_frame()
        if self._bell < 0:
            return  # who was woken has closed this end
        if others_wait:
            self._sleeps += 1
            self._words[READER_SLEEPS] = self._sleeps
        else:
            self._words[READER_SLEEPS] = 0

    def receive(self) -> Message | None:
        words = self._words
        tail = self._tail
        if words[HEAD] == tail:
            if not words[ENDED]:
                return None
            if words[HEAD] == tail:  # as it is after the end was told
                return END
        at = tail % self._size
        length = words[DATA + at // WORD]
        if length == SKIP:
            tail += self._size - at
            at = 0
            length = words[DATA]
        at += WORD
        if length == ELSEWHERE:
            self._next = tail + WORD + _HEADER
            return self._from_socket()
        self._next = tail + WORD + -(-length // WORD) * WORD
        kind, edge, _, count, surcharge = HEADER.unpack_from(self._bytes, at)
        return edge, count, surcharge, self._bytes[at + _HEADER : at + length], None if kind == PICKLE else (kind, -1)

    def _from_socket(self) -> Message:
        if self._buffer is None:
            self._buffer = bytearray(_HEADER + INLINE_LIMIT)
        return messages.next_message(self._socket, self._buffer)

    def find(self, body: Any, where: Any) -> tuple[Any, Sequence[memoryview], Sequence[memoryview]]:
        return find(body, where, self._arenas)

    def done(self) -> None:
        self._words[TAIL] = self._tail = self._next

    def give(self, count: int) -> None:
        words = self._words
        self._released += count
        words[RELEASED] = self._released
        with self._fence:  # a barrier: the store is seen before the look
            pass
        sleeps = words[WRITER_SLEEPS]
        if sleeps and sleeps != self._rung:
            self._rung = sleeps
            os.eventfd_write(self._their_bell, 1)

    def sleep(self) -> bool:
        owed = self._user.owed()
        if owed:
            self.give(owed)
        words = self._words
        self._sleeps += 1
        words[READER_SLEEPS] = self._sleeps
        with self._fence:
            pass
        if words[ENDED] or words[HEAD] != self._tail:
            words[READER_SLEEPS] = 0
            return False
        return True

    def close(self) -> None:
        self._hub.forget(self._bell)
        self._words[READER_SLEEPS] = 0
        os.close(self._bell)
        self._bell = -1
        os.close(self._their_bell)
        self._socket.close()
        self._lane.close()
