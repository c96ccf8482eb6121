"""Starts worker processes by spawn, as every system has it, without ever running the user's script.

`multiprocess` prepares a child by importing the parent's `__main__` again under another name. Here the preparation
leaves it out. No resource tracker is started, which would outlive the run, unless the program uses shared memory: a
worker that needs one starts its own.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from multiprocess import context, reduction, spawn, util

from ..worker.surroundings import trackers

__all__ = ["SpawnWorker", "prepared", "write_to"]

_MAIN: Final = ("init_main_from_name", "init_main_from_path")


def prepared(popen: Any, process: Any) -> memoryview:
    """What the child reads first: how to prepare itself, without `__main__`, and its process object."""
    preparation = spawn.get_preparation_data(process._name)
    for key in _MAIN:
        preparation.pop(key, None)
    buffer = io.BytesIO()
    context.set_spawning_popen(popen)
    try:
        reduction.dump(preparation, buffer)
        reduction.dump(process, buffer)
    finally:
        context.set_spawning_popen(None)
    return buffer.getbuffer()


def write_to(fd: int, data: memoryview) -> None:
    """Writes to a child that has been started, and may not read: what the pipe does not take, a thread writes."""
    os.set_blocking(fd, False)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        pass  # a child that is gone tells by its exit
    except BlockingIOError:
        os.set_blocking(fd, True)
        copy = os.dup(fd)
        try:
            threading.Thread(target=_write_all, args=(copy, data), name="cascata-spawn", daemon=True).start()
        except BaseException:
            os.close(copy)
            raise


def _write_all(fd: int, data: memoryview) -> None:
    """Ends with the child at the latest."""
    with suppress(BrokenPipeError), open(fd, "wb") as file:  # an fd
        file.write(data)


if sys.platform == "win32":
    from multiprocess import popen_spawn_win32

    _patching: Final = threading.Lock()

    @contextmanager
    def _without_main() -> Iterator[None]:
        """What this thread spawns inside is prepared without `__main__`."""
        ours = threading.get_ident()

        def prepare(name: str) -> Any:
            preparation = original(name)
            if threading.get_ident() == ours:
                for key in _MAIN:
                    preparation.pop(key, None)
            return preparation

        with _patching:
            original = spawn.get_preparation_data
            spawn.get_preparation_data = popen_spawn_win32.spawn.get_preparation_data = prepare
            try:
                yield
            finally:
                spawn.get_preparation_data = popen_spawn_win32.spawn.get_preparation_data = original

    class _SpawnPopen(popen_spawn_win32.Popen):  # type: ignore[misc]  # multiprocess carries no types
        def __init__(self, process_obj: Any) -> None:
            with _without_main():
                super().__init__(process_obj)

else:
    from multiprocess import popen_spawn_posix

    class _SpawnPopen(popen_spawn_posix.Popen):  # type: ignore[misc]
        def _launch(self, process_obj: Any) -> None:
            data = prepared(self, process_obj)
            sentinel, child_writing = os.pipe()
            child_reading, writing = os.pipe()
            self.sentinel = sentinel
            self.finalizer = util.Finalize(self, util.close_fds, (writing, sentinel))
            try:
                command = spawn.get_command_line(tracker_fd=None, pipe_handle=child_reading)
                self._fds.extend([child_reading, child_writing, *trackers().values()])
                self.pid = util.spawnv_passfds(spawn.get_executable(), command, self._fds)
            finally:
                os.close(child_reading)
                os.close(child_writing)
            write_to(writing, data)


class SpawnWorker(context.SpawnProcess):  # type: ignore[misc]
    """A process that spawn starts, without the user's script."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _SpawnPopen(process_obj)
