"""Where the large parts of frames lie between processes of one machine: in an arena, or in a file.

    Packed ── Messages.large ──┬─ a block of the arena ──> the frame tells where     ── find ──> body, buffers, blobs
                               └─ no block: a memory file ──> its fd comes along     ── find ──> same

Arrays become views of that memory where they arrive, and it is free when they are gone: see `arena`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from socket import SO_SNDBUF, SOL_SOCKET, socket
from typing import TYPE_CHECKING, Any, Final

from ...records import dataclass
from ..codec.encode import Charge
from ..codec.out_of_band import Packed
from .messages import HEADER, IN_ARENA, IN_FILE, INLINE_LIMIT, PICKLE, Frame

if TYPE_CHECKING:
    from .arena import Arena, Arenas, Lease
    from .memory_file import Contents

__all__ = ["IN_FILES", "Large", "Messages", "Sharing", "find", "messages_over"]

_IN_FILE: Final = struct.Struct("<IIQ?")
"""Count of parts, those of them that are buffers, where the table of their bounds lies in the memory file, and whether
the buffers must not be written."""


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
        """Remembers what was made of the item."""
        self._item, self._round, self._lease, self._nbytes = id(item), self.round(), lease, nbytes

    def find(self, item: Any) -> tuple[Lease, int] | None:
        """A hold for one more frame on what was made of the item, when that was in this very send."""
        if self._lease is None or self._item != id(item) or self._round != self.round():
            return None
        self._lease = self._lease.another()
        return None if self._lease is None else (self._lease, self._nbytes)


@dataclass(frozen=True, slots=True)
class Large:
    """How an edge sends what is large."""

    arena: Callable[[], Arena | None] | None = None
    """Gives the arena, made when it is first needed; None, or one that gives None: large items go into files."""
    sharing: Sharing | None = None
    """With the other edges of its out-port; None for an edge that crosses alone."""
    singly: bool = False
    """Whether each large item goes in a frame of its own, so that none is lost with another one."""


IN_FILES: Final = Large()
"""By files alone."""


class Messages:
    """Makes the frames of one edge. Implements `codec.encode.Framing`.

    Args:
        edge: its id.
        plain: bytes of a body that travels in a message.
        large: how what is large is sent.
    """

    most_parts = 1 << 31

    def __init__(self, edge: int, plain: int, large: Large) -> None:
        self.plain = plain
        self.singly = large.singly
        self._edge = edge
        self._arena = large.arena
        self._sharing = large.sharing

    def small(self, total: int, count: int, body: bytes) -> Frame:
        return Frame(HEADER.pack(PICKLE, self._edge, total, count, 0), body)

    def large(self, total: int, items: list[Any], packed: Packed, charge: Charge) -> Frame:
        count = len(items)
        if not packed.buffers and not packed.blobs and len(packed.body) <= self.plain:
            return Frame(self._header(PICKLE, total, count, charge(len(packed.body), count)), packed.body)
        parts = [memoryview(packed.body), *packed.buffers, *packed.blobs]
        nbytes = sum(part.nbytes for part in parts)
        shared = self._sharing is not None
        arena = None if self._arena is None else self._arena()
        lease = None if arena is None else arena.put(parts, len(packed.buffers), shared=shared)
        if lease is None:
            told, fd = _into_file(parts, len(packed.buffers), shared=shared)
            return Frame(self._header(IN_FILE, total, count, charge(nbytes, count)), told, fd)
        if self._sharing is not None and count == 1:
            self._sharing.keep(items[0], lease, nbytes)
        return Frame(self._header(IN_ARENA, total, count, charge(nbytes, count)), lease.told, -1, lease)

    def again(self, total: int, item: Any, charge: Charge) -> Frame | None:
        found = None if self._sharing is None else self._sharing.find(item)
        if found is None:
            return None
        lease, nbytes = found
        return Frame(self._header(IN_ARENA, total, 1, charge(nbytes, 1)), lease.told, -1, lease)

    def _header(self, kind: int, total: int, count: int, surcharge: int) -> bytes:
        return HEADER.pack(kind, self._edge, total, count, surcharge)


def messages_over(sock: socket, edge: int, large: Large) -> Messages:
    """The frames of an edge that go through a socket."""
    return Messages(edge, min(INLINE_LIMIT, sock.getsockopt(SOL_SOCKET, SO_SNDBUF) // 2), large)


def _into_file(parts: list[memoryview], count: int, *, shared: bool) -> tuple[bytes, int]:
    """The parts in a memory file; and the message that tells of them."""
    from .memory_file import lay_out

    layout = lay_out(parts)
    fd = os.memfd_create("cascata-frame", os.MFD_CLOEXEC)
    try:
        for part, start in zip(parts, layout.bounds[::2], strict=True):
            _write(fd, part, start)
        _write(fd, memoryview(layout.packed_bounds()), layout.table)
    except BaseException:
        os.close(fd)
        raise
    return _IN_FILE.pack(len(parts), count, layout.table, shared), fd


def _write(fd: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        at += written
        data = data[written:]


def find(
    told: memoryview, where: tuple[int, int], arenas: Callable[[], Arenas] | None
) -> tuple[memoryview, list[memoryview], list[memoryview]]:
    """The body, the buffers and the blobs of a frame that was made `large`.

    Args:
        told: its body.
        where: as `messages.open_message` says; its fd is closed.
        arenas: gives those of who sends.

    Raises:
        OSError: its memory did not arrive, or cannot be mapped.
    """
    kind, fd = where
    if kind == IN_FILE:
        return _from_file(told, fd).split()
    assert arenas is not None  # who is sent to is given the senders' arenas
    return arenas().show(told).split()


def _from_file(told: memoryview, fd: int) -> Contents:
    from .memory_file import Contents, map_file, read_file  # ctypes: only where large items come

    if fd < 0:
        raise OSError(errno.EMFILE, "a large frame came without its memory: this process has no fd left")
    try:
        memory = map_file(fd)
    except OSError:
        memory = read_file(fd)  # too many are mapped
    finally:
        os.close(fd)
    return Contents(memory, *_IN_FILE.unpack(told))
