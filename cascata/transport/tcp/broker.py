"""The home of a channel whose ends are in several workers: a pure machine, frames in, frames out.

    writers ── data ──> [ frames that nobody has taken ] ──> readers that asked
       ▲                                                        │
       └── credits <── [ credits that nobody holds ] <── give ──┘

Each channel has one home, in the worker of its first reader. It is what a socket and a pipe of the kernel are to the
channels of `transport.ends.writer`: frames arrive whole and in order, whichever reader asks next gets the next one, and
who puts an item holds a credit for it, of which there are as many as the capacity: so the capacity is strict, however
many write. A writer that is alone is given every credit that becomes free without asking. Several ask, each holds what
it was given, and the home calls back what others need.

A run's supervisor ends a channel when no writer is left, or no reader. A writer that closes waits for `CLOSED`, so
that everything it sent has come when the supervisor hears of it.

An end whose worker may start again is never in the home itself. What such a reader has and has not done is kept here
(`transport.tcp.broker_ledger`); such a writer's credits are free again when it is gone. Its channel is needed until the
supervisor has ended it: before that it may be back, whatever it has said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from ..ends.unread import Unread
from .broker_ledger import Kept
from .stream_frames import Frame, Kind

__all__ = ["Broker", "initial_credits"]

SHARED_WORK_NS: Final = 200_000
"""Nanoseconds of work in one frame, at most, when several workers read: so that none holds what another could do."""


class Broker:
    """The state of one channel.

    Args:
        channel: its id.
        capacity: in items.
        writers: edge -> the worker that writes it.
        readers: the workers that read.
        post: sends a frame to a worker's end. Must not call back.
        returning: the workers that start again when they die.
    """

    def __init__(
        self,
        channel: int,
        capacity: int,
        writers: Mapping[int, int],
        readers: Sequence[int],
        post: Callable[[int, Frame], None],
        returning: AbstractSet[int] = frozenset(),
    ) -> None:
        self._channel = channel
        self._writers = dict(writers)  # those that are open
        self._readers = set(readers)
        self._shared = len(writers) > 1
        self._divided = len(self._readers) > 1
        self._portion = max(1, capacity // (2 * max(1, len(writers))))
        self._post = post
        self._held = dict.fromkeys(writers, initial_credits(capacity, len(writers)))
        self._free = capacity - sum(self._held.values())
        self._wants: dict[int, int] = {}  # in the order in which they came
        self._recalled: set[int] = set()
        self._frames: deque[Frame] = deque()
        self._asking: deque[int] = deque()
        self._work: dict[int, int] = {}
        self._given = dict.fromkeys(readers, 0)  # frames that went to each reader
        self._due: dict[int, int] = {}  # of those, on their way to a reader that has left, and back
        self._ended = False
        self._refusing = False
        self._unread: dict[int, Unread] = {}
        self._kept = {reader: Kept() for reader in readers if reader in returning}
        self._arrived = {edge: 0 for edge, worker in writers.items() if worker in returning}  # -> items sent so far
        self._absent: set[int] = set()  # edges whose writers are gone, and may come back

    # -- from the ends

    def handle(self, worker: int, frame: Frame) -> None:
        """Takes what an end in a worker has sent."""
        kind, ident, count = frame.kind, frame.id, frame.amount
        if kind == Kind.DATA:
            if ident in self._held:
                self._held[ident] -= count + frame.extra
            if ident in self._arrived:
                self._arrived[ident] = max(self._arrived[ident], frame.seq)
            self._keep(frame)
        elif kind == Kind.GIVE:
            self._give(self._freed(worker, count))
        elif kind == Kind.ASK:
            self._work[worker] = frame.seq
            self._asking.append(worker)
            self._match()
            self._give(self._freed(worker, count))
        elif kind == Kind.WANT:
            if ident in self._writers:
                self._wants[ident] = count
                self._serve()
        elif kind == Kind.BACK:
            self._held[ident] -= count
            self._give(count)
        elif kind == Kind.CLOSE:
            self._close(ident)
            self._post(worker, Frame(Kind.CLOSED, ident))
        elif kind == Kind.RETURN:
            if worker in self._due:
                self._due[worker] -= 1
            if worker in self._kept:
                self._kept[worker].came_back(frame)
            self._keep(frame._replace(kind=Kind.DATA), first=True)
        elif kind == Kind.DONE:
            self._due[worker] = self._given[worker] - frame.seq
            self._leave(worker)
            self._post(worker, Frame(Kind.LEFT, self._channel))
            self._give(self._kept[worker].release_all(count) if worker in self._kept else count)
        else:
            self._handle_returning(worker, frame)

    def _handle_returning(self, worker: int, frame: Frame) -> None:
        """What only ends say whose worker may start again."""
        kind, ident, number = frame.kind, frame.id, frame.seq
        if kind == Kind.SYNC:
            self._post(worker, Frame(Kind.SYNCED, ident, 0, number))
        elif kind == Kind.REOPEN:
            self._reopen(ident, worker)
        elif kind == Kind.AGAIN:
            self._begin_again(worker)
        elif kind == Kind.OPENING:
            self._kept[worker].opening(ident, number)
        elif kind == Kind.OPENED:
            self._kept[worker].opened(ident, number, frame.amount, bytes(frame.body))
        elif kind == Kind.OVER:
            self._kept[worker].over(number, bytes(frame.body))
        elif kind == Kind.HOLD and frame.amount:
            self._kept[worker].hold(frame.amount, number)
            self._post(worker, Frame(Kind.HELD, ident, 0, number))
        elif kind == Kind.HOLD:
            self._kept[worker].take_back(number)

    def _begin_again(self, worker: int) -> None:
        """A reader has a new life: it gets what the one before had not done, whether that had closed or not."""
        body, frames = self._kept[worker].again()
        self._leave(worker)
        self._readers.add(worker)
        self._due.pop(worker, None)
        self._given[worker] = len(frames)
        self._post(worker, Frame(Kind.ACCOUNT, self._channel, body=body))
        for frame in frames:
            self._post(worker, frame)

    def _reopen(self, edge: int, worker: int) -> None:
        """A writer has a new life."""
        self._absent.discard(edge)
        self._writers[edge] = worker
        self._free += self._held.get(edge, 0)
        self._held[edge] = 0
        self._wants.pop(edge, None)
        self._recalled.discard(edge)
        self._post(worker, Frame(Kind.REOPENED, edge, 0, self._arrived[edge]))
        if self._refusing:
            self._post(worker, Frame(Kind.REFUSED, edge))
        self._serve()

    def _freed(self, worker: int, count: int) -> int:
        """The credits that are free when a reader has taken so many items."""
        return self._kept[worker].release(count) if count and worker in self._kept else count

    def away(self, worker: int) -> None:
        """The connection to a worker is broken that may start again: others get what it cannot use meanwhile."""
        self._asking = deque(each for each in self._asking if each != worker)
        for edge, where in self._writers.items():
            if where == worker:
                self._absent.add(edge)
                self._wants.pop(edge, None)
                self._free += self._held[edge]
                self._held[edge] = 0
        self._serve()

    def gone(self, worker: int) -> None:
        """The connection to a worker is broken: nothing will come from there."""
        for edge in [edge for edge, where in self._writers.items() if where == worker]:
            self._close(edge)
        if worker in self._readers:
            self._leave(worker)
        self._due.pop(worker, None)

    def _close(self, edge: int) -> None:
        if self._writers.pop(edge, None) is not None:
            self._wants.pop(edge, None)
            self._give(self._held.pop(edge))

    def _leave(self, worker: int) -> None:
        self._readers.discard(worker)
        self._work.pop(worker, None)
        self._asking = deque(each for each in self._asking if each != worker)

    # -- from the supervisor

    def end_writing(self) -> None:
        """Nothing more will be sent: readers get what there is, and then the end."""
        self._ended = True
        self._match()

    def end_reading(self) -> None:
        """No reader is left: writers are refused."""
        self._refusing = True
        while self._frames:
            _count(self._unread, self._frames.popleft())
        for edge, worker in self._writers.items():
            self._post(worker, Frame(Kind.REFUSED, edge))

    def grow(self, extra: int) -> None:
        """Makes room for more items."""
        self._give(extra)

    @property
    def over(self) -> bool:
        """Whether no end is left that could need it."""
        if (self._arrived and not self._ended) or (self._kept and not self._refusing):
            return False
        return not self._writers and not self._readers and not any(self._due.values())

    def unread(self) -> Mapping[int, Unread]:
        """What nobody took of each edge."""
        left = dict(self._unread)
        for frame in self._frames:
            _count(left, frame)
        return left

    # -- items

    def _keep(self, frame: Frame, *, first: bool = False) -> None:
        if self._refusing:
            _count(self._unread, frame)
            return
        if first:
            self._frames.appendleft(frame)
        else:
            self._frames.append(frame)
        self._match()

    def _match(self) -> None:
        while self._asking and self._frames:
            reader = self._asking.popleft()
            self._given[reader] += 1
            frame = self._frames.popleft()
            if reader in self._kept:
                self._kept[reader].went(frame)
            self._post(reader, frame)
        if self._ended and not self._frames:
            while self._asking:
                self._post(self._asking.popleft(), Frame(Kind.END, self._channel))

    # -- credits

    def _give(self, count: int) -> None:
        if count:
            self._free += count
            self._serve()

    def _serve(self) -> None:
        """Hands free credits out; calls those back that are held and not used, when others need them."""
        if not self._shared:
            for edge in self._writers:
                if self._free and edge not in self._absent:
                    self._grant(edge, self._free)
            return
        while self._free and self._wants:
            edge = next(iter(self._wants))
            wanted = self._wants.pop(edge)
            self._grant(edge, min(self._free, wanted, self._portion))
        if self._wants:
            for edge, worker in self._writers.items():
                if self._held[edge] and edge not in self._recalled and edge not in self._wants:
                    self._recalled.add(edge)
                    self._post(worker, Frame(Kind.RECALL, edge))

    def _grant(self, edge: int, count: int) -> None:
        self._free -= count
        self._held[edge] += count
        self._recalled.discard(edge)
        self._post(self._writers[edge], Frame(Kind.CREDIT, edge, count, self._fill()))

    def _fill(self) -> int:
        """How many items a writer should put into one frame; 0: as many as it likes."""
        if not self._divided:
            return 0
        slowest = max(self._work.values(), default=0)
        return max(1, SHARED_WORK_NS // slowest) if slowest else 1


def _count(unread: dict[int, Unread], frame: Frame) -> None:
    before = unread.get(frame.id, Unread(0, 0))
    unread[frame.id] = Unread(before.items + frame.amount, max(before.sent, frame.seq))


def initial_credits(capacity: int, writers: int) -> int:
    """Credits that each writer holds from the beginning."""
    return capacity // writers if writers else 0
