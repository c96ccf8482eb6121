"""What a part of a run, in a worker's process or in the caller's loop, says to whoever watches over the run.

Each is a message; `ProcessRun` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import ComponentError
from ...runtime.idle import IdleReport, Rest

__all__ = ["Reporter"]


class Reporter:
    """Implements `runtime.worker.Events`.

    Args:
        send: hands a message on, from any thread.

    Attributes:
        count: sends what was counted so far, where that is not seen anyhow.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self.send = send
        self.count: Callable[[], None] = lambda: None

    def failed(self, error: BaseException) -> None:
        self.send("failed", error)

    def overdue(self, error: ComponentError) -> None:
        self.send("overdue", error)

    def writers_done(self, edges: Sequence[int]) -> None:
        self.count()  # who has said that it has ended may die without another word
        self.send("writers_done", tuple(edges))

    def reader_done(self, channel: int) -> None:
        self.count()
        self.send("reader_done", channel)

    def cycle_rests(self, cycle: int, rest: Rest) -> None:
        self.send("cycle_rests", cycle, rest)

    def cycle_unread(self, cycle: int) -> None:
        self.send("cycle_unread", cycle)

    def returned(self, balance: Mapping[int, int]) -> None:
        self.send("returned", balance)

    def call_failed(self, tags: Sequence[int], error: BaseException) -> None:
        self.send("call_failed", tags, error)

    def sources_ended(self) -> None:
        self.send("sources_ended")

    def idle(self, report: IdleReport) -> None:
        self.send("idle", report)

    def log(self, record: dict[str, Any]) -> None:
        self.send("log", record)
