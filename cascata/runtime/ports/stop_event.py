"""What a component that declares `stopping: Stopping` gets: an event that a stop of the run sets.

In the loop its `wait` is awaited, in a thread it blocks; there a cancellation of the run ends it, as it ends a `send`.
"""

from __future__ import annotations

import asyncio

from ..threads import CallThread
from .outport import Stopped

__all__ = ["BlockingStopEvent", "StopEvent"]


class StopEvent:
    """The event of one node, as a runner in the loop sees it."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Waits until the run is to end, or some seconds (None: as long as it takes); whether it is to end."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            pass
        return self._event.is_set()

    def set(self) -> None:
        """In the loop: the run is to end."""
        self._event.set()

    def blocking(self, thread: CallThread) -> BlockingStopEvent:
        """The same for a runner in a thread."""
        return BlockingStopEvent(self, thread)

    def __repr__(self) -> str:
        return f"<stopping: {self.is_set()}>"


class BlockingStopEvent:
    """The event of one node, as a runner in a thread sees it.

    Args:
        event: of the node.
        thread: that the runner is called in.
    """

    __slots__ = ("_event", "_thread")

    def __init__(self, event: StopEvent, thread: CallThread) -> None:
        self._event = event
        self._thread = thread

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until the run is to end, or some seconds (None: as long as it takes); whether it is to end.

        Raises:
            CancelledError: the run is ending; let it pass.
        """
        if self._thread.aborted.is_set():
            raise Stopped("the run is ending")
        return bool(self._thread.await_in_loop(self._event.wait(timeout)))

    def __repr__(self) -> str:
        return repr(self._event)
