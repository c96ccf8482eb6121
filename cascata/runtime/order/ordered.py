"""What the nodes of an ordered group do: number the inputs, send results with their number, put results in order.

    tag ── (number, item) ──> a member: NumberedCall ── (number, results, last) ──> run_reordering ──> results

See `engine.rewrite.ordering` for how they are wired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from ...channel.change_detector import ChangeDetector
from ..node_state import NodeState
from ..node_stop import NodeStop
from ..ports.outport import OutPort, Send
from .buffered_sends import BufferedSends, SendBuffers

__all__ = ["RESULTS", "NumberedCall", "reorder", "run_reordering", "tag"]

RESULTS: Final = "results"
"""The out-port by which a member of an ordered group sends `(number, [(port, item), …], whether that was all)`."""

MESSAGE_ITEMS: Final = 64
"""Items in such a message, at most."""

MESSAGE_BYTES: Final = 64 << 10
"""Bytes in it, and one item more."""


async def tag(item: Any, numbered: Any) -> None:
    """The runner of the node that numbers what enters the group, by what its out-port has counted."""
    await numbered.send((numbered.sent, item))


async def reorder() -> None:
    """Stands for the runner of the node that puts results in order; `run_reordering` does it."""


class NumberedCall(BufferedSends):
    """What one attempt at a call of a member has sent: it leaves in messages with the call's number.

    What is sent before the loop turns leaves in one message, on the loop's next turn, and with the end of the call if
    that comes before. A member does not know whether it is its turn: the room in its channel to the node that puts
    results in order is what keeps it back.

    Args:
        buffers: of the member.
        results: its out-port for messages.
        number: of the call.
        detectors: the names of the out-ports, each with what watches its items.
        retries: whether the attempt may be tried again.
    """

    __slots__ = ("_detectors", "_finishing", "_number", "_results", "_soon")

    def __init__(
        self,
        buffers: SendBuffers,
        results: OutPort,
        number: int,
        detectors: Mapping[str, ChangeDetector | None],
        *,
        retries: bool,
    ) -> None:
        super().__init__(buffers, {}, None, retries=retries)
        self._detectors = detectors
        self._results = results
        self._number = number
        self._soon: asyncio.Handle | None = None  # sends what is kept, on the loop's next turn
        self._finishing = False  # whether the last messages are on their way: nothing may come between them

    def ports(self) -> Mapping[str, Any]:
        return {name: _NumberedPort(self, name, detector) for name, detector in self._detectors.items()}

    def _set_room(self) -> None:
        super()._set_room()
        if self._may_leave:
            self._most, self._most_bytes = MESSAGE_ITEMS, MESSAGE_BYTES

    def _make_room(self) -> bool:
        if not self._may_leave:
            return super()._make_room()
        self._begin_to_leave()
        return False

    def _keep(self, port: Any, item: Any) -> None:
        super()._keep(port, item)
        if self._soon is None and not self._retries:
            self._soon = self._buffers.loop.call_soon(self._begin_to_leave)

    def _begin_to_leave(self) -> None:
        self._soon = None
        if self._kept and self._leaving is None and not self._finishing:
            super()._begin_to_leave()

    async def _send_kept(self) -> None:
        while self._kept:
            message = self._message()
            self.wake()  # there is room for as much again
            await self._results.send((self._number, message, False))

    async def leave(self) -> None:
        self._ended = True
        self._retries = False
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._leaving is not None:
            await self._leaving
        if self._error is not None:
            raise self._error
        self._finishing = True
        message = self._message()
        while self._kept:
            await self._results.send((self._number, message, False))
            message = self._message()
        await self._results.send((self._number, message, True))
        self._finishing = False
        if self._places or self._kept:  # of tasks that the call has left behind
            self._set_room()
            self._begin_to_leave()
            self.wake()

    def _message(self) -> list[tuple[str, Any]]:
        """Takes what the next message holds out of what is kept."""
        kept = self._kept
        if len(kept) == 1:
            port, item, _ = kept.popleft()
            self._bytes = 0
            return [(port.name, item)]
        sends: list[tuple[str, Any]] = []
        size = 0
        while kept and len(sends) < MESSAGE_ITEMS and size < MESSAGE_BYTES:
            port, item, its = kept.popleft()
            size += its
            sends.append((port.name, item))
        self._bytes -= size
        return sends


class _NumberedPort:
    """An out-port as the runner of a member sees it."""

    __slots__ = ("_call", "detector", "name")

    unread: Final = False
    """Whether anybody reads this port is not known here."""

    def __init__(self, call: NumberedCall, name: str, detector: ChangeDetector | None) -> None:
        self._call = call
        self.name = name
        self.detector = detector

    def send(self, item: Any) -> Awaitable[None]:
        """As `OutPort.send`."""
        return self._call.send(self, item)

    def __repr__(self) -> str:
        return f"<out-port {self.name}, in order>"


async def run_reordering(node: NodeState, stop: NodeStop) -> None:
    """Sends the members' results in the order of their numbers.

    Args:
        node: which does that.
        stop: tells when the node is to stop, which its own sends do not tell while the member whose turn it is sends
            nothing and the others wait for room.

    A task per member takes its next message and waits for its turn: no more than that is taken. The messages of the
    call whose turn it is are sent on as they come.
    """
    turn = asyncio.Condition()
    due = 0
    lineage = node.host.lineage
    over = stop.buffers.when_over
    send: dict[str, Send] = {name: port.send for name, port in node.outports.items()}

    async def follow(name: str) -> None:
        nonlocal due
        reader = node.readers[name]
        with node.looping():
            while await node.starve(reader, name, share=1 / len(node.readers)):
                item = reader.items.popleft()
                taken = None
                if lineage is not None:
                    (item,), taken = lineage.begin(item)
                    lineage.set(taken)
                number, sends, last = item
                node.received += 1
                reader.release()
                async with turn:
                    while due < number:  # what a task sends that its call has left behind comes too late to have a turn
                        with node.waiting_for_a_loop(number):  # nothing can move before another member's results come
                            await turn.wait()
                    for port, item in sends:
                        await send[port](item)
                    if last:
                        due += 1
                        node.parked.discard(due)  # it can move from now on, not only when it wakes
                        turn.notify_all()
                if taken is not None:
                    taken.give_back()

    tasks = [asyncio.ensure_future(follow(name)) for name in node.readers]
    try:
        pending: set[asyncio.Future[None]] = set(tasks)
        while pending:
            done, _ = await asyncio.wait({*pending, over}, return_when=asyncio.FIRST_COMPLETED)
            if over in done and (refusal := stop.refusal()) is not None:
                raise refusal
            pending -= done
            for task in done:
                task.result()  # also of one that was stopped: its next number would never come
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
