"""SIGTERM to a worker process: alone, or with the whole program.

systemd, `timeout` and `kill -- -PGID` send it to all processes of a program, in any order. The program drains then, and
its workers must live. So a worker waits a moment for its parent's word:

    SIGTERM ──> handler: stands still ──┬── drain, cancel, stay ──> goes on, whatever signals follow
                                        ├── the parent is gone ───> is killed, as always
                                        └── WORD_S pass ──────────> dies of it: somebody has ended this worker alone

`stay` is the word of a program that has a handler of its own: that decides.

A process that begins cannot hear the parent yet. Until it sets this handler SIGTERM is blocked in it (`held_back`), and
until it reads commands the handler only notes it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from ..forked_sigterm import not_inherited

__all__ = ["WORD_S", "ParentsWord", "held_back"]

WORD_S: Final = 0.75
"""Seconds that the parent has. Its main thread must come to run a line of Python, and its run to send a command."""

LOADS_S: Final = 2.0
"""Seconds that a worker which loads its definitions, and cannot hear its parent yet, goes on with that."""


@contextmanager
def held_back() -> Iterator[None]:
    """What this thread starts inside begins with SIGTERM blocked: it must not die of it before it can wait for a word.

    A worker unblocks it when it has set its handler (`life.begin`).
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:  # the call that blocks may raise what a handler raises, and have blocked
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ParentsWord:
    """What this worker has heard from its parent of an end. Made in the main thread; handles SIGTERM from then on."""

    def __init__(self) -> None:
        self._heard = threading.Event()
        self._listening = False  # whether a thread reads what the parent says
        self._came = 0.0  # when a signal came before that; by `time.monotonic`
        self._standing = False  # whether the handler stands still; the event's lock is not one for two of it
        self.ask: Callable[[], None] | None = None
        """Tells the parent of the signal; in a thread of its own."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        not_inherited(self._on_sigterm)

    def heard(self) -> None:
        """The parent has said what is to become of this worker: to drain, to be cancelled, or to stay."""
        self._heard.set()

    def listens(self) -> None:
        """A thread hands in what the parent says from now on. Called in the main thread."""
        self._listening = True
        if self._came:
            self._wait_for_it()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:  # as `signal` calls it
        if self._listening:
            self._wait_for_it()
        elif not self._came:
            self._came = time.monotonic()
            again = threading.Timer(LOADS_S, os.kill, (os.getpid(), signal.SIGTERM))
            again.daemon = True
            with suppress(RuntimeError):  # there is no thread to be had: it is heard when this worker listens
                again.start()
        elif time.monotonic() - self._came >= LOADS_S:
            _die()

    def _wait_for_it(self) -> None:
        if self._standing:
            return  # one more signal
        self._standing = True
        if not self._heard.is_set() and self.ask is not None:
            with suppress(RuntimeError):  # there is no thread to be had: the parent may know by itself
                threading.Thread(target=self.ask, name="cascata-sigterm", daemon=True).start()
        # It stands still: the nodes on it must not go on, and end, as if nothing had happened.
        if not self._heard.wait(WORD_S):
            _die()
        self._standing = False


def _die() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
