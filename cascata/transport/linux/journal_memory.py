"""What a worker that may start again has received and not done: in memory that outlives it.

    socket ── recvmsg ──> [ slot: header | marks, one per item | message ] ──> items ──> runner ──> outputs flushed
                              a memory file, which the parent holds too                                  │
                              marks: waiting ──> in hand, by which call ──> done <───────────────────────┘

A frame is received right into a slot, and stays there until all of its items are done. An item is done when its call
has ended and what it sent has left. When the worker dies, at whatever line, its successor finds in the slots what
waits still, which it delivers again, and what was in hand, which has failed.

The order of the stores is what makes that hold: a slot whose message came and whose number was not written yet is the
newest; credits are counted as given before they are given, so that a death in between loses one rather than making one
too many (the run's watch over room makes up for it: see `engine.supervision.stall`).

What lies outside of the message (see `large_items`) is gone with the worker: it is counted as lost.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..codec.decode import decode
from ..ends.carrier import END
from ..ends.reader import CrossingReader
from . import messages
from .fd_hub import Hub
from .sockets import SocketReceiver

if TYPE_CHECKING:
    from .arena import Arenas

__all__ = ["JournalReader", "Region", "region_size"]

_DONE: Final = 0xFFFFFFFF
_MARKS: Final = messages.INLINE_LIMIT
"""Items of a message, at most: each takes a byte of it."""

_DECODINGS: Final = 2
"""A frame at whose unpickling the worker died so often fails: that was no coincidence."""

# words of a slot's header
_NUMBER: Final = 0  # 0: free
_AFTER: Final = 1  # items received on its edge, with this frame
_DECODING: Final = 2  # how often unpickling its items was begun; 0: it has been done
_LEFT: Final = 3  # items that are not done
_CAME: Final = 4  # items received in all, with this frame
_HEAD: Final = 64

_MARKS_AT: Final = _HEAD
_MESSAGE_AT: Final = _MARKS_AT + 4 * _MARKS
_MESSAGE: Final = messages.HEADER_BYTES + messages.INLINE_LIMIT
_SLOT: Final = -(-(_MESSAGE_AT + _MESSAGE) // mmap.PAGESIZE) * mmap.PAGESIZE
_NOTHING: Final = bytes(messages.HEADER_BYTES)


def _slots(concurrency: int) -> int:
    """Each call may have its items in a frame of its own; one more is at hand, and one is received."""
    return concurrency + 2


def region_size(concurrency: int) -> int:
    """Bytes of the part of a journal that is for one channel. Most of them are never touched, and take no memory."""
    return mmap.PAGESIZE + _slots(concurrency) * _SLOT


def _unheard(edge: int, count: int, problem: BaseException) -> None:
    """What cannot be unpickled is found by counting."""


class _Slot:
    """One frame."""

    __slots__ = ("index", "left", "marks", "message", "words")

    def __init__(self, memory: memoryview, index: int) -> None:
        self.index = index
        self.words = memory[:_HEAD].cast("Q")
        self.marks = memory[_MARKS_AT:_MESSAGE_AT].cast("I")
        self.message = memory[_MESSAGE_AT : _MESSAGE_AT + _MESSAGE]
        self.left = 0

    def header(self) -> tuple[int, int, int, int, int]:
        """Of the frame; the count of items is 0 when there is none."""
        return messages.HEADER.unpack_from(self.message)

    @property
    def body(self) -> memoryview:
        return self.message[messages.HEADER_BYTES :]

    @property
    def marked(self) -> bool:
        """Whether its items can be told apart, and be had again."""
        return self.message[0] == messages.PICKLE

    def clear(self) -> None:
        self.message[: messages.HEADER_BYTES] = _NOTHING
        self.words[_NUMBER] = 0


class Region:
    """The part of a worker's journal that is for one channel.

    Args:
        memory: as many bytes as `region_size` says, zero before their first use.
        concurrency: calls of the node's runner in flight at once.
    """

    def __init__(self, memory: memoryview, concurrency: int) -> None:
        self._words = memory[: mmap.PAGESIZE].cast("Q")
        self.slots = [
            _Slot(memory[mmap.PAGESIZE + index * _SLOT : mmap.PAGESIZE + (index + 1) * _SLOT], index)
            for index in range(_slots(concurrency))
        ]

    @property
    def given(self) -> int:
        """Credits given back so far, by all the lives of the worker."""
        return self._words[0]

    @given.setter
    def given(self, credits: int) -> None:
        self._words[0] = credits


class JournalReader(CrossingReader):
    """The receiving end of a channel for a worker that may start again, and has one node.

    Args:
        hub: of the running loop.
        receive, give_credits: fds of the channel; this object makes its own of them.
        capacity, bad, measured: as for `CrossingReader`.
        arenas: gives those of who sends.
        region: of the journal.
        before: edge -> items that came in here in earlier lives.
        seen: called with the edge of each frame that comes in, and how many items have come in on it.
    """

    def __init__(
        self,
        hub: Hub,
        receive: int,
        give_credits: int,
        capacity: int,
        region: Region,
        before: Mapping[int, int],
        *,
        bad: Callable[[int, int, BaseException], None],
        seen: Callable[[int, int], None],
        measured: Callable[[float], None] | None = None,
        arenas: Callable[[], Arenas] | None = None,
    ) -> None:
        carrier = SocketReceiver(hub, receive, give_credits, arenas)
        super().__init__(carrier, capacity, bad=bad, seen=seen, measured=measured)
        self._sockets = carrier
        self._region = region
        self._where: deque[tuple[_Slot, int]] = deque()  # of the items
        self._hands: dict[int, list[tuple[_Slot, int]]] = {}  # of the items of each call
        self._free: list[_Slot] = []
        self._lost: list[_Slot] = []
        self._number = 0
        self._full = False
        self.in_hand: dict[int, list[tuple[int, Any]]] = {}
        """Of the life before: call -> edge and item of each that it had in hand."""
        self.lost: dict[int, int] = {}
        """Of the life before: edge -> items that cannot be had again."""
        self._received.update(before)
        self._recover()

    # -- after a death

    def _recover(self) -> None:
        for slot in self._region.slots:
            for page in range(0, _MESSAGE, mmap.PAGESIZE):  # a page that is there needs no fault in the midst of `recv`
                slot.message[page] = slot.message[page]
        surcharges: list[tuple[int, int]] = []
        for slot in sorted(self._region.slots, key=lambda each: each.words[_NUMBER] or _DONE):
            _, edge, _, count, surcharge = slot.header()
            if not count:
                slot.clear()
                self._free.append(slot)
                continue
            if not slot.words[_NUMBER]:  # it had come, and the worker was killed before it knew
                self._commit(slot, edge, count)
            self._number = max(self._number, slot.words[_NUMBER])
            self._count(slot, edge)
            if surcharge:
                surcharges.append((slot.words[_CAME], surcharge))
            self._deliver_again(slot, edge)
        waiting: dict[int, int] = {}
        self._released = self._region.given
        for came, surcharge in surcharges:
            if came > self._released:  # else it was given back
                self._surcharges.append((came, surcharge))
        for slot, _ in self._where:
            _, edge, *_ = slot.header()
            waiting[edge] = waiting.get(edge, 0) + 1
            self._tally.came(edge)
        self._came = sum(self._received.values())
        self._tally.taken.update({edge: items - waiting.get(edge, 0) for edge, items in self._received.items()})
        self._give()

    def _deliver_again(self, slot: _Slot, edge: int) -> None:
        begun = slot.words[_DECODING]
        items: list[Any] = []
        if slot.marked and begun < _DECODINGS:
            if begun:
                slot.words[_DECODING] = begun + 1
            with suppress(BaseException):  # of an item's own code
                items = decode(edge, slot.header()[3], _unheard, slot.body)
        if not items:
            self._lost.append(slot)
            self.lost[edge] = self.lost.get(edge, 0) + slot.words[_LEFT]
            return
        if begun:  # else what cannot be unpickled was counted before
            self.lost[edge] = self.lost.get(edge, 0) + slot.words[_LEFT] - len(items)
        for index, item in enumerate(items):
            mark = slot.marks[index]
            if mark == _DONE:
                continue
            slot.left += 1
            if not mark:
                self._where.append((slot, index))
                self.items.append(item)
            else:
                self.in_hand.setdefault(mark, []).append((edge, item))
                self._hands.setdefault(mark, []).append((slot, index))
        slot.words[_LEFT] = slot.left
        slot.words[_DECODING] = 0
        if not slot.left:
            self._clear(slot)

    def forget_lost(self) -> None:
        """What cannot be had again has failed by now."""
        self.lost.clear()
        while self._lost:
            self._clear(self._lost.pop())

    # -- frames

    def _receive(self) -> bool:
        if not self._free:
            self._full = True
            return False
        slot = self._free[-1]
        message = self._sockets.receive(slot.message)
        if message is None:
            return False
        if message is END:
            self._ended = True
            self._waiters.wake_all()
            return True
        self._free.pop()
        edge, count, surcharge, body, where = message
        self._commit(slot, edge, count)
        self._count(slot, edge)
        self._came += count
        if surcharge:
            self._surcharges.append((slot.words[_CAME], surcharge))
        items: list[Any] = []
        try:
            found = (body, (), ()) if where is None else self._carrier.find(body, where)
            items = decode(edge, count, self._bad, *found)
        except BaseException as problem:  # as for every reader
            self._bad(edge, count, problem)
        slot.left = slot.words[_LEFT] = len(items)
        slot.words[_DECODING] = 0
        self.items.extend(items)
        self._tally.came(edge, len(items))
        self._where.extend((slot, index) for index in range(len(items)))
        if not items:
            self._clear(slot)
        return True

    def _commit(self, slot: _Slot, edge: int, count: int) -> None:
        if slot.marked:
            slot.marks[:count] = memoryview(bytes(4 * count)).cast("I")
        self._number += 1
        slot.words[_AFTER] = self._received.get(edge, 0) + count
        slot.words[_CAME] = sum(self._received.values()) + count
        slot.words[_LEFT] = count
        slot.words[_DECODING] = 1
        slot.words[_NUMBER] = self._number

    def _count(self, slot: _Slot, edge: int) -> None:
        self._received[edge] = max(self._received.get(edge, 0), slot.words[_AFTER])
        self._seen(edge, self._received[edge])

    def _clear(self, slot: _Slot) -> None:
        slot.clear()
        self._free.append(slot)
        if self._full:
            self._full = False
            self._waiters.wake_all()

    # -- items

    async def recall(self) -> AbstractSet[int]:
        """What an earlier life has left was found when this was made. Returns the calls that had some of it in hand."""
        return self.in_hand.keys()

    def restore(self, unbegun: AbstractSet[int]) -> None:
        """It was sorted then, too: the marks of two ports of a call are written with nothing in between."""

    @property
    def last(self) -> int:
        """The last call that had an item in hand, as far as is known."""
        return max(self.in_hand, default=0)

    async def hold(self, call: int) -> None:
        """The items that were taken since the last time are in hand of a call."""
        taken = self._hands.setdefault(call, [])
        while len(self._where) > len(self.items):
            slot, index = self._where.popleft()
            if slot.marked:
                slot.marks[index] = call
            taken.append((slot, index))

    def done(self, call: int) -> None:
        """The items in hand of a call are done."""
        for slot, index in self._hands.pop(call, ()):
            if slot.marked:
                slot.marks[index] = _DONE
            slot.left -= 1
            slot.words[_LEFT] = slot.left
            if not slot.left:
                self._clear(slot)

    def owed(self) -> int:
        owed = self._came - len(self.items) - self._released
        if owed <= 0:  # what was taken for a batch before the death waits again
            return 0
        self._released += owed
        self._region.given = self._released
        return owed + self._surcharges.up_to(self._released)

    def __repr__(self) -> str:
        return f"<journal: {len(self.items)} items wait, {len(self._hands)} calls have some in hand>"
