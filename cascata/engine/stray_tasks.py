"""Tasks that components of a run in this process have made, and that go on when it has ended.

    run ends ──> cancel them ──> wait, at most `grace` ──> close the coroutines of those that resist

On processes they end with their worker. Here the loop may be the caller's: `asyncio.run` would wait for them for ever.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from .. import log

__all__ = ["Strays", "leave_behind", "settled"]

AGAIN_S: Final = 0.25
"""Seconds after which what has not ended is cancelled again."""

_made: Final[weakref.WeakKeyDictionary[asyncio.Task[Any], log.Where]] = weakref.WeakKeyDictionary()
"""Of tasks that were made while a node ran: whose they are. Python 3.11 alone cannot be asked for a task's context."""


def _noting(before: Callable[..., Any] | None) -> Callable[..., Any]:
    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        task = asyncio.Task(coroutine, loop=loop, **more) if before is None else before(loop, coroutine, **more)
        where = log.current.get(None)
        if where is not None:
            _made[task] = where
        return task

    factory.cascata = before  # type: ignore[attr-defined]  # told by it from other factories
    return factory


class Strays:
    """Of one run. Make it in its loop, before its nodes begin."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        if sys.version_info < (3, 12):
            before = self._loop.get_task_factory()
            if not hasattr(before, "cascata"):  # of another run in this loop; it stays, and notes for all
                self._loop.set_task_factory(_noting(before))

    def left(self, nodes: Iterable[log.Where], others: Container[asyncio.Task[Any]]) -> dict[asyncio.Task[Any], str]:
        """The tasks that were made by these nodes and have not ended, but for some others; and by which node."""
        wheres = {id(where): str(where.node) for where in nodes}
        now = asyncio.current_task()
        found = {}
        for task in asyncio.all_tasks(self._loop):
            where = _where(task)
            if task is not now and id(where) in wheres and task not in others:
                found[task] = wheres[id(where)]
        return found

    async def end(
        self,
        nodes: Sequence[log.Where],
        others: Container[asyncio.Task[Any]],
        seconds: float,
        hurry: asyncio.Future[None],
    ) -> bool:
        """Cancels the tasks that are left, and waits for their ends; what resists is closed then.

        Args:
            nodes: that made them.
            others: tasks of the nodes themselves.
            seconds: that they have.
            hurry: done when they have no more time.

        Returns:
            Whether nothing is left of them. Cancelled: waits all the same; raised then.
        """
        cancelled: asyncio.CancelledError | None = None
        until = self._loop.time() + seconds
        while left := self.left(nodes, others):
            for task in left:
                task.cancel()
            try:
                await asyncio.wait(
                    [*left, hurry],
                    timeout=min(AGAIN_S, max(0.0, until - self._loop.time())),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            except asyncio.CancelledError as error:
                cancelled = error
            if hurry.done() or self._loop.time() >= until:
                break
        over = True
        for task, node in self.left(nodes, others).items():
            log.warning(
                "a task that %s started (%r) did not end when it was cancelled, since the run had ended: it was "
                "closed. A task must let CancelledError pass",
                node,
                getattr(task.get_coro(), "__qualname__", task.get_name()),
            )
            over = leave_behind(task) and over
        await settled()
        if cancelled is not None:
            raise cancelled
        return over


def _where(task: asyncio.Task[Any]) -> log.Where | None:
    if sys.version_info >= (3, 12):
        return task.get_context().get(log.current)
    return _made.get(task)


def leave_behind(task: asyncio.Task[Any]) -> bool:
    """Ends a task that resists cancellation, by closing its coroutine; whether that has ended."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # whoever reads the log knows
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # a closed coroutine cannot go on
    closed = True
    try:
        task.get_coro().close()
    except BaseException:  # whatever its `finally` blocks raise, or it does not end for this either
        closed = getattr(task.get_coro(), "cr_frame", None) is None
    task.cancel()  # wakes the task, which finds that its coroutine has ended
    if not closed:
        with suppress(Exception):
            # Of asyncio, Python 3.11 to 3.14: takes it off the list that `asyncio.run` waits for.
            asyncio.tasks._unregister_task(task)
    return closed


async def settled() -> None:
    """Lets tasks that were left behind find out, and their ends be noted: else they would be told as errors."""
    for _ in range(3):
        await asyncio.sleep(0)
