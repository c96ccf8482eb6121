"""Runners that block, in threads of their own: `@component(thread=True)`.

loop: await CallThread.run(call) ──> thread: runner ──> port.send(x) ──> loop: the real send ──> back to the thread
                                             └──> yield x ──> [ a little ahead ] ──> loop: the real send
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import closing, suppress
from time import perf_counter
from typing import Any, Final

from ..channel.change_detector import ChangeDetector
from ..errors import in_words
from .ports.outport import Stopped

__all__ = ["BlockingPort", "CallThread", "Handover"]

AHEAD: Final = 64
"""Values that a threaded runner has yielded and that have not been taken to be sent, at most."""

AHEAD_S: Final = 0.001
"""Fewer, when it takes longer than this to make so many."""


async def _outlast(future: asyncio.Future[Any]) -> None:
    """Waits until a future is done, which cannot be cancelled, however often the waiting task is."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    """In the loop: a call in the thread has ended."""
    if error is None:
        future.set_result(value)
        return
    if isinstance(error, StopIteration):  # which a future refuses, since it would end the coroutine that waits for it
        told = RuntimeError(f"the runner raised {in_words(error)}")
        told.__cause__ = error
        error = told
    future.set_exception(error)


class CallThread:
    """A thread that makes one call at a time. It is a daemon: a blocked call must not keep the program from ending.

    Args:
        name: of the thread.

    Attributes:
        aborted: set when the running call was cancelled: its next `send` in the thread raises.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self.aborted = threading.Event()
        self._awaited: set[Future[Any]] = set()  # what the thread, or one that the call has started, waits for
        self._busy = False  # whether a call is under way

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            call, future = given
            value: Any = None
            error: BaseException | None = None
            try:
                value = call()
            except BaseException as raised:  # whatever it is, `run` raises it
                error = raised
            try:
                self._loop.call_soon_threadsafe(_settle, future, value, error)
            except RuntimeError:  # the loop is closed: the run has left this call behind
                return
            del given, call, future, value, error  # nothing is kept alive until the next call

    async def run(self, call: Callable[[], Any]) -> Any:
        """Makes a call in the thread and waits for it.

        Raises:
            BaseException: what the call raises.

        Cancelled, however often: the next `send` of the call raises, and so does one that waits; the call is waited
        for, since its state must not be undone while it runs.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._busy = True
        future.add_done_callback(self._rest)
        self.aborted.clear()
        context = contextvars.copy_context()  # log records made there belong to the same node
        self._calls.put((lambda: context.run(call), future))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.done():
                raise
            self.aborted.set()
            for awaited in self._awaited.copy():
                awaited.cancel()
            await _outlast(future)
            future.exception()
            raise

    def await_in_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """In the thread: waits for a coroutine that runs in the loop.

        Raises:
            CancelledError: the call was cancelled meanwhile.
            BaseException: what the coroutine raises.
        """
        awaited = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._awaited.add(awaited)
        if self.aborted.is_set():
            awaited.cancel()
        try:
            return awaited.result()
        except CancelledError:
            raise Stopped("the run is ending") from None
        finally:
            self._awaited.discard(awaited)

    async def close(self) -> None:
        """Ends the thread, and waits for its end; unless a call is under way, after which it ends by itself."""
        self._calls.put(None)
        if not self._busy:
            self._thread.join()

    def _rest(self, _: asyncio.Future[Any]) -> None:
        self._busy = False


class Handover:
    """What a threaded runner yields, on its way to the loop, in order.

        thread: fill ── _put ──> [ values, so many at most ] ──> take :loop

    A way there and back for each value would cost 50 µs. The thread may be ahead instead, by as many values as it makes
    in a short time.

    Args:
        rested: called when all that was yielded so far has been sent.
        detector: watches what is yielded, when the run has `debug=True`.
    """

    def __init__(self, rested: Callable[[], None], detector: ChangeDetector | None = None) -> None:
        self._rested = rested
        self._detector = detector
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()  # guards what follows
        self._values: list[Any] = []  # yielded, and not taken
        self._ended = False  # whether the generator has
        self._abandoned = False  # whether nothing more is taken
        self._taker: asyncio.Future[None] | None = None  # where `take` waits

    def fill(self, begin: Callable[[], Generator[Any, Any, Any]]) -> None:
        """In the thread: begins a generator, and hands over what it yields.

        Raises:
            CancelledError: nothing is taken any more.
            BaseException: what the generator raises.
        """
        try:
            with closing(begin()) as values:
                began = perf_counter()
                for value in values:
                    most = min(AHEAD, int(AHEAD_S / (perf_counter() - began + 1e-9)) + 1)
                    self._put(value, most)
                    began = perf_counter()
        finally:
            with self._changed:
                self._ended = True
                self._wake_taker()

    def _put(self, value: Any, most: int) -> None:
        """In the thread: hands a value over; waits while so many are there that were not taken."""
        with self._changed:
            while len(self._values) >= most and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise Stopped("nobody takes what it yields any more")
            self._values.append(value if self._detector is None else self._detector.watch(value))
            self._wake_taker()

    def _wake_taker(self) -> None:
        taker, self._taker = self._taker, None
        if taker is not None:
            self._loop.call_soon_threadsafe(_set, taker)

    async def take(self) -> list[Any]:
        """In the loop: takes what has been yielded, at least one value; none when the generator has ended.

        Cancelled: nothing is taken.
        """
        while True:
            with self._changed:
                values, self._values = self._values, []
                if values or self._ended:
                    self._changed.notify()
                    return values
                taker = self._taker = self._loop.create_future()
            self._rested()
            await taker

    @property
    def sending(self) -> bool:
        """Whether something that was yielded may not have been sent yet."""
        return self._taker is None

    def abandon(self) -> None:
        """In the loop: takes nothing more. The generator is closed where it yields next."""
        with self._changed:
            self._abandoned = True
            self._taker = None
            self._changed.notify()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class BlockingPort:
    """An out-port as a threaded runner sees it: `send` blocks until there is room.

    Args:
        name: of the port, with its node's.
        send: of the out-port in the loop.
        thread: that the runner is called in.
        unwinds: called when a send was refused: the runner is on its way to its end.
    """

    def __init__(
        self, name: str, send: Callable[[Any], Any], thread: CallThread, unwinds: Callable[[], object]
    ) -> None:
        self.name = name
        self._send = send
        self._unwinds = unwinds
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()

    def send(self, item: Any) -> None:
        """Sends an item; waits while a connected in-port has no room.

        Raises:
            CancelledError: nobody reads any more, or the run is ending; let it pass.
            RuntimeError: it was called in the event loop, which would wait for itself.
        """
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError(
                f"out-port {self.name} was given to a runner in a thread, where `send` blocks, and was used in the "
                f"event loop, which must not block: send in the thread"
            )
        if self._thread.aborted.is_set():
            raise Stopped(f"out-port {self.name}: the run is ending")
        refused = self._thread.await_in_loop(self._sent(item))
        if refused is not None:
            raise refused

    async def _sent(self, item: Any) -> BaseException | None:
        try:
            await self._send(item)
        except asyncio.CancelledError as error:  # returned: a future would turn it into a cancellation of its own
            if isinstance(error, Stopped):  # and not the time limit of the call
                self._unwinds()
            return error
        return None

    def __repr__(self) -> str:
        return f"<out-port {self.name}, blocking>"
