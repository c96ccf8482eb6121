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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..records import dataclass

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ["LOOK_S", "IdleReport", "IdleWatch", "Rest", "may_end", "nothing_on_its_way"]

LOOK_S: Final = 0.1
"""Seconds between two looks; what did not change from one to the next is told."""

SETTLE_S: Final = 0.02
"""Seconds for what has arrived meanwhile to be seen, before an idle worker confirms that it is idle."""

_OURS: Final = str(Path(__file__).parent.parent)


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
        self._others = weakref.WeakSet(asyncio.all_tasks())  # of the program, when it shares its loop with the run
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
        return not self._worker.at_caller and any(
            _of_a_user(task) for task in asyncio.all_tasks(self._loop) if task not in self._others
        )

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


def _of_a_user(task: asyncio.Task[Any]) -> bool:
    """Whether a task was made by a component: it may send later."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and not str(code.co_filename).startswith(_OURS)
