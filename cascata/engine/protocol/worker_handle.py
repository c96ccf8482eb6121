"""The parent's side of one worker process: its control connection, and the messages that go over it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

from ...transport.shared import after_fork
from .messages import ToWorker, write

__all__ = ["WorkerHandle"]


class WorkerHandle:
    """One worker process.

    Args:
        index: of the worker.
        connection: this process's end of the control connection.
        far: the worker's end; closed here when the worker has it. None when somebody else closes it.

    Attributes:
        process: of `multiprocess`, or as one; None before it was started.
        heard: done when the worker has nothing more to say.
    """

    def __init__(self, index: int, connection: Any, far: Any) -> None:
        self.index = index
        self.connection = connection
        self.far: Any = far
        # A process forked from this one must not seem to be the workers' parent.
        after_fork.private(self.connection.fileno())
        self.process: Any = None
        self._early: list[ToWorker] | None = []  # messages from before the worker was set up
        self._order = threading.Lock()
        self.heard: asyncio.Future[None] | None = None

    def send(self, message: ToWorker) -> None:
        """Sends a message, after the set-up; a worker that is gone needs none."""
        with self._order:
            if self._early is not None:
                self._early.append(message)
                return
            with suppress(OSError):
                self.connection.send_bytes(write(message))

    def is_set_up(self) -> None:
        """The worker has been told what comes first: messages may follow."""
        with self._order:
            early, self._early = self._early or [], None
        for message in early:
            self.send(message)

    @property
    def pid(self) -> int:
        """Of the process; 0 while it is not known."""
        return int(self.process.pid or 0) if self.process is not None else 0

    def hush(self) -> None:
        """Ends the connection, so that the thread that listens to it returns."""
        if sys.platform == "win32":
            return  # no child of the worker's holds the pipe: it has ended with the worker
        with suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets go of everything; the process is gone."""
        after_fork.unprivate(self.connection.fileno())
        self.connection.close()
        if self.far is not None:
            self.far.close()
        if self.process is not None:
            try:
                self.process.close()
            except ValueError:  # it is gone, and somebody else has reaped it: nobody knows its exit code
                self.process._popen.returncode = 255
                self.process.close()
