"""What a component loop and an out-port know of a channel, whatever carries the items.

    writer.put(item) ──> [ at most `capacity` items ] ──> reader.items.popleft()
          ▲                                                      │
          └───────────── room, told by reader.release() ◄────────┘

The rules that every kind keeps:

- `put` is a plain function. With room it takes the item at once and returns `DONE`, an awaitable
  that is finished already, or, with the last room, perhaps a `Full`, which lets the reader run when it is
  awaited; without room it returns a `Pending`, which takes the item when it is
  awaited and there is room. A `Pending` that is cancelled has taken nothing.
- The order of one writer's items is kept, also between a `Pending` and later puts.
- Capacity is strict: exactly `capacity` puts are done while nobody takes.
- A reader takes by `items.popleft()`, and says so by `release()`: before it waits, or after some
  items. `taking()` at the beginning of a batch makes sure that it is also said on the loop's next
  turn, should the batch suspend in its middle; should it do so again and again, the channel looks for itself, a
  little later.
- A put that waits keeps its place before later ones, of whatever task, as long as somebody awaits it.
- A channel ends when its last writer has closed and it is empty; when its last reader has closed,
  putting raises what the writer's `refusal()` gives, or discards the item if that is None.
"""

from __future__ import annotations

import collections.abc
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, Final, Protocol

__all__ = ["DONE", "Around", "Full", "Pending", "Reader", "Tally", "Writer"]


_NOTHING: Final = iter(())
"""All that `await` needs of an awaitable that is done: an exhausted iterator."""


class _Done(collections.abc.Coroutine[Any, Any, None]):
    """The awaitable of a put that is done: shared, and costing less than any future.

    It implements `collections.abc.Coroutine`, so that `create_task`, `gather` and `wait_for` take it.
    """

    __slots__ = ()

    __await__ = _NOTHING.__iter__  # type: ignore[assignment]  # itself; a method written in Python takes twice as long

    def send(self, value: Any, /) -> Any:
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        if isinstance(typ, BaseException):
            raise typ
        raise typ if val is None else val

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<put: done>"


DONE: Final = _Done()


class Full(collections.abc.Coroutine[Any, Any, None]):
    """The awaitable of a put that is done, and that took the last room: who awaits it lets the reader run before.

    Args:
        let_read: does that.
    """

    __slots__ = ("_let_read",)

    def __init__(self, let_read: Callable[[], None]) -> None:
        self._let_read = let_read

    @classmethod
    def of(cls, all_of_them: Sequence[Full]) -> Full:
        """Several in one."""

        def let_all_read() -> None:
            for each in all_of_them:
                each._let_read()

        return cls(let_all_read)

    def __await__(self) -> Generator[Any, Any, None]:
        self._let_read()
        return _NOTHING  # type: ignore[return-value]

    def send(self, value: Any, /) -> Any:
        self._let_read()
        raise StopIteration

    throw: Callable[..., Any] = _Done.throw
    close: Callable[..., None] = _Done.close

    def __repr__(self) -> str:
        return "<put: done, and there is no more room>"


class Pending(collections.abc.Coroutine[Any, Any, None]):
    """The awaitable of a put that has to wait. Takes the item only when it is awaited.

    Args:
        begin: makes the coroutine that does the work, when first awaited.
        forgotten: called when it was never awaited, so that the item is lost.
    """

    __slots__ = ("_begin", "_coroutine", "_forgotten")

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]], forgotten: Callable[[], None]) -> None:
        self._begin = begin
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._forgotten = forgotten

    def _begun(self) -> Coroutine[Any, Any, None]:
        if self._coroutine is None:
            self._coroutine = self._begin()
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begun().__await__()

    def send(self, value: Any, /) -> Any:
        return self._begun().send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        return self._begun().throw(typ if isinstance(typ, BaseException) or val is None else val)

    def close(self) -> None:
        self._begun().close()

    def __del__(self) -> None:
        if self._coroutine is None:
            self._forgotten()

    def __repr__(self) -> str:
        return "<put: waiting for room>"


class Around(Pending):
    """The awaitable of a put that has to wait, and that does something before or after: it awaits other puts.

    These tell by themselves when they were never awaited. Broken off before it began (its task was cancelled), it
    breaks them off as well: nobody has forgotten them then.

    Args:
        begin: makes the coroutine that does the work, when first awaited.
        held: the puts that the coroutine will await.
        dropped: called when it never began.
    """

    __slots__ = ("_held",)

    def __init__(
        self,
        begin: Callable[[], Coroutine[Any, Any, None]],
        held: Sequence[Any],
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(begin, dropped)
        self._held = held

    def _break_off(self) -> None:
        if self._coroutine is None:
            for each in self._held:
                each.close()
            self._forgotten()

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        self._break_off()
        return super().throw(typ, val, tb)

    def close(self) -> None:
        self._break_off()
        super().close()


class Tally:
    """Which edges the items of a merged stream came on: so that each edge's deliveries are counted.

    Items leave in the order in which they came; it is enough to remember runs of the same edge.
    """

    __slots__ = ("_last", "_runs", "taken", "unread")

    def __init__(self) -> None:
        self._runs: deque[list[int]] = deque()
        self.taken: dict[int, int] = {}
        self._last: int | None = None
        self.unread: int = 0

    def came(self, edge: int, count: int = 1) -> None:
        """`count` items came in on an edge."""
        self.unread += count
        if self._runs and self._runs[-1][0] == edge:
            self._runs[-1][1] += count
        else:
            self._runs.append([edge, count])

    def settle(self, unread: int) -> Mapping[int, int]:
        """Brings the counts up to date with how many items are unread now.

        Returns:
            edge -> items taken so far.
        """
        took = self.unread - unread
        self.unread = unread
        while took > 0:
            run = self._runs[0]
            self._last = run[0]
            count = min(took, run[1])
            self.taken[run[0]] = self.taken.get(run[0], 0) + count
            took -= count
            run[1] -= count
            if not run[1]:
                self._runs.popleft()
        return self.taken

    def last_edges(self) -> Mapping[int, int]:
        """The edge of the item that was taken last, as of the last `settle`. See `Reader.last_edges`."""
        return {} if self._last is None else {self._last: 1}

    def left(self) -> Mapping[int, int]:
        """edge -> items not taken, as of the last `settle`."""
        left: dict[int, int] = {}
        for edge, count in self._runs:
            left[edge] = left.get(edge, 0) + count
        return left


class Writer(Protocol):
    """The sending end of one edge, in one event loop."""

    edge: int
    """Id of the edge."""

    @property
    def put(self) -> Callable[[Any], Awaitable[None]]:
        """Takes an item, or waits for room.

        When no reader is left, or after `stop` or `close`, `refusal()` says what becomes of it.
        """

    refusal: Callable[[], BaseException | None]
    """Makes what a put raises when the edge takes no more; None: the item is discarded, and counted as lost.

    Set by the owner.
    """

    outlived: Callable[[], BaseException | None] | None
    """The same, when the owner has closed this end, which somebody still read. None: there is no difference."""

    @property
    def sent(self) -> int:
        """Items taken so far."""

    @property
    def waiting(self) -> bool:
        """Whether a put waits for room."""

    @property
    def unawaited(self) -> int:
        """Puts that had to wait and that nobody has awaited yet, without those that are excused."""

    goes_on: Callable[[], None]
    """Called when a put has to wait after an earlier one was never awaited: who forgot that goes on. Set by the owner.
    """

    @property
    def lost(self) -> int:
        """Items taken that could not be handed over, since no reader was left."""

    @property
    def closed(self) -> bool:
        """Whether no reader is left."""

    @property
    def blocked_s(self) -> float:
        """Seconds that puts have waited for room so far."""

    @property
    def paused_s(self) -> float:
        """Seconds that puts have waited so far just to let the loop turn."""

    def stop(self) -> None:
        """Makes every put from now on raise `refusal()`, waiting ones included."""

    def resume(self) -> None:
        """Takes puts again after `stop`, as long as there is a reader."""

    def flush(self) -> None:
        """Hands on what was put, as far as possible without waiting."""

    async def aclose(self) -> None:
        """Hands on all that was put, then closes this end. Cancelled: what is left is dropped.

        Puts that others await already count as well: they are waited for.
        """

    def close(self) -> None:
        """Closes this end at once.

        What was not handed on is dropped and counted as lost, puts that wait are refused.
        """


class Reader(Protocol):
    """The receiving end of a channel, in one event loop; shared by the members of a group that run there."""

    items: deque[Any]
    """Received and not yet taken: `popleft()` takes."""

    def taking(self) -> None:
        """Called once before a batch is taken: releases on the loop's next turn, if that is needed."""

    def release(self) -> None:
        """Tells the writers how much room there is again."""

    def worked(self, seconds: float) -> None:
        """Told now and then how long the work on one item takes."""

    async def wait(self) -> bool:
        """Waits until `items` has some (True) or the channel has ended (False). Cancelled: nothing is lost."""

    def pass_on(self) -> None:
        """Called by who was woken for an item and does not take it: somebody else who waits shall see it."""

    @property
    def ready(self) -> bool:
        """Whether an item is there, perhaps not in `items` yet."""

    @property
    def ended(self) -> bool:
        """Whether no item is there, and none will come."""

    def finish(self) -> None:
        """Ends the channel here, whatever its writers do: who waits is told the end, when no items are left."""

    def received(self) -> Mapping[int, int]:
        """edge -> items of it that have come to this end so far, taken or not."""

    def taken(self) -> Mapping[int, int]:
        """edge -> items of it that were taken at this end so far."""

    def last_edges(self) -> Mapping[int, int]:
        """Of the item that was taken last: edge -> how many items of it are in it. Empty for a first value."""

    def close(self) -> Mapping[int, int]:
        """One user of this end stops reading. The last one gets edge -> items left unread here."""
