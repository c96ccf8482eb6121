"""What whoever watches over a run tells a part of it, as short texts."""

from __future__ import annotations

import asyncio
import functools

from ...runtime.worker import Worker
from .reporter import Reporter

__all__ = ["carry_out"]


def carry_out(command: bytes, loop: asyncio.AbstractEventLoop, worker: Worker, reporter: Reporter) -> bool:
    """Has a command carried out in the loop of its worker; from any thread.

    Args:
        command: "drain", "end_sources", "cancel", "end_cycle n", "stop_cycle n", "grow channel n",
            "confirm_idle attempt".
        loop: in which the worker runs.
        worker: the part of the run.
        reporter: by which it answers.

    Returns:
        Whether it was one of these.

    Raises:
        RuntimeError: the loop is closed.
    """
    what, *given = command.split()
    match what, [int(each) for each in given]:
        case b"drain", []:
            loop.call_soon_threadsafe(worker.drain)
        case b"end_sources", []:
            loop.call_soon_threadsafe(worker.end_sources)
        case b"cancel", []:
            loop.call_soon_threadsafe(worker.cancel)
        case b"end_cycle", [cycle]:
            loop.call_soon_threadsafe(worker.end_cycle, cycle)
        case b"stop_cycle", [cycle]:
            loop.call_soon_threadsafe(worker.stop_cycle, cycle)
        case b"grow", [channel, extra]:
            loop.call_soon_threadsafe(worker.grow, channel, extra)
        case b"confirm_idle", [attempt]:
            if worker.watch is not None:
                answer = functools.partial(reporter.send, "idle_confirmed", attempt)
                loop.call_soon_threadsafe(worker.watch.confirm, answer)
        case _:
            return False
    return True
