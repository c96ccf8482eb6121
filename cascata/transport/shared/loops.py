"""The loop of an end, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["InLoop"]


class InLoop:
    """Has things done in the loop of an end, from any thread."""

    __slots__ = ("_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def __call__(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and the end with it
            if threading.get_ident() == self._thread:
                self._loop.call_soon(callback)
            else:
                self._loop.call_soon_threadsafe(callback)
