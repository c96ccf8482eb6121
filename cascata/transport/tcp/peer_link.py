"""A connection between two workers, and the way out over it.

    any thread ── Link.send ──> [ socket ]                        as long as the socket takes it at once
                       └──────> backlog ── I/O thread ──> socket  else, and in order
    [ socket ] ── I/O thread ──> Connection: handshake, then frames ──> received

Nobody ever waits to send: what the socket does not take stays where it is until it does. Credits bound how much that
can be. `Connection` is a `BufferedProtocol`: it works in each of asyncio's loops, and bytes go from the kernel straight
to where they belong.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from ..shared import after_fork
from .buffer_pool import BufferPool
from .handshake import Handshake, HandshakeError
from .stream_frames import Assembler, Chunk, Frame, WireError, chunks

__all__ = ["Connection", "Link"]

SLICE: Final = 256 * 1024
"""Bytes that the loop is given at once: of what the socket does not take of them it makes a copy."""

_SENDS_MANY: Final = hasattr(socket.socket, "sendmsg")  # not on Windows
_MOST_CHUNKS: Final = 64
"""Pieces of one call: the system takes 16 at least, and Linux and macOS 1024."""


class Connection(asyncio.BufferedProtocol):
    """One end of a connection, in the I/O loop.

    Args:
        sock: connected.
        handshake: this end's part.
        proven: called when the other end has proved itself.
        received: called with each frame.
        lost: called once, when nothing comes any more, with the reason; None when the other end has just closed.
        pool: what frames are received into.
    """

    def __init__(
        self,
        sock: socket.socket,
        handshake: Handshake,
        proven: Callable[[Connection], None],
        received: Callable[[Connection, Frame], None],
        lost: Callable[[Connection, Exception | None], None],
        pool: BufferPool,
    ) -> None:
        self.sock = sock
        self.handshake = handshake
        self.link: Link | None = None
        self.over: asyncio.Future[Exception | None] | None = None
        """Of the end that connects: None when the connection is in use, or why there is none."""
        self.transport: asyncio.Transport | None = None
        self._proven = proven
        self._lost = lost
        self.is_lost = False
        self.why: Exception | None = None
        self._greeting = bytearray(handshake.wants)
        self._greeted = 0
        self._frames = Assembler(lambda frame: received(self, frame), pool.take)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=0)
        after_fork.private(self.sock.fileno())
        if self.handshake.opening:
            self.transport.write(self.handshake.opening)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.handshake.done:
            return self._frames.room()
        return memoryview(self._greeting)[self._greeted :]

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self.handshake.done:
                self._frames.came(nbytes)
            else:
                self._greet(nbytes)
        except (HandshakeError, WireError) as problem:
            self.abort(problem)

    def _greet(self, count: int) -> None:
        self._greeted += count
        if self._greeted < len(self._greeting) or self.why is not None:
            return
        answer = self.handshake.feed(bytes(self._greeting))
        if answer and self.transport is not None:
            self.transport.write(answer)
        self._greeting = bytearray(self.handshake.wants)
        self._greeted = 0
        if self.handshake.done:
            self._proven(self)

    def settle(self, why: Exception | None) -> None:
        """Tells who waits in `over`."""
        if self.over is not None and not self.over.done():
            self.over.set_result(why)

    def close(self) -> None:
        """Ends the connection when what was sent has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, why: Exception | None) -> None:
        """Ends the connection at once."""
        if self.why is None:
            self.why = why
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        after_fork.unprivate(self.sock.fileno())
        self.is_lost = True
        self.why = self.why or exc
        if self.link is not None:
            self.link.cut()
        self._lost(self, self.why)

    def pause_writing(self) -> None:
        if self.link is not None:
            self.link.pause()

    def resume_writing(self) -> None:
        if self.link is not None:
            self.link.resume()


class Link:
    """The way to one other worker: takes frames from any thread, in order, also before there is a connection.

    Args:
        peer: index of the other worker.
        loop: of the I/O thread.

    Attributes:
        connection: over which frames go, if there is one.
    """

    def __init__(self, peer: int, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = peer
        self.connection: Connection | None = None
        self.over = False
        self.parting = False
        """Whether the other end has said goodbye."""
        self._loop = loop
        self._lock = threading.Lock()
        self._backlog: deque[Chunk] = deque()
        self._drained = True  # nothing waits, here or in the loop
        self._paused = False

    def use(self, connection: Connection) -> None:
        """There is a connection. In the I/O thread."""
        assert connection.transport is not None
        connection.link = self
        with self._lock:
            self.connection = connection
            self._paused = connection.transport.get_write_buffer_size() > 0  # what is left of the handshake
            self._drained = False
        self._drain()

    def send(self, *frames: Frame) -> None:
        """Sends frames, now or as soon as possible; never waits. Drops them when the connection is gone."""
        pieces: deque[Chunk] = deque(chunk for frame in frames for chunk in chunks(frame))
        with self._lock:
            if self.over:
                return
            direct = self._drained and self.connection is not None
            if direct:
                self._send_now(pieces)
            if not pieces:
                return
            # What is sent is sent: its sender may write into its own memory again.
            self._backlog.extend(bytes(piece) if isinstance(piece, memoryview) else piece for piece in pieces)
            if not self._drained:
                return
            self._drained = False
        with suppress(RuntimeError):  # the loop is closed: so is the connection
            self._loop.call_soon_threadsafe(self._drain)

    def _send_now(self, pieces: deque[Chunk]) -> None:
        """Sends as much as the socket takes at once; takes that off `pieces`."""
        assert self.connection is not None
        sock = self.connection.sock
        try:
            while pieces:
                if _SENDS_MANY and len(pieces) > 1:
                    sent = sock.sendmsg([pieces[at] for at in range(min(len(pieces), _MOST_CHUNKS))])
                else:
                    sent = sock.send(pieces[0])
                while pieces and sent >= len(pieces[0]):
                    sent -= len(pieces.popleft())
                if sent:
                    pieces[0] = memoryview(pieces[0])[sent:]
        except OSError:
            pass  # no room now; or it is broken, which whoever reads is told

    def _drain(self) -> None:
        """Hands the backlog to the loop. In the I/O thread."""
        with self._lock:
            transport = None if self.connection is None else self.connection.transport
            if transport is None:
                return
            backlog = self._backlog
            while backlog and not self._paused and not self.over:
                piece = backlog.popleft()
                if len(piece) > SLICE:
                    view = memoryview(piece)
                    backlog.appendleft(view[SLICE:])
                    piece = view[:SLICE]
                transport.write(piece)
            self._drained = not backlog and not self._paused

    def pause(self) -> None:
        """The loop holds bytes that the socket did not take. In the I/O thread, perhaps within `_drain`."""
        self._paused = True
        self._drained = False

    def resume(self) -> None:
        """The socket has taken all that the loop held. In the I/O thread."""
        self._paused = False
        self._drain()

    def renew(self) -> None:
        """The other end is in a new life: what was to go to the one before is forgotten. `use` follows."""
        self.cut()
        with self._lock:
            self.over = self.parting = self._paused = False
            self.connection = None

    def cut(self) -> None:
        """The connection is gone."""
        with self._lock:
            self.over = True
            self._backlog.clear()
            self._drained = True
