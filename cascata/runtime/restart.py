"""The journal of a node that may start again after its worker's death: what it had in hand is known in its next life.

    begin: items are in hand of a call ──> the call ends, failed or not ──> end: what it sent has left ──> done
             └── the worker dies ──> the next life: recover ──> those items have failed

All other items wait still, or are done with all that came of them. That is why nothing of two calls leaves together,
and why this costs time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Protocol

from ..records import dataclass
from .failures import Failures
from .node_state import NodeState
from .order.ordered import RESULTS
from .ports.outport import Send

__all__ = ["JournaledReader", "JournaledWriter", "Life", "NodeJournal"]

_LAST_CALL: Final = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Life:
    """Says to a worker that its node may start again.

    Attributes:
        death: why it has; None in its first life.
    """

    death: BaseException | None


class JournaledReader(Protocol):
    """A crossing reader whose received items outlive its worker."""

    in_hand: dict[int, list[tuple[int, Any]]]
    """Of an earlier life: call -> edge and item of each that it had in hand."""
    lost: dict[int, int]
    """Of an earlier life: edge -> items that it had in hand and that cannot be read any more."""

    @property
    def last(self) -> int:
        """The last call that had an item from here in hand."""

    async def recall(self) -> AbstractSet[int]:
        """Asks for what an earlier life has left. Returns the calls that had some of it in hand."""

    def restore(self, unbegun: AbstractSet[int]) -> None:
        """Fills `items`, `in_hand` and `lost` with what was recalled; what those calls had waits again."""

    async def hold(self, call: int) -> None:
        """The items that were taken since the last time are in hand of a call, which the next life will know."""

    def done(self, call: int) -> None:
        """The items in hand of a call are done."""

    def forget_lost(self) -> None:
        """The `lost` items have failed by now: a further life is not to fail them again."""


class JournaledWriter(Protocol):
    """A crossing writer that can tell when all that was put is safe."""

    async def flushed(self) -> None:
        """Waits until all that was put is where the death of this worker cannot take it away."""


class NodeJournal:
    """The journal of a node that may start again.

    Args:
        node: that one.
        failures: of the node.
        readers: its in-ports' readers, for each port.
        writers: of its out-ports.
        batched: the ports whose items are lists of what their readers take.
        death: why it has been started again; None: it has not been.
    """

    def __init__(
        self,
        node: NodeState,
        failures: Failures,
        readers: Mapping[str, Sequence[JournaledReader]],
        writers: Sequence[JournaledWriter],
        batched: frozenset[str],
        death: BaseException | None,
    ) -> None:
        self._node = node
        node.may_start_again = True
        node.silent = death is not None  # until `recover` knows what was counted
        self._failures = failures
        self._readers = readers
        self._writers = writers
        self._batched = batched
        self._death = death
        self._all = [reader for each in readers.values() for reader in each]
        self._call = 0

    async def recover(self) -> None:
        """Fails what was in hand when the worker died.

        Raises:
            BaseException: the death, when what is left of two ports that are zipped no longer fits together.
        """
        death = self._death
        if death is None:
            return
        await self._recall()
        for call in sorted({call for reader in self._all for call in reader.in_hand}):
            items: dict[str, Any] = {}
            edges: Counter[int] = Counter()
            for port, readers in self._readers.items():
                in_hand = [each for reader in readers for each in reader.in_hand.get(call, ())]
                edges.update(edge for edge, _ in in_hand)
                found = [item for _, item in in_hand]
                if found:
                    items[port] = found if port in self._batched else found[0]
            await self._fail(death, items, edges)
            self.done(call)
        for port, readers in self._readers.items():
            for reader in readers:
                for edge, count in reader.lost.items():
                    if len(self._readers) > 1 and count:
                        raise death
                    for _ in range(count):
                        await self._fail(death, {port: "<an item that was lost with its worker>"}, Counter({edge: 1}))
                reader.forget_lost()

    async def _recall(self) -> None:
        """Asks the readers for what an earlier life has left, and goes on counting where it has stopped."""
        calls = {reader: await reader.recall() for reader in self._all}
        self._call = max((reader.last for reader in self._all), default=0)
        # A call of which only some ports know was not begun; unless the others have forgotten it, since it is done.
        unbegun = {
            call
            for call in set().union(*calls.values())
            for readers in self._readers.values()
            if not any(call in calls[reader] or reader.last >= call for reader in readers)
        }
        for reader in self._all:
            reader.restore(unbegun)
        self._node.count_on()

    async def _fail(self, death: BaseException, items: dict[str, Any], edges: Counter[int]) -> None:
        lineage = self._node.host.lineage
        if lineage is None:
            await self._send_failure(death, items, edges)
            return
        bare, taken = lineage.begin(*items.values(), batched=bool(self._batched))
        lineage.set(taken)
        try:
            await self._send_failure(death, dict(zip(items, bare, strict=True)), edges)
        finally:
            lineage.set(None)
            if taken is not None:
                taken.give_back()

    async def _send_failure(self, death: BaseException, items: dict[str, Any], edges: Counter[int]) -> None:
        node = self._node
        number: int | None = None
        if node.spec.role == "in order":
            port, numbered = next(iter(items.items()))
            if not isinstance(numbered, tuple):
                raise death  # the number of its results is lost with it
            number, items = numbered[0], {port: numbered[1]}
        await self._failures.lose(death, items, edges)
        if number is not None:
            await node.outports[RESULTS].send((number, [], True))
        await self._flush()

    async def _flush(self) -> None:
        for writer in self._writers:
            await writer.flushed()

    async def begin(self) -> int:
        """The items that were just taken are in hand of a new call; `done` takes what this returns."""
        call = self._call = self._call % _LAST_CALL + 1
        for reader in self._all:
            await reader.hold(call)
        return call

    async def end(self, call: int) -> None:
        """A call has ended: when what it sent has left, its items are done."""
        await self._flush()
        self.done(call)

    def done(self, call: int) -> None:
        for reader in self._all:
            reader.done(call)

    def journaling(
        self, ports: Sequence[str], call: Callable[..., Awaitable[Any]], give: Send
    ) -> Callable[..., Awaitable[None]]:
        """The same call, within `begin` and `end`."""

        async def journaled(*items: Any) -> None:
            begun = await self.begin()
            try:
                value = await call(*items)
                if value is not None:
                    await give(value)
            except BaseException as error:
                await self._failures.go_on(error, dict(zip(ports, items, strict=False)))
            await self.end(begun)

        return journaled
