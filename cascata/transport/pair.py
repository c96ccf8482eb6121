"""The kernel's side of a crossing channel: its four ends, made by the parent and handed to the workers."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from socket import AF_UNIX, SO_SNDBUF, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from typing import Final, NamedTuple

from . import frames
from .credit import credit_pipe

__all__ = ["Pair", "Unread", "count_unread", "make_pair"]

SOCKET_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Pair:
    """The four ends of a crossing channel, as fds, and its capacity in items."""

    send: int
    receive: int
    take: int
    give: int
    capacity: int

    def close(self) -> None:
        for fd in (self.send, self.receive, self.take, self.give):
            os.close(fd)


def make_pair(capacity: int) -> Pair:
    """Makes the kernel's side of a crossing channel."""
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    near.setsockopt(SOL_SOCKET, SO_SNDBUF, SOCKET_BYTES)
    near.setblocking(False)
    far.setblocking(False)
    try:
        reading, writing, capacity = credit_pipe(capacity)
    except BaseException:
        near.close()
        far.close()
        raise
    return Pair(near.detach(), far.detach(), reading, writing, capacity)


class Unread(NamedTuple):
    """What nobody has received of an edge: how many items, and how many were sent on it as their frames say."""

    items: int
    sent: int


def count_unread(receive: int) -> dict[int, Unread]:
    """Takes what is left in a channel, when nobody else reads or writes it any more, and counts it by edge."""
    left: dict[int, Unread] = {}
    buffer = bytearray(frames.HEADER.size)
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
            _, edge, total, count = frames.HEADER.unpack_from(view)
            before = left.get(edge)
            left[edge] = Unread(count + (before.items if before else 0), total)
