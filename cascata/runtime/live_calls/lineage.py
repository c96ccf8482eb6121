"""To which calls of `live.call` an item belongs, and whether anything of a call is still on its way.

    call ── TaggedItem(item, tag, id) ──> node: its runner's call has the tags of its items, and what it sends gets them
                                       │
                                       └── tag -> id of what it took xor ids of what it sent ──> caller

Each item on its way has a random id. A node tells the caller, for each call, the exclusive or of the ids that it took
and of those that it sent towards the sink, in one number: so the numbers come to 0 when, and but for one chance in
2**64 only when, everything that was sent was also taken, in whatever order they arrive (after the acker of Storm:
Toshniwal et al., "Storm @Twitter", 2014). What the caller has not had by then will never come.

What a node sends belongs to the calls whose items it has in hand. A node that mixes calls is found out where it can be,
and from then on it fails what it gets, so that no caller has another one's answer:

- a send from a task or callback that outlived the call in which it was begun (the task may serve other calls by now);
- a call that leaves its item where a later one finds it (see `keeping`).

Only a run that is opened for calls has a lineage; the others do without all that is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Protocol

from ... import log
from ...channel.base import Around, Pending, Writer
from ...channel.change_detector import checked
from ...channel.tagged_item import TaggedItem
from ...errors import CascataError
from ...model import GraphSpec, NodeSpec
from ..persist import StateCell
from ..ports.outport import Send
from .keeps_check import Before, KeepsCheck
from .paths import on_the_way

__all__ = ["Lineage", "Taken", "new_id"]


class Caller(Protocol):
    """The node whose runner is called."""

    spec: NodeSpec
    cells: dict[str, StateCell[Any]]
    """Its state, by names."""

    def batched(self, ports: Iterable[str]) -> bool:
        """Whether what comes to one of the in-ports is put into lists."""


TELL_S: Final = 0.01
"""Seconds for which balances are collected before they are sent to the caller."""


class Taken:
    """The items of `live.call`s that one call of a runner has in hand, by their tags.

    It begins with one user, the call of the runner. `hold` adds one, `give_back` takes one away; with the last one the
    caller learns the balance of ids.

    Attributes:
        tags: the numbers of the calls.
        answered: whether something has come of it: it was sent, or the caller was told of its failure.
        ending: called when the last user is done.
    """

    __slots__ = ("_balance", "_lineage", "_users", "answered", "ending", "tags")

    def __init__(self, lineage: Lineage, tags: tuple[int, ...], balance: int) -> None:
        self.tags = tags
        self.answered = False
        self.ending: Callable[[Taken], None] | None = None
        self._lineage = lineage
        self._balance = balance  # the exclusive or of the ids taken and sent
        self._users = 1

    def of(self, lineage: Lineage) -> bool:
        """Whether it is of this run: a component may open another graph."""
        return self._lineage is lineage

    @property
    def over(self) -> bool:
        """Whether the call of the runner has ended."""
        return not self._users

    def stamp(self, item: Any, *, leads: bool) -> TaggedItem:
        """The item as it is sent.

        Args:
            item: what is sent.
            leads: whether something of it can come to the sink. Else no caller waits for what becomes of it.
        """
        sent = TaggedItem(item, self.tags, new_id() if leads else 0, self._lineage.oldest)
        self._balance ^= sent.id
        self.answered = self.answered or leads
        return sent

    def unstamp(self, sent: TaggedItem) -> None:
        """The stamped item could not be sent: its id counts no more."""
        if self._users:
            self._balance ^= sent.id
        else:
            self._lineage.owe(sent.tags, sent.id)

    def fail(self, error: BaseException) -> None:
        """Tells the caller that its item has failed."""
        self.answered = True
        self._lineage.fail(self.tags, error)

    def hold(self) -> None:
        """One user more: a call that runs beside the loop of the node."""
        self._users += 1

    def give_back(self) -> None:
        """One user is done."""
        self._users -= 1
        if not self._users:
            ending, self.ending = self.ending, None  # it refers to items, which need not live as long as this
            if ending is not None:
                ending(self)
            self._lineage.owe(self.tags, self._balance)

    def settle(self) -> int:
        """As `give_back` of the last user, for the caller itself. Returns the balance of ids."""
        self._users = 0
        return self._balance


def new_id() -> int:
    """An id for an item on its way."""
    from random import getrandbits  # most graphs have no ordered group: they need not load it

    return getrandbits(64) or 1


_current: Final[ContextVar[Taken | None]] = ContextVar("cascata-taken", default=None)
"""What the running call of a runner has in hand. Tasks and threads that it begins inherit it."""


class Lineage:
    """The lineage of the items on one worker.

    Args:
        returned: called with tag -> balance of ids, now and then.
        failed: called with the tags whose item failed, and the error.
        spec: the graph.

    Attributes:
        way: the channels by which something of a call can come to the sink (see `paths`).
        oldest: the number of the oldest call that may still wait for its answer, as far as is known here.
    """

    def __init__(
        self,
        returned: Callable[[Mapping[int, int]], None],
        failed: Callable[[tuple[int, ...], BaseException], None],
        spec: GraphSpec,
    ) -> None:
        self.way = on_the_way(spec)
        self.oldest = 0
        self._edges = frozenset(edge for channel in self.way for edge in spec.channels[channel].edges)
        self._mixing: dict[str, str] = {}  # node -> why it can answer no call any more
        self._returned = returned
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._owed: dict[int, int] = {}  # tag -> balance that the caller does not know yet
        self._timer: asyncio.TimerHandle | None = None  # calls `tell`

    # -- what the caller learns

    def owe(self, tags: Iterable[int], balance: int) -> None:
        """Adds to the balances of calls, which the caller learns a little later. Only in the event loop."""
        if not balance:
            return
        for tag in tags:
            self._owed[tag] = self._owed.get(tag, 0) ^ balance
        if self._timer is None:
            self._timer = self._loop.call_later(TELL_S, self.tell)

    def tell(self) -> None:
        """Sends the balances to the caller now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owed, self._owed = self._owed, {}
        if owed:
            self._returned(owed)

    def fail(self, tags: tuple[int, ...], error: BaseException) -> None:
        """Tells the callers of those calls that an item of theirs has failed."""
        self._failed(tags, error)

    # -- what a node takes

    @property
    def current(self) -> Taken | None:
        """What the running call of a runner has in hand, if it belongs to calls of this run."""
        taken = _current.get()
        return taken if taken is not None and taken.of(self) else None

    def begin(self, *items: Any, batched: bool = False) -> tuple[list[Any], Taken | None]:
        """A call of a runner begins.

        Args:
            *items: for it, as they came.
            batched: whether they may be lists of items that came.

        Returns:
            The items without their tags, and what is in hand with them: None when they belong to no call.
        """
        tags: dict[int, None] = {}
        balance = 0
        bare = []
        for item in items:
            if type(item) is TaggedItem:
                tags.update(dict.fromkeys(item.tags))
                balance ^= item.id
                self.oldest = max(self.oldest, item.oldest)
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

    def taken(self, item: Any) -> Taken | None:
        """What is in hand with one item, given as it came; None when it belongs to no call."""
        return Taken(self, item.tags, item.id) if type(item) is TaggedItem else None

    def calls_of(self, item: Any) -> tuple[int, ...]:
        """The calls that an item belongs to, given as it came."""
        if type(item) is not TaggedItem:
            return ()
        self.oldest = max(self.oldest, item.oldest)
        return item.tags

    def wait(self, item: Any) -> None:
        """An item waits at a zip. It counts as taken, since it moves no further by itself.

        So of a call of which only such items are left nothing will come, and its caller learns that.
        """
        if type(item) is TaggedItem:
            self.owe(item.tags, item.id)
            item.id = 0

    def drop(self, items: Iterable[Any]) -> None:
        """Counts items as taken for which no call of a runner is made."""
        for item in items:
            if type(item) is TaggedItem:
                self.owe(item.tags, item.id)
            elif type(item) is list:
                self.drop(item)

    def set(self, taken: Taken | None) -> None:
        """From now on, what is sent in the running task or thread belongs to `taken`; None: to no call."""
        _current.set(taken)

    @contextmanager
    def within(self, taken: Taken | None) -> Iterator[None]:
        """What is sent in this block belongs to `taken`, whatever the running task has in hand."""
        before = _current.set(taken)
        try:
            yield
        finally:
            _current.reset(before)

    def sending(self, taken: Taken, send: Callable[[Any], Awaitable[None]], item: Any) -> Awaitable[None]:
        """Sends an item as one that belongs to `taken`, whatever the running task has in hand."""
        before = _current.set(taken)
        try:
            return send(item)
        finally:
            _current.reset(before)

    # -- nodes that mix calls

    def _mixes(self, node: str, why: str, tags: tuple[int, ...]) -> CascataError:
        """A node cannot answer calls: makes its error, for the calls with these tags and for all later ones."""
        error = CascataError(f"live.call: node {node!r} {why}")
        if node not in self._mixing:
            self._mixing[node] = str(error)
            log.error("%s. It fails all calls from now on", error)
        if tags:
            self.fail(tags, error)
        return error

    def refuse(self, node: str) -> None:
        """Raises `CascataError` if the node can answer no call any more."""
        why = self._mixing.get(node)
        if why is not None:
            raise CascataError(why)

    def calling(
        self,
        node: Caller,
        ports: Sequence[str],
        call: Callable[..., Awaitable[Any]],
        give: Send,
        go_on: Callable[[BaseException, Mapping[str, Any]], Awaitable[None]],
    ) -> Callable[..., Awaitable[Any]]:
        """A call of a runner that takes items which may belong to `live.call`s.

        Args:
            node: whose runner it is.
            ports: those whose items it gets.
            call: makes the call.
            give: sends what it returns.
            go_on: of the node's failures: returns when the run goes on after an error.

        Returns:
            The function that makes the call.
        """
        batched = node.batched(ports)
        name = node.spec.name
        leads = any(not self._edges.isdisjoint(output.edges) for output in node.spec.outputs.values())
        keeping = KeepsCheck.of(node.spec.component, node.cells) if leads else None

        async def tagged(*items: Any) -> Any:
            bare, taken = self.begin(*items, batched=batched)
            if taken is None:
                return await call(*items)
            if keeping is not None:
                taken.ending = partial(self._look_at_kept, name, keeping, bare, keeping.before())
            _current.set(taken)
            try:
                if self._mixing:
                    self.refuse(name)
                value = await call(*bare)
                if value is not None:
                    await give(value)
            except BaseException as error:
                await go_on(error, dict(zip(ports, bare, strict=False)))
            finally:
                _current.set(None)
                taken.give_back()

        return tagged

    def _look_at_kept(self, node: str, keeping: KeepsCheck, items: Sequence[Any], before: Before, taken: Taken) -> None:
        """A call of a runner has ended: the node mixes calls if it has kept an item for later ones."""
        if node not in self._mixing and keeping.kept(items, before, sent=taken.answered):
            self._mixes(
                node,
                "has kept the item of a call where later calls of its runner find it: what it sends then may come of "
                "this caller's item, and go to another one. Answer each item in its own call of the runner "
                '(docs/embedding.md, "Batches of calls"); if nothing that it sends comes of an item that it kept, '
                "declare @component(keeps=False)",
                () if taken.answered else taken.tags,
            )

    # -- what a node sends

    def stamping(self, node: str, port: str, writer: Writer) -> Send:
        """The `put` of a writer, with the tags of what the runner has in hand put on each item.

        Args:
            node: whose writer it is.
            port: the out-port.
            writer: of an edge of it.
        """
        put = writer.put
        leads = writer.edge in self._edges

        def stamped(item: Any) -> Awaitable[None]:
            taken = _current.get()
            if taken is None or not taken.of(self):
                return put(item)
            if taken.over and leads:
                raise self._mixes(
                    node,
                    f"has sent on {port!r} from a task or callback that was begun in a call of its runner and went on "
                    "after that call: nobody can tell to which caller it belongs. Wait in each call for what it "
                    "begins, with asyncio.TaskGroup for example, and send there",
                    taken.tags,
                )
            if self._mixing:
                self.refuse(node)
            sent = taken.stamp(item, leads=leads)
            done = put(sent)
            if not isinstance(done, Pending):
                return done
            return Around(partial(late, taken, sent, done), (done,), partial(taken.unstamp, sent))

        async def late(taken: Taken, sent: TaggedItem, pending: Awaitable[None]) -> None:
            try:
                await pending
            except BaseException:
                taken.unstamp(sent)
                raise

        return stamped
