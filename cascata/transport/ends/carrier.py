"""What carries frames one way and room the other: the kernel's means behind one face.

    CrossingWriter ── transmit ──> [ SendingCarrier ~~~ ReceivingCarrier ] ── receive ──> CrossingReader
                  <─── take ─────                                  <──── give ────

Here: a SEQPACKET socket for frames and a pipe for credits, which any number of processes may share.
`ring` has the other kind, for one writer and one reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from socket import SO_SNDBUF, SOL_SOCKET, socket
from typing import Final, Protocol

from ..codec import frames
from ..linux import credits
from ..linux.fd_hub import HUNG_UP, READABLE, WRITABLE, Hub

__all__ = [
    "END",
    "Message",
    "ReceivingCarrier",
    "SendingCarrier",
    "SendingUser",
    "SocketReceiver",
    "SocketSender",
]

Message = tuple[memoryview, int]
"""What `frames.decode` takes, whose header is still to be read: the bytes, and the fd that came along or -1."""

END: Final[Message] = (memoryview(b""), -1)
"""Is received when no more will come."""


class SendingUser(Protocol):
    """Who sends over a carrier, and is told what becomes possible."""

    def on_room(self) -> bool:
        """There may be room. Returns whether somebody waited for it."""

    def on_passage(self) -> bool:
        """A frame that could not leave may be able to. Returns whether there is one."""

    def hang_up(self) -> None:
        """No reader is left."""


class SendingCarrier(Protocol):
    """The sending end of a carrier, in one event loop."""

    limit: int
    """Bytes of a body that still travel in the message itself."""

    def watch(self, user: SendingUser) -> None:
        """From now on the user is told."""

    def take(self, most: int) -> int:
        """Takes room for up to `most` items; 0 when there is none now."""

    def give(self, count: int) -> None:
        """Gives room back that was taken and is not needed."""

    def want_room(self) -> None:
        """The user waits for room: it is told, also when there is room already."""

    def want_passage(self) -> None:
        """The user has a frame that could not leave: it is told, as with `want_room`."""

    def transmit(self, frame: frames.Frame) -> None:
        """Sends a frame without waiting. Raises as `frames.transmit` does."""

    def transmit_small(self, edge: int, total: int, count: int, body: bytes) -> bool:
        """Sends a frame that is only a header and a body, if that is possible in the quickest way there is now."""

    def close(self) -> None:
        """Lets go of this end."""


class ReceivingCarrier(Protocol):
    """The receiving end of a carrier, in one event loop."""

    def watch(self, came: Callable[[], bool]) -> None:
        """From now on `came()` is called when something may have come; it returns whether others still wait."""

    def receive(self) -> Message | None:
        """The next message, `END` when no more will come, None when there is none now.

        Raises:
            OSError: the carrier failed.
        """

    def done(self) -> None:
        """The message that was received last has been read: its memory may be used again."""

    def give(self, count: int) -> None:
        """Tells the writers that there is room for so many items more."""

    def sleep(self) -> bool:
        """Whether the user may wait now. Not when something came meanwhile."""

    def close(self) -> None:
        """Lets go of this end."""


class SocketSender:
    """Frames into a socket, credits from a pipe.

    Args:
        hub: of the running loop.
        send, take_credits: fds of the channel; this object makes its own of them.
        give_credits: where credits that are not used are given back; None for an edge that is alone.
    """

    def __init__(self, hub: Hub, send: int, take_credits: int, give_credits: int | None) -> None:
        self._hub = hub
        self.socket = socket(fileno=os.dup(send))
        self.credit = os.dup(take_credits)
        self._give = None if give_credits is None else os.dup(give_credits)
        self._awaits_credit = self._awaits_socket = False
        self.limit = min(frames.INLINE_LIMIT, self.socket.getsockopt(SOL_SOCKET, SO_SNDBUF) // 2)

    def watch(self, user: SendingUser) -> None:
        self._user = user
        self._hub.watch(self.credit, 0, self._on_credit)
        self._hub.watch(self.socket.fileno(), 0, self._on_socket)

    def take(self, most: int) -> int:
        return credits.take(self.credit, most)

    def give(self, count: int) -> None:
        if self._give is not None:
            credits.give(self._give, count)

    def want_room(self) -> None:
        if not self._awaits_credit:
            self._awaits_credit = True
            self._hub.change(self.credit, READABLE)

    def want_passage(self) -> None:
        if not self._awaits_socket:
            self._awaits_socket = True
            self._hub.change(self.socket.fileno(), WRITABLE)

    def _on_credit(self, events: int) -> None:
        if not self._user.on_room() and events & READABLE:
            self._awaits_credit = False
            self._hub.change(self.credit, 0)

    def _on_socket(self, events: int) -> None:
        if events & HUNG_UP:
            self._user.hang_up()
        elif not self._user.on_passage():  # readers make room all the time: only who waits for it shall be woken
            self._awaits_socket = False
            self._hub.change(self.socket.fileno(), 0)

    def transmit(self, frame: frames.Frame) -> None:
        frames.transmit(self.socket, frame)

    def transmit_small(self, edge: int, total: int, count: int, body: bytes) -> bool:
        return False

    def close(self) -> None:
        self._hub.forget(self.credit)
        self._hub.forget(self.socket.fileno())
        os.close(self.credit)
        if self._give is not None:
            os.close(self._give)
            self._give = None
        self.socket.close()


class SocketReceiver:
    """Frames from a socket, credits into a pipe.

    Args:
        hub: of the running loop.
        receive, give_credits: fds of the channel; this object makes its own of them.
    """

    def __init__(self, hub: Hub, receive: int, give_credits: int) -> None:
        self._hub = hub
        self._socket = socket(fileno=os.dup(receive))
        self._credit = os.dup(give_credits)
        self._buffer = bytearray(frames.HEADER_BYTES + frames.INLINE_LIMIT)

    def watch(self, came: Callable[[], bool]) -> None:
        self._hub.watch(self._socket.fileno(), READABLE, lambda _: void(came()))

    def receive(self, buffer: bytearray | memoryview | None = None) -> Message | None:
        """As every carrier does; into memory of the caller's, if it gives some."""
        while True:
            try:
                return frames.receive(self._socket, buffer or self._buffer) or END
            except BlockingIOError:
                return None
            except ConnectionResetError:
                pass  # said once, before frames that are still queued

    def done(self) -> None:
        pass

    def give(self, count: int) -> None:
        credits.give(self._credit, count)

    def sleep(self) -> bool:
        return True  # what comes between a look and the wait stays noted in the hub

    def close(self) -> None:
        self._hub.forget(self._socket.fileno())
        self._socket.close()
        os.close(self._credit)


def void(_: object) -> None:
    """Is told, and does not mind."""
