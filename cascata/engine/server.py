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
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn

from .inherited import tracker_fd

__all__ = ["ServedWorker", "boot", "main", "needed", "request"]


_MOST_FDS: Final = 250

_NUMBER: Final = struct.Struct("q")

_FOR_SOME: Final = ("multiprocessing", "multiprocess", "dill")
"""What the server imports as well, once for all workers, when the program has: for its definitions, or for itself."""

_WORKER: Final = b"w"
_PROCESS: Final = b"p"


class _Server:
    """The server's state in this process; a forked child begins with a new one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None

    def ensure(self) -> socket.socket:
        """Starts the server unless it runs; one that was killed is started again."""
        if self.process is not None and self.control is not None:
            if self.process.poll() is None:
                return self.control
            self.close()
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = f"from {__name__} import main; main({far.fileno()}, {sys.path!r})"
        try:
            # sys.path goes along twice: for the import of `main` itself, and for what it imports.
            start = f"import sys, gc; gc.disable(); sys.path[:] = {sys.path!r}; {program}"
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
            command = [_executable(), *flags, "-c", start]
            self.process = subprocess.Popen(command, pass_fds=[far.fileno()], restore_signals=False)  # noqa: S603  # ours
        except BaseException:
            self.close()
            raise
        finally:
            far.close()
        return self.control

    def close(self) -> None:
        """Lets go of the server, and ends it if it runs: it has no state that could be lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.control is not None:
            self.control.close()
            self.control = None

    def after_fork(self) -> None:
        if self.control is not None:
            self.control.close()
        if self.process is not None:
            self.process.returncode = 0  # no child of this process, that it could wait for
        self.__init__()  # type: ignore[misc]  # as new


def _executable() -> str:
    """The interpreter that `multiprocess` would start."""
    spawn = sys.modules.get("multiprocess.spawn")
    return os.fsdecode(sys.executable if spawn is None else spawn.get_executable())


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
    """Has a child forked that holds `fds`, and becomes the process of `multiprocess` that it is told of.

    Returns:
        An fd to read its pid and then its exit code from, and one to write its preparation and process object to.

    Raises:
        OSError: the server could not be started or reached.
    """
    data_r, data_w = os.pipe2(os.O_CLOEXEC)
    try:
        return _ask(_PROCESS, [data_r, *fds]), data_w
    except BaseException:
        os.close(data_w)
        raise
    finally:
        os.close(data_r)


def _ask(kind: bytes, fds: Sequence[int]) -> int:
    """Asks for a child. Returns an fd to read its pid and then its exit code from. Raises as `request`."""
    with _server.lock:
        control = _server.ensure()
        status_r, status_w = os.pipe2(os.O_CLOEXEC)
        tracker = tracker_fd()
        try:
            shared = [] if tracker is None else [tracker]
            wanted = " ".join(name for name in _FOR_SOME if name in sys.modules)
            told = kind + (b"t" if shared else b"-") + wanted.encode()
            socket.send_fds(control, [told], [status_w, *shared, *fds])
        except BaseException:
            os.close(status_r)
            raise
        finally:
            os.close(status_w)
    return status_r


class ServedWorker:
    """A worker that the server forks. Has what the engine needs of a process object of `multiprocess`.

    Args:
        control: the fd of its end of the control socket.
    """

    def __init__(self, control: int) -> None:
        self._control = control
        self._status = -1
        self._pid: int | None = None
        self._exitcode: int | None = None

    def start(self) -> None:
        """Asks for it; does not wait until it is there. Raises `OSError`."""
        _flush()  # what was printed before comes before what the worker prints
        self._status = _ask(_WORKER, [self._control])

    @property
    def pid(self) -> int:
        """Waits for it, until the server has booted. Raises `EOFError` when the server has died."""
        if self._pid is None:
            self._pid = self._read()
        return self._pid

    @property
    def exitcode(self) -> int | None:
        """None while it lives."""
        self.join(0)
        return self._exitcode

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        """Waits for its end, at most `timeout` seconds."""
        if self._exitcode is not None:
            return
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        if poll.poll(None if timeout is None else timeout * 1000):
            try:
                self.pid  # noqa: B018  # comes first
                self._exitcode = self._read()
            except EOFError:
                self._exitcode = 255  # as multiprocessing says when it cannot know

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError, EOFError):
            os.kill(self.pid, 9)

    def fileno(self) -> int:
        """What can be read when it has ended, once its pid is known."""
        return self._status

    def close(self) -> None:
        """Lets go of it."""
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def _read(self) -> int:
        data = b""
        while len(data) < _NUMBER.size:
            more = os.read(self._status, _NUMBER.size - len(data))
            if not more:
                raise EOFError("the fork server has ended")
            data += more
        number: int = _NUMBER.unpack(data)[0]
        return number


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
    import gc
    import signal

    sys.path[:] = path
    import cascata.engine.worker_main  # noqa: F401  # what every worker needs, imported once

    gc.freeze()  # what was imported stays: workers need not look through it again and again, nor write to its pages
    keep_to_this_process()
    _close_stdin()
    woken_r, woken_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),  # only to wake `poll`
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_IGN),  # its program ends it
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
                kind, fds, _, _ = socket.recv_fds(control, 256, _MOST_FDS)
                if not kind:
                    return
                for fd in fds:
                    os.set_inheritable(fd, False)
                told, *rest = fds
                _import(kind[2:].decode().split())
                pid = os.fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    for number, handler in before.items():
                        signal.signal(number, handler)
                    for fd in (woken_r, woken_w, told, *status.values()):
                        os.close(fd)
                    control.close()
                    gc.enable()
                    tracker = rest.pop(0) if kind[1:2] == b"t" else None
                    _child(_worker if kind[:1] == _WORKER else _process, tracker, rest)
                os.write(told, _NUMBER.pack(pid))
                status[pid] = told
                for fd in rest:
                    os.close(fd)


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
                with contextlib.suppress(BrokenPipeError):  # who asked for it is gone
                    os.write(told, _NUMBER.pack(os.waitstatus_to_exitcode(code)))
                os.close(told)


def _close_stdin() -> None:
    """Whoever reads finds the end: what is typed is for the program."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdin is not None:
            sys.stdin.close()
        sys.stdin = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)  # noqa: SIM115


def _child(life: Callable[[list[int]], int], tracker: int | None, fds: list[int]) -> NoReturn:
    """Becomes the process that was asked for."""
    code = 1
    try:
        if tracker is not None:
            from multiprocess import resource_tracker

            resource_tracker._resource_tracker._fd = tracker
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
    from .worker_main import main

    code = 0
    try:
        main(fds[0], None)
    except SystemExit as asked:
        if asked.code is not None and not isinstance(asked.code, int):
            sys.stderr.write(f"{asked.code}\n")
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    finally:
        util = sys.modules.get("multiprocess.util")
        if util is not None:
            util._exit_function()  # ends its daemons, waits for its other children
        threading._shutdown()  # type: ignore[attr-defined]  # threads that are no daemons are waited for
        _flush()
    return code


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a program may have none, or have closed it
            stream.flush()
