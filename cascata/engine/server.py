"""A fork server of our own, that lives as long as runs need it and not longer.

    this process ── request + fds ──> server (a clean interpreter, the worker's modules imported) ──fork──> worker

`multiprocess` has one server per program, which stays until the program's end, and with it a resource tracker. A run
promises to leave no process behind: this server is started for the first run and ended with the last one.
What it does is `multiprocess.forkserver.main`, and so is the protocol.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from multiprocess import connection, reduction, resource_tracker, spawn, util

__all__ = ["needed", "request"]

PRELOAD: Final = ["cascata.engine.worker_main"]


class _Server:
    """The server's state in this process; a forked child begins with a new one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.pid: int | None = None
        self.address: Any = None
        self.alive = -1

    def ensure(self) -> None:
        """Starts the server unless it runs; one that was killed is started again."""
        if self.pid is not None:
            pid, _ = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return
            self.pid = None
            self.close()
        address = connection.arbitrary_address("AF_UNIX")
        alive_r, self.alive = os.pipe2(os.O_CLOEXEC)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            program = f"from multiprocess.forkserver import main; main({listener.fileno()}, {alive_r}, {PRELOAD!r})"
            executable = spawn.get_executable()
            command = [executable, *util._args_from_interpreter_flags(), "-c", program]
            try:
                self.pid = util.spawnv_passfds(executable, command, [listener.fileno(), alive_r])
            except BaseException:
                self.close()
                raise
            finally:
                os.close(alive_r)
        self.address = address

    def close(self) -> None:
        """Lets go of the server, and ends it if it runs: it has no state that could be lost."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None
        if self.alive >= 0:
            os.close(self.alive)
            self.alive = -1
        if self.address is not None and not util.is_abstract_socket_namespace(self.address):
            with contextlib.suppress(OSError):
                Path(self.address).unlink()
        self.address = None

    def after_fork(self) -> None:
        if self.alive >= 0:
            os.close(self.alive)
        self.__init__()  # type: ignore[misc]  # as new: the server is no child of this process


_server: Final = _Server()
os.register_at_fork(after_in_child=_server.after_fork)


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """The server may be used inside; when the last user leaves, it is ended."""
    with _server.lock:
        _server.users += 1
    try:
        yield
    finally:
        with _server.lock:
            _server.users -= 1
            if not _server.users:
                _server.close()


def request(fds: Sequence[int]) -> tuple[int, int]:
    """Has a child forked that holds `fds`.

    Returns:
        An fd to read its pid and then its exit code from, and one to write its preparation and process object to.

    Raises:
        OSError: the server could not be started or reached.
    """
    with _server.lock:
        _server.ensure()
        address = _server.address
        tracker = resource_tracker._resource_tracker._fd  # not `getfd()`: that would start one
        with socket.socket(socket.AF_UNIX) as client, open(os.devnull) as nothing:  # noqa: PTH123  # only its fd is wanted
            client.connect(address)
            status_r, status_w = os.pipe2(os.O_CLOEXEC)
            data_r, data_w = os.pipe2(os.O_CLOEXEC)
            try:
                passed = [data_r, status_w, _server.alive, nothing.fileno() if tracker is None else tracker, *fds]
                reduction.sendfds(client, passed)
            except BaseException:
                os.close(status_r)
                os.close(data_w)
                raise
            finally:
                os.close(data_r)
                os.close(status_w)
    return status_r, data_w
