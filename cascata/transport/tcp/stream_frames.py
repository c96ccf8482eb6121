"""Frames on a stream of bytes: what goes into a socket, and what is put together of what comes out of one.

    header | bounds of the buffers | body | buffer | buffer ...      (all little-endian)

`kind` says what a frame is for, and `id` names its edge or its channel. A frame of items carries how many there are,
how many were sent on that edge up to and with it (`seq`), a pickle of their list, and the buffers that the pickle
keeps out of band (protocol 5). Buffers are sent from where they are, and received into memory of their own
without a copy in between.
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..codec.encode import Charge
from ..codec.out_of_band import Packed

__all__ = ["MOST_BUFFERS", "Assembler", "Chunk", "Frame", "FramesOfItems", "Kind", "WireError", "chunks"]

HEADER: Final = struct.Struct("<B?HIIIIQQ")
"""kind, whether the buffers must not be written, blobs, id, amount, buffers and blobs together, extra, seq, size of the
body."""

MOST_BUFFERS: Final = 16_384
"""Buffers and blobs of one frame: their bounds fit into `STAGING`."""

STAGING: Final = 256 * 1024
"""Bytes that are received at once, at most, unless they have a place of their own to go to."""

JOINED: Final = 64 * 1024
"""A body up to this size is sent together with its header, which copies it; a larger one from where it is."""

LONGEST: Final = 1 << 44
"""Bytes of one part: a length beyond this was never meant."""

Chunk = bytes | bytearray | memoryview


class WireError(Exception):
    """What came is no frame."""


class Kind(enum.IntEnum):
    """What a frame is for. "Home" is the worker that keeps an edge's channel: see `transport.tcp.broker`."""

    DATA = 0
    """Items: from a writer to the home, from the home to a reader."""
    CREDIT = 1
    """home → writer: `amount` more items may be sent; `seq` of them in one frame at most (0: any number)."""
    RECALL = 2
    """home → writer: others need credits that are not used."""
    WANT = 3
    """writer → home: up to `amount` credits are needed."""
    BACK = 4
    """writer → home: `amount` credits were not used."""
    CLOSE = 5
    """writer → home: nothing more is sent."""
    CLOSED = 6
    """home → writer: all that was sent has come, and the end of it."""
    REFUSED = 7
    """home → writer: nobody reads any more."""
    GIVE = 8
    """reader → home: `amount` items were taken."""
    ASK = 9
    """reader → home: a frame is wanted; `amount` as for GIVE, `seq`: nanoseconds of work that an item is."""
    END = 10
    """home → reader: there is nothing more."""
    RETURN = 11
    """reader → home: items that came when nobody took them any more."""
    DONE = 12
    """reader → home: nobody takes any more here; `amount` as for GIVE, of `seq` frames that came."""
    LEFT = 13
    """home → reader: no frame will come after this."""
    BYE = 14
    """worker → worker: this end of the connection is needed no more."""

    # Of workers that may start again: see `transport.tcp.broker_ledger`.
    HOLD = 15
    """reader → home: the next `amount` items are in hand of call `seq`; none: what that call has was not begun."""
    HELD = 16
    """home → reader: the home knows that; now the call may begin."""
    OVER = 17
    """reader → home: call `seq` has ended, and what it sent has arrived; the body: news of what was counted."""
    OPENING = 18
    """reader → home: the frame `seq` of an edge is about to be unpickled."""
    OPENED = 19
    """reader → home: `amount` items of that frame can be had; the body as for OVER."""
    AGAIN = 20
    """reader → home: it starts again, and knows nothing."""
    ACCOUNT = 21
    """home → reader: what it had got and done; the frames that it had not done follow."""
    REOPEN = 22
    """writer → home: it starts again, and holds nothing."""
    REOPENED = 23
    """home → writer: so many items (`seq`) were sent before."""
    SYNC = 24
    """writer → home: has all that was sent come?"""
    SYNCED = 25
    """home → writer: it has."""


_LAST: Final = max(Kind)


class Frame(NamedTuple):
    """A frame. See `Kind`.

    `buffers` and `blobs` are those of `out_of_band.Packed`, `extra` the credits that heavy items took beyond one each.
    """

    kind: int
    id: int = 0
    amount: int = 0
    seq: int = 0
    body: Chunk = b""
    buffers: Sequence[memoryview] = ()
    blobs: Sequence[memoryview] = ()
    extra: int = 0
    read_only: bool = False

    def parts(self) -> tuple[Chunk, Sequence[memoryview], Sequence[memoryview]]:
        """The body, the buffers and the blobs of items."""
        buffers = [part.toreadonly() for part in self.buffers] if self.read_only else self.buffers
        return self.body, buffers, self.blobs


class FramesOfItems:
    """Makes the frames of one edge. Implements `codec.encode.Framing`.

    Args:
        edge: its id.
        shared: whether the same items go out on other edges: then no receiver may write what large ones arrive in.
        near: whether the channel's home is in this worker: then frames stay here, and large items are copied into them.

    Attributes:
        before: items that earlier lives of the worker have sent on the edge.
    """

    plain = LONGEST
    most_parts = MOST_BUFFERS
    singly = False

    def __init__(self, edge: int, *, shared: bool, near: bool = False) -> None:
        self._edge = edge
        self._shared = shared
        self._near = near
        self.before = 0

    def small(self, total: int, count: int, body: bytes) -> Frame:
        return Frame(Kind.DATA, self._edge, count, self.before + total, body)

    def large(self, total: int, items: list[Any], packed: Packed, charge: Charge) -> Frame:
        body, buffers, blobs = packed
        count = len(items)
        if self._near:
            buffers, blobs = ([memoryview(bytearray(part)) for part in parts] for parts in (buffers, blobs))
        extra = charge(len(body) + sum(part.nbytes for part in (*buffers, *blobs)), count)
        return Frame(Kind.DATA, self._edge, count, self.before + total, body, buffers, blobs, extra, self._shared)

    def again(self, total: int, item: Any, charge: Charge) -> None:
        return None


def chunks(frame: Frame) -> list[Chunk]:
    """The bytes of a frame, in the pieces in which they are to be sent."""
    parts = [*frame.buffers, *frame.blobs]
    size = len(frame.body)
    head = HEADER.pack(
        frame.kind,
        frame.read_only,
        len(frame.blobs),
        frame.id,
        frame.amount,
        len(parts),
        frame.extra,
        frame.seq,
        size,
    )
    if parts:
        head += struct.pack(f"<{len(parts)}Q", *(part.nbytes for part in parts))
    if size > JOINED:
        return [head, frame.body, *parts]
    return [head + frame.body, *parts]


class Assembler:
    """Puts frames together of bytes that come in pieces of any size.

    Ask `room()` where the next bytes go, put some there, and tell `came(how many)`.

    Args:
        deliver: called with each frame; must not raise.
        memory: takes so many bytes of memory for a part.
    """

    def __init__(self, deliver: Callable[[Frame], None], memory: Callable[[int], memoryview]) -> None:
        self._deliver = deliver
        self._memory = memory
        self._staging = memoryview(bytearray(STAGING))
        self._start = self._end = 0
        self._missing: deque[memoryview] = deque()  # parts, or ends of parts, of the frame at hand
        self._frame: Frame | None = None

    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._missing[0] if self._missing else self._staging[self._end :]

    def came(self, count: int) -> None:
        """So many bytes were put where `room` said.

        Raises:
            WireError: they are no frame; nothing more can be understood.
        """
        if not self._missing:
            self._end += count
            self._parse()
            return
        part = self._missing.popleft()
        if count < len(part):
            self._missing.appendleft(part[count:])
        elif not self._missing:
            self._complete()

    def _complete(self) -> None:
        frame, self._frame = self._frame, None
        assert frame is not None  # parts are missing only of a frame
        self._deliver(frame)

    def _parse(self) -> None:
        staging = self._staging
        while self._end - self._start >= HEADER.size:
            kind, read_only, blobs, ident, amount, number, extra, seq, size = HEADER.unpack_from(staging, self._start)
            if kind > _LAST or blobs > number or number > MOST_BUFFERS or size > LONGEST:
                raise WireError(f"kind {kind}, {number} buffers, a body of {size} bytes")
            at = self._start + HEADER.size + 8 * number
            if at > self._end:
                break
            if not number and at + size <= self._end:
                self._start = at + size
                self._deliver(Frame(kind, ident, amount, seq, bytes(staging[at : at + size]), extra=extra))
                continue
            sizes = struct.unpack_from(f"<{number}Q", staging, self._start + HEADER.size)
            if any(each > LONGEST for each in sizes):
                raise WireError(f"a buffer of {max(sizes)} bytes")
            self._start = at
            body = self._memory(size)
            parts = [self._memory(each) for each in sizes]
            apart = number - blobs
            self._frame = Frame(kind, ident, amount, seq, body, parts[:apart], parts[apart:], extra, read_only)
            self._missing.extend(part for part in (body, *parts) if len(part))
            self._fill()
            if self._missing:
                return
            self._complete()
        left = self._end - self._start
        if self._start and (not left or self._end == STAGING):
            staging[:left] = staging[self._start : self._end]
            self._start, self._end = 0, left

    def _fill(self) -> None:
        """Moves what has come of a frame's parts to where they belong."""
        while self._missing and self._start < self._end:
            part = self._missing.popleft()
            count = min(len(part), self._end - self._start)
            part[:count] = self._staging[self._start : self._start + count]
            self._start += count
            if count < len(part):
                self._missing.appendleft(part[count:])
        if self._start == self._end:
            self._start = self._end = 0
