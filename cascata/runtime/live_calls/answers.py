"""`live.call`: an item goes in, and its own answer comes out, whatever else is on the way.

call ── TaggedItem(item, tag) ──> source ── ... the graph ... ──> sink ── tag ──> the call that waits for it
  ▲                                        │
  └── failed, or nothing of it is left ────┘  (see `lineage`)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ...channel.change_detector import checked
from ...channel.tagged_item import TaggedItem
from ...errors import CascataError, NoAnswer, bounded_repr
from ..node_state import NodeState
from ..ports.source_sink import SinkEnd, SourceEnd
from .lineage import Taken, new_id

__all__ = ["AnsweringSink", "PendingCall"]


class PendingCall:
    """A `live.call` that waits for its answer.

    Attributes:
        item: that was sent.
        balance: the exclusive or of the ids of what is on its way; 0: nothing is.
        answer: done with the answer, or with the error.
    """

    __slots__ = ("answer", "balance", "item")

    def __init__(self, item: Any, id: int, answer: asyncio.Future[Any]) -> None:
        self.item = item
        self.balance = id
        self.answer = answer


_OF_SEVERAL: Final = "live.call: what came to the sink belongs to several calls, and is the answer to none of them"
_ENDED: Final = "the run has ended before there was an answer to {}"
_NOTHING_LEFT: Final = (
    "nothing came of {}: no node has anything of it any more, and none has sent it on to the sink. (A node has dropped "
    "it, or it waits at a zip for a partner that was dropped or has failed)"
)


class AnsweringSink(SinkEnd):
    """The end of a sink that hands answers to the calls that wait for them, and all else to the caller who reads it.

        channel ── _read ──> _route ──┬─ an answer ──> `ask` returns it
                                      └─ else: [ _others ] ──> take

    Until the first call it is a sink like any other.
    """

    def __init__(self, node: NodeState) -> None:
        super().__init__(node)
        self._asked: dict[int, PendingCall] = {}  # by their tags, the oldest first
        self._tag = 0  # of the last call
        self._reading: asyncio.Task[None] | None = None  # runs `_read`
        self._others: deque[tuple[Any, Mapping[int, int]]] = deque()  # what came and is no answer; its edges
        self._changed = asyncio.Event()  # set when `_others` or the end of the stream is news to a waiting task
        self._left = False  # whether `leave` was called

    # -- calls

    async def ask(self, source: SourceEnd, item: Any) -> Any:
        """Sends an item, and waits for its answer. Cancelled: the answer is dropped, if one comes.

        Raises:
            NoAnswer: nothing of it is left in the graph, or the run has ended.
            ChannelClosed: the source takes no more.
            CascataError: the item has failed.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        lineage = self.node.host.lineage
        assert lineage is not None  # the run is opened for calls
        tag = self._tag = self._tag + 1
        asked = PendingCall(item, new_id(), asyncio.get_running_loop().create_future())
        self._asked[tag] = asked
        lineage.oldest = next(iter(self._asked))
        try:
            # The item has an id of its own on each edge of the source. Until all have been sent, `asked` has one more,
            # so that an answer which comes while the last ones still wait for room is not the end of it.
            sending = Taken(lineage, (tag,), asked.balance)
            await lineage.sending(sending, source.send, item)
            asked.balance ^= sending.settle()
            if self.ended:
                self._answer_none(asked, _ENDED)
            elif not asked.balance:
                self._answer_none(asked, _NOTHING_LEFT)
            return await asked.answer
        finally:
            del self._asked[tag]
            if asked.answer.done() and not asked.answer.cancelled():
                asked.answer.exception()  # else asyncio would log an error that was never looked at

    def returned(self, balance: Mapping[int, int]) -> None:
        """Nodes have taken and sent items of calls: tag -> the exclusive or of their ids."""
        for tag, ids in balance.items():
            asked = self._asked.get(tag)
            if asked is not None:
                asked.balance ^= ids
                if not asked.balance:
                    self._answer_none(asked, _NOTHING_LEFT)

    def failed(self, tags: Sequence[int], error: BaseException) -> None:
        """The item of these calls has failed."""
        for asked in self._of(tags):
            asked.answer.set_exception(error)

    def _of(self, tags: Iterable[int]) -> list[PendingCall]:
        """The calls with these tags that still wait for their answer."""
        found = [self._asked.get(tag) for tag in tags]
        return [asked for asked in found if asked is not None and not asked.answer.done()]

    def _answer_none(self, asked: PendingCall, why: str) -> None:
        if not asked.answer.done():
            asked.answer.set_exception(NoAnswer(why.format(bounded_repr(asked.item))))

    # -- what comes

    def _answering(self) -> bool:
        """Whether there was a call."""
        return self._reading is not None

    def _route(self, item: Any) -> None:
        """Hands an item to the calls that it answers, or keeps it for `take`."""
        edges = self._reader.last_edges()
        if type(item) is TaggedItem:
            waiting = self._of(item.tags)
            if len(item.tags) > 1:  # such graphs are refused before the first call, as far as they are known
                self.failed(item.tags, CascataError(_OF_SEVERAL))
            elif waiting:
                waiting[0].answer.set_result(checked(item.item))
            if not waiting:
                self._ignore(edges)  # a second answer, or one that came too late
        elif self._left:
            self._ignore(edges)
        else:
            self._others.append((item, edges))
            self._changed.set()

    def _ignore(self, edges: Mapping[int, int]) -> None:
        self.node.received -= 1
        self.node.ignored.update(edges)

    async def _read(self) -> None:
        """Takes all that comes, to the end of the stream. Runs in a task from the first call on."""
        try:
            while True:
                while len(self._others) >= self._most and not (self._left or self.ended):
                    self._changed.clear()
                    await self._changed.wait()
                self._route(await super().take())
        except StopAsyncIteration:
            pass
        finally:
            for asked in self._asked.values():
                self._answer_none(asked, _ENDED)
            self._changed.set()

    async def take(self) -> Any:
        while not self._answering():
            item = await super().take()
            if not self._answering():
                return item
            self._route(item)  # the first call came while this waited
        while not self._others:
            if self.ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item, _ = self._others.popleft()
        self._changed.set()
        return item

    def leave(self) -> None:
        if not self._answering():
            super().leave()
            return
        self._left = True
        for _, edges in self._others:
            self._ignore(edges)
        self._others.clear()
        self._changed.set()

    async def until_over(self) -> None:
        try:
            await super().until_over()
        finally:
            self._changed.set()
