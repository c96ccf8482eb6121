"""What feeds a source: any iterable, in the caller's event loop, which it never blocks.

async iterable ── a task ──> send
list, range … ─── a task ──> send
other iterable ── a thread of its own: it may block ── [ a little ahead ] ──> a task ──> send
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterable, Generator, Iterable
from contextlib import suppress
from typing import Any, Final

from .. import log
from ..errors import ChannelClosed
from ..runtime.ports.outport import Stopped
from ..runtime.ports.source_sink import SourceEnd
from ..runtime.threads import Handover

__all__ = ["feed"]

_IN_MEMORY: Final = (list, tuple, range, dict, set, frozenset, str, bytes, deque)
"""What gives its next item at once."""

LINGER_S: Final = 0.5
"""Seconds that an iterable which is in the middle of its next item has, when its items are no longer wanted."""


async def feed(end: SourceEnd, items: Iterable[Any] | AsyncIterable[Any]) -> BaseException | None:
    """Sends all items to a source, then closes it. Ends quietly when nobody reads them.

    Returns:
        What the iterable raised, whatever it is; None when it has ended. Raised, a cancellation of its own would be
        taken for that of the task, and `KeyboardInterrupt` would end the loop before the run.

    Cancelled: the source is closed. A thread in which an iterable blocks ends when that returns.
    """
    send = end.send
    try:
        if isinstance(items, AsyncIterable):
            async for item in items:
                await send(item)
        elif type(items) in _IN_MEMORY:
            for item in items:
                await send(item)
        else:
            raised = await _from_a_thread(end, items)
            if isinstance(raised, ChannelClosed):
                raise raised
            return raised
    except ChannelClosed as error:
        return None if end.over else error  # the latter is the iterable's own
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error
    except BaseException as error:
        return error
    finally:
        end.close()
    return None


async def _from_a_thread(end: SourceEnd, items: Iterable[Any]) -> BaseException | None:
    """As `feed`, from a thread. Raises what sending raises."""
    loop = asyncio.get_running_loop()
    handover = Handover(lambda: None)
    finished = asyncio.Event()
    raised: list[BaseException] = []

    def each() -> Generator[Any, None, None]:
        # What `yield` raises is about this generator, which is closed when nobody takes more; what the iterable raises
        # is about the run, also when that is `GeneratorExit`. A generator that is the caller's is not closed.
        try:
            given = iter(items)
        except BaseException as error:
            raised.append(error)
            return
        while True:
            try:
                item = next(given)
            except StopIteration:
                return
            except BaseException as error:
                raised.append(error)
                return
            yield item

    def work() -> None:
        try:
            with suppress(Stopped):
                handover.fill(each)
        finally:
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(finished.set)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name=f"cascata-{end.node.name}", daemon=True)
    thread.start()
    try:
        while values := await handover.take():
            for value in values:
                await end.send(value)
    finally:
        handover.abandon()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await finished.wait()
        if finished.is_set():
            thread.join()
        else:
            log.warning("what feeds %r blocks: its thread ends when its next item comes", end.node.name)
    return raised[0] if raised else None
