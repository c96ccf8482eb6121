"""The receiving end of a channel for a worker that may start again: see `broker_ledger` for what its home does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from typing import Any, Final

from ..codec.decode import decode
from ..ends.reader import CrossingReader
from .broker_carrier import BrokerReceiver
from .broker_ledger import Account, Marks, read_account
from .station import Station
from .stream_frames import Frame, Kind

__all__ = ["KeptReader"]

_OPENINGS: Final = 2
"""A frame at whose unpickling the worker died so often fails: that was no coincidence."""


def _unheard(edge: int, count: int, problem: BaseException) -> None:
    """What cannot be unpickled was counted in the life before."""


class KeptReceiver(BrokerReceiver):
    """As `BrokerReceiver`, from a home that keeps what was received, and tells a new life of it.

    Args:
        station, channel, home: as for `BrokerReceiver`.
        held: called with a call when the home knows what that has in hand.
        say: called with frames for the home; sends them, and what else there is to say, before them.
        again: whether this is another life than the first.
    """

    def __init__(
        self,
        station: Station,
        channel: int,
        home: int,
        held: Callable[[int], None],
        say: Callable[..., None],
        *,
        again: bool,
    ) -> None:
        super().__init__(station, channel, home)
        self._held = held
        self._say = say
        self._deaf = again
        """Until the home answers: what it said before that was to an earlier life."""
        self._account: Frame | None = None
        self._told = asyncio.Event()

    def tell(self, *frames: Frame) -> None:
        """Sends frames to the home."""
        self._tell(*frames)

    async def account(self) -> Account:
        """Asks the home for what an earlier life had got and not done; waits until the frames are here, too."""
        self._tell(Frame(Kind.AGAIN, self._channel))
        while True:
            self._told.clear()
            account = None if self._account is None else read_account(self._account)
            if account is not None and len(self._frames) >= len(account.marks):
                return account
            await self._told.wait()

    def waiting(self) -> list[Frame]:
        """Frames that came, and were not received."""
        return list(self._frames)

    def take_out(self) -> Frame:
        """The first of those; it is not received."""
        return self._frames.popleft()

    def hear(self, frame: Frame) -> None:
        if frame.kind == Kind.HELD:
            self._call(partial(self._held, frame.seq))
            return
        if frame.kind == Kind.ACCOUNT:
            self._account = frame
            self._deaf = False
        elif not self._deaf:
            super().hear(frame)
        if self._account is not None and not self._told.is_set():
            self._call(self._told.set)

    def _ask(self) -> None:
        self._say()
        super()._ask()

    def close(self) -> None:
        self._say()
        super().close()


class KeptReader(CrossingReader):
    """The receiving end of a channel, for a worker that may start again, and has one node.

    Implements `runtime.restart.JournaledReader`.

    Args:
        station: of this worker.
        channel: its id.
        home: the worker that keeps it: another one.
        capacity: of the channel, in items.
        bad: called with the edge, the count and the error of items that cannot be unpickled.
        seen: called with the edge of each frame that comes in, and how many items have come in on it.
        news: gives what was counted here, when something has failed since it was asked the last time.
        learn: is given what it gave in an earlier life.
        again: whether this is another life than the first.
    """

    def __init__(
        self,
        station: Station,
        channel: int,
        home: int,
        capacity: int,
        *,
        bad: Callable[[int, int, BaseException], None],
        seen: Callable[[int, int], None] = lambda edge, total: None,  # noqa: ARG005
        news: Callable[[], bytes] = bytes,
        learn: Callable[[bytes], None] = lambda counts: None,  # noqa: ARG005
        again: bool = False,
    ) -> None:
        self.in_hand: dict[int, list[tuple[int, Any]]] = {}
        self.lost: dict[int, int] = {}
        self.last = 0
        self._channel = channel
        self._over: list[int] = []  # calls that have ended, of which the home is not told yet
        self._opened_last: Frame | None = None  # what tells of the last frame, if nothing else has
        self._news = news
        self._learn = learn
        self._marked: list[tuple[Frame, Marks]] = []
        self._lost_frames: list[tuple[int, int]] = []
        self._fresh = 0  # items of which the home does not know that they were taken
        self._held: dict[int, asyncio.Future[None] | None] = {}  # call -> what waits for HELD
        carrier = self._home = KeptReceiver(station, channel, home, self._on_held, self._say, again=again)
        super().__init__(carrier, capacity, bad=bad, seen=seen, measured=carrier.worked)

    # -- after a death

    async def recall(self) -> AbstractSet[int]:
        """Asks the home for what an earlier life had got and not done.

        Returns:
            The calls that had some of it in hand.
        """
        account = await self._home.account()
        self._learn(account.counts)
        self._received.update(account.came)
        self._released = account.released
        self.last = account.last
        while account.marks and (account.marks[0].opened or account.marks[0].begun >= _OPENINGS):
            self._marked.append((self._home.take_out(), account.marks.pop(0)))
        for frame in self._home.waiting()[: len(account.marks)]:  # those were not touched: they are received as ever
            self._received[frame.id] -= frame.amount
        self._came = sum(self._received.values())
        return {call for _, marks in self._marked for call in marks.held.values()}

    def restore(self, unbegun: AbstractSet[int]) -> None:
        """Sorts what was recalled into what waits, and what is in hand of calls; those of `unbegun` have none."""
        for each in unbegun:
            self._home.tell(Frame(Kind.HOLD, self._channel, 0, each))
        waiting: dict[int, int] = {}
        call: int | None
        for frame, marks in self._marked:
            for index, item in enumerate(self._items(frame, marks)):
                call = marks.held.get(index)  # neither that nor still to be taken: it is done
                if index >= marks.taken or call in unbegun:
                    self.items.append(item)
                    self._tally.came(frame.id)
                    waiting[frame.id] = waiting.get(frame.id, 0) + 1
                elif call is not None:
                    self.in_hand.setdefault(call, []).append((frame.id, item))
        self._marked.clear()
        self._fresh = len(self.items)
        self._held.update(dict.fromkeys(self.in_hand))
        self._tally.taken.update({edge: items - waiting.get(edge, 0) for edge, items in self._received.items()})
        for edge, items in self._received.items():
            self._seen(edge, items)

    def _items(self, frame: Frame, marks: Marks) -> list[Any]:
        """The items of a frame that was opened before; none when they cannot be had again."""
        items: list[Any] = []
        if marks.opened:
            with suppress(BaseException):  # of an item's own code
                items = decode(frame.id, frame.amount, _unheard, *frame.parts())
        if len(items) == marks.items:
            return items
        self.lost[frame.id] = self.lost.get(frame.id, 0) + marks.items - marks.taken + len(marks.held)
        self._lost_frames.append((frame.id, frame.seq))
        return []

    def forget_lost(self) -> None:
        """What cannot be had again has failed by now."""
        self.lost.clear()
        for edge, number in self._lost_frames:
            self._home.tell(Frame(Kind.OPENED, edge, 0, number, self._news()))
        self._lost_frames.clear()

    # -- frames

    def _opened(self, edge: int, count: int, body: Any, where: Any) -> list[Any]:
        seq = self._home.seq
        self._say(Frame(Kind.OPENING, edge, 0, seq))
        items = super()._opened(edge, count, body, where)
        # Another life must know that it was not this that killed: at the latest now, most often by the next call.
        self._opened_last = Frame(Kind.OPENED, edge, len(items), seq, self._news())
        if len(items) < count:
            self._say()
        else:
            self._loop.call_soon(self._say)
        self._fresh += len(items)
        return items

    # -- room: in small portions it would come back in small frames, and each takes the home's time

    def _give_at_turn(self) -> None:
        if not self.items or self._came - len(self.items) - self._released >= self._enough:
            self._give()

    def owed(self) -> int:
        self._surcharges.clear()  # the home knows them
        owed = max(0, self._came - len(self.items) - self._released)  # what was taken for a batch may wait again
        self._released += owed
        return owed

    def owed_at_the_end(self) -> int:
        return max(0, self._came - self._released)

    # -- calls

    async def hold(self, call: int) -> None:
        """The items that were taken since the last time are in hand of a call, and the home knows that."""
        taken = self._fresh - len(self.items)
        if not taken:
            return
        self._fresh -= taken
        known = self._held[call] = self._loop.create_future()
        self._say(Frame(Kind.HOLD, self._channel, taken, call))
        await known

    def _on_held(self, call: int) -> None:
        known = self._held.get(call)
        if known is not None and not known.done():
            known.set_result(None)

    def done(self, call: int) -> None:
        """The items in hand of a call are done."""
        if self._held.pop(call, self) is self:
            return
        if not self._over:
            self._loop.call_soon(self._say)  # at the latest: most often the next call tells it
        self._over.append(call)

    def _say(self, *frames: Frame) -> None:
        """Sends frames, and before them which calls are over; and which frame was opened, if those do not tell."""
        if self._opened_last is not None:
            frames = frames or (self._opened_last,)
            self._opened_last = None
        if self._over:
            news = self._news()
            frames = (*(Frame(Kind.OVER, self._channel, 0, call, news) for call in self._over), *frames)
            self._over.clear()
        if frames:
            self._home.tell(*frames)
