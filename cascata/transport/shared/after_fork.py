"""What a process that was forked from this one must not keep.

A forked child inherits every fd. Some of them say "this process lives" by being open (the kernel closes them when it
dies), and must not be kept open by a child; some objects have to be made anew in it.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Final, Protocol

__all__ = ["Inherited", "private", "renew", "unprivate"]


class Inherited(Protocol):
    """An object that has to be made fit for use in a forked child."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there."""


_private: Final[set[int]] = set()
_inherited: Final[weakref.WeakSet[Inherited]] = weakref.WeakSet()


def private(*fds: int) -> None:
    """These fds are closed in every process that is forked from now on."""
    _private.update(fds)


def unprivate(*fds: int) -> None:
    """Ends `private`: call it before the fds are closed here."""
    _private.difference_update(fds)


def renew(thing: Inherited) -> None:
    """Calls `thing.after_fork()` in every process that is forked while `thing` lives."""
    _inherited.add(thing)


def _in_child() -> None:
    for fd in _private:
        with suppress(OSError):
            os.close(fd)
    _private.clear()
    for thing in list(_inherited):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
