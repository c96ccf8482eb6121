"""Calls of stations in this process: what Ray's are to actors."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final

from cascata.transport.tcp.ray_calls import UnsureError
from cascata.transport.tcp.station import Station
from cascata.transport.tcp.stream_frames import Chunk

__all__ = ["Calls", "fetch_all"]

LATE_S: Final = 0.0005
"""Seconds that a call takes, at most: it may be overtaken meanwhile."""

FETCHERS: Final = 2


class Calls:
    """How one station calls another one. Implements `transport.calls.Reach`.

    Args:
        me: the worker that calls.
        there: the station that is called.
        forgetful: whether every third answer gets lost, of calls that came and of calls that did not.

    Attributes:
        made: calls with frames so far.
        asked: set when it was asked whether the other one is open.
        came: set when a call with frames has come.
        blocked: when not set, a call does not even begin.
        gone: why every further call fails.
    """

    def __init__(self, me: int, there: Station, *, forgetful: bool = False) -> None:
        self.made = 0
        self.asked = threading.Event()
        self.came = threading.Event()
        self.blocked = threading.Event()
        self.blocked.set()
        self.gone: Exception | None = None
        self._me = me
        self._there = there
        self._forgetful = forgetful
        self._random = random.Random(me)

    def frames(self, number: int, pieces: Sequence[Chunk]) -> Future[None]:
        self.blocked.wait()
        self.made += 1
        lost = self._forgetful and self.made % 3 == 0
        comes = not lost or self.made % 2 == 0

        def call() -> None:
            if comes:
                self._there.called(self._me, number, pieces)
                self.came.set()
            if lost:
                raise UnsureError

        return self._answer(call)

    def is_open(self) -> Future[bool]:
        self.asked.set()
        return self._answer(lambda: self._there.is_open)

    def _answer(self, call: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()  # who does not wait any more cannot cancel it
        late = self._random.random() * LATE_S

        def run() -> None:
            time.sleep(late)
            try:
                if self.gone is not None:
                    raise self.gone
                answer.set_result(call())
            except Exception as problem:  # as Ray's futures do
                answer.set_exception(problem)

        threading.Thread(target=run).start()
        return answer


def fetch_all(here: Station, there: Station) -> None:
    """Has threads fetch what a station sends to another one, which cannot be called, until there is no more."""

    def fetch(who: int) -> None:
        had: int | None = None
        while (loads := there.fetch(here.me, who, had, 0.05)) is not None:
            for number, pieces in loads:
                here.called(there.me, number, pieces)
                had = number

    for who in range(FETCHERS):
        threading.Thread(target=fetch, args=(who,)).start()
