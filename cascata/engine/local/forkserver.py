"""A fork server of our own, that lives as long as runs need it and not longer.

    this process ── a socket pair: requests, with fds ──> server (a clean interpreter, the worker's modules imported)
                                                             └──fork──> worker ── pid, exit code ──> this process

`multiprocess` has one server per program, which stays until the program's end, with a resource tracker beside it and a
socket in the file system. A run promises to leave nothing behind: this server is started for the first run and
ended with the last one, and has no name that anybody could find.

Its interpreter starts while this process prepares the run, on another core if there is one. So that it starts at
once, this module imports little. Nor does the server import `multiprocess`, which imports dill: a worker that needs
it does. A child that `request` asks for is a process of `multiprocess`, and begins as under the server of that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn

from ...errors import CascataError
from .. import run_at_import
from ..worker.sigterm import held_back
from ..worker.surroundings import join_trackers, loaded, trackers

__all__ = ["ServedWorker", "ServerBusy", "ServerEnded", "boot", "main", "needed", "request"]


_MOST_FDS: Final = 250

_NUMBER: Final = struct.Struct("q")

_FOR_SOME: Final = ("multiprocessing", "multiprocess", "dill")
"""What the server imports as well, once for all workers, when the program has: for its definitions, or for itself."""

_WORDS: Final = 2000
"""Bytes of what a server wrote that an error shows."""

_AGAIN_S: Final = 0.02
"""Seconds until a server is asked again that did not take a request."""

_DIES_S: Final = 0.2
"""Seconds between the end of a server's socket and its death."""

_WORKER: Final = b"w"
_PROCESS: Final = b"p"


class _Booted:
    """One server process, as this process sees it.

    Until it is ready, what it writes to stderr is kept in a memory file: an interpreter that cannot start says why, and
    that belongs into the error of the run.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.executable = run_at_import.executable()
        self._words = b""
        self._said = -1
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)  # a server that does not read must not keep who asks
        stderr = -1
        try:
            if _has_stderr():
                stderr = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
                self._said = os.memfd_create("cascata-server", os.MFD_CLOEXEC)
            program = f"from {__name__} import main; main({far.fileno()}, {stderr}, {sys.path!r})"
            # sys.path goes along twice: for the import of `main` itself, and for what it imports.
            start = f"import sys, gc; gc.disable(); sys.path[:] = {sys.path!r}; {program}"
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
            with held_back():
                self.process = subprocess.Popen(  # noqa: S603  # ours
                    [self.executable, *flags, "-c", start],
                    pass_fds=[fd for fd in (far.fileno(), stderr) if fd >= 0],
                    stderr=self._said if self._said >= 0 else None,
                    restore_signals=False,
                    env=os.environ | {run_at_import.BOOTS: "1"},
                )
        except BaseException:
            self.close()
            raise
        finally:
            far.close()
            if stderr >= 0:
                os.close(stderr)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def close(self) -> None:
        """Lets go of the server, and ends it if it runs: it has no state that could be lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.control.close()
        if self._said >= 0:
            self._words = _end_of(self._said)
            os.close(self._said)
            self._said = -1

    def forget(self) -> None:
        """In a child that was forked from this process: it is somebody else's."""
        self.control.close()
        if self._said >= 0:
            os.close(self._said)
        if self.process is not None:
            self.process.returncode = 0  # no child of this process, that it could wait for

    def __str__(self) -> str:
        """What is to be said of it to whoever waits for it."""
        assert self.process is not None  # else there is no such object
        name = f"the fork server (process {self.process.pid}, {self.executable})"
        code = self.process.returncode if self._said < 0 else self.process.poll()
        if code is None:
            return f"{name} does not answer"
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            how = "has ended"  # the kernel has thrown its exit status away
        else:
            how = f"was killed by signal {-code}" if code < 0 else f"has ended with exit status {code}"
        words = (self._words if self._said < 0 else _end_of(self._said)).decode(errors="replace").strip()
        return f"{name} {how}" + (f" and wrote last: {words!r}" if words else "")


class _Server:
    """The server that this process has now, if any; a forked child begins with a new one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.booted: _Booted | None = None

    def ensure(self) -> _Booted:
        """Starts the server unless it runs; one that was killed is started again."""
        if self.booted is not None:
            if self.booted.runs:
                return self.booted
            self.close()
        self.booted = _Booted()
        return self.booted

    def close(self) -> None:
        """Ends the server."""
        booted, self.booted = self.booted, None
        if booted is not None:
            booted.close()

    def after_fork(self) -> None:
        if self.booted is not None:
            self.booted.forget()
        self.__init__()  # type: ignore[misc]  # as new


def _has_stderr() -> bool:
    """Whether fd 2 is what its number says: a program may have been started without."""
    with contextlib.suppress(OSError):
        return sys.__stderr__ is not None and os.fstat(2) is not None
    return False


def _end_of(fd: int) -> bytes:
    """The last that was written to a file."""
    size = os.fstat(fd).st_size
    return os.pread(fd, _WORDS, max(0, size - _WORDS))


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


def request(fds: Sequence[int]) -> tuple[int, int, int]:
    """Has a child forked that holds `fds`, and becomes the process of `multiprocess` that it is told of.

    Returns:
        An fd to read its exit code from, and one to write its preparation and process object to, and its pid. Waits
        until it is there.

    Raises:
        OSError: the server could not be started or reached, or could not fork.
    """
    data_r, data_w = os.pipe2(os.O_CLOEXEC)
    status = -1
    try:
        while status < 0:
            with contextlib.suppress(ServerBusy):
                status, booted = _ask(_PROCESS, [data_r, *fds])
                break
            time.sleep(_AGAIN_S)
        told = os.read(status, _NUMBER.size)
        if not told:
            raise ServerEnded(booted)
        (pid,) = _NUMBER.unpack(told)
        if pid < 0:
            raise _no_fork(-pid)
    except BaseException:
        os.close(data_w)
        if status >= 0:
            os.close(status)
        raise
    finally:
        os.close(data_r)
    return status, data_w, pid


def _no_fork(number: int) -> OSError:
    return OSError(number, f"the fork server could not fork: {os.strerror(number)}")


def _ask(kind: bytes, fds: Sequence[int]) -> tuple[int, _Booted]:
    """Asks for a child.

    Returns:
        An fd to read its pid and then its exit code from, and the server that was asked.

    Raises:
        ServerBusy: the server has not read what it was asked before: ask again later.
        OSError: the server could not be started or reached.
    """
    with _server.lock:
        if not _server.users:
            raise OSError(errno.ECANCELED, "no run needs the fork server any more")
        booted = _server.ensure()
        status_r, status_w = os.pipe2(os.O_CLOEXEC)
        shared = trackers() if kind == _PROCESS else {}  # a worker is told with all else
        try:
            wanted = " ".join(name for name in _FOR_SOME if name in sys.modules)
            told = kind + f"{','.join(shared)} {wanted}".encode()
            socket.send_fds(booted.control, [told], [status_w, *shared.values(), *fds])
        except BaseException as problem:
            os.close(status_r)
            # Or what it has not read yet holds as many fds as this user may have on their way.
            if isinstance(problem, OSError) and problem.errno in (errno.EAGAIN, errno.ETOOMANYREFS):
                raise ServerBusy from problem
            if isinstance(problem, BrokenPipeError | ConnectionResetError):
                raise ServerEnded(booted) from problem
            raise
        finally:
            os.close(status_w)
    return status_r, booted


class ServerBusy(Exception):
    """The server takes no more requests now. No `OSError`: a fork that the system refuses has the same number."""


class ServerEnded(CascataError):
    """The server has died before it did what it was asked."""

    def __init__(self, booted: _Booted) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if booted.process is not None:
                booted.process.wait(_DIES_S)  # its end of the socket is closed before it can be waited for
        super().__init__(
            f"{booted}. Its interpreter cannot start or cannot import cascata, or something has ended it (the system "
            f"does, when memory is short)"
        )


class ServedWorker:
    """A worker that the server forks. Has what the engine needs of a process object of `multiprocess`.

    Nothing here waits. What the server tells is read by `look`, when `fileno` is readable.

    Args:
        control: the fd of its end of the control socket.

    Attributes:
        pid: None until the server has told it.
        exitcode: None until the server has told it; also when it has died itself and nobody knows.
    """

    def __init__(self, control: int) -> None:
        self._control = control
        self._status = -1
        self._told = b""
        self._booted: _Booted | None = None
        self.pid: int | None = None
        self.exitcode: int | None = None

    def start(self) -> None:
        """Asks for it; does not wait until it is there.

        Raises:
            ServerBusy: the server does not take more requests now.
            OSError: the server could not be started or reached.
        """
        _flush()  # what was printed before comes before what the worker prints
        self._status, self._booted = _ask(_WORKER, [self._control])
        os.set_blocking(self._status, False)

    def look(self) -> None:
        """Reads what the server has told.

        Raises:
            OSError: the server could not fork.
            ServerEnded: it has died before it told the pid.
        """
        while self.exitcode is None:
            try:
                more = os.read(self._status, _NUMBER.size - len(self._told))
            except BlockingIOError:
                return
            if not more:
                if self.pid is None:
                    assert self._booted is not None  # it was asked
                    ended = ServerEnded(self._booted)
                    if self._booted.runs:
                        raise OSError(errno.EMFILE, "the fork server can open no more files")
                    raise ended
                return
            self._told += more
            if len(self._told) < _NUMBER.size:
                continue
            (number,) = _NUMBER.unpack(self._told)
            self._told = b""
            if self.pid is not None:
                self.exitcode = number
            elif number < 0:
                raise _no_fork(-number)
            else:
                self.pid = number

    def fileno(self) -> int:
        """What can be read when the server has told something."""
        return self._status

    @property
    def server(self) -> str:
        """The server that it was asked of, in words."""
        return str(self._booted)

    @property
    def servers_pid(self) -> int:
        """The process id of that."""
        return 0 if self._booted is None or self._booted.process is None else self._booted.process.pid

    def close(self) -> None:
        """Lets go of it."""
        if self._status >= 0:
            os.close(self._status)
            self._status = -1


def main(control_fd: int, stderr: int, path: list[str]) -> None:
    """The server's own life: forks a child for each request, and tells its pid and its exit code.

    Args:
        control_fd: its end of the socket pair. When the other end is closed, it ends.
        stderr: what is to be its fd 2 from now on; negative: it stays what it is.
        path: `sys.path` of the process that it serves.
    """
    import gc

    sys.path[:] = path
    run_at_import.is_fork_server()
    import cascata.engine.worker.linux  # noqa: F401  # what every worker needs, imported once

    from .open_files import keep_to_this_process

    gc.freeze()  # what was imported stays: workers need not look through it again and again, nor write to its pages
    keep_to_this_process()
    _close_stdin()
    if stderr >= 0:
        _take_stderr(stderr)
    woken_r, woken_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Its program ends it. Blocked as well, it waits in a child until that has a handler for it (see `sigterm`).
    terminated = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The program may block or ignore SIGCHLD; what it does with it is no business of its workers'.
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake `poll`
    signal.set_wakeup_fd(woken_w)
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTERM,))
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
                kind, fds, flags, _ = socket.recv_fds(control, 256, _MOST_FDS)
                if not kind:
                    return
                if not fds:
                    continue  # none could be opened here; the pipe that was on its way is closed, which tells
                for fd in fds:
                    os.set_inheritable(fd, False)
                told, *rest = fds
                if flags & socket.MSG_CTRUNC:
                    _tell(told, -errno.EMFILE)
                    pid = -1
                else:
                    packages, _, wanted = kind[1:].decode().partition(" ")
                    _import(wanted.split())
                    try:
                        pid = os.fork()
                    except OSError as problem:  # no memory, or no process more
                        _tell(told, -(problem.errno or errno.EAGAIN))
                        pid = -1
                if not pid:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGINT, interrupted)
                    signal.signal(signal.SIGTERM, terminated)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for fd in (woken_r, woken_w, told, *status.values()):
                        os.close(fd)
                    control.close()
                    gc.enable()
                    shared = {package: rest.pop(0) for package in packages.split(",") if package}
                    _child(_worker if kind[:1] == _WORKER else _process, shared, rest)
                if pid > 0:
                    _tell(told, pid)
                    status[pid] = told
                else:
                    os.close(told)
                for fd in rest:
                    os.close(fd)


def _take_stderr(fd: int) -> None:
    """Writes to it from now on, what was written before included."""
    before = _end_of(2)
    os.dup2(fd, 2)
    os.close(fd)
    with contextlib.suppress(OSError):
        os.write(2, before)


def _tell(told: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked does not wait for it any more
        os.write(told, _NUMBER.pack(number))


def _import(names: list[str]) -> None:
    """Imports what has not been yet. Whoever needs what cannot be imported finds out when it tries."""
    import gc
    import importlib

    missing = [name for name in names if name not in sys.modules]
    for name in missing:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if missing:
        gc.freeze()


def _reap(status: dict[int, int]) -> None:
    """Tells the exit codes of children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            told = status.pop(pid, None)
            if told is not None:
                _tell(told, os.waitstatus_to_exitcode(code))
                os.close(told)


def _close_stdin() -> None:
    """Whoever reads finds the end: what is typed is for the program."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdin is not None:
            sys.stdin.close()
        sys.stdin = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)  # noqa: SIM115


def _child(life: Callable[[list[int]], int], trackers: dict[str, int], fds: list[int]) -> NoReturn:
    """Becomes the process that was asked for."""
    code = 1
    try:
        join_trackers(trackers)
        code = life(fds)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _process(fds: list[int]) -> int:
    """Becomes a process of `multiprocess`, which reads what it is."""
    from multiprocess import forkserver, spawn

    data, *inherited = fds
    forkserver._forkserver._inherited_fds = inherited
    code: int = spawn._main(data, os.dup(data))
    return code


def _worker(fds: list[int]) -> int:
    """Runs a worker, and ends as a process of `multiprocess` does: that is, not as a program."""
    from ..worker.linux import main

    code = 0
    try:
        main(fds[0], None)
    except SystemExit as asked:
        if asked.code is not None and not isinstance(asked.code, int):
            sys.stderr.write(f"{asked.code}\n")
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    finally:
        util = loaded("multiprocess.util")
        if util is not None:
            util._exit_function()  # ends its daemons, waits for its other children
        threading._shutdown()  # type: ignore[attr-defined]  # threads that are no daemons are waited for
        _flush()
    return code


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a program may have none, or have closed it
            stream.flush()
