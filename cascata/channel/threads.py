"""The channel between tasks, event loops and threads of one process: a deque, a lock, and wake-ups.

    put: try_put ── no room ──> room, room_sync ──> Signal ── wake_one ──> try_put again
    get: try_take ── EMPTY ───> item, item_sync ──> Signal ── wake_one ──> try_take again

Items are handed over as they are. `try_put` and `try_take` are atomic and never wait. A task or thread that has to wait
registers with a `Signal`, looks once more, and waits: so that no wake-up is lost between looking and waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ..errors import ChannelClosed, ChannelFailed, in_words

__all__ = ["EMPTY", "ENDED", "Signal", "ThreadChannel", "failure_of", "refusal"]


class _Nothing:
    """Stands for an item where there is none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


EMPTY = _Nothing("EMPTY")
"""There is no item now."""

ENDED = _Nothing("ENDED")
"""There is no item, and none will come."""

_CLOSED: Final = "the channel is closed: nothing can be put into it any more"


def failure_of(error: BaseException) -> ChannelFailed:
    """What consumers of a channel are told when a publisher failed with an error: a new one for each of them."""
    failure = ChannelFailed(
        f"a publisher of the channel failed: {in_words(error)}. All that was put before has been taken, and there was "
        f"more to come"
    )
    failure.__cause__ = error
    return failure


def refusal(error: BaseException | None) -> ChannelClosed:
    """What publishers of a closed channel are told.

    Args:
        error: what one of them failed with, if one did.
    """
    if error is None:
        return ChannelClosed(_CLOSED)
    closed = ChannelClosed(f"the channel has failed, and takes no more: {in_words(error)}")
    closed.__cause__ = error
    return closed


class Signal:
    """Wakes what waits for one condition: tasks of any loop, and threads. Guarded by the channel's lock."""

    def __init__(self) -> None:
        self._waiters: deque[Callable[[], bool]] = deque()  # each wakes one, and says whether that could be done

    def wake_one(self) -> None:
        while self._waiters:
            if self._waiters.popleft()():
                return

    def wake_all(self) -> None:
        while self._waiters:
            self._waiters.popleft()()

    async def wait(self, lock: threading.Lock, ready: Callable[[], bool]) -> None:
        """Waits in a task until woken, unless `ready()` holds already. Cancelled: a wake-up is passed on."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> bool:
            try:
                if asyncio._get_running_loop() is loop:
                    loop.call_soon(resolve)
                else:
                    loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # the loop was closed while its task waited
                return False
            return True

        with lock:
            if ready():
                return
            self._waiters.append(wake)
        try:
            await future
        except BaseException:
            self._give_up(lock, wake)
            raise

    def wait_sync(self, lock: threading.Lock, ready: Callable[[], bool], timeout: float | None) -> None:
        """Waits in a thread until woken or for `timeout` seconds, unless `ready()` holds already."""
        gate = threading.Event()

        def wake() -> bool:
            gate.set()
            return True

        with lock:
            if ready():
                return
            self._waiters.append(wake)
        woken = False
        try:
            woken = gate.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            if not woken:  # too late, or interrupted by an exception
                self._give_up(lock, wake)

    def _give_up(self, lock: threading.Lock, wake: Callable[[], bool]) -> None:
        """Waits no longer. If the wake-up has come already, another one that waits gets it."""
        with lock:
            try:
                self._waiters.remove(wake)
            except ValueError:
                self.wake_one()


class ThreadChannel:
    """A bounded channel inside one process.

    When it becomes one that processes share, its items move there: `moved` is set under the lock, and from then on
    every method returns False, or `EMPTY`, and has done nothing.

    Args:
        capacity: items put and not yet taken, at most.

    Attributes:
        publishers: how many are open.
        opened: whether there ever was one: before that, an empty channel has not ended.
        closed: whether it was ended for good.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.closed: bool = False
        self.error: BaseException | None = None
        """What a publisher failed with."""
        self.items: deque[Any] = deque()
        self.lock: threading.Lock = threading.Lock()
        self.moved = False
        """Whether the items have gone to a channel that processes share."""
        self.publishers: int = 0
        self.opened: bool = False
        self._room = Signal()
        self._items = Signal()

    def __len__(self) -> int:
        return len(self.items)

    def open(self) -> bool:
        """One publisher more; False when the channel has moved."""
        with self.lock:
            if self.moved:
                return False
            self.publishers += 1
            self.opened = True
            return True

    def release(self) -> bool:
        """One publisher less; the last one ends the channel. False when the channel has moved."""
        with self.lock:
            if self.moved:
                return False
            self.publishers -= 1
            if not self.publishers:
                self._items.wake_all()
            return True

    def close(self, error: BaseException | None = None) -> bool:
        """Ends the channel for good; a second time changes nothing. False when the channel has moved.

        Args:
            error: what a publisher failed with: consumers are told behind the last item.
        """
        with self.lock:
            if self.moved:
                return False
            if not self.closed:
                self.closed = True
                self.error = error
                self.wake_all()
            return True

    def refusal(self) -> ChannelClosed:
        """What publishers are told when it is closed."""
        return refusal(self.error)

    def wake_all(self) -> None:
        """Makes all that wait look again."""
        self._items.wake_all()
        self._room.wake_all()

    def try_put(self, item: Any) -> bool:
        """Puts an item if there is room.

        Raises:
            ChannelClosed: the channel is closed, or has failed.
        """
        with self.lock:
            if self.moved:
                return False
            if self.closed:
                raise refusal(self.error)
            if len(self.items) >= self.capacity:
                return False
            self.items.append(item)
            self._items.wake_one()
            return True

    def try_take(self) -> Any:
        """An item, `EMPTY` or `ENDED`.

        Raises:
            ChannelFailed: a publisher failed, and all that was put before has been taken.
        """
        with self.lock:
            if self.moved:
                return EMPTY
            if self.items:
                item = self.items.popleft()
                self._room.wake_one()
                return item
            if self.error is not None:
                raise failure_of(self.error)
            return ENDED if self._over() else EMPTY

    def _over(self) -> bool:
        """Whether nothing will be put any more."""
        return self.closed or (self.opened and not self.publishers)

    def _may_put(self) -> bool:
        return self.moved or self.closed or len(self.items) < self.capacity

    def _may_take(self) -> bool:
        return self.moved or bool(self.items) or self._over()

    async def room(self) -> None:
        """Waits until there may be room; look again by `try_put`. Cancelled: nothing is lost."""
        await self._room.wait(self.lock, self._may_put)

    async def item(self) -> None:
        """Waits until there may be an item, or the end; look again by `try_take`. Cancelled: nothing is lost."""
        await self._items.wait(self.lock, self._may_take)

    def room_sync(self, timeout: float | None) -> None:
        """As `room`, in a thread, for so many seconds at most."""
        self._room.wait_sync(self.lock, self._may_put, timeout)

    def item_sync(self, timeout: float | None) -> None:
        """As `item`, in a thread, for so many seconds at most."""
        self._items.wait_sync(self.lock, self._may_take, timeout)
