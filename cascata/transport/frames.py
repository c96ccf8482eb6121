"""Items to frames and back.

    items ──pickle 5──> body ──┬─ small: header + body ──────────────────> one SEQPACKET message
             buffers ──────────┴─ large: body and buffers in a memfd; header + its fd ──> same

A frame is one message: a fixed header and the pickle of a list of items. What is too large for a
message, and every out-of-band buffer of 64 KB and more, goes into an anonymous memory file that
travels with the message; the receiver maps it, and arrays become views of the mapping, which lives
as long as they do.

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
from typing import Any, Final, NamedTuple

from ..channel.given import bare
from . import dilled

__all__ = ["HEADER", "INLINE_LIMIT", "Frame", "Received", "decode", "encode", "receive", "transmit"]

HEADER: Final = struct.Struct("<BxxxIQI4x")
"""kind, edge, items sent on that edge up to and with this frame, items in this frame."""

PICKLE: Final = 0
DILL: Final = 1
LARGE: Final = 2

_LARGE: Final = struct.Struct("<QQ")
"""count of parts, and where the table of their bounds lies in the memory file."""

INLINE_LIMIT: Final = 128 * 1024
"""Bytes of a body that still travels in the message itself."""

OUT_OF_BAND: Final = 64 * 1024
"""Bytes of a buffer from which on it is kept out of the pickle."""

_ALIGN: Final = 64


class Frame(NamedTuple):
    """A frame that is ready to go. `fd` is a memory file to send along and then to close, or -1."""

    header: bytes
    body: bytes
    fd: int


class Received(NamedTuple):
    """A frame that arrived: the items, and who sent them."""

    edge: int
    total: int
    items: list[Any]


def encode(
    edge: int, total: int, items: list[Any], bad: Callable[[Any, Exception], None], limit: int = INLINE_LIMIT
) -> Iterable[Frame]:
    """Makes frames of items.

    Args:
        edge: id of the edge that they were sent on.
        total: items sent on that edge, these included.
        items: what to send, at least one.
        bad: called with each item that cannot be serialised, and why; it is left out (and the total of
            later frames still counts it, since it was sent).
        limit: bytes that go into a message.

    Returns:
        One frame, unless some items had to be treated apart; none when all were bad.
    """
    try:
        return (_frame(PICKLE, edge, total, items, limit),)
    except Exception as problem:
        return _apart(edge, total, items, bad, limit, problem)


def _apart(
    edge: int, total: int, items: list[Any], bad: Callable[[Any, Exception], None], limit: int, problem: Exception
) -> Iterator[Frame]:
    """Some item cannot be pickled: which one is found by halving."""
    if len(items) > 1:
        half = len(items) // 2
        yield from encode(edge, total - len(items) + half, items[:half], bad, limit)
        yield from encode(edge, total, items[half:], bad, limit)
        return
    try:
        frame = _frame(DILL, edge, total, items, limit)
    except Exception:
        bad(bare(items[0]), problem)
    else:
        yield frame


def _frame(kind: int, edge: int, total: int, items: list[Any], limit: int) -> Frame:
    buffers: list[memoryview] = []
    if kind == DILL:
        body = dilled.dumps(items)
    else:

        def keep(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < OUT_OF_BAND:
                return True
            buffers.append(raw)
            return False

        body = pickle.dumps(items, 5, buffer_callback=keep)
    if not buffers and len(body) <= limit:
        return Frame(HEADER.pack(kind, edge, total, len(items)), body, -1)
    return Frame(HEADER.pack(LARGE, edge, total, len(items)), *_in_memory([memoryview(body), *buffers]))


def _in_memory(parts: list[memoryview]) -> tuple[bytes, int]:
    """The parts in a memory file, then where each of them lies; and the message that tells where that stands."""
    bounds: list[int] = []
    at = 0
    fd = os.memfd_create("cascata-frame", os.MFD_CLOEXEC)
    try:
        for part in parts:
            at = -(-at // _ALIGN) * _ALIGN
            bounds += at, at + part.nbytes
            at = _write(fd, part, at)
        table = -(-at // _ALIGN) * _ALIGN
        _write(fd, memoryview(struct.pack(f"<{len(bounds)}Q", *bounds)), table)
    except BaseException:
        os.close(fd)
        raise
    return _LARGE.pack(len(parts), table), fd


def _write(fd: int, data: memoryview, at: int) -> int:
    while data:
        written = os.pwrite(fd, data, at)
        at += written
        data = data[written:]
    return at


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


def receive(sock: socket, buffer: bytearray) -> tuple[memoryview, int] | None:
    """Takes one message without waiting, into `buffer` (of HEADER.size + INLINE_LIMIT bytes).

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


def decode(message: memoryview, fd: int, bad: Callable[[Exception], None]) -> Received:
    """The items of a message.

    Args:
        message: as `receive` gave it.
        fd: the same; it is closed.
        bad: called with the error of each item that cannot be unpickled; the others are returned.

    Raises:
        Exception: nothing of the message could be read.
    """
    kind, edge, total, count = HEADER.unpack_from(message)
    body = message[HEADER.size :]
    buffers: Sequence[memoryview] = ()
    if kind == LARGE:
        body, *buffers = _from_memory(body, fd)
    try:
        return Received(edge, total, pickle.loads(body, buffers=buffers))
    except Exception as problem:
        items: list[Any] = []
        if count == 1:
            bad(problem)
        else:
            from .salvage import salvage

            items, problems = salvage(body, buffers)
            for each in problems:
                bad(each)
        return Received(edge, total, items)


def _from_memory(told: memoryview, fd: int) -> list[memoryview]:
    """The body and the buffers of what `_in_memory` wrote."""
    from .memory import map_file  # ctypes: only where large items come

    if fd < 0:
        raise OSError(errno.EMFILE, "a large frame came without its memory: this process has no fd left")
    try:
        memory = map_file(fd)
    finally:
        os.close(fd)
    count, table = _LARGE.unpack(told)
    bounds = struct.unpack_from(f"<{2 * count}Q", memory, table)
    return [memory[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
