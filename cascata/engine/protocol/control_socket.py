"""The control connection of a worker on this machine: messages over a stream socket, each behind its length.

    worker ── send_bytes, recv_bytes: blocking, from any thread ──> [ socket ] ──> Ear, in the loop of the run
           <─────────────────────────────────────────────────────── [ socket ] <── Outbox, in the loop of the run

`multiprocess` has the same; this one is here before that is imported, and most runs never import it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["FDS_AT_ONCE", "Ear", "Outbox", "SocketWire", "pair", "readable"]

FDS_AT_ONCE: Final = 200
"""Fds in one message: the kernel takes 253."""

_AGAIN_S: Final = 0.02
"""Seconds until fds are sent again, when as many are on their way as this user may have."""

_LENGTH: Final = struct.Struct("Q")

_PIECE: Final = 1 << 16


class SocketWire:
    """One end. Whoever sends from several threads sees to their order.

    Args:
        fd: of the socket; belongs to this object now.
    """

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)

    def fileno(self) -> int:
        """The socket's fd."""
        return self.socket.fileno()

    def send_bytes(self, data: bytes) -> None:
        """Sends one message. Raises `OSError` when nobody is there to read it."""
        head = _LENGTH.pack(len(data))
        if len(data) <= _PIECE:
            self.socket.sendall(head + data)
        else:
            self.socket.sendall(head)
            self.socket.sendall(data)

    def recv_bytes(self) -> bytes:
        """Waits for one message. Raises `EOFError` or `OSError` at the end."""
        return bytes(self._exactly(*_LENGTH.unpack(self._exactly(_LENGTH.size))))

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return data

    def close(self) -> None:
        """Closes this end."""
        self.socket.close()


def pair() -> tuple[SocketWire, SocketWire]:
    """Two ends of a connection."""
    near, far = socket.socketpair()
    return SocketWire(near.detach()), SocketWire(far.detach())


class Ear:
    """Hears what comes over a wire, in the running loop. The wire stays blocking for who sends.

    Args:
        wire: to listen to.
        hear: is called with each message.

    Attributes:
        ended: done when nothing more will come.
    """

    def __init__(self, wire: SocketWire, hear: Callable[[bytes], None]) -> None:
        self._socket = wire.socket
        self._hear = hear
        self._data = bytearray()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.stop()
            return
        self._data += data
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            message = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            self._hear(message)

    def stop(self) -> None:
        """Hears nothing more."""
        if not self.ended.done():
            self._loop.remove_reader(self._socket)
            self.ended.set_result(None)


class Outbox:
    """Sends over a wire, in the running loop, as the other side takes it. Never waits.

    Args:
        wire: to send over. When nobody is there to read, what is to be sent is dropped.
    """

    def __init__(self, wire: SocketWire) -> None:
        self._socket = wire.socket
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._again: asyncio.TimerHandle | None = None
        self._watches = False  # whether the loop says when the socket takes more

    def send(self, data: bytes) -> None:
        """Sends one message."""
        self._put(_LENGTH.pack(len(data)) + data, ())

    def send_fds(self, fds: Sequence[int]) -> None:
        """Sends fds, a byte with each `FDS_AT_ONCE`. They must stay open until `done`, or `close`."""
        for start in range(0, len(fds), FDS_AT_ONCE):
            self._put(b"f", fds[start : start + FDS_AT_ONCE])

    @property
    def done(self) -> bool:
        """Whether everything has been sent."""
        return not self._waiting

    def _put(self, data: bytes, fds: Sequence[int]) -> None:
        self._waiting.append((memoryview(data), fds))
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        self._again = None
        while self._waiting:
            data, fds = self._waiting[0]
            try:
                if fds:
                    sent = socket.send_fds(self._socket, [data], fds, socket.MSG_DONTWAIT)
                else:
                    sent = self._socket.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._watches:
                    self._watches = True
                    self._loop.add_writer(self._socket, self._flush)
                return
            except OSError as problem:
                if problem.errno == errno.ETOOMANYREFS:
                    self._again = self._loop.call_later(_AGAIN_S, self._flush)
                    break
                self._waiting.clear()  # the other side is gone, which its process tells
                break
            if sent == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = data[sent:], ()
        if self._watches:
            self._watches = False
            self._loop.remove_writer(self._socket)

    def close(self) -> None:
        """Sends nothing more. Call it before the wire is closed."""
        self._waiting.clear()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._watches:
            self._watches = False
            self._loop.remove_writer(self._socket)


async def readable(fd: int, timeout: float) -> None:
    """Waits until there is something to read, at most `timeout` seconds."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(fd, tell)
    try:
        await asyncio.wait([arrived], timeout=timeout)
    finally:
        loop.remove_reader(fd)
