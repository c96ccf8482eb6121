"""SIGTERM to a process that this one has forked: it ends it at once, as it would without cascata.

A handler in Python is not enough there: a child that waits for a lock of `multiprocessing` just when the signal comes
would not be woken, and `Pool.terminate` would wait for it for ever. So a child has the system's default again, and
begins with the signal blocked: one that comes before that is heard, too.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, Final

__all__ = ["not_inherited"]

_ours: Final[list[Any]] = []
_before = threading.local()  # what was blocked in the thread that forks


def not_inherited(handler: Any) -> None:
    """While this is what handles SIGTERM, processes that are forked begin with the default for it."""
    if handler not in _ours:
        _ours.append(handler)


def _block() -> None:
    _before.mask = None
    if signal.getsignal(signal.SIGTERM) in _ours:
        _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


def _unblock() -> None:
    if _before.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _before.mask)


def _in_child() -> None:
    if _before.mask is not None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _unblock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_block, after_in_child=_in_child, after_in_parent=_unblock)
