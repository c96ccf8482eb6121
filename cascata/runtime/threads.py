"""Runners that block, in threads of their own: `@component(thread=True)`.

loop: await CallThread.run(call) ──> thread: runner ──> port.send(x) ──> loop: the real send ──> back to the thread
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any

from .outport import Stopped

__all__ = ["BlockingPort", "CallThread"]


class CallThread:
    """A daemon thread that makes one call at a time. A blocked call must not keep the program from ending."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self.aborted = threading.Event()
        """Set when the node is cancelled: the next `send` in the thread raises."""
        self._loop = asyncio.get_running_loop()
        self._awaited: Future[Any] | None = None

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            call, future = given
            try:
                value = call()
            except BaseException as error:  # goes to who waits, whatever it is
                future.set_exception(error)
            else:
                future.set_result(value)

    async def run(self, call: Callable[[], Any]) -> Any:
        """Makes a call in the thread and waits for it.

        Cancelled: its next `send` raises, and it is waited for: its state must not be torn down under it.
        """
        future: Future[Any] = Future()
        self.aborted.clear()
        context = contextvars.copy_context()  # log records made there belong to the same node
        self._calls.put((lambda: context.run(call), future))
        waiting = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if waiting.done():
                raise
            self.aborted.set()
            if self._awaited is not None:
                self._awaited.cancel()
            await asyncio.wait([waiting])
            waiting.exception()
            raise

    def await_in_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """In the thread: waits for a coroutine that runs in the loop.

        Raises:
            CancelledError: the call was cancelled meanwhile.
            BaseException: what the coroutine raises.
        """
        self._awaited = awaited = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if self.aborted.is_set():
            awaited.cancel()
        try:
            return awaited.result()
        except CancelledError:
            raise Stopped("the run is ending") from None
        finally:
            self._awaited = None

    async def close(self) -> None:
        """Ends the thread, which makes no call now."""
        self._calls.put(None)
        self._thread.join()


class BlockingPort:
    """An out-port as a threaded runner sees it: `send` blocks until there is room."""

    def __init__(self, name: str, send: Callable[[Any], Any], thread: CallThread) -> None:
        self.name = name
        self._send = send
        self._thread = thread
        self._loop = asyncio.get_running_loop()

    def send(self, item: Any) -> None:
        """Sends an item; waits while a connected in-port has no room.

        Raises:
            CancelledError: nobody reads any more, or the run is ending; let it pass.
        """
        if self._thread.aborted.is_set():
            raise Stopped(f"out-port {self.name}: the run is ending")
        refused = asyncio.run_coroutine_threadsafe(self._sent(item), self._loop).result()
        if refused is not None:
            raise refused

    async def _sent(self, item: Any) -> BaseException | None:
        try:
            await self._send(item)
        except asyncio.CancelledError as error:  # returned: a future would turn it into a cancellation of its own
            return error
        return None

    def __repr__(self) -> str:
        return f"<out-port {self.name}, blocking>"
