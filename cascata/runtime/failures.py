"""What becomes of an item that failed: it is routed, or skipped, or it ends the run.

    runner raises ────────> go_on, take ──┬─ `node.errors` is connected: a `Failure` is sent there
    item cannot cross ────> take_item ────┤─ the item belongs to a `live.call`: its caller gets the error
    in hand at a death ───> lose ─────────┤─ on_error="skip": it is logged
                                          └─ else: the node fails, and the run with it

The item is counted as failed in any case. Nothing here costs anything before something fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from .. import log
from ..channel.base import DONE
from ..errors import Failure, bounded_repr, formatted, in_words
from .live_calls.lineage import Taken
from .node_state import NodeState
from .node_stop import NodeStop
from .ports.outport import OutPort, Stopped

__all__ = ["Failures"]


class Failures:
    """The items of a node that fail.

    Args:
        node: whose they are.
        stop: whether it was stopped: what its runner raises then is no failure.
        port: its out-port for them, or None where it is not connected.
    """

    def __init__(self, node: NodeState, stop: NodeStop, port: OutPort | None) -> None:
        self._node = node
        self._stop = stop
        self._port = port
        self._late: set[asyncio.Future[None]] = set()  # failures that wait for room
        self._noted: Sequence[Mapping[int, int]] | None = None  # see `note`

    @property
    def routed(self) -> bool:
        """Whether failures have somewhere to go."""
        return self._port is not None

    async def take(
        self,
        error: BaseException,
        items: Mapping[str, Any],
        attempts: int = 1,
        edges: Sequence[Mapping[int, int]] | None = None,
        *,
        skip: bool = True,
    ) -> bool:
        """Counts a failed call, and routes or skips it; whether the run goes on without its items.

        Args:
            error: what the runner raised.
            items: those in hand, by port.
            attempts: how often it was tried.
            edges: what `edges_in_hand` gave when the items were taken; None: they are the last that were.
            skip: whether `on_error="skip"` is for them.

        Cancelled while it waits for room in the in-port that reads failures: this one is lost, with the run.
        """
        self._node.lost_sends.excuse()
        if not self._takes(error, skip=skip):
            return False
        self._count(items, edges)
        taken = self._taken
        if taken is not None and not self.routed:
            taken.fail(self._node.failure(error, items))
            return True
        shown = ", ".join(f"{port}={bounded_repr(item)}" for port, item in items.items())
        failure = Failure(self._node.name, _in_hand(items), error, formatted(error), attempts)
        sent = self._send(failure, shown)
        if sent is not DONE:
            await sent
        return True

    async def go_on(self, error: BaseException, items: Mapping[str, Any], *, skip: bool = True) -> None:
        """Returns when the run goes on without the items of a call that has failed.

        Args:
            error: what the runner raised.
            items: those in hand, by port.
            skip: whether `on_error="skip"` is for them.

        Raises:
            BaseException: the error again, with the items noted; or the node was cancelled meanwhile.
        """
        node = self._node
        if node.in_hand is not None:
            raise error  # a call at its side has failed before
        if not await self.take(error, items, skip=skip):
            node.in_hand = items
            self.count(error, items)
            raise error

    async def lose(self, error: BaseException, items: Mapping[str, Any], edges: Mapping[int, int]) -> None:
        """Fails items that were in hand when the worker died; they are logged where `node.errors` is not connected.

        Args:
            error: the worker's death.
            items: those, by port.
            edges: edge -> how many of them came on it.
        """
        self._count(items, [edges])
        taken = self._taken
        if taken is not None and not self.routed:
            taken.fail(self._node.failure(error, items))
            return
        shown = ", ".join(f"{port}={bounded_repr(item)}" for port, item in items.items())
        sent = self._send(Failure(self._node.name, _in_hand(items), error, formatted(error)), shown)
        if sent is not DONE:
            await sent

    def take_item(self, error: BaseException, item: Any) -> bool:
        """As `take`, for an item that could not cross to another worker, or from one. Its edge has counted it.

        It does not wait: the failure is sent as soon as there is room, and `settle` waits for that.
        """
        if not self._takes(error, skip=True):
            return False
        self._node.failed += 1
        failure = Failure(self._node.name, item, error, formatted(error))
        sent = self._send(failure, bounded_repr(item))
        if sent is not DONE:
            late = asyncio.ensure_future(sent)
            self._late.add(late)
            late.add_done_callback(self._late.discard)
        return True

    async def settle(self) -> None:
        """Waits until all failures have been sent."""
        while self._late:
            await asyncio.wait(self._late)

    def abandon(self) -> None:
        """Drops the failures that still wait for room."""
        for late in self._late:
            late.cancel()

    def _takes(self, error: BaseException, *, skip: bool) -> bool:
        """Whether the run may go on after an error: it is a failure, and has somewhere to go. See `take`."""
        node = self._node
        if node.host.cancelling or isinstance(error, Stopped | KeyboardInterrupt | GeneratorExit):
            return False
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if self._stop.stopped or (task is not None and task.cancelling()):
                return False  # it is not the runner's own
        skips = node.host.skip_errors and isinstance(error, Exception)
        return self.routed or (skip and (skips or self._taken is not None))

    @property
    def _taken(self) -> Taken | None:
        """What the running call of the runner has in hand, if its items belong to `live.call`s."""
        lineage = self._node.host.lineage
        return None if lineage is None else lineage.current

    def _send(self, failure: Failure, shown: str) -> Any:
        port = self._port
        if port is not None and any(not writer.closed for writer in port.writers):
            return port.send(failure)
        error = failure.error
        why = "skipped" if port is None else "failed, and nobody reads the failures any more:"
        log.error("%s %s: %s", why, shown, in_words(error), exc_info=error)
        return DONE

    # -- which edges they came on

    def noting(self, ports: Sequence[str], call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """A call that notes its edges, for a node that takes with others from a channel that several edges write to."""

        async def noted(*items: Any) -> Any:
            self._noted = self.edges_of(ports)  # while it works, other nodes take
            return await call(*items)

        return noted

    def note(self, edges: Sequence[Mapping[int, int]] | None) -> None:
        """The next call has items that came on these edges, one mapping for each port; None: those taken last."""
        self._noted = edges

    def edges_in_hand(self, ports: Sequence[str]) -> Sequence[Mapping[int, int]]:
        """The edges of the call that begins now: those that were noted for it, else `edges_of`."""
        return self.edges_of(ports) if self._noted is None else self._noted

    def edges_of(self, ports: Sequence[str] | Mapping[str, Any]) -> Sequence[Mapping[int, int]]:
        """For each of the ports, the edges of the item that was taken last, with how many items of each are in it."""
        return [self._node.readers[port].last_edges() for port in ports]

    def count(
        self, error: BaseException, items: Mapping[str, Any], edges: Sequence[Mapping[int, int]] | None = None
    ) -> None:
        """Counts the call that ends the node, unless it did not fail but was cancelled. See `take`."""
        if not isinstance(error, asyncio.CancelledError):
            self._count(items, edges)

    def _count(self, items: Mapping[str, Any], edges: Sequence[Mapping[int, int]] | None) -> None:
        self._node.failed += 1
        edges = self._noted if edges is None else edges
        host = self._node.host
        for each in self.edges_of(items) if edges is None else edges:
            for edge, count in each.items():
                host.raised[edge] += count
                host.board.add_failed(edge, host.index, count)
        if self._node.may_start_again:
            self._node.publish()  # the worker may die at the next item: that one is not to count twice


def _in_hand(items: Mapping[str, Any]) -> Any:
    """The item of a `Failure`: the only one, a dict of several by port, or None."""
    if not items:
        return None
    return next(iter(items.values())) if len(items) == 1 else dict(items)
