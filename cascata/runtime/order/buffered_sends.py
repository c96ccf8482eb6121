"""What a call sends before it may leave: kept in its order, up to a bound; then the call waits.

    runner ── send ──┬─ [ kept: so many items and bytes at most ] ── it may leave ──> out-ports
                     └─ it may leave, and nothing is kept ──── straight ──────────────────^

Two things keep it back. With `concurrency`, the calls that began before: results keep the order of their inputs
(`Order`, `Turn`). With `retries`, that the attempt may still fail: then what it sent is dropped, and it is tried again.

    Order.enter ──> Turn: it is due ── calls before it have ended ──> what is kept leaves, later sends go straight
    BufferedSends, at its bound ─┬─ not its turn yet: `send` waits for that
                                 └─ an attempt:       it is tried no more; what is kept leaves, later sends go straight

So the call whose turn it is waits for nothing but room in the in-ports that it sends to, and what a node keeps is
bounded: that call's attempt, and what each of the others may have sent ahead of its turn.

A `send` that waits here is ended like one that waits for room: by its cancellation (a time limit, the end of the run),
and by `Stopped` when nobody reads any more or the run drains. `SendBuffers.look` finds that out: it is called when the
node is stopped, and ten times a second by the worker's `IdleWatch`, since writers do not tell when their last reader
has ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Coroutine, Mapping
from contextvars import copy_context
from time import perf_counter
from typing import Any, Final, Protocol

from ... import log
from ...channel.base import DONE, Pending
from ...channel.change_detector import ChangeDetector
from ...channel.turns import SLICE_S, turns
from ...channel.unawaited import Unawaited, attempt
from ..ports.lost_sends import LostSends
from ..ports.outport import OutPort, Stopped
from .item_bytes import item_bytes

__all__ = [
    "AHEAD_BYTES",
    "AHEAD_ITEMS",
    "ATTEMPT_BYTES",
    "ATTEMPT_ITEMS",
    "SEND_LESS",
    "BufferedSends",
    "Order",
    "SendBuffers",
    "Sender",
    "Turn",
]

AHEAD_ITEMS: Final = 1000
"""Items that a call may have sent before its turn."""

AHEAD_BYTES: Final = 64 << 20
"""Bytes that all calls of a node together may have sent before their turns: an equal share each, and one item more."""

ATTEMPT_ITEMS: Final = 10_000
"""Items that an attempt may have sent, and be tried again."""

ATTEMPT_BYTES: Final = 64 << 20
"""Bytes of them, and one item more."""

SEND_LESS: Final = "Let one call send less, or send all of it as one item (a list)"


class Sender(Protocol):
    """What the buffers need of the node whose calls they belong to."""

    @property
    def name(self) -> str: ...

    @property
    def unread(self) -> bool:
        """Whether what it sends is refused: nobody reads its results any more, or it is to stop."""

    def refusal(self) -> BaseException | None:
        """What a refused `send` raises."""

    @property
    def unwinding(self) -> bool:
        """Whether its runner has been told that the run is stopped, so that what it sends is sent again."""

    def unwinds(self) -> bool:
        """Its runner is told so now. Returns whether what it sends is sent."""


class Turn:
    """The turn of one call to send: it is due when all calls that began before it have ended.

    Attributes:
        due: whether they have.
        buffered: the sends of the call, which learn when the turn comes; None from then on.
    """

    __slots__ = ("_coming", "buffered", "due")

    def __init__(self, *, due: bool) -> None:
        self.due = due
        self.buffered: BufferedSends | None = None
        self._coming: asyncio.Future[None] | None = None

    def come(self) -> None:
        """The calls before it have ended."""
        self.due = True
        if self._coming is not None and not self._coming.done():
            self._coming.set_result(None)
        buffered, self.buffered = self.buffered, None
        if buffered is not None:
            buffered.turn_came()

    async def wait(self) -> None:
        """Waits until it is due. Only one task may wait."""
        if not self.due:
            self._coming = asyncio.get_running_loop().create_future()
            await self._coming


class Order:
    """The calls of a node whose results keep the order in which they began."""

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()

    def enter(self) -> Turn:
        """A call begins."""
        turn = Turn(due=not self._turns)
        self._turns.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """A call has ended, and all that it sent has left."""
        self._turns.remove(turn)
        if self._turns and not self._turns[0].due:
            self._turns[0].come()


class SendBuffers:
    """What the buffered sends of all calls of one node share.

    Args:
        node: that node.
        concurrency: its calls in flight at once.
        lost_sends: learns of each `send` that had to wait and was never awaited.

    Attributes:
        unawaited: out-port -> items whose `send` had to wait and was not awaited yet, and whose call goes on.
        ahead_bytes: the share of one call in `AHEAD_BYTES`.
        waiting: the calls with a `send` that waits.
        over: whether the node is to stop.
        when_over: done when it is, for a task that waits for something else than a `send`.
        loop: the event loop of the node.
        turns: of the loop.
    """

    def __init__(self, node: Sender, concurrency: int, lost_sends: LostSends) -> None:
        self.node = node
        self.lost_sends = lost_sends
        self.unawaited: Counter[str] = Counter()
        self.ahead_bytes = AHEAD_BYTES // concurrency
        self.waiting: set[BufferedSends] = set()
        self.over = False
        self.loop = asyncio.get_running_loop()
        self.when_over: asyncio.Future[None] = self.loop.create_future()
        self.turns = turns()
        self._told = False  # whether `tell_of_final_attempt` was called

    def look(self) -> None:
        """Looks whether the node is to stop; then what its calls send is refused, and so is what waits."""
        if not self.over and self.node.unread:
            self.over = True
            self.when_over.set_result(None)
        if self.over:
            for buffered in list(self.waiting):
                buffered.wake()

    def tell_of_final_attempt(self) -> None:
        """Logs, once, that an attempt is tried no more."""
        if not self._told:
            self._told = True
            log.warning(
                "%s: a call has sent %d items or %d MB, as much as an attempt may hold back for its retries: what it "
                "sent leaves now, and it is not tried again if it fails. %s",
                self.node.name,
                ATTEMPT_ITEMS,
                ATTEMPT_BYTES >> 20,
                SEND_LESS,
            )


class BufferedPort:
    """An out-port as the runner sees it, of a call that may have to keep what it sends."""

    __slots__ = ("_buffered", "_discards", "_port", "detector")

    def __init__(self, buffered: BufferedSends, port: OutPort) -> None:
        self._buffered = buffered
        self._port = port
        self._discards = not port.writers
        self.detector: ChangeDetector | None = port.detector

    def send(self, item: Any) -> Awaitable[None]:
        """As `OutPort.send`."""
        if self._discards:
            return self._buffered.discard(self._port)
        return self._buffered.send(self._port, item)

    def __repr__(self) -> str:
        return repr(self._port)


class _Place:
    """A waiting `send`'s place among those of its call."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class BufferedSends:
    """What one attempt at a call has sent and has not left yet.

        send ──┬─ _keep ──> _kept ── leave, or _leave_beside_the_call ──> _send_kept ──> out-ports
               ├─ straight to the out-port, when it may leave and nothing is kept
               └─ at the bound: _WaitingSend ── awaited: send_later ──> one of the two above

    Make it in the task of the call.

    Args:
        buffers: of the node.
        ports: the node's out-ports.
        turn: of the call; None: its results need not wait for others.
        retries: whether it may be tried again.

    Attributes:
        final: whether it has sent so much that it is tried no more, though it might have been.
    """

    __slots__ = (
        "_buffers",
        "_bytes",
        "_context",  # of the call: what leaves later belongs to it all the same (see `lineage`)
        "_discarded",  # port -> items that no node will read: they need not be kept
        "_dropped",  # whether nothing of it leaves
        "_ended",  # whether the call has: `leave` sends what is kept
        "_error",  # of what leaves while the call goes on
        "_kept",  # port, item and its bytes, in the order of the sends
        "_late",  # sends that did not find room and are not done: others must not overtake them
        "_leaving",  # sends what is kept while the call goes on
        "_made",  # the sends of this attempt that had to wait and were not awaited yet
        "_most",  # items that may be kept now
        "_most_bytes",
        "_places",  # of the sends that wait; only the first may go on
        "_resumed",  # whether what leaves was refused by the stop of the run, and leaves all the same
        "_retries",  # whether it may still be tried again
        "_straight",  # whether nothing is kept any more
        "_targets",
        "_turn",
        "_unawaited",  # out-port -> sends that did not find room and were not awaited yet
        "final",
    )

    def __init__(self, buffers: SendBuffers, ports: Mapping[str, OutPort], turn: Turn | None, *, retries: bool) -> None:
        self._targets = ports
        self.final = False
        self._buffers = buffers
        self._turn = turn
        self._retries = retries
        self._kept: deque[tuple[Any, Any, int]] = deque()
        self._discarded: Counter[OutPort] | None = None
        self._bytes = 0
        self._places: deque[_Place] = deque()
        self._late = 0
        self._straight = False
        self._ended = False
        self._dropped = False
        self._resumed = False
        self._leaving: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._context = copy_context()
        self._made: Unawaited | None = None
        self._unawaited: Counter[str] | None = None
        if turn is not None and not turn.due:
            turn.buffered = self
        self._set_room()

    @property
    def _may_leave(self) -> bool:
        return not self._retries and self.due

    def ports(self) -> Mapping[str, Any]:
        """What the runner gets for the out-ports.

        They refer to this object, and not the other way: it is freed at once, and not by the garbage collector.
        """
        return {name: BufferedPort(self, port) for name, port in self._targets.items()}

    @property
    def due(self) -> bool:
        """Whether it is the turn of the call."""
        return self._turn is None or self._turn.due

    def _set_room(self) -> None:
        """Sets how much may be kept."""
        if self._may_leave:  # nothing more: what is kept leaves first
            self._most = self._most_bytes = 0
        elif self._turn is not None and not self._turn.due:
            self._most, self._most_bytes = AHEAD_ITEMS, self._buffers.ahead_bytes
        else:
            self._most, self._most_bytes = ATTEMPT_ITEMS, ATTEMPT_BYTES

    # -- sending

    def send(self, port: Any, item: Any) -> Awaitable[None]:
        """What `send` does on one of the ports."""
        if not self._late:
            if self._straight:
                done: Awaitable[None] = port.send(item)
                return done
            buffers = self._buffers
            if (
                len(self._kept) < self._most
                and self._bytes < self._most_bytes
                and not buffers.over
                and perf_counter() - buffers.turns.turned <= SLICE_S
            ):
                self._keep(port, item)
                return DONE
        return _WaitingSend(self, port, item)

    def discard(self, port: OutPort) -> Awaitable[None]:
        """What `send` does on a port that was never connected."""
        if self._straight:
            return port.send(None)
        if perf_counter() - self._buffers.turns.turned > SLICE_S or self._buffers.over:
            return _WaitingSend(self, port, None)
        self._count_discarded(port)
        return DONE

    async def send_later(self, port: Any, item: Any) -> None:
        """What an awaited `send` does that has to wait, or to let the loop turn."""
        place = _Place()
        self._places.append(place)
        done: Awaitable[None] = DONE
        turned = self._buffers.turns
        try:
            if perf_counter() - turned.turned > SLICE_S:
                await asyncio.sleep(0)
                turned.turned = perf_counter()
            while True:
                if self._places[0] is place:
                    self._refuse_if_over()
                    if self._straight:
                        done = port.send(item)
                        break
                    if self._dropped or port.unread:
                        self._count_discarded(port)
                        break
                    if len(self._kept) < self._most and self._bytes < self._most_bytes:
                        self._keep(port, item)
                        break
                    if self._make_room():
                        continue
                place.future = self._buffers.loop.create_future()
                self._buffers.waiting.add(self)
                await place.future
        finally:
            self._places.remove(place)
            self.forget()
            self.wake()
        await done

    def forget(self) -> None:
        """A `send` that had to wait has ended, or will never be awaited."""
        self._late -= 1
        if not self._places:
            self._buffers.waiting.discard(self)

    def late(self, port: Any) -> None:
        """A `send` has found no room: it is counted as not awaited yet."""
        self._late += 1
        if self._made is None or self._unawaited is None:
            running = attempt.get()
            self._made = Unawaited(None) if running is None else running.at(self)
            self._unawaited = Counter()
        self._count_unawaited(port, 1)
        if self._buffers.lost_sends.forgot:
            self._buffers.lost_sends.goes_on()

    def _count_unawaited(self, port: Any, more: int) -> None:
        if self._unawaited is not None and self._made is not None and not self._made.excused:
            self._unawaited[port.name] += more
            self._buffers.unawaited[port.name] += more

    def begin(self, port: Any, item: Any) -> Coroutine[Any, Any, None]:
        """A `send` that found no room is awaited, or broken off."""
        self._count_unawaited(port, -1)
        return self.send_later(port, item)

    def forgotten(self, port: Any) -> None:
        """A `send` that had to wait was never awaited."""
        self._count_unawaited(port, -1)
        self.forget()
        if not self._dropped and not port.unread and self._made is not None and not self._made.excused:
            self._buffers.lost_sends.forget(port.name, self._made)

    def excused(self, those: Unawaited) -> None:  # all are of one attempt
        """The attempt has failed: what it has not awaited was not forgotten."""
        if self._unawaited is not None:
            self._buffers.unawaited.subtract(self._unawaited)

    def wake(self) -> None:
        """Lets the first `send` that waits look again."""
        if self._places:
            self._places[0].wake()

    def _refuse_if_over(self) -> None:
        """Raises what a `send` raises now, if it is refused."""
        if (error := self._error) is not None:
            told = self._buffers.node.unwinding  # by a cancellation
            self._resume()
            if not told:
                raise error
        if self._buffers.over and not self._dropped and (refusal := self._buffers.node.refusal()) is not None:
            raise refusal

    def _make_room(self) -> bool:
        """At the bound: an attempt whose turn it is becomes the final one. Whether there may be room now."""
        if self._retries and self.due:
            self.final = True
            self._retries = False
            self._set_room()
            self._buffers.tell_of_final_attempt()
            self._begin_to_leave()
            return True
        return False

    def _keep(self, port: Any, item: Any) -> None:
        size = item_bytes(item)
        self._bytes += size
        self._kept.append((port, item if port.detector is None else port.detector.watch(item), size))

    def _count_discarded(self, port: OutPort) -> None:
        if self._discarded is None:
            self._discarded = Counter()
        self._discarded[port] += 1

    # -- leaving

    def turn_came(self) -> None:
        """The calls before this one have ended."""
        if not self._ended and not self._dropped:
            self._set_room()
            if self._may_leave:
                self._begin_to_leave()
            self.wake()  # of an attempt: it may keep more now

    def _begin_to_leave(self) -> None:
        """From now on what the call sends leaves, after what is kept."""
        if self._kept or self._discarded:
            self._leaving = self._buffers.loop.create_task(self._leave_beside_the_call(), context=self._context)
        else:
            self._straight = True

    async def _leave_beside_the_call(self) -> None:
        try:
            await self._send_kept()
        except BaseException as error:  # raised where the call sends next, or when it ends
            self._error = error
        finally:
            self._leaving = None
            self.wake()

    async def _send_kept(self) -> None:
        """Sends what is kept; what is sent from then on goes straight."""
        kept = self._kept
        while kept or self._discarded:  # tasks that the call has left behind may send meanwhile
            if kept:
                port, item, size = kept.popleft()
                self._bytes -= size
                done = port.send(item)
                if done is not DONE:
                    await self._left(done, port, item, size)
            elif self._discarded:
                port = next(iter(self._discarded))
                self._discarded[port] -= 1
                if not self._discarded[port]:
                    del self._discarded[port]
                await port.send(None)
        self._straight = True

    async def _left(self, done: Awaitable[None], port: OutPort, item: Any, size: int) -> None:
        """Waits until an item has left; refused by the stop of the run, it is kept again (see `_resume`)."""
        try:
            await done
        except Stopped:
            if len(port.writers) == 1:  # else one of them may have taken it
                self._kept.appendleft((port, item, size))
                self._bytes += size
            raise

    def _resume(self) -> None:
        """A `send` of what is kept was refused. The first time, if the run drains, what is kept leaves all the same.

        The call learns of the stop by the `send` that calls this, and what it sends then leaves as well (see
        `NodeStop.unwinds`).

        Raises:
            BaseException: nothing leaves any more.
        """
        error = self._error
        if error is None:
            return
        if not isinstance(error, Stopped) or self._resumed or not self._buffers.node.unwinds():
            raise error
        self._resumed = True  # refused a second time, it is since all readers have ended
        self._error = None
        self._begin_to_leave()

    async def leave(self) -> None:
        """Sends what is kept, when it is the call's turn: the call has ended.

        Raises:
            CancelledError: nobody reads any more, or the run is ending. When it is stopped, all that is kept has left.

        Cancelled: what is kept stays, and is to be dropped.
        """
        self._ended = True
        if self._turn is not None and not self._turn.due:
            await self._turn.wait()
        self._retries = False
        refused: BaseException | None = None
        while not self._straight:
            if self._leaving is not None:
                await self._leaving
            elif self._error is None:
                try:
                    await self._send_kept()
                except Stopped as error:
                    self._error = error
            if self._error is not None:
                refused = self._error
                self._resume()
        if self._places:  # of tasks that the call has left behind
            self.wake()
        if refused is not None:  # the call has ended without learning of it
            raise refused

    async def drop(self) -> None:
        """Drops what is kept, and what is sent from now on: the attempt has failed, or the run is ending."""
        self._dropped = True
        self._straight = False
        self._most = 0
        self._forget_kept()
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)  # which a second cancellation does not cut short
        self.wake()

    def fail(self) -> None:
        """The call has failed for good, and the run goes on without its item. Of an attempt nothing leaves."""
        if self._retries:
            self._forget_kept()

    def _forget_kept(self) -> None:
        self._kept.clear()
        self._discarded = None
        self._bytes = 0


class _WaitingSend(Pending):
    """A `send` that did not find room."""

    __slots__ = ("_buffered",)

    def __init__(self, buffered: BufferedSends, port: Any, item: Any) -> None:
        super().__init__(lambda: buffered.begin(port, item), lambda: buffered.forgotten(port))
        self._buffered = buffered
        buffered.late(port)

    def _break_off(self) -> None:
        if self._coroutine is None:
            self._buffered.forget()  # the coroutine that would do so is ended before its first line

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        self._break_off()
        return super().throw(typ, val, tb)

    def close(self) -> None:
        self._break_off()
        super().close()
