"""Ctrl-C while a program starts a run, or waits for it: it is always heard, and ends the run in order.

Python runs the handlers of signals in the main thread, between two lines of it. Two things go wrong there. Its own
handler of Ctrl-C raises an exception at whatever line that is: inside a callback of a weak reference (an import ends
with one) Python prints it and goes on. And a signal that comes after the last line before a wait for a lock, and before
the thread sleeps there, only leaves a note that nobody reads until something else ends the wait. So here the handler
only notes, and who waits looks now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

from .errors import CascataError, in_words

if TYPE_CHECKING:
    from asyncio import Runner
    from queue import SimpleQueue
    from threading import Thread
    from types import FrameType

__all__ = ["HEARD_S", "Interrupts", "begin", "could_not_begin", "join", "own_loop", "take", "until"]

HEARD_S: Final = 0.25
"""Who waits lets signals be heard so often."""

T = TypeVar("T")


class Interruptible(Protocol):
    """What Ctrl-C ends. Both return at once, and may be called whenever."""

    def cancel(self) -> None:
        """In order."""

    def kill(self) -> None:
        """At once."""


class Interrupts:
    """Inside the block, Ctrl-C is noted: the first one cancels a run in order, a second one kills it.

    Before there is a run, a second one interrupts what prepares it.

    It stands in for the handler that raises `KeyboardInterrupt`, and for that of `asyncio.run`, which would cancel a
    task that waits in this very call. A handler that the program has set is left alone, and so are threads that are
    not the main one: they hear nothing.

    Leaving the block raises `KeyboardInterrupt` when Ctrl-C was pressed inside.
    """

    def __init__(self, run: Interruptible | None = None) -> None:
        self._run = run
        self._before: Any = None
        self.times: int = 0

    def __enter__(self) -> Self:
        import signal  # here: a program that only defines components need not load it

        handler = signal.getsignal(signal.SIGINT)
        of_asyncio = getattr(getattr(handler, "func", None), "__name__", "") == "_on_sigint"
        if handler is signal.default_int_handler or of_asyncio:
            with suppress(ValueError):  # this is not the main thread
                self._before = signal.signal(signal.SIGINT, self._on_ctrl_c)
        return self

    def _on_ctrl_c(self, number: int, frame: FrameType | None) -> None:  # as `signal` calls it
        self.times += 1
        if self._run is None:
            if self.times > 1:
                raise KeyboardInterrupt  # what prepares the run does not come to its end
            return
        if self.times == 1:
            self._run.cancel()
        else:
            self._run.kill()

    def end(self, run: Interruptible) -> None:
        """What Ctrl-C ends from now on. It may have been pressed already."""
        self._run = run
        if self.times:
            run.cancel()

    def give_back(self) -> None:
        """From now on Ctrl-C is the program's again.

        Raises:
            KeyboardInterrupt: it was pressed until now.
        """
        if self._before is not None:
            import signal

            signal.signal(signal.SIGINT, self._before)
            self._before = None
        if self.times:
            self.times = 0
            raise KeyboardInterrupt from None  # it ends processes that begin just now as well: their deaths are no news

    def __exit__(self, *_: object) -> None:
        self.give_back()


def until(wait: Callable[[float], object]) -> None:
    """Calls `wait` with a time limit until it returns something true."""
    while not wait(HEARD_S):
        pass


def take(queue: SimpleQueue[T]) -> T:
    """The next item of a queue."""
    from queue import Empty

    while True:
        try:
            return queue.get(timeout=HEARD_S)
        except Empty:
            pass


def could_not_begin(problem: BaseException) -> CascataError:
    """The error for a run that lacks something of the system."""
    error = CascataError(
        f"the run could not begin: {in_words(problem)}. The system may be short of open files (`ulimit -n`), of "
        f"processes (`ulimit -u`, or TasksMax of a service) or of memory; fewer workers (num_workers=) and fewer edges "
        f"between them need less"
    )
    error.__cause__ = problem
    return error


def begin(thread: Thread) -> None:
    """Starts a thread.

    Raises:
        CascataError: the system has none more.
    """
    try:
        thread.start()
    except RuntimeError as problem:
        raise could_not_begin(problem) from problem


@contextmanager
def own_loop() -> Iterator[Runner]:
    """What runs a coroutine in an event loop of its own, for the time of the block.

    Raises:
        CascataError: the system has not what a loop needs.
    """
    from asyncio import Runner  # a program that only defines components need not load it

    runner = Runner()
    try:
        runner.get_loop()
    except OSError as problem:
        raise could_not_begin(problem) from problem
    with runner:
        yield runner


def join(thread: Thread) -> None:
    """Waits for the end of a thread."""
    while thread.is_alive():
        thread.join(HEARD_S)
