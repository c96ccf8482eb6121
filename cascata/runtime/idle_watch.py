"""Sees when nothing on a worker can move: each node waits for items, or for room, or has ended.

    _look, ten times a second ──> idle_report ── the same twice ──> tell ──> supervisor
    confirm, when the supervisor asks ──────────────────────────────────────────^

Being idle is normal for a moment, while other workers work; so only what lasts is told. A node that computes, sleeps,
or waits for a file, a socket or a thread is not idle.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from .idle import LOOK_S, IdleReport, Rest
from .node import Node
from .wiring import Wiring

__all__ = ["IdleWatch", "UserTasks", "idle_report"]

SETTLE_S: Final = 0.02
"""Seconds for what has arrived meanwhile to be seen, before an idle worker confirms that it is idle."""

_PACKAGE: Final = __name__.partition(".")[0]


class UserTasks:
    """The tasks in a worker's loop that components may have made. Make it before the tasks of the nodes.

    Args:
        node_of: the node whose code a task runs, if that is known.
    """

    def __init__(self, node_of: Callable[[asyncio.Task[Any] | None], str | None]) -> None:
        self._node_of = node_of
        self._loop = asyncio.get_running_loop()
        others = [task for task in asyncio.all_tasks() if not _is_ours(task)]
        self._others = weakref.WeakSet(others)  # of the program, when it shares its loop with the run
        self._shared = bool(others)

    def may_send(self) -> bool:
        """Whether there are any: more room cannot harm them, an error would."""
        return any(map(self._may_send, asyncio.all_tasks(self._loop)))

    def _may_send(self, task: asyncio.Task[Any]) -> bool:
        """Whether a component may have made a task: whatever it runs, a wrapper of asyncio's included, it may send."""
        if task in self._others or _is_ours(task):
            return False
        # A program that shares its loop goes on making tasks. Those that a component makes know their node from it;
        # in a loop of the worker's own, others may come from threads of a component, which know none.
        known = hasattr(task, "get_context")  # since Python 3.12
        return not (self._shared and known) or self._node_of(task) is not None


class IdleWatch:
    """Watches a worker from inside its loop.

    Args:
        look: called ten times a second, before each report is made.
        report: makes the report of an idle worker; None when it is not idle.
        tell: called with a report when nothing has moved between two looks; once for each such state.
    """

    def __init__(
        self,
        look: Callable[[], None],
        report: Callable[[], IdleReport | None],
        tell: Callable[[IdleReport], None],
    ) -> None:
        self._look_first = look
        self._report = report
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._before: int | None = None  # `moved` of the last report; None: the worker was not idle
        self._told: int | None = None  # `moved` of the report that was told last
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        self._look_first()
        report = self._report()
        if report is None:
            self._before = None
            return
        if report.moved == self._before and report.moved != self._told:
            self._told = report.moved
            self._tell(report)
        self._before = report.moved

    def confirm(self, answer: Callable[[IdleReport | None], None]) -> None:
        """Calls `answer` soon, with the state as it is then: None when the worker is not idle."""

        def settled() -> None:
            report = self._report()
            if report is None or report.moved != self._told:
                self._told = None  # idle again, it tells again
            answer(report)

        self._loop.call_later(SETTLE_S, settled)


def idle_report(nodes: Iterable[Node], wiring: Wiring, somebody_may_send: Callable[[], bool]) -> IdleReport | None:
    """The state of a worker, when it is idle; else None.

    Args:
        nodes: those that run there.
        wiring: the ends of the channels there.
        somebody_may_send: whether a task there that is no node's may send.
    """
    blocked: dict[str, frozenset[int]] = {}
    waiting: dict[str, frozenset[int]] = {}
    doing: dict[str, str] = {}
    awaited: set[int] = set()
    moved = 0
    running = 0
    for node in nodes:
        state = node.state
        moved += state.received
        doing[node.name] = state.doing
        if state.has_ended:
            moved += 1
            continue
        running += 1
        full = frozenset(map(wiring.channel_of, state.blocked_on))
        if full:
            blocked[node.name] = full
        elif not node.rests:
            return None
        awaits = state.awaits
        awaited |= wiring.crossing_edges(awaits)
        waiting[node.name] = frozenset(awaits)
    if not running or (not blocked and somebody_may_send()):
        return None
    moved += sum(writer.sent for writer in wiring.writers.values())
    sent = {edge: writer.sent for edge, writer in wiring.writers.items() if wiring.crosses(edge)}
    received = wiring.received()
    moved += sum(received.values())
    return IdleReport(Rest(sent, received, frozenset(awaited)), blocked, waiting, doing, moved)


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether a task runs a coroutine function of this package, or is a `send` that waits for room.

    All tasks of the package are made so: what asyncio wraps around another awaitable would look like a component's.
    """
    work: Any = task.get_coro()
    frame = getattr(work, "cr_frame", None)
    module = type(work).__module__ if frame is None else frame.f_globals.get("__name__")
    return str(module).partition(".")[0] == _PACKAGE
