"""Sees when nothing on a worker can move: each node waits for items, or for room, or has ended.

That is normal for a moment, while other workers work. When it lasts, whoever watches over the run is told, with the
counts that show whether something is still on its way between workers: if not, and all workers are
idle, only more room can help (Parks 1995), or nothing can.

A node that computes, sleeps, or waits for a file, a socket or a thread is not idle.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

from ..records import dataclass

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ["LOOK_S", "IdleReport", "IdleWatch", "Rest", "may_end", "nothing_on_its_way"]

LOOK_S: Final = 0.1
"""Seconds between two looks; what did not change from one to the next is told."""

SETTLE_S: Final = 0.02
"""Seconds for what has arrived meanwhile to be seen, before an idle worker confirms that it is idle."""

_PACKAGE: Final = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Rest:
    """What tells whether something is on its way to nodes that rest.

    Attributes:
        sent: crossing edge -> items sent from here.
        received: crossing edge -> items that came in here.
        awaited: the crossing edges from which an item would make a node move.
    """

    sent: Mapping[int, int]
    received: Mapping[int, int]
    awaited: frozenset[int]
    turned: bool = False
    """Of a part of a cycle: whether anything ever went round, or was there to begin with."""
    fed: bool = False
    """Of a part of a cycle: whether something may still enter it from outside."""


def nothing_on_its_way(rests: Iterable[Rest], written: AbstractSet[int] = frozenset()) -> bool:
    """Whether on each edge that somebody waits at, all that was sent has been received.

    `written` are edges whose writers have ended. All that they sent lies in the channel: who waits there sees it.
    """
    rests = list(rests)
    return all(
        sum(rest.sent.get(edge, 0) for rest in rests) == sum(rest.received.get(edge, 0) for rest in rests)
        for edge in frozenset().union(*(rest.awaited for rest in rests)) - written
    )


def may_end(rests: Iterable[Rest]) -> bool:
    """Whether a cycle that rests has come to its end, rather than never having begun."""
    rests = list(rests)
    return any(rest.turned for rest in rests) or not any(rest.fed for rest in rests)


@dataclass(frozen=True, slots=True)
class IdleReport:
    """The state of an idle worker.

    Attributes:
        rest: whether something is on its way to it.
        blocked: node -> the channels in which it waits for room.
        waiting: node -> the channels from which it waits for items.
        doing: node -> what it waits for, in words.
        moved: grows with everything that the worker does: two reports with the same number are of the same state.
    """

    rest: Rest
    blocked: Mapping[str, frozenset[int]]
    waiting: Mapping[str, frozenset[int]]
    doing: Mapping[str, str]
    moved: int


class IdleWatch:
    """Watches a worker from inside its loop.

    Args:
        worker: the worker.
        tell: called with a report when nothing has moved between two looks; once for each such state.
    """

    def __init__(self, worker: Worker, tell: Callable[[IdleReport], None]) -> None:
        self._worker = worker
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        others = [task for task in asyncio.all_tasks() if not _is_ours(task)]
        self._others = weakref.WeakSet(others)  # of the program, when it shares its loop with the run
        self._shared = bool(others)
        self._before: int | None = None
        self._told: int | None = None
        worker.board.set_beat(worker.index)
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        self._worker.board.set_beat(self._worker.index)
        self._worker.publish()
        self._worker.look_at_cycles()
        self._worker.look_at_sends()
        self._worker.publish_ends()
        report = self.report()
        if report is None:
            self._before = None
            return
        if report.moved == self._before and report.moved != self._told:
            self._told = report.moved
            self._tell(report)
        self._before = report.moved

    def somebody_may_send(self) -> bool:
        """Whether there are tasks that a component may have made: more room cannot harm them, an error would."""
        return not self._worker.at_caller and any(map(self._may_send, asyncio.all_tasks(self._loop)))

    def _may_send(self, task: asyncio.Task[Any]) -> bool:
        """Whether a component may have made a task: whatever it runs, a wrapper of asyncio's included, it may send."""
        if task in self._others or _is_ours(task):
            return False
        # A program that shares its loop goes on making tasks. Those that a component makes know their node from it;
        # in a loop of the worker's own, others may come from threads of a component, which know none.
        known = hasattr(task, "get_context")  # since Python 3.12
        return not (self._shared and known) or self._worker.node_of(task) is not None

    def confirm(self, answer: Callable[[IdleReport | None], None]) -> None:
        """Calls `answer` soon, with the state as it is then: None when the worker is not idle."""

        def settled() -> None:
            report = self.report()
            if report is None or report.moved != self._told:
                self._told = None  # idle again, it tells again
            answer(report)

        self._loop.call_later(SETTLE_S, settled)

    def report(self) -> IdleReport | None:
        """The state now, when the worker is idle."""
        blocked: dict[str, frozenset[int]] = {}
        waiting: dict[str, frozenset[int]] = {}
        sent: dict[int, int] = {}
        received: dict[int, int] = {}
        awaited: set[int] = set()
        moved = 0
        running = 0
        for node in self._worker.nodes:
            moved += node.received
            if node.has_ended:
                moved += 1
            else:
                running += 1
                full = frozenset(self._worker.channel_of(edge) for edge in node.blocked_on)
                if full:
                    blocked[node.name] = full
                elif not node.rests:
                    return None
                awaited |= self._worker.crossing_edges(node.awaits)
                waiting[node.name] = frozenset(node.awaits)
        if not running or (not blocked and self.somebody_may_send()):
            return None
        for edge, writer in self._worker.writers.items():
            moved += writer.sent
            if self._worker.crosses(edge):
                sent[edge] = writer.sent
        for reader in self._worker.crossing_readers():
            received.update(reader.received())
        moved += sum(received.values())
        doing = {node.name: node.doing for node in self._worker.nodes}
        return IdleReport(Rest(sent, received, frozenset(awaited)), blocked, waiting, doing, moved)


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs a coroutine function of this package, or is a `send` that waits for room.

    All tasks of the package are made so: what asyncio wraps around another awaitable would look like a component's.
    """
    work: Any = task.get_coro()
    frame = getattr(work, "cr_frame", None)
    module = type(work).__module__ if frame is None else frame.f_globals.get("__name__")
    return str(module).partition(".")[0] == _PACKAGE
