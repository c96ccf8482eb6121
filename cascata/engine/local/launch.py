"""Starts worker processes that never run the user's script.

`multiprocess` prepares a child by importing the parent's `__main__` again under another name. Here
the preparation leaves it out, whatever the start method. No resource tracker is started, which would outlive the run: a
worker that needs one starts its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from multiprocess import (
    context,
    popen_fork,
    popen_forkserver,
    reduction,
    util,
)

from . import forkserver
from .spawning import SpawnWorker, prepared, write_to

__all__ = ["ControlEnd", "worker_process"]


class _ForkServerPopen(popen_forkserver.Popen):  # type: ignore[misc]  # multiprocess carries no types
    def _launch(self, process_obj: Any) -> None:
        data = prepared(self, process_obj)
        self.sentinel, writing, self.pid = forkserver.request(self._fds)
        # The child takes the end of this pipe for the end of its parent: it stays open as long as this object.
        self.finalizer = util.Finalize(self, util.close_fds, (writing, self.sentinel))
        write_to(writing, data)


class _ForkServerWorker(context.ForkServerProcess):  # type: ignore[misc]
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  # the name that multiprocess calls
        return _ForkServerPopen(process_obj)


class _ForkWorker(context.ForkProcess):  # type: ignore[misc]
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return popen_fork.Popen(process_obj)


_CLASSES: Final = {"forkserver": _ForkServerWorker, "spawn": SpawnWorker, "fork": _ForkWorker}


def worker_process(method: str, index: int, target: Callable[..., None], args: tuple[Any, ...]) -> Any:
    """A process object, not started, of the given start method. May have children of its own (it is no daemon)."""
    return _CLASSES[method](target=target, args=args, name=f"cascata-worker-{index}")


class ControlEnd:
    """An fd among the arguments of a process that forkserver or spawn starts."""

    def __init__(self, fd: int) -> None:
        self._fd: Any = fd

    def __getstate__(self) -> Any:
        return reduction.DupFd(self._fd)

    def __setstate__(self, state: Any) -> None:
        self._fd = state

    def detach(self) -> int:
        """The fd, in the process that it was sent to."""
        fd: int = self._fd.detach()
        return fd
