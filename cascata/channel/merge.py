"""An in-port that reads more than one channel, or a first value and then a channel.

    first value ──┐
    channel a ────┼── wait: `_pull` takes one item, from each in turn ──> items ──> node
    channel b ────┘

An item leaves its channel just when the node asks for one: what waits there keeps its place, and its room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .base import Reader

__all__ = ["MergedReader"]


class MergedReader:
    """A reader whose items are those of several others. See `base.Reader` for the rules.

    Args:
        readers: taken from in turn, so that none starves the others.
        first: values that come before all others.
        one_ended: called when one of several readers has ended.
    """

    def __init__(
        self, readers: Sequence[Reader], first: Sequence[Any] = (), one_ended: Callable[[], None] = lambda: None
    ) -> None:
        self.items: deque[Any] = deque(first)
        self._readers = list(readers)
        self._open = deque(readers)  # those that have not ended; the next one to ask is the first
        self._last: Reader | None = None  # that the last item came from; None: it was a first value
        self._one_ended = one_ended

    def taking(self) -> None:
        for reader in self._open:
            reader.taking()

    def release(self) -> None:
        for reader in self._open:
            reader.release()

    def worked(self, seconds: float) -> None:
        for reader in self._open:
            reader.worked(seconds)

    def _pull(self) -> bool:
        """Takes an item out of the first channel that has one; whether any has."""
        for _ in range(len(self._open)):
            reader = self._open[0]
            self._open.rotate(-1)
            if reader.items:
                self.items.append(reader.items.popleft())
                self._last = reader
                return True
        return False

    async def wait(self) -> bool:
        while not self.items and not self._pull():
            if not self._open:
                return False
            if len(self._open) > 1:
                await self._wait_for_any()
            elif not await self._open[0].wait():
                self._open.clear()
        return True

    async def _wait_for_any(self) -> None:
        """Waits until one of the channels has an item or has ended."""
        waits = {reader: asyncio.ensure_future(_arrival(reader)) for reader in self._open}
        try:
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)
            for reader, wait in waits.items():
                if not wait.cancelled() and wait.exception() is None and wait.result():
                    reader.pass_on()  # only one item is taken: others that wait there must see the rest
        for reader, wait in waits.items():
            if not wait.cancelled() and not wait.result():
                self._open.remove(reader)
                self._one_ended()

    def pass_on(self) -> None:
        for reader in self._open:
            reader.pass_on()

    @property
    def ready(self) -> bool:
        return bool(self.items) or any(reader.ready for reader in self._readers)

    @property
    def ended(self) -> bool:
        return not self.items and all(reader.ended for reader in self._readers)

    def finish(self) -> None:
        for reader in self._readers:
            reader.finish()

    def received(self) -> Mapping[int, int]:
        return {edge: items for reader in self._readers for edge, items in reader.received().items()}

    def taken(self) -> Mapping[int, int]:
        taken = {edge: items for reader in self._readers for edge, items in reader.taken().items()}
        for edge, items in self._pulled().items():
            taken[edge] -= items
        return taken

    def last_edges(self) -> Mapping[int, int]:
        return {} if self._last is None else self._last.last_edges()

    def _pulled(self) -> Mapping[int, int]:
        """The edges of the item that `_pull` has taken and the node has not, if there is one."""
        return self.last_edges() if self.items else {}

    def close(self) -> Mapping[int, int]:
        pulled = self._pulled()
        left: dict[int, int] = {}
        for reader in self._readers:
            left.update(reader.close())
        for edge, items in pulled.items():
            left[edge] = left.get(edge, 0) + items
        return left


async def _arrival(reader: Reader) -> bool:
    """As `reader.wait()`, but a coroutine of this package, by which the idle watch knows that the task is its own."""
    return await reader.wait()
