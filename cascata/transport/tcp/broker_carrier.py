"""A channel's broker as a carrier: what the ends of the channel say to it, and what it says to them.

    writer ── transmit: DATA ──────────> [ the broker, in the channel's home ] ── DATA ──> receive ──> reader
       ▲                                            │  ▲                                                 │
       └── take <── CREDIT ─────────────────────────┘  └────────────────────────────── give: GIVE, ASK ──┘

See `broker` for what the home does with it. Its frames come in the I/O thread, or, from a broker in this worker, while
something is told to it: `hear` only notes them, and has the end look in its own loop. An end that waits first says that
it waits and then looks once more, `hear` first notes the frame and then looks whether somebody waits: so one of the two
sees the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from ..ends.carrier import END, Message, ReceivingUser, SendingUser
from ..shared.loops import InLoop
from .broker import initial_credits
from .station import Station
from .stream_frames import Frame, FramesOfItems, Kind

__all__ = ["BrokerReceiver", "BrokerSender"]

UNLIMITED: Final = 1 << 62

AHEAD_S: Final = 0.002
"""A reader far from its channel's home asks for the next frame while it works on one that is less work than this."""


class BrokerSender:
    """The sending end of one edge. Implements `ends.carrier.SendingCarrier`.

    Args:
        station: of this worker.
        edge: id of the edge.
        channel: id of its channel.
        home: the worker that keeps the channel.
        capacity: of the channel, in items.
        share: how many edges write to it.
        shared: whether the same items go out on other edges as well.
        returning: whether its worker may start again: then nothing stays here, each item leaves within its `put`.
        again: whether it has: then it holds no credits, and says so first.
        confirms: whether `arrived` asks the home whether all has come.
    """

    recalls = True
    sharing = None

    def __init__(
        self,
        station: Station,
        edge: int,
        channel: int,
        home: int,
        capacity: int,
        *,
        share: int = 1,
        shared: bool = False,
        returning: bool = False,
        again: bool = False,
        confirms: bool = False,
    ) -> None:
        self._station = station
        self._edge = edge
        self._channel = channel
        self._home = home
        self._alone = share == 1
        self._returning = returning
        self._again = again
        self._confirms = confirms
        self._frames = FramesOfItems(edge, shared=shared, near=home == station.me)
        self._call = InLoop()
        self._loop = asyncio.get_running_loop()
        self._deaf = again
        """Until the home answers: what it said before that was to an earlier life."""
        self._inbox: deque[int] = deque([0 if again else initial_credits(capacity, share)])
        """Credits that came, and were not looked at."""
        self._reserve = 0
        """Credits that came, and were not taken."""
        self._wanted = False
        """Whether some were asked for, and none have come since."""
        self._most = 1
        """How many the writer asked for last."""
        self._awaits_room = False
        self._fill = 1
        self._closed = False
        self._confirmed: asyncio.Future[None] = self._loop.create_future()
        """Done when the home knows that this end is closed."""
        self._come = 0
        """Items that have come to the home, as far as is known."""
        self._syncs: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Questions to the home whether so many have come."""

    def framing(self, edge: int) -> FramesOfItems:  # the one that it was made for
        return self._frames

    def watch(self, user: SendingUser) -> None:
        self._user = user
        self._tell = self._station.add_writer(self._edge, self._channel, self._home, self)
        if self._again:
            self._tell(Frame(Kind.REOPEN, self._edge))

    def fill(self) -> int:
        """How many items may go into one frame, when several workers read, or this one may start again."""
        return self._fill

    # -- what the home says

    def hear(self, frame: Frame) -> None:
        """See `station.End`."""
        kind = frame.kind
        if kind == Kind.REOPENED:
            self._frames.before = frame.seq
            self._deaf = False
        if self._deaf:
            return
        if kind == Kind.CREDIT:
            self._fill = 1 if self._returning else frame.seq or UNLIMITED
            self._inbox.append(frame.amount)
            if self._awaits_room:
                self._awaits_room = False
                self._call(self._on_room)
        elif kind == Kind.RECALL:
            self._call(self._on_recall)
        elif kind == Kind.REFUSED:
            self._call(self._user.hang_up)
        elif kind == Kind.CLOSED:
            self._call(self._on_closed)
        elif kind == Kind.SYNCED:
            self._call(self._on_synced)

    def _on_room(self) -> None:
        self._user.on_room()  # who still waits says so anew

    def _on_recall(self) -> None:
        if self._user.on_recall():
            self.give(0)

    def _on_closed(self) -> None:
        if not self._confirmed.done():
            self._confirmed.set_result(None)

    def _on_synced(self) -> None:
        sent, come = self._syncs.popleft()
        self._come = max(self._come, sent)
        if not come.done():  # who waited may have been cancelled
            come.set_result(None)

    # -- credits

    def _collect(self) -> None:
        while self._inbox:
            self._reserve += self._inbox.popleft()
            self._wanted = False

    def take(self, most: int) -> int:
        self._collect()
        self._most = most
        if not self._reserve and not self._alone and not self._wanted:
            self._want(most)
            self._collect()  # a broker in this worker has answered already
        taken = min(self._reserve, most)
        self._reserve -= taken
        return taken

    def _want(self, most: int) -> None:
        self._wanted = True
        self._tell(Frame(Kind.WANT, self._edge, most))

    def give(self, count: int) -> None:
        self._collect()
        back = count + self._reserve
        self._reserve = 0
        if back and not self._closed:  # the home takes back all that a closed writer held
            self._tell(Frame(Kind.BACK, self._edge, back))

    def want_room(self) -> None:
        self._awaits_room = True
        if not (self._inbox or self._reserve or self._alone or self._wanted):  # what came went into a debt
            self._want(self._most)
        if self._inbox or self._reserve:
            self._call(self._on_room)

    # -- frames

    def want_passage(self) -> None:
        """Frames never wait here: see `peer_link.Link`."""

    def transmit(self, frame: Frame) -> None:
        self._tell(frame)

    def transmit_small(self, edge: int, total: int, count: int, body: bytes) -> bool:  # its own
        self._tell(self._frames.small(total, count, body))
        return True

    async def arrived(self, sent: int) -> None:
        if not self._confirms or sent == self._come:
            return
        come = self._loop.create_future()
        self._syncs.append((sent, come))
        self._tell(Frame(Kind.SYNC, self._edge))
        await come

    def close(self) -> None:
        self._closed = True
        self._tell(Frame(Kind.CLOSE, self._edge))

    async def parted(self) -> None:
        await self._confirmed


class BrokerReceiver:
    """The receiving end of a channel, for one worker. Implements `ends.carrier.ReceivingCarrier`.

    Args:
        station: of this worker.
        channel: its id.
        home: the worker that keeps it.

    Attributes:
        seq: the number of the frame that was received last; the frame itself may be large, and is not kept.
    """

    seq: int

    def __init__(self, station: Station, channel: int, home: int) -> None:
        self._station = station
        self._channel = channel
        self._home = home
        self._far = home != station.me
        self._call = InLoop()
        self._frames: deque[Frame] = deque()
        """That came, and were not read yet."""
        self._heard = 0
        """Frames of items that came."""
        self._closed = False
        self._closing = threading.Lock()
        """A frame came either before the end was closed, or after."""
        self._awaits_frame = False
        self._asked = False
        """Whether a frame was asked for that has not been read."""
        self._work_s = 0.0
        self._amount = 0
        """Items of the frame that was received last."""

    def watch(self, user: ReceivingUser) -> None:
        self._user = user
        self._tell = self._station.add_reader(self._channel, self._home, self)

    def worked(self, seconds: float) -> None:
        """The reader has measured how long the work on one item takes."""
        self._work_s = seconds

    def hear(self, frame: Frame) -> None:
        """See `station.End`."""
        with self._closing:
            closed = self._closed
            if not closed:
                self._heard += frame.kind == Kind.DATA
                self._frames.append(frame)
        if closed:
            if frame.kind == Kind.DATA:  # it was under way when the last user left
                self._tell(frame._replace(kind=Kind.RETURN))
        elif self._awaits_frame:
            self._awaits_frame = False
            self._call(self._on_frame)

    def _on_frame(self) -> None:
        if self._user.on_frame() and not self._closed and not self.sleep():
            self._call(self._on_frame)

    def receive(self) -> Message | None:
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self.seq, self._amount = frame.seq, frame.amount
        self._asked = False
        if frame.kind == Kind.END:
            return END
        return frame.id, frame.amount, frame.extra, frame.body, frame if frame.buffers or frame.blobs else None

    def find(self, body: Any, where: Frame) -> tuple[Any, Sequence[memoryview], Sequence[memoryview]]:
        return where.parts()

    def done(self) -> None:
        if self._far and 0 < self._work_s * self._amount < AHEAD_S:
            self._ask()

    def give(self, count: int) -> None:
        self._tell(Frame(Kind.GIVE, self._channel, count))

    def _ask(self) -> None:
        """Wants the next frame; tells what was taken as well."""
        self._asked = True
        self._tell(Frame(Kind.ASK, self._channel, self._user.owed(), int(self._work_s * 1e9)))

    def sleep(self) -> bool:
        if not self._asked:
            self._ask()
        else:
            owed = self._user.owed()
            if owed:
                self.give(owed)
        self._awaits_frame = True
        return not self._frames

    def close(self) -> None:
        with self._closing:
            self._closed = True
        for frame in self._frames:  # another reader may take these
            if frame.kind == Kind.DATA:
                self._tell(frame._replace(kind=Kind.RETURN))
        self._tell(Frame(Kind.DONE, self._channel, self._user.owed_at_the_end(), self._heard))
