"""Items to frames and back.

    items ──pickle 5──> body ──┬─ small: header + body ──────────────────> one SEQPACKET message
             buffers ──────────┴─ large: body and buffers in a memfd; header + its fd ──> same

A frame is one message: a fixed header and the pickle of a list of items. What is too large for a
message, and every out-of-band buffer of 64 KB and more, goes into an anonymous memory file that
travels with the message; the receiver maps it, and arrays become views of the mapping, which lives
as long as they do.

When the list cannot be pickled, items are tried one by one: pickle first, then dill (lambdas and
closures), and only what neither can take is reported.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
from array import array
from collections.abc import Callable
from socket import CMSG_LEN, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET, socket
from typing import Any, Final, NamedTuple

from . import dilled

__all__ = ["HEADER", "INLINE_LIMIT", "Frame", "Received", "decode", "encode", "receive", "transmit"]

HEADER: Final = struct.Struct("<BxxxIQI4x")
"""kind, edge, items sent on that edge up to and with this frame, items in this frame."""

PICKLE: Final = 0
DILL: Final = 1
LARGE: Final = 2

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


def encode(edge: int, total: int, items: list[Any], bad: Callable[[Any, Exception], None]) -> list[Frame]:
    """Makes frames of items.

    Args:
        edge: id of the edge that they were sent on.
        total: items sent on that edge, these included.
        items: what to send, at least one.
        bad: called with each item that cannot be serialised, and why; it is left out (and the total of
            later frames still counts it, since it was sent).

    Returns:
        One frame, unless some items had to be treated apart; none when all were bad.
    """
    try:
        return [_frame(PICKLE, edge, total, items)]
    except Exception:
        pass  # some item cannot be pickled: which one is found out below
    frames = []
    first = total - len(items)
    for index, item in enumerate(items, 1):
        try:
            frames.append(_frame(PICKLE, edge, first + index, [item]))
        except Exception as problem:
            try:
                frames.append(_frame(DILL, edge, first + index, [item]))
            except Exception:
                bad(item, problem)
    return frames


def _frame(kind: int, edge: int, total: int, items: list[Any]) -> Frame:
    buffers: list[pickle.PickleBuffer] = []
    if kind == DILL:
        body = dilled.dumps(items)
    else:

        def keep(buffer: pickle.PickleBuffer) -> bool:
            if buffer.raw().nbytes < OUT_OF_BAND:
                return True
            buffers.append(buffer)
            return False

        body = pickle.dumps(items, 5, buffer_callback=keep)
    if not buffers and len(body) <= INLINE_LIMIT:
        return Frame(HEADER.pack(kind, edge, total, len(items)), body, -1)
    return _large(kind, edge, total, len(items), body, buffers)


def _large(kind: int, edge: int, total: int, count: int, body: bytes, buffers: list[pickle.PickleBuffer]) -> Frame:
    """Body and buffers in a memory file; the message tells the kind and where each of them ends."""
    ends = []
    at = 0
    views = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    for view in views:
        at = -(-at // _ALIGN) * _ALIGN
        ends.append((at, at + view.nbytes))
        at += view.nbytes
    fd = os.memfd_create("cascata-frame", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, at)
        for (start, _), view in zip(ends, views, strict=True):
            while view:
                written = os.pwrite(fd, view, start)
                start += written
                view = view[written:]
    except BaseException:
        os.close(fd)
        raise
    table = struct.pack(f"<B7x{2 * len(ends)}Q", kind, *(bound for pair in ends for bound in pair))
    return Frame(HEADER.pack(LARGE, edge, total, count), table, fd)


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


def receive(sock: socket, buffer: bytearray) -> tuple[memoryview, int] | None:
    """Takes one message without waiting, into `buffer` (of HEADER.size + INLINE_LIMIT bytes and more).

    Returns:
        The message and the fd that came along (or -1), or None at the end of the stream.

    Raises:
        BlockingIOError: there is none now.
        OSError: the socket failed.
    """
    size, ancillary, _, _ = sock.recvmsg_into((buffer,), _RIGHTS_SIZE, MSG_DONTWAIT)
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
    kind, edge, total, _ = HEADER.unpack_from(message)
    body = message[HEADER.size :]
    buffers: list[memoryview] = []
    if kind == LARGE:
        try:
            memory = memoryview(mmap.mmap(fd, 0))
        finally:
            os.close(fd)
        kind = body[0]
        bounds = struct.unpack(f"<{(len(body) - 8) // 8}Q", body[8:])
        body, *buffers = [memory[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
    try:
        return Received(edge, total, pickle.loads(body, buffers=buffers))
    except Exception:
        from .salvage import salvage

        return Received(edge, total, salvage(bytes(body), buffers, bad))
