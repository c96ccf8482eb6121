"""Frames as messages of the kernel: a fixed header and a body, and perhaps an fd that comes along.

    small: header + pickle ────────────────────────────> one SEQPACKET message, or a place in a ring
    large: header + where it lies, in an arena ────────> same
           header + where it lies, and a memory file ──> same, with the file's fd

See `large_items` for what is large.
"""

from __future__ import annotations

import os
import struct
from array import array
from socket import CMSG_LEN, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET, socket
from typing import TYPE_CHECKING, Final, NamedTuple

from ..ends.carrier import END, Message

if TYPE_CHECKING:
    from .arena import Lease

__all__ = [
    "HEADER",
    "HEADER_BYTES",
    "INLINE_LIMIT",
    "IN_ARENA",
    "IN_FILE",
    "PICKLE",
    "Frame",
    "next_message",
    "open_message",
    "receive",
    "transmit",
]

HEADER: Final = struct.Struct("<BxxxIQII")
"""kind, edge, items sent on that edge up to and with this frame, items in this frame, and the credits that they took
beyond one each."""

HEADER_BYTES: Final = HEADER.size

# Kinds.
PICKLE: Final = 0
"""The body is the pickle of the items."""
IN_FILE: Final = 1
"""The body tells of the memory file that comes along."""
IN_ARENA: Final = 2
"""The body tells of a block of the sender's arena."""

INLINE_LIMIT: Final = 128 * 1024
"""Bytes of a body that still travels in the message itself."""


class Frame(NamedTuple):
    """A frame that is ready to go.

    `fd` is a memory file to send along and then to close, or -1; `lease` its hold on a block of the arena.
    """

    header: bytes
    body: bytes
    fd: int = -1
    lease: Lease | None = None

    def drop(self) -> int:
        """The frame will not be sent; returns how many items it had."""
        if self.fd >= 0:
            os.close(self.fd)
        if self.lease is not None:
            self.lease.drop()
        return int(HEADER.unpack(self.header)[3])


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


def next_message(sock: socket, buffer: bytearray | memoryview) -> Message:
    """As `receive`, for a carrier: `END` at the end of the stream."""
    while True:
        try:
            found = receive(sock, buffer)
        except ConnectionResetError:
            continue  # said once, before frames that are still queued
        return END if found is None else open_message(*found)


def open_message(view: memoryview, fd: int) -> Message:
    """What the bytes of a message say; what is large still lies where it was put, which is (kind, fd)."""
    kind, edge, _, count, surcharge = HEADER.unpack_from(view)
    return edge, count, surcharge, view[HEADER_BYTES:], None if kind == PICKLE else (kind, fd)
