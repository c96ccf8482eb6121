"""Every error that cascata raises. Imports nothing of cascata.

All of them are picklable with their attributes and their cause, since they travel from workers
to the caller, and may travel on from there (through a process pool, a job queue, a test runner).
"""

from __future__ import annotations

import pickle
import reprlib
import traceback as tracebacks
from typing import Any, NamedTuple

from .records import dataclass

__all__ = [
    "CascataError",
    "CascataWarning",
    "ChannelClosed",
    "ChannelFailed",
    "ComponentError",
    "DeadlockError",
    "DefinitionError",
    "Failure",
    "LedgerError",
    "NoAnswer",
    "RemoteError",
    "RunAtImport",
    "RunTimeout",
    "SerializationError",
    "StreamLengthError",
    "WorkerDied",
]


class CascataWarning(UserWarning):
    """Something that cascata left undone on purpose and that a user should look at."""


def in_words(error: BaseException) -> str:
    """`Type: text` of an error; never raises, whatever the error's own code does."""
    try:
        text = str(error)
    except Exception as problem:
        text = f"(its text cannot be had: {type(problem).__name__})"
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def bounded_repr(value: object, length: int = 200, parts: int = 12) -> str:
    """A `repr` of bounded length that never raises.

    Args:
        value: of a user.
        length: characters of a text or of an object that shows itself.
        parts: of a list, a tuple, a dict or a set.
    """
    shower = reprlib.Repr()
    shower.maxstring = shower.maxother = shower.maxlong = length
    shower.maxlist = shower.maxtuple = shower.maxdict = shower.maxset = shower.maxfrozenset = parts
    try:
        return shower.repr(value)
    except Exception as problem:  # the repr of a user's class is a user's code, and some integers are too long for one
        return f"<{type(value).__name__}, whose repr raised {type(problem).__name__}>"


def short_repr(value: object) -> str:
    """The same, to stand in the middle of a sentence."""
    return bounded_repr(value, 30, 6)


def formatted(error: BaseException) -> str:
    """The traceback of an error with its causes; never raises. One that came from another process brought its own."""
    if isinstance(error.__cause__, RemoteError):
        return str(error.__cause__)
    try:
        return "".join(tracebacks.format_exception(error))
    except Exception:  # the text of an error is a user's code
        return "".join(tracebacks.format_tb(error.__traceback__)) + in_words(error)


class _Packed(NamedTuple):
    """A cause on its way to another process: pickled when possible, in words in any case."""

    pickled: bytes | None
    words: str
    traceback: str


def _pack(error: BaseException) -> _Packed:
    words = in_words(error)
    trace = formatted(error)
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception as problem:  # an error with a constructor of its own kind, or one that holds a lock
        return _Packed(None, f"{words} (it cannot be pickled: {type(problem).__name__}: {problem})", trace)
    return _Packed(pickled, words, trace)


def _unpack(packed: _Packed) -> BaseException:
    error: BaseException = RemoteError(packed.words)
    if packed.pickled is not None:
        try:
            error = pickle.loads(packed.pickled)
        except Exception as problem:  # its class is not to be had in this process
            error = RemoteError(f"{packed.words} (it cannot be unpickled here: {type(problem).__name__}: {problem})")
    error.__cause__ = RemoteError(packed.traceback)
    return error


def _rebuild(
    cls: type[CascataError], args: tuple[Any, ...], state: dict[str, Any], cause: _Packed | None
) -> CascataError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    if cause is not None:
        error.__cause__ = _unpack(cause)
    return error


class CascataError(Exception):
    """Base of every error of cascata.

    Attributes:
        others: further errors of the same run, in the order in which they were reported. The first
            error of a run is raised; what failed after it stands here.
        report: of the run that this error ended: what had been done by then, a `RunReport`; None for other errors.
    """

    def __init__(self, message: str = "", **attributes: Any) -> None:
        super().__init__(message)
        self.others: tuple[BaseException, ...] = ()
        self.report: Any = None
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        cause = None if self.__cause__ is None else _pack(self.__cause__)
        return _rebuild, (type(self), self.args, self.__dict__.copy(), cause)


class DefinitionError(CascataError, TypeError):
    """A component or a graph is declared wrongly. The text says what, where, and the nearest name."""


class DeadlockError(CascataError):
    """The graph cannot run to its end: found by the static check, or by a run that can no longer move.

    Attributes:
        issues: every finding, one text each.
    """

    def __init__(self, message: str = "", *, issues: tuple[str, ...] = (), **attributes: Any) -> None:
        super().__init__(message, **attributes)
        self.issues: tuple[str, ...] = tuple(issues)


class ComponentError(CascataError):
    """A component's code raised. `__cause__` is the original error, with its traceback from the worker.

    Attributes:
        node: name of the node.
        worker: index of the worker that ran it.
        item: bounded `repr` of the item in hand; with several ports, a dict of port to `repr`; None
            when no item was in hand (while state was made or torn down).
    """

    node: str
    worker: int | None
    item: str | dict[str, str] | None

    def __init__(
        self,
        message: str = "",
        *,
        node: str = "",
        worker: int | None = None,
        item: str | dict[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(message, **attributes)
        self.node = node
        self.worker = worker
        self.item = item


class WorkerDied(CascataError):
    """A worker process was killed or exited before its nodes had ended.

    Attributes:
        worker: index of the worker.
        exitcode: as in `multiprocessing`: negative for a signal, None when unknown.
        signal: name of the signal ("SIGKILL"), or None.
        nodes: names of the nodes that it ran.
        history: of a worker that was started again too often: its deaths, one text each.
    """

    worker: int
    exitcode: int | None
    signal: str | None
    nodes: tuple[str, ...]

    def __init__(
        self,
        message: str = "",
        *,
        worker: int = -1,
        exitcode: int | None = None,
        signal: str | None = None,
        nodes: tuple[str, ...] = (),
        **attributes: Any,
    ) -> None:
        super().__init__(message, **attributes)
        self.worker = worker
        self.exitcode = exitcode
        self.signal = signal
        self.nodes = tuple(nodes)
        self.history: tuple[str, ...] = ()


class SerializationError(CascataError):
    """An item or an initial value cannot cross a process border.

    Attributes:
        node: name of the node that sent the item or holds the value, or None.
        port: name of its port, or None.
        type: name of the type that failed.
    """

    node: str | None
    port: str | None
    type: str | None

    def __init__(
        self,
        message: str = "",
        *,
        node: str | None = None,
        port: str | None = None,
        type: str | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(message, **attributes)
        self.node = node
        self.port = port
        self.type = type


class ChannelClosed(CascataError):
    """An item was put into a channel that is closed, or whose last reader is gone."""


class ChannelFailed(CascataError):
    """A publisher of a `Channel` failed, so what has come of it is not all. `__cause__` is what it raised."""


class NoAnswer(CascataError):
    """An item of `live.call` came to nothing: nothing of it is left in the graph, and no answer came out."""


class RunTimeout(CascataError, TimeoutError):
    """The `timeout` of a run passed. The text says what each worker was doing.

    Attributes:
        doing: worker index to a description of what its nodes were doing.
    """

    doing: dict[int, str]

    def __init__(self, message: str = "", *, doing: dict[int, str] | None = None, **attributes: Any) -> None:
        super().__init__(message, **attributes)
        self.doing = doing or {}


class RunAtImport(CascataError):
    """A module runs a graph when it is imported, and the workers of that graph import the module: without end.

    The run is refused before any process is started for it. It is the error of the run as well that finds this out by
    a worker.

    Attributes:
        module: that runs the graph, or None where no import is under way, as in a thread that one has started.
        where: "line 12 of /path/of/the/module.py", or "".
    """

    module: str | None
    where: str

    def __init__(self, message: str = "", *, module: str | None = None, where: str = "", **attributes: Any) -> None:
        super().__init__(message, **attributes)
        self.module = module
        self.where = where


class LedgerError(CascataError):
    """The counts of a finished run do not balance: an item is unaccounted for.

    Attributes:
        edges: the edges that do not balance, with their counts.
    """

    edges: tuple[Any, ...]

    def __init__(self, message: str = "", *, edges: tuple[Any, ...] = (), **attributes: Any) -> None:
        super().__init__(message, **attributes)
        self.edges = tuple(edges)


class StreamLengthError(CascataError, ValueError):
    """Streams that must be equally long are not. The text says which, and how many items each gave."""


class RemoteError(CascataError):
    """Stands for something of another process: a formatted traceback, or an error that pickle cannot carry."""


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """An item that failed, as `node.errors` sends it.

    It can always be sent to another process. What pickle cannot take arrives as words: an item as its bounded `repr`,
    an error as a `RemoteError`.

    Attributes:
        node: name of the node whose item it was.
        item: what its runner had in hand: an item; with several ports, a dict of port to item; None when nothing was.
        error: what its runner raised; a `TimeoutError` when the call took longer than the component's `timeout`, a
            `SerializationError` when the item could not cross to another worker, a `WorkerDied` when it ended the
            worker.
        traceback: the formatted traceback, as of the process where it happened.
        attempts: how often it was tried.
    """

    node: str
    item: Any
    error: BaseException
    traceback: str
    attempts: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickled = pickle.dumps(self.item, 5)
        except Exception:
            pickled = None
        return _failure, (self.node, pickled, bounded_repr(self.item), _pack(self.error), self.traceback, self.attempts)


def _failure(node: str, pickled: bytes | None, words: str, error: _Packed, traceback: str, attempts: int) -> Failure:
    item: Any = words
    if pickled is not None:
        try:
            item = pickle.loads(pickled)
        except Exception as problem:  # its class is not to be had in this process
            item = f"{words} (it cannot be unpickled here: {in_words(problem)})"
    return Failure(node, item, _unpack(error), traceback, attempts)
