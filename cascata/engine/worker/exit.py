"""A worker's end: what a program would save at its own end is saved, though a worker ends by `os._exit`.

    nodes have ended ──> save_files ──> "finished" ──> threads, atexit ──> globals, garbage ──> save_files ──> os._exit

The interpreter's own end would take apart every module, on pages that all workers share until then: what it does for
the user's data is done here instead, and no more where there is nothing to save.
"""

from __future__ import annotations

import _io
import atexit
import errno
import gc
import sys
import threading
import types
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Final

from ... import log
from ...errors import CascataError, in_words
from .. import run_at_import

__all__ = ["begin_after_fork", "finish", "save_files"]

_IOBASE: Final[type] = _io._IOBase

_LOST: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Errors by which what was written is lost, and somebody must know."""

_NOT_AT_STAKE: Final = frozenset(
    ("_io", "asyncio", "_asyncio", "socket", "_socket", "builtins", "selectors", "multiprocessing", "multiprocess")
)
"""Packages whose objects have finalizers that save nothing, or nothing that `save_files` has not saved."""

_ARCHIVES: Final = frozenset({"gzip", "bz2", "lzma", "zipfile", "shelve"})


class _Exits:
    """What a forked worker has registered by `atexit`: there, that module holds what the program is to do.

    Who took `register` out of that module before the fork registers with the program's, which a worker does not call.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def register(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """As `atexit.register`."""
        self._calls.append((function, args, kwargs))
        return function

    def unregister(self, function: Callable[..., Any]) -> None:
        """As `atexit.unregister`."""
        self._calls = [each for each in self._calls if each[0] != function]

    def forget(self) -> Any:
        """Begins anew, in a worker that a worker has forked. Returns what the other one is to call."""
        calls, self._calls = self._calls, []
        return calls

    def run(self) -> None:
        """Calls all, the last one first. What one raises is printed, and the others are called."""
        while self._calls:
            function, args, kwargs = self._calls.pop()
            try:
                function(*args, **kwargs)
            except BaseException:
                sys.excepthook(*sys.exc_info())


_exits: Final = _Exits()

_kept: Final[list[Any]] = []
"""What the program's objects have to do at their end, which a forked worker must neither do nor let go of."""


def begin_after_fork() -> None:
    """Forgets what the program has to do at its end: it is the program's to do, not its forked worker's.

    Its objects are frozen: no collection here may end one, and so remove a temporary file that the program still has.
    """
    gc.freeze()
    threading.current_thread()._daemonic = False  # type: ignore[attr-defined]  # it is the main thread now
    # What the program has registered is kept as it is, and not called: to let go of it would end objects of C
    # libraries that do not outlive a fork.
    _kept.append(_exits.forget())
    atexit.register, atexit.unregister = _exits.register, _exits.unregister
    if (weakref := sys.modules.get("weakref")) is not None:
        _kept.append(weakref.finalize._registry)
        weakref.finalize._registry = {}
        weakref.finalize._registered_with_atexit = False
    if (logging := sys.modules.get("logging")) is not None:
        logging._handlerList.clear()
        atexit.register(logging.shutdown)
    for name, waiting in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        if (pools := sys.modules.get(f"concurrent.futures.{name}")) is not None:
            getattr(pools, waiting).clear()  # threads of the program, which do not run here


def save_files() -> list[CascataError]:
    """Flushes every file that this process has opened and not closed.

    A collection would do it too late, and wrongly: of a file in a cycle the buffer may be closed before the text that
    is still above it has been written.

    Returns:
        An error for each file whose data could not be written, and is lost.
    """
    errors = []
    for thing in gc.get_objects():
        if issubclass(type(thing), _IOBASE):
            try:
                if not thing.closed and thing.writable():
                    thing.flush()
            except Exception as problem:
                name = getattr(thing, "name", "a file")
                text = f"what was written to {name!r} could not be saved: {in_words(problem)}"
                if isinstance(problem, OSError) and problem.errno in _LOST:
                    error = CascataError(f"{text}. Part of it is lost; make room and run again")
                    error.__cause__ = problem
                    errors.append(error)
                elif not isinstance(problem, BrokenPipeError | ValueError):  # nobody reads it; it is half closed
                    log.warning("%s", text)
    return errors


def finish(modules: Iterable[str]) -> None:
    """What is left to do at the end of this process.

    Args:
        modules: where components come from: what their globals hold is let go of.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # threads that are no daemons are waited for
    run_at_import.work_is_over()  # they are the nodes', and may run graphs; what follows has no business with that
    if atexit.register == _exits.register:
        _exits.run()
    else:
        atexit._run_exitfuncs()
    save_files()
    made = gc.get_objects()  # what is frozen was there before, and is not this process's to end
    if any(_saves(kind) for kind in set(map(type, made))):
        if all(thread is threading.current_thread() or thread.name.startswith("cascata") for thread in _threads()):
            _let_go(modules, set(map(id, made)))
        del made
        gc.collect()
        _close_archives()


def _close_archives() -> None:
    """Closes what is complete only when it has been closed, wherever it is still held."""
    for thing in gc.get_objects():
        with suppress(Exception):  # it may have nothing to close, or no buffer any more
            below = thing.buffer if type(thing) is _io.TextIOWrapper else None
            if type(thing).__module__ in _ARCHIVES or type(below).__module__ in _ARCHIVES:
                thing.close()


def _threads() -> list[threading.Thread]:
    return threading.enumerate()


def _saves(kind: type) -> bool:
    """Whether objects of a type do something when they are let go of."""
    return hasattr(kind, "__del__") and kind.__module__.partition(".")[0] not in _NOT_AT_STAKE


def _let_go(modules: Iterable[str], made: AbstractSet[int]) -> None:
    """Clears the data of modules, as the interpreter does at its end; code stays, since finalizers may need it."""
    for module in modules:
        names: dict[str, Any] = getattr(sys.modules.get(module), "__dict__", {})
        for name, value in [*names.items()]:
            if id(value) in made and not isinstance(value, type | types.FunctionType | types.ModuleType):
                with suppress(Exception):  # a finalizer may raise
                    names[name] = None
