"""Starts worker processes that never run the user's script.

`multiprocess` prepares a child by importing the parent's `__main__` again under another name. Here
the preparation leaves it out, whatever the start method. No resource tracker is started, which would outlive the run: a
worker that needs one starts its own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from multiprocess import (
    context,
    forkserver,
    popen_fork,
    popen_forkserver,
    popen_spawn_posix,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocess import process as base_process

from . import server
from .boot import default_start_method

__all__ = ["ControlEnd", "authkeys", "default_start_method", "worker_process"]


def _prepared(popen: Any, process: Any) -> memoryview:
    """What the child reads first: how to prepare itself, without `__main__`, and its process object."""
    preparation = spawn.get_preparation_data(process._name)
    preparation.pop("init_main_from_name", None)
    preparation.pop("init_main_from_path", None)
    buffer = io.BytesIO()
    context.set_spawning_popen(popen)
    try:
        reduction.dump(preparation, buffer)
        reduction.dump(process, buffer)
    finally:
        context.set_spawning_popen(None)
    return buffer.getbuffer()


def _write(fd: int, data: memoryview) -> None:
    with (
        suppress(BrokenPipeError),
        open(fd, "wb", closefd=False) as file,
    ):  # a child that is gone tells by its exit  # an fd
        file.write(data)


class _ForkServerPopen(popen_forkserver.Popen):  # type: ignore[misc]  # multiprocess carries no types
    def _launch(self, process_obj: Any) -> None:
        data = _prepared(self, process_obj)
        self.sentinel, writing = server.request(self._fds)
        # The child takes the end of this pipe for the end of its parent: it stays open as long as this object.
        self.finalizer = util.Finalize(self, util.close_fds, (writing, self.sentinel))
        _write(writing, data)
        self.pid = forkserver.read_signed(self.sentinel)


class _SpawnPopen(popen_spawn_posix.Popen):  # type: ignore[misc]
    def _launch(self, process_obj: Any) -> None:
        data = _prepared(self, process_obj)
        sentinel, child_writing = os.pipe()
        child_reading, writing = os.pipe()
        self.sentinel = sentinel
        self.finalizer = util.Finalize(self, util.close_fds, (writing, sentinel))
        try:
            command = spawn.get_command_line(tracker_fd=None, pipe_handle=child_reading)
            self._fds.extend([child_reading, child_writing])
            self.pid = util.spawnv_passfds(spawn.get_executable(), command, self._fds)
        finally:
            os.close(child_reading)
            os.close(child_writing)
        _write(writing, data)


class _ForkServerWorker(context.ForkServerProcess):  # type: ignore[misc]
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  # the name that multiprocess calls
        return _ForkServerPopen(process_obj)


class _SpawnWorker(context.SpawnProcess):  # type: ignore[misc]
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _SpawnPopen(process_obj)


class _ForkWorker(context.ForkProcess):  # type: ignore[misc]
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return popen_fork.Popen(process_obj)


_CLASSES: Final = {"forkserver": _ForkServerWorker, "spawn": _SpawnWorker, "fork": _ForkWorker}


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


def authkeys() -> dict[str, bytes]:
    """Package -> the key that this process's managers were started with; proxies need it in workers."""
    import multiprocessing

    keys = {"multiprocess": bytes(base_process.current_process().authkey)}
    keys["multiprocessing"] = bytes(multiprocessing.current_process().authkey)
    return keys


def has_tracker() -> bool:
    """Whether this program runs a resource tracker of `multiprocess`, which workers then share."""
    return resource_tracker._resource_tracker._fd is not None
