"""A fork server of our own, that lives as long as runs need it and not longer.

    this process ── a socket pair: requests, with fds ──> server (a clean interpreter, the worker's modules imported)
                                                             └──fork──> worker ── pid, exit code ──> this process

`multiprocess` has one server per program, which stays until the program's end, with a resource tracker beside it and a
socket in the file system. A run promises to leave nothing behind: this server is started for the first run and
ended with the last one, and has no name that anybody could find. What a child reads and does then
is as with the server of `multiprocess`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from multiprocess import forkserver, resource_tracker, spawn, util

__all__ = ["boot", "main", "needed", "request"]

_MOST_FDS: Final = 250


class _Server:
    """The server's state in this process; a forked child begins with a new one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.pid: int | None = None
        self.control: socket.socket | None = None

    def ensure(self) -> socket.socket:
        """Starts the server unless it runs; one that was killed is started again."""
        if self.pid is not None and self.control is not None:
            if not _has_ended(self.pid):
                return self.control
            self.pid = None
            self.close()
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = f"from {__name__} import main; main({far.fileno()}, {sys.path!r})"
        executable = spawn.get_executable()
        try:
            # sys.path goes along twice: for the import of `main` itself, and for what it imports.
            start = f"import sys; sys.path[:] = {sys.path!r}; {program}"
            command = [executable, *util._args_from_interpreter_flags(), "-c", start]
            self.pid = util.spawnv_passfds(executable, command, [far.fileno()])
        except BaseException:
            self.close()
            raise
        finally:
            far.close()
        return self.control

    def close(self) -> None:
        """Lets go of the server, and ends it if it runs: it has no state that could be lost."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # the program may reap it, too
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self.pid = None
        if self.control is not None:
            self.control.close()
            self.control = None

    def after_fork(self) -> None:
        if self.control is not None:
            self.control.close()
        self.__init__()  # type: ignore[misc]  # as new: the server is no child of this process


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:  # reaped by somebody else: a thread of the program, or the system when SIGCHLD is ignored
        return True


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


def boot() -> None:
    """Starts the server, unless it runs; returns before it is ready.

    Raises:
        OSError: it could not be started.
    """
    with _server.lock:
        _server.ensure()


def request(fds: Sequence[int]) -> tuple[int, int]:
    """Has a child forked that holds `fds`.

    Returns:
        An fd to read its pid and then its exit code from, and one to write its preparation and process object to.

    Raises:
        OSError: the server could not be started or reached.
    """
    with _server.lock:
        control = _server.ensure()
        status_r, status_w = os.pipe2(os.O_CLOEXEC)
        data_r, data_w = os.pipe2(os.O_CLOEXEC)
        tracker = resource_tracker._resource_tracker._fd  # not `getfd()`: that would start one
        shared = [] if tracker is None else [tracker]
        try:
            socket.send_fds(control, [b"t" if shared else b"-"], [data_r, status_w, *shared, *fds])
        except BaseException:
            os.close(status_r)
            os.close(data_w)
            raise
        finally:
            os.close(data_r)
            os.close(status_w)
    return status_r, data_w


def keep_to_this_process() -> None:
    """Closes on exec what a clean interpreter was given: a program that a component starts has no business with it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # one of them is that of this listing
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)


def main(control_fd: int, path: list[str]) -> None:
    """The server's own life: forks a child for each request, and tells its pid and its exit code.

    Args:
        control_fd: its end of the socket pair. When the other end is closed, it ends.
        path: `sys.path` of the process that it serves.
    """
    sys.path[:] = path
    import cascata.engine.worker_main  # noqa: F401  # what every worker needs, imported once

    keep_to_this_process()
    util._close_stdin()
    woken_r, woken_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),  # only to wake `poll`
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    signal.set_wakeup_fd(woken_w)
    status: dict[int, int] = {}
    with socket.socket(fileno=control_fd) as control:
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(woken_r, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if woken_r in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken_r, 4096)
                _reap(status)
            if control.fileno() in ready:
                kind, fds, _, _ = socket.recv_fds(control, 1, _MOST_FDS)
                if not kind:
                    return
                for fd in fds:
                    os.set_inheritable(fd, False)
                data, told, *rest = fds
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    for number, handler in before.items():
                        signal.signal(number, handler)
                    for fd in (woken_r, woken_w, told, *status.values()):
                        os.close(fd)
                    control.close()
                    _child(data, rest, tracked=kind == b"t")
                forkserver.write_signed(told, pid)
                status[pid] = told
                for fd in (data, *rest):
                    os.close(fd)


def _reap(status: dict[int, int]) -> None:
    """Tells the exit codes of children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            told = status.pop(pid, None)
            if told is not None:
                with contextlib.suppress(BrokenPipeError):  # who asked for it is gone
                    forkserver.write_signed(told, os.waitstatus_to_exitcode(code))
                os.close(told)


def _child(data: int, fds: Sequence[int], *, tracked: bool) -> Any:
    """Becomes the process that was asked for; never returns."""
    code = 1
    try:
        if tracked:
            resource_tracker._resource_tracker._fd, *fds = fds
        forkserver._forkserver._inherited_fds = list(fds)
        code = spawn._main(data, os.dup(data))
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)
