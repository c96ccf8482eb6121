"""SIGTERM to a program that runs graphs: all runs drain, then it ends with 143, in its main thread.

    SIGTERM ──> handler (main thread) ──> every run: stop(within=grace) ──> the last one is over
                   │ again: cancel, then kill                                  │
                   └── SystemExit(143) <── `leave`, where a run is waited for <┤
                   └── SystemExit(143) <── SIGTERM to ourselves, if nobody is <┘

The handler is there while a run goes on that was started in the main thread, unless the program has one of its own.
Python runs it between two lines of the main thread; who waits there looks now and then (`interrupts`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Protocol

from .. import log
from ..interrupts import HEARD_S
from ..observe.report import RunReport
from .forked_sigterm import not_inherited

__all__ = [
    "EXIT_ON_SIGTERM",
    "entered",
    "give_back",
    "handler_of_the_program",
    "install",
    "leave",
    "leave_async",
    "left",
    "over",
    "watch",
]

EXIT_ON_SIGTERM: Final = 128 + signal.SIGTERM

AGAIN_S: Final = 0.5
"""Two signals within this time are one: `timeout` sends one to the program, and one to its group."""


class Run(Protocol):
    """What is told. All return at once, and may be called from any thread."""

    patience: float
    """Seconds that the program has, when this was the last run, to come to its own end."""

    def stop(self, within: float | None = None) -> None: ...

    def cancel(self) -> None: ...

    def kill(self) -> None: ...


class _Sigterm:
    """What is known of it in this process."""

    def __init__(self) -> None:
        self.runs: set[Run] = set()
        self.came: float | None = None
        """When it came, until the program has been told."""
        self.times = 0
        self.kicked = False
        """Whether the next signal is our own."""
        self.blocks: dict[object, tuple[asyncio.Task[object] | None, asyncio.Future[RunReport]]] = {}
        """The open runs whose blocks have been entered and not left, each with the task that did, and its end."""
        self.pid = os.getpid()

    def after_fork(self) -> None:
        """Neither the runs of the parent nor a signal that came to it are matters of a forked child."""
        self.__init__()  # type: ignore[misc]  # as new

    def handle(self, number: int, frame: FrameType | None) -> None:  # as `signal` calls it
        if self.pid != os.getpid():  # a forked process: what runs is not its own
            _default_action()
            return
        if self.kicked:
            self.kicked = False
            if self.came is not None and not self.runs:
                self.exit()
            return
        now = time.monotonic()
        if self.came is None:
            if not self.runs:
                _default_action()
                return
            self.came, self.times = now, 1
        elif now - self.came < AGAIN_S:
            return
        else:
            self.times += 1
        for run in list(self.runs):
            if self.times == 1:
                run.stop()
            elif self.times == 2:
                run.cancel()
            else:
                run.kill()
        if self.times > 3 or (self.times > 1 and not self.runs):
            self.exit()

    def exit(self) -> None:
        self.came = None
        uninstall()
        raise SystemExit(EXIT_ON_SIGTERM)

    def kick(self) -> None:
        """Nobody waits for a run any more: has the main thread end the program, whatever it does."""
        if self.came is None or self.runs:
            return
        if is_ours():
            self.kicked = True
            os.kill(os.getpid(), signal.SIGTERM)
        else:  # the program has set a handler meanwhile: it is its own matter
            self.came = None


_sigterm: Final = _Sigterm()
not_inherited(_sigterm.handle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sigterm.after_fork)


def _default_action() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def is_ours() -> bool:
    """Whether the handler is this one. May be asked in any thread."""
    return signal.getsignal(signal.SIGTERM) == _sigterm.handle


def install() -> None:
    """A run is to begin: from now on SIGTERM is handled, if this is the main thread and the program does not do so."""
    if _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with suppress(ValueError):  # the main thread of another interpreter than the main one
            _sigterm.pid = os.getpid()
            signal.signal(signal.SIGTERM, _sigterm.handle)


def uninstall() -> None:
    """Does SIGTERM what it did before, if this is the main thread."""
    if _in_main_thread() and is_ours():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def watch(run: Run) -> None:
    """A run begins, in whatever thread."""
    install()
    _sigterm.runs.add(run)
    if _sigterm.came is not None:
        run.stop()


def over(run: Run, ended: Future[RunReport] | asyncio.Future[RunReport]) -> None:
    """A run is over; in any thread. After a SIGTERM its report is logged, or its failure."""
    if run not in _sigterm.runs:
        return
    _sigterm.runs.discard(run)
    if _sigterm.came is None:
        return
    if not ended.cancelled():
        error = ended.exception()
        if error is None:
            log.info("SIGTERM: the run was stopped\n%s", ended.result())
        elif not isinstance(error, asyncio.CancelledError):
            log.error("SIGTERM: the run was stopped, and failed: %s", error)
    if not _sigterm.runs:
        if run.patience:
            timer = threading.Timer(run.patience, _sigterm.kick)
            timer.daemon = True
            timer.start()
        else:
            _sigterm.kick()


def entered(block: object, ended: asyncio.Future[RunReport]) -> None:
    """The current task has entered the block of an open run, whose end is `ended`."""
    _sigterm.blocks[block] = asyncio.current_task(), ended


def left(block: object) -> None:
    """The block has been left."""
    _sigterm.blocks.pop(block, None)


def give_back() -> None:
    """As `leave`, where nothing can be raised: if SIGTERM came, the main thread is told a little later."""
    if _sigterm.came is None and not _sigterm.runs:
        uninstall()


def leave() -> None:
    """A run is over that the caller has waited for. After a SIGTERM: waits for all others, and ends the program.

    In a running loop it does not wait: runs may need that loop to come to their end. They are cancelled with it.

    Raises:
        SystemExit: SIGTERM came.
    """
    if not _in_main_thread():
        return
    while _sigterm.came is not None and _sigterm.runs and asyncio._get_running_loop() is None:
        time.sleep(HEARD_S / 10)
    _told()


async def leave_async() -> None:
    """As `leave`, in a running loop. It ends by the exception, and its tasks are cancelled, this one as well.

    Raised in a task, `SystemExit` would be that of this task alone to those who wait for it.

    A task that is in a block of an open run which goes on still has to read what that gives: the end of the block comes
    here again.
    """
    now = asyncio.current_task()
    if not _in_main_thread() or any(task is now and not ended.done() for task, ended in _sigterm.blocks.values()):
        return
    while _sigterm.came is not None and _sigterm.runs:  # noqa: ASYNC110  # they end in threads of their own
        await asyncio.sleep(HEARD_S / 10)
    if _sigterm.came is None:
        _told()
        return
    loop = asyncio.get_running_loop()
    loop.call_soon(_told)
    await loop.create_future()  # for the end of the loop


def _told() -> None:
    if _sigterm.came is not None:
        _sigterm.exit()
    elif not _sigterm.runs:
        uninstall()


def handler_of_the_program() -> Any:
    """What the program does about SIGTERM by itself; None where it leaves that to us."""
    handler = signal.getsignal(signal.SIGTERM)
    return None if handler is signal.SIG_DFL or is_ours() else handler
