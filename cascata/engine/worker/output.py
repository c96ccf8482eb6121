"""What a worker elsewhere prints goes to the program that runs the graph: whole lines, in order among its log records.

Ray would show it as well, but merges equal lines, and loses the last ones when a cluster is stopped.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, Final

__all__ = ["PrintedStream"]

_MOST: Final = 8192
"""Characters without a line's end that are kept back."""


class PrintedStream(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr`.

    Args:
        before: what it stands in for; whoever asks for a file descriptor gets that of this.
        send: is handed whole lines, from any thread.
    """

    def __init__(self, before: Any, send: Callable[[str], None]) -> None:
        self._before = before
        self._send = send
        self._line = ""
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        return "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._before.fileno())

    def write(self, text: str) -> int:
        with self._lock:
            self._line += text
            whole = self._line.rfind("\n") + 1 or (len(self._line) if len(self._line) > _MOST else 0)
            if whole:
                self._send(self._line[:whole])
                self._line = self._line[whole:]
        return len(text)

    def flush(self) -> None:
        with self._lock:
            if self._line:
                self._send(self._line)
                self._line = ""
