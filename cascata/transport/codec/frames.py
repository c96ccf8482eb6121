"""Items to frames and back.

    items ──pickle 5──> body ──┬─ small: header + body ─────────────────────────> one SEQPACKET message
      buffers, blobs ──────────┴─ large: a block of the arena; header + where ──> same
                                  no block: a memory file; header + its fd ─────> same

A frame is one message: a fixed header and the pickle of a list of items. What is too large for a
message, and every out-of-band buffer of 64 KB and more, goes into a block of shared memory that the message tells of;
arrays become views of it there, and it is free when they are gone. A memory file of its own carries what
the arena has no room for.

One bad item fails alone. When the list cannot be pickled, it is halved again and again; a single item that pickle
cannot take goes to dill (lambdas and closures), and only what neither can take is reported. When a list cannot be
unpickled, the other items are salvaged.
"""

from __future__ import annotations

import errno
import os
import pickle
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from socket import CMSG_LEN, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET, socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...channel.change_detector import bare
from ..ends.item_errors import is_shortage
from . import by_dill, out_of_band
from .out_of_band import Packed, holds_blobs, keeping, pack_blobs, unpack
from .process_bound import Bound, watch_plain_pickle

if TYPE_CHECKING:
    from ..ends.budget import Purse
    from ..linux.arena import Arena, Arenas, Lease
    from ..linux.memory_file import Contents

__all__ = [
    "HEADER",
    "HEADER_BYTES",
    "INLINE_LIMIT",
    "Encoder",
    "Frame",
    "Sharing",
    "decode",
    "receive",
    "transmit",
]

HEADER: Final = struct.Struct("<BxxxIQII")
"""kind, edge, items sent on that edge up to and with this frame, items in this frame, and the credits that they took
beyond one each."""

HEADER_BYTES: Final = HEADER.size

PICKLE: Final = 0
DILL: Final = 1
LARGE: Final = 2
ARENA: Final = 3

_LARGE: Final = struct.Struct("<IIQ?")
"""Count of parts, those of them that are buffers, where the table of their bounds lies in the memory file, and whether
the buffers must not be written."""

INLINE_LIMIT: Final = 128 * 1024
"""Bytes of a body that still travels in the message itself."""

CALM: Final = 64
"""Frames without large items after which an edge no longer expects them."""


class Frame(NamedTuple):
    """A frame that is ready to go.

    `fd` is a memory file to send along and then to close, or -1; `lease` its hold on a block of the arena.
    """

    header: bytes
    body: bytes
    fd: int
    lease: Lease | None = None

    def drop(self) -> int:
        """The frame will not be sent; returns how many items it had."""
        if self.fd >= 0:
            os.close(self.fd)
        if self.lease is not None:
            self.lease.drop()
        return int(HEADER.unpack(self.header)[3])


class Sharing:
    """What the edges of one out-port that cross have in common: each item goes out on all, and is copied once.

    Attributes:
        round: the number of the item that the out-port sends; its owner sets it.
    """

    __slots__ = ("_item", "_lease", "_nbytes", "_round", "round")

    def __init__(self) -> None:
        self.round: Callable[[], int] = lambda: 0
        self._lease: Lease | None = None
        self._item = self._round = self._nbytes = 0

    def keep(self, item: Any, lease: Lease, nbytes: int) -> None:
        self._item, self._round, self._lease, self._nbytes = id(item), self.round(), lease, nbytes

    def find(self, item: Any) -> tuple[Lease, int] | None:
        """A hold for one more frame on what was made of the item, when that was in this very send."""
        if self._lease is None or self._item != id(item) or self._round != self.round():
            return None
        self._lease = self._lease.another()
        return None if self._lease is None else (self._lease, self._nbytes)


class _TooLarge(Exception):
    """A frame that would hold several items and be large."""


class Encoder:
    """Makes the frames of one edge.

    Args:
        edge: its id.
        limit: bytes that go into a message.
        purse: pays for heavy items; None: nothing is counted.
        pay: takes so many credits for a frame beyond one for each item; returns how many there were.
        arena: where large items go, made when it is first needed; None, or one that gives None: they go into files.
        sharing: with the other edges of its out-port.
        singly: whether each large item goes in a frame of its own, so that none is lost with another one.

    Attributes:
        eager: whether large items are to be expected: then each is to be sent by itself at once, so that it is copied
            within `send`, and nothing is kept waiting for it.
    """

    __slots__ = (
        "_arena",
        "_calm",
        "_edge",
        "_limit",
        "_pay",
        "_purse",
        "_sharing",
        "_singly",
        "_small",
        "_spare",
        "eager",
    )

    def __init__(
        self,
        edge: int,
        limit: int = INLINE_LIMIT,
        *,
        purse: Purse | None = None,
        pay: Callable[[int], int] = lambda surcharge: surcharge,
        arena: Callable[[], Arena | None] | None = None,
        sharing: Sharing | None = None,
        singly: bool = False,
    ) -> None:
        self._singly = singly
        self._edge = edge
        self._limit = limit
        self._purse = purse
        self._pay = pay
        self._arena = arena
        self._sharing = sharing
        self._small = min(limit, out_of_band.OUT_OF_BAND - 1)
        if purse is not None:
            self._small = min(self._small, purse.portion)
        self.eager = True  # the first item tells
        self._calm = 1
        self._spare: tuple[list[memoryview], Callable[[pickle.PickleBuffer], bool]] | None = None

    def encode(
        self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None]
    ) -> bytes | Iterable[Frame]:
        """Makes frames of items.

        Args:
            total: items sent on the edge, these included.
            items: what to send, at least one.
            bad: called with each item that cannot be serialised, and why; it is left out (and the total of
                later frames still counts it, since it was sent).

        Returns:
            The body of a small frame of all of them, mostly. Else one frame, or several when some items had to be
            treated apart, or none when all were bad.
        """
        try:
            return self._frame(total, items)
        except BaseException as problem:  # of an item's own code, which may raise anything
            return self._apart(total, items, bad, problem)

    def small(self, total: int, count: int, body: bytes) -> Frame:
        """The frame around such a body."""
        return Frame(HEADER.pack(PICKLE, self._edge, total, count, 0), body, -1)

    def _frame(self, total: int, items: list[Any]) -> bytes | Iterable[Frame]:
        if self._calm > 1 and len(items) == 1:  # large items have come here lately
            frame = self._shared(total, items[0])
            if frame is not None:
                return (frame,)
            if holds_blobs(bare(items[0])):
                return (self._large(PICKLE, total, items, pack_blobs(items)),)
        spare = self._spare
        if spare is None:
            kept: list[memoryview] = []
            spare = kept, keeping(kept)
        self._spare = None  # an item's own code may come here again
        kept, keep = spare
        try:
            body = pickle.dumps(items, 5, buffer_callback=keep)
            if kept or len(body) > self._small:
                if self._singly and len(items) > 1:
                    raise _TooLarge  # it is halved
                return (self._large(PICKLE, total, items, Packed(body, kept)),)
        finally:
            if kept:
                kept.clear()
            self._spare = spare
        if self._calm:
            self._calm -= 1
            self.eager = self._calm > 0
        return body

    def _apart(
        self, total: int, items: list[Any], bad: Callable[[Any, BaseException], None], problem: BaseException
    ) -> Iterator[Frame]:
        """Some item cannot be pickled: which one is found by halving."""
        if len(items) > 1:
            half = len(items) // 2
            for end, some in ((total - len(items) + half, items[:half]), (total, items[half:])):
                made = self.encode(end, some, bad)
                yield from (self.small(end, len(some), made),) if isinstance(made, bytes) else made
            return
        if not is_shortage(problem):
            try:
                if holds_blobs(bare(items[0])):
                    frame = self._large(PICKLE, total, items, pack_blobs(items))  # takes memoryviews
                else:
                    frame = self._large(DILL, total, items, Packed(by_dill.dumps(items), ()))
            except BaseException as another:
                if is_shortage(another) or isinstance(another, Bound):
                    problem = another
            else:
                yield frame
                return
        bad(bare(items[0]), problem)

    # -- what may be large

    def _large(self, kind: int, total: int, items: list[Any], packed: Packed) -> Frame:
        size, count = len(packed.body), len(items)
        if (
            size >= out_of_band.OUT_OF_BAND * count
            and kind == PICKLE
            and any(holds_blobs(bare(item)) for item in items)
        ):
            packed = pack_blobs(items)
            size = len(packed.body)
        apart = bool(packed.buffers or packed.blobs)
        if apart or size >= out_of_band.OUT_OF_BAND * count:
            self.eager = True
            self._calm = CALM
        if not apart and size <= self._limit:
            return Frame(self._header(kind, total, count, size), packed.body, -1)
        parts = [memoryview(packed.body), *packed.buffers, *packed.blobs]
        nbytes = sum(part.nbytes for part in parts)
        shared = self._sharing is not None
        arena = None if self._arena is None else self._arena()
        lease = None if arena is None else arena.put(parts, len(packed.buffers), shared=shared)
        if lease is None:
            told, fd = _in_memory(parts, len(packed.buffers), shared=shared)
            return Frame(self._header(LARGE, total, count, nbytes), told, fd)
        if self._sharing is not None and count == 1:
            self._sharing.keep(items[0], lease, nbytes)
        return Frame(self._header(ARENA, total, count, nbytes), lease.told, -1, lease)

    def _shared(self, total: int, item: Any) -> Frame | None:
        """A frame of what another edge has made of the item."""
        found = None if self._sharing is None else self._sharing.find(item)
        if found is None:
            return None
        lease, nbytes = found
        self._calm = CALM
        return Frame(self._header(ARENA, total, 1, nbytes), lease.told, -1, lease)

    def _header(self, kind: int, total: int, count: int, nbytes: int) -> bytes:
        surcharge = 0 if self._purse is None else self._purse.surcharge(nbytes, count)
        return HEADER.pack(kind, self._edge, total, count, self._pay(surcharge) if surcharge else 0)


watch_plain_pickle(Encoder._frame.__code__)


def _in_memory(parts: list[memoryview], count: int, *, shared: bool) -> tuple[bytes, int]:
    """The parts in a memory file; and the message that tells of them."""
    from ..linux.memory_file import lay_out

    layout = lay_out(parts)
    fd = os.memfd_create("cascata-frame", os.MFD_CLOEXEC)
    try:
        for part, start in zip(parts, layout.bounds[::2], strict=True):
            _write(fd, part, start)
        _write(fd, memoryview(layout.packed_bounds()), layout.table)
    except BaseException:
        os.close(fd)
        raise
    return _LARGE.pack(len(parts), count, layout.table, shared), fd


def _write(fd: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        at += written
        data = data[written:]


def transmit(sock: socket, frame: Frame) -> None:
    """Sends a frame without waiting, and closes its memory file.

    Raises:
        BlockingIOError: no room in the socket now; the frame is untouched.
        OSError: the socket is shut down (EPIPE, ECONNRESET), or the kernel is short of something.
    """
    if frame.fd < 0:
        sock.sendmsg((frame.header, frame.body), (), MSG_DONTWAIT)
    else:
        rights = [(SOL_SOCKET, SCM_RIGHTS, array("i", [frame.fd]))]
        sock.sendmsg((frame.header, frame.body), rights, MSG_DONTWAIT)
        os.close(frame.fd)


_RIGHTS_SIZE: Final = CMSG_LEN(struct.calcsize("i"))
_RECEIVE_FLAGS: Final = int(MSG_DONTWAIT | MSG_CMSG_CLOEXEC)  # enums take their time


def receive(sock: socket, buffer: bytearray | memoryview) -> tuple[memoryview, int] | None:
    """Takes one message without waiting, into `buffer` (of HEADER_BYTES + INLINE_LIMIT bytes).

    Returns:
        The message and the fd that came along (or -1), or None at the end of the stream.

    Raises:
        BlockingIOError: there is none now.
        OSError: the socket failed.
    """
    size, ancillary, _, _ = sock.recvmsg_into((buffer,), _RIGHTS_SIZE, _RECEIVE_FLAGS)
    if size == 0:
        return None
    fd = -1
    for _, _, data in ancillary:
        (fd,) = struct.unpack("i", data)
    return memoryview(buffer)[:size], fd


def decode(
    header: tuple[int, int, int, int, int],
    body: memoryview,
    fd: int,
    bad: Callable[[int, int, BaseException], None],
    arenas: Callable[[], Arenas] | None = None,
) -> list[Any]:
    """The items of a message.

    Args:
        header: what `HEADER` makes of its beginning.
        body: the rest.
        fd: what came along, or -1; it is closed.
        bad: called with the edge, 1, and the error of each item that cannot be unpickled; the others are returned.
        arenas: gives those of who sends, should they be needed.

    Raises:
        Exception: nothing of the message could be read.
    """
    kind, edge, _, count, _ = header
    kept: Sequence[memoryview] = ()
    blobs: Sequence[memoryview] = ()
    if kind >= LARGE:
        contents = _from_file(body, fd) if kind == LARGE else _from_arena(body, arenas)
        body, kept, blobs = contents.split()
    try:
        return unpack(body, kept, blobs)
    except BaseException as problem:
        if count == 1:
            bad(edge, 1, problem)
            return []
        from .salvage import salvage

        items, problems = salvage(body, kept, blobs)
        for each in problems:
            bad(edge, 1, each)
        return items


def _from_file(told: memoryview, fd: int) -> Contents:
    from ..linux.memory_file import Contents, map_file, read_file  # ctypes: only where large items come

    if fd < 0:
        raise OSError(errno.EMFILE, "a large frame came without its memory: this process has no fd left")
    try:
        memory = map_file(fd)
    except OSError:
        memory = read_file(fd)  # too many are mapped
    finally:
        os.close(fd)
    return Contents(memory, *_LARGE.unpack(told))


def _from_arena(told: memoryview, arenas: Callable[[], Arenas] | None) -> Contents:
    assert arenas is not None  # who is sent to is given the senders' arenas
    return arenas().show(told)
