"""To which calls of `live.call` an item belongs, and whether anything of a call is still on its way.

    call ── Tagged(item, tag, id) ──> node: its runner's call has the tags of its items, and what it sends gets them
                                       │
                                       └── tag -> id of what it took xor ids of what it sent ──> caller

Each item on its way has a random id. A node tells the caller, for each call, the exclusive or of the ids that it took
and of those that it sent, in one number: so the numbers come to 0 when, and but for one chance in 2**64 only when,
everything that was sent was also taken, in whatever order they arrive (after the acker of Storm: Toshniwal et al.,
"Storm @Twitter", 2014). What the caller has not had by then will never come.

Only a run that is opened for calls has a lineage; the others do without all that is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..channel.base import Around, Pending
from ..channel.given import checked
from ..channel.tagged import Tagged
from .outport import Put

if TYPE_CHECKING:
    from .calls import Send
    from .node import Node

__all__ = ["Lineage", "Taken", "new_id"]

TELL_S: Final = 0.01
"""Seconds for which what is to be told is collected."""


class Taken:
    """What a call of a runner has in hand: the tags of its items. Given back when all that belongs to it is done."""

    __slots__ = ("_balance", "_holds", "_lineage", "tags")

    def __init__(self, lineage: Lineage, tags: tuple[int, ...], balance: int) -> None:
        self.tags = tags
        self._lineage = lineage
        self._balance = balance
        self._holds = 1

    def of(self, lineage: Lineage) -> bool:
        """Whether it is of this run: a component may open another graph."""
        return self._lineage is lineage

    def stamp(self, item: Any) -> Tagged:
        """The item as it is sent. What a task sends that the call has left behind is not waited for."""
        sent = Tagged(item, self.tags, new_id() if self._holds else 0)
        self._balance ^= sent.id
        return sent

    def unstamp(self, sent: Tagged) -> None:
        """It could not be sent."""
        if self._holds:
            self._balance ^= sent.id
        else:
            self._lineage.owe(sent.tags, sent.id)

    def fail(self, error: BaseException) -> None:
        """Tells the caller that its item has failed."""
        self._lineage.fail(self.tags, error)

    def hold(self) -> None:
        """Somebody else works on it, too."""
        self._holds += 1

    def give_back(self) -> None:
        """One of those who hold it is done."""
        self._holds -= 1
        if not self._holds:
            self._lineage.owe(self.tags, self._balance)


def new_id() -> int:
    """An id for an item on its way."""
    from random import getrandbits  # most graphs have no ordered group: they need not load it

    return getrandbits(64) or 1


_current: Final[ContextVar[Taken | None]] = ContextVar("cascata-taken", default=None)
"""What the running call has in hand. Tasks and threads that it begins inherit it."""


class Lineage:
    """The part of it that runs on one worker.

    Args:
        returned: called with tag -> ids, now and then.
        failed: called with the tags whose item failed, and the error.
    """

    def __init__(
        self, returned: Callable[[Mapping[int, int]], None], failed: Callable[[tuple[int, ...], BaseException], None]
    ) -> None:
        self._returned = returned
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._owed: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    # -- what is told to the caller

    def owe(self, tags: Iterable[int], balance: int) -> None:
        """Tells the caller, a little later. Not from threads."""
        if not balance:
            return
        for tag in tags:
            self._owed[tag] = self._owed.get(tag, 0) ^ balance
        if self._timer is None:
            self._timer = self._loop.call_later(TELL_S, self.tell)

    def tell(self) -> None:
        """Tells the caller now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owed, self._owed = self._owed, {}
        if owed:
            self._returned(owed)

    def fail(self, tags: tuple[int, ...], error: BaseException) -> None:
        """Tells the caller that an item of its has failed."""
        self._failed(tags, error)

    # -- what comes

    @property
    def current(self) -> Taken | None:
        """What the running call has in hand, if it belongs to calls."""
        taken = _current.get()
        return taken if taken is not None and taken.of(self) else None

    def begin(self, *items: Any, batched: bool = False) -> tuple[list[Any], Taken | None]:
        """The bare items, and what is in hand with them: None when they belong to no call.

        Args:
            *items: as they came.
            batched: whether they may be lists of items that came.
        """
        tags: dict[int, None] = {}
        balance = 0
        bare = []
        for item in items:
            if type(item) is Tagged:
                tags.update(dict.fromkeys(item.tags))
                balance ^= item.id
                bare.append(checked(item.item))
            elif batched and type(item) is list:
                inner, taken = self.begin(*item)
                if taken is not None:
                    tags.update(dict.fromkeys(taken.tags))
                    balance ^= taken._balance
                bare.append(inner)
            else:
                bare.append(item)
        return bare, Taken(self, tuple(tags), balance) if tags else None

    def drop(self, items: Iterable[Any]) -> None:
        """Items that nobody takes, or of which no call is made."""
        for item in items:
            if type(item) is Tagged:
                self.owe(item.tags, item.id)
            elif type(item) is list:
                self.drop(item)

    def set(self, taken: Taken | None) -> None:
        """From now on, what is sent in the running task or thread belongs to this."""
        _current.set(taken)

    def calling(
        self, node: Node, ports: Sequence[str], call: Callable[..., Awaitable[Any]], give: Send
    ) -> Callable[..., Awaitable[Any]]:
        """The same call of a runner, for items that may belong to calls.

        Args:
            node: whose runner it is.
            ports: those whose items it gets.
            call: makes the call.
            give: sends what it returns.
        """
        from .trigger import go_on  # which calls this

        batched = any(node.host.batches(channel) for port in ports for channel in node.spec.inputs[port].channels)

        async def tagged(*items: Any) -> Any:
            bare, taken = self.begin(*items, batched=batched)
            if taken is None:
                return await call(*items)
            _current.set(taken)
            try:
                value = await call(*bare)
                if value is not None:
                    await give(value)
            except BaseException as error:
                await go_on(node, error, dict(zip(ports, bare, strict=False)))
            finally:
                _current.set(None)
                taken.give_back()

        return tagged

    # -- what goes

    def stamping(self, put: Put) -> Put:
        """The `put` of a writer, for what is sent by calls of a runner that belong to calls."""

        def stamped(item: Any) -> Awaitable[None]:
            taken = _current.get()
            if taken is None or not taken.of(self):
                return put(item)
            sent = taken.stamp(item)
            done = put(sent)
            if not isinstance(done, Pending):
                return done
            return Around(partial(late, taken, sent, done), (done,), partial(taken.unstamp, sent))

        async def late(taken: Taken, sent: Tagged, pending: Awaitable[None]) -> None:
            try:
                await pending
            except BaseException:
                taken.unstamp(sent)
                raise

        return stamped
