"""SIGTERM to a worker process: alone, or with the whole program.

systemd, `timeout` and `kill -- -PGID` send it to all processes of a program, in any order. The program drains then, and
its workers must live. So a worker waits a moment for its parent's word:

    SIGTERM ──> handler: stands still ──┬── drain, cancel, stay ──> goes on, whatever signals follow
                                        ├── the parent is gone ───> is killed, as always
                                        └── WORD_S pass ──────────> dies of it: somebody has ended this worker alone

`stay` is the word of a program that has a handler of its own: that decides.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

__all__ = ["WORD_S", "ParentsWord"]

WORD_S: Final = 0.75
"""Seconds that the parent has. Its main thread must come to run a line of Python, and its run to send a command."""


class ParentsWord:
    """What this worker has heard from its parent of an end. Made in the main thread; handles SIGTERM from then on."""

    def __init__(self) -> None:
        self._heard = threading.Event()
        self.ask: Callable[[], None] | None = None
        """Tells the parent of the signal; in a thread of its own."""
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def heard(self, command: bytes) -> bool:
        """Notes a command of the parent. Returns whether that was all that it is for."""
        if command in (b"drain", b"cancel", b"stay"):
            self._heard.set()
        return command == b"stay"

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:  # as `signal` calls it
        if not self._heard.is_set() and self.ask is not None:
            threading.Thread(target=self.ask, name="cascata-sigterm", daemon=True).start()
        # It stands still: the nodes on it must not go on, and end, as if nothing had happened.
        if not self._heard.wait(WORD_S):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
