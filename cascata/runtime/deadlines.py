"""Finds calls that go on although their time is over: they suppress their cancellation, or block.

    begin ──> [ calls under way ] <── `_watch`, in a thread of its own ── overdue: tell ──> supervisor
    end  ───┘

The event loop cancels a call when its `timeout` has passed. A call that blocks the loop, or its thread, or that
suppresses its cancellation would be waited for, for ever. The thread here needs neither of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final, Protocol

from ..errors import ComponentError
from ..observe import stacks
from ..records import dataclass

__all__ = ["Deadlines"]

LOOK_S: Final = 0.1
"""Seconds between two looks of the thread."""

_FRAMES: Final = 4
"""Frames of each thread that are shown, the innermost ones."""


class Caller(Protocol):
    """The node whose call it is."""

    @property
    def name(self) -> str: ...

    def failure(self, error: BaseException, items: Mapping[str, Any] | None) -> ComponentError:
        """Its error for one that its code raised, with the items in hand."""


@dataclass(slots=True, eq=False)
class Call:
    """A call under way that has a timeout.

    Attributes:
        node: whose call it is.
        timeout: seconds that it may take.
        ports: the in-ports of its items.
        items: those.
        until: when it is overdue, by `monotonic`: `timeout` and the grace have passed.
    """

    node: Caller
    timeout: float
    ports: Sequence[str]
    items: Sequence[Any]
    until: float


class Deadlines:
    """The calls of a worker that have a timeout. Its thread starts with the first of them.

    Args:
        grace: seconds that a call has to stop after its timeout.
        tell: called, in that thread, with the error of the first call that did not. Then the thread ends.
    """

    def __init__(self, grace: float, tell: Callable[[ComponentError], None]) -> None:
        self._grace = grace
        self._tell = tell
        self._calls: set[Call] = set()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = threading.get_ident()

    def begin(self, node: Caller, timeout: float, ports: Sequence[str], items: Sequence[Any]) -> Call:
        """A call begins; `end` takes what this returns."""
        call = Call(node, timeout, ports, items, monotonic() + timeout + self._grace)
        self._calls.add(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="cascata-deadlines", daemon=True)
            self._thread.start()
        return call

    def end(self, call: Call) -> None:
        """A call has ended, in whatever way."""
        self._calls.discard(call)

    def close(self) -> None:
        """Ends the thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            now = monotonic()
            for call in self._calls.copy():  # one operation, which no other thread can come into
                if call.until < now:
                    self._tell(self._error(call))
                    return

    def _error(self, call: Call) -> ComponentError:
        node = call.node
        late = TimeoutError(f"the call took longer than the component's timeout of {call.timeout:g} s")
        error = node.failure(late, dict(zip(call.ports, call.items, strict=False)))
        text = (
            f"{error}. It did not stop within {self._grace:g} s either: it blocks, or suppresses its cancellation. "
            f"Its worker was at\n{self._stacks(node.name)}"
        )
        error.args = (text,)
        return error

    def _stacks(self, node: str) -> str:
        """Where the loop is, and the threads of the node."""
        names = {self._loop_thread: "the event loop"} | {
            thread.ident: f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread.ident is not None and thread.name.rpartition("-")[0] == node
        }
        frames = stacks.threads()
        return "".join(
            f"{name}:\n{''.join(stacks.summary(frames[ident]).format()[-_FRAMES:])}"
            for ident, name in names.items()
            if ident in frames
        )
