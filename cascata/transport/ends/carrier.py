"""What carries frames one way and room the other: the means of the system behind one face.

    writer ── transmit ──> [ SendingCarrier ~~~ ReceivingCarrier ] ── receive ──> reader
          <─── take ─────                                  <──── give ────

On Linux that is a ring of shared memory, for one writer and one reader, or a socket and a pipe of credits, which any
number of processes may share; on the portable transport it is a broker, over TCP or within its own worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from ..codec.encode import Framing

__all__ = ["END", "Message", "ReceivingCarrier", "SendingCarrier", "SendingUser"]

Message = tuple[int, int, int, bytes | bytearray | memoryview, Any]
"""A frame that came: its edge, how many items it has, the credits that they took beyond one each, its body, and where
the rest of it lies; None: the body is all there is."""

END: Final[Message] = (-1, 0, 0, b"", None)
"""Is received when no more will come."""


class SendingUser(Protocol):
    """The writer that sends over a carrier. It is told by callbacks of its loop: no task is running then."""

    def on_room(self) -> bool:
        """There may be room. Returns whether a put waited for it."""

    def on_passage(self) -> bool:
        """A frame that could not leave may be able to. Returns whether there is one."""

    def on_recall(self) -> bool:
        """Others need room that is in hand here and not used. Returns whether it was given back."""

    def hang_up(self) -> None:
        """No reader is left: what was not sent cannot be."""


class SendingCarrier(Protocol):
    """The sending end of a carrier, in one event loop.

    Attributes:
        recalls: whether it asks for the room back that others need. Else a writer that shares the channel gives back
            at each turn of the loop what it has not used.
        sharing: what the edges of one out-port have in common (its attribute `round` is set to what counts the items
            of the port), if anything.
    """

    recalls: bool
    sharing: Any

    def framing(self, edge: int) -> Framing[Any]:
        """Makes the frames of an edge. What `transmit` may refuse has a `drop()`, which tells how many items it had."""

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

    def transmit(self, frame: Any) -> None:
        """Sends a frame without waiting.

        Raises:
            BlockingIOError: no room for it now; the frame is untouched.
            OSError: nobody receives any more, or the system is short of something.
        """

    def transmit_small(self, edge: int, total: int, count: int, body: bytes) -> bool:
        """Sends a frame that is only a header and a body, if that is possible in the quickest way there is now."""

    async def arrived(self, sent: int) -> None:
        """Waits until so many items have come to where they outlive this worker, if that matters to anybody."""

    def close(self) -> None:
        """Lets go of this end."""

    async def parted(self) -> None:
        """After `close`: waits until the other side knows of it, and all that was sent has come."""


class ReceivingUser(Protocol):
    """The reader that receives over a carrier. It is told by callbacks of its loop: no task is running then."""

    def on_frame(self) -> bool:
        """A frame, or the end, may have come. Returns whether others still wait for one."""

    def owed(self) -> int:
        """Room that the writers were not told of yet: they are told by this."""

    def owed_at_the_end(self) -> int:
        """The same when nobody takes any more: also that of the items which came and were not taken."""


class ReceivingCarrier(Protocol):
    """The receiving end of a carrier, in one event loop."""

    def watch(self, user: ReceivingUser) -> None:
        """From now on the user is told."""

    def receive(self) -> Message | None:
        """The next message, `END` when no more will come, None when there is none now.

        Raises:
            OSError: the carrier failed.
        """

    def find(self, body: Any, where: Any) -> tuple[Any, Sequence[memoryview], Sequence[memoryview]]:
        """The whole of a message of which more lies elsewhere: its body, its buffers, its blobs.

        Raises:
            OSError: what lies there cannot be had.
        """

    def done(self) -> None:
        """The message that was received last has been read: its memory may be used again."""

    def give(self, count: int) -> None:
        """Tells the writers that there is room for so many items more."""

    def sleep(self) -> bool:
        """Tells of the room that is owed, and whether the user may wait now. Not when something came meanwhile."""

    def close(self) -> None:
        """Lets go of this end."""
