"""An in-port that reads more than one channel, or a first value and then a channel.

It takes one item at a time out of the channels behind it, in turn, just when its user asks: what
waits in them keeps its place and its credit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .base import Reader

__all__ = ["MergedReader"]


class MergedReader:
    """Several readers as one. See `base.Reader` for the rules.

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
        self._open = deque(readers)
        self._last: Reader | None = None
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
        waits = {reader: asyncio.ensure_future(_arrival(reader)) for reader in self._open}
        try:
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)
            for reader, wait in waits.items():
                if not wait.cancelled() and wait.exception() is None and wait.result():
                    reader.pass_on()  # only one item is taken: who else waits there must see the others
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
        for edge, items in self._held().items():
            taken[edge] -= items
        return taken

    def last_edges(self) -> Mapping[int, int]:
        return {} if self._last is None else self._last.last_edges()

    def _held(self) -> Mapping[int, int]:
        """The edges of the item that has left its channel and was not taken yet, if there is one."""
        return self.last_edges() if self.items else {}

    def close(self) -> Mapping[int, int]:
        held = self._held()
        left: dict[int, int] = {}
        for reader in self._readers:
            left.update(reader.close())
        for edge, items in held.items():
            left[edge] = left.get(edge, 0) + items
        return left


async def _arrival(reader: Reader) -> bool:
    """As `reader.wait()`, but a coroutine of this package, by which the idle watch knows that the task is its own."""
    return await reader.wait()
