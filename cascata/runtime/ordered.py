"""What the nodes of an ordered group do: number, tell the number of results, put results in order.

See `engine.ordering` for how they are wired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ..channel.base import DONE
from ..channel.given import Guard

if TYPE_CHECKING:
    from .node import Node

__all__ = ["RESULTS", "Collected", "reorder", "run_reordering", "tag"]

RESULTS: Final = "results"
"""The out-port by which a member of an ordered group sends `(number, [(port, item), …])`."""


async def tag(item: Any, numbered: Any) -> None:
    """The runner of the node that numbers what enters: the port counts."""
    await numbered.send((numbered.sent, item))


async def reorder() -> None:
    """Stands for the runner of the node that puts results in order; `run_reordering` does it."""


class Collected:
    """Out-ports for one call of a member: what is sent is kept in its order.

    Args:
        guards: the names of the out-ports, each with what watches its items.
    """

    def __init__(self, guards: Mapping[str, Guard | None]) -> None:
        self.sends: list[tuple[str, Any]] = []
        self.ports = {name: _CollectingPort(name, self.sends, guard) for name, guard in guards.items()}


class _CollectingPort:
    def __init__(self, name: str, sends: list[tuple[str, Any]], guard: Guard | None) -> None:
        self.name = name
        self.guard = guard
        self._sends = sends

    def send(self, item: Any) -> Awaitable[None]:
        self._sends.append((self.name, item if self.guard is None else self.guard.given(item)))
        return DONE

    def __repr__(self) -> str:
        return f"<out-port {self.name}, in order>"


async def run_reordering(node: Node) -> None:
    """Sends the members' results in the order of their numbers.

    A task per member takes its next results and waits for their turn: no more than that is taken.
    """
    turn = asyncio.Condition()
    due = 0
    lineage = node.host.lineage
    send: dict[str, Callable[[Any], Awaitable[None]]] = {name: port.send for name, port in node.outports.items()}

    async def follow(name: str) -> None:
        nonlocal due
        reader = node.readers[name]
        node.loops += 1
        try:
            while True:
                node.waits.append(name)
                node.rested()
                node.publish()
                began = perf_counter()
                try:
                    if not await reader.wait():
                        return
                finally:
                    node.waits.remove(name)
                    node.starved_s += (perf_counter() - began) / len(node.readers)
                item = reader.items.popleft()
                taken = None
                if lineage is not None:
                    (item,), taken = lineage.begin(item)
                    lineage.set(taken)
                number, sends = item
                node.received += 1
                reader.release()
                async with turn:
                    while due != number:
                        node.parked.add(number)  # nothing can move here before another member's results come
                        node.rested()
                        try:
                            await turn.wait()
                        finally:
                            node.parked.discard(number)
                    for port, item in sends:
                        await send[port](item)
                    due += 1
                    node.parked.discard(due)  # it can move from now on, not only when it wakes
                    turn.notify_all()
                if taken is not None:
                    taken.give_back()
        finally:
            node.loops -= 1

    tasks = [asyncio.ensure_future(follow(name)) for name in node.readers]
    try:
        pending: set[asyncio.Future[None]] = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # also of one that was stopped: its next number would never come
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
