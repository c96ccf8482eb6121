"""The control connection of a worker on this machine: messages over a stream socket, each behind its length.

    worker ── send_bytes, recv_bytes: blocking, from any thread ──> [ socket ] ──> Ear, in the loop of the run

`multiprocess` has the same; this one is here before that is imported, and most runs never import it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

__all__ = ["Ear", "SocketWire", "pair", "readable"]

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
