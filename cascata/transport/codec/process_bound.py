"""What belongs to the process that made it, and travels nowhere: open files, locks, threads, connections, loops.

    pickler ── reducer_override ──> `refusal`: Bound, or how to pickle what looks like it and may travel (sys.stdout)
                                        │
       the error ── which, where, what to do <── `locating`: only now is the way to it searched

A copy of such a thing lies. A file that is opened again by its name is emptied (mode "w") or written to from two
places; a lock that is made anew excludes nobody; an event that is a copy is never set. pickle refuses most of them;
dill makes copies of many; and of asyncio's and of connections even pickle does.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import types
from typing import Any, Final

from ...records import dataclass

__all__ = [
    "OPEN_FILE",
    "Bound",
    "Kind",
    "kind_of",
    "name_of",
    "refusal",
    "says_how",
    "standard_name",
    "watch_plain_pickle",
    "watch_what_is_loaded",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of things that cannot travel.

    Attributes:
        what: it is, in words.
        why: a copy of it is wrong.
        instead: what to do.
        inherited: whether one that a forked process inherits does what it should.
        harmless: whether nothing ever makes a copy of it: then a global may be one, as long as nobody uses it.
    """

    what: str
    why: str
    instead: str
    inherited: bool = False
    harmless: bool = False


_STATE: Final = "as state of the node (`State(...)` or `@persist`), or in the runner"

OPEN_FILE: Final = Kind(
    "an open file",
    "a copy would open it a second time",
    "Send its path, and open it in the worker: as state of the node (`file: State = State(open)` and "
    "`node.file < (path, mode)`, or `@persist`), or in the runner",
)
_LOCK: Final = Kind(
    "a lock or the like",
    "a copy would exclude, wake or count for nobody here",
    f"Make it in the worker: {_STATE}. An object that has one for itself leaves it out by `__getstate__`",
)
_QUEUE: Final = Kind(
    "a queue",
    "what is put into a copy arrives nowhere else",
    "Connect nodes by their ports, or use a `cascata.Channel`, which processes share",
)
_RUNNING: Final = Kind(
    "something that runs in this process",
    "a copy does not run",
    f"Start it in the worker: {_STATE}",
)
_LOOP: Final = Kind(
    "a part of an event loop",
    "a worker has a loop of its own, and a copy would never be set or woken from here",
    f"Make it in the worker: {_STATE}; between nodes send items",
)
_SHARED: Final = Kind(
    "for the children of a process alone",
    "it can only be inherited by a process that this one starts",
    "Connect nodes by their ports, or use a `cascata.Channel`; start_method='fork' lets workers inherit it as a global",
    inherited=True,
)
_CONNECTION: Final = Kind(
    "an open connection",
    "a copy would be connected to nothing",
    f"Send the address or the path, and connect in the worker: {_STATE}",
    inherited=True,
)
_DATABASE: Final = Kind("a database connection", _CONNECTION.why, _CONNECTION.instead)
_MAPPING: Final = Kind(
    "mapped memory",
    "a copy would not be shared",
    "Send the path, and map it in the worker; or use `multiprocessing.shared_memory`",
    inherited=True,
)
_STEPS: Final = Kind(
    "code on its way",
    "where it stands cannot be copied",
    f"Send what it is made of, or the list of what it gives; or make it in the worker: {_STATE}",
    inherited=True,
    harmless=True,
)
_CONTEXT: Final = Kind(
    "a part of this thread's context", "a worker has its own", "Send its value", inherited=True, harmless=True
)

_NAMES: Final = (
    (
        OPEN_FILE,
        """_io.TextIOWrapper _io.FileIO _io.BufferedReader _io.BufferedWriter _io.BufferedRandom _io.BufferedRWPair
        tempfile._TemporaryFileWrapper gzip.GzipFile bz2.BZ2File lzma.LZMAFile zipfile.ZipFile zipfile.ZipExtFile
        zipfile._ZipWriteFile tarfile.TarFile _csv.writer _csv.reader csv.DictWriter csv.DictReader shelve.Shelf
        dbm.dumb._Database _gdbm.gdbm _dbm.dbm dbm.sqlite3._Database codecs.StreamReaderWriter logging.FileHandler
        wave.Wave_write""",
    ),
    (
        _LOCK,
        """_thread.lock _thread.RLock threading._RLock threading.Condition threading.Semaphore threading.Event
        threading.Barrier _thread._local _threading_local.local logging.Handler""",
    ),
    (_QUEUE, "queue.Queue _queue.SimpleQueue queue._PySimpleQueue"),
    (
        _RUNNING,
        """threading.Thread _thread._ThreadHandle subprocess.Popen concurrent.futures._base.Executor
        concurrent.futures._base.Future multiprocessing.process.BaseProcess multiprocess.process.BaseProcess
        multiprocessing.pool.Pool multiprocess.pool.Pool""",
    ),
    (
        _LOOP,
        """asyncio.locks.Lock asyncio.locks.Event asyncio.locks.Condition asyncio.locks.Semaphore
        asyncio.locks.Barrier asyncio.queues.Queue _asyncio.Future asyncio.futures.Future
        asyncio.events.AbstractEventLoop asyncio.events.Handle asyncio.runners.Runner
        asyncio.taskgroups.TaskGroup asyncio.timeouts.Timeout asyncio.streams.StreamReader
        asyncio.streams.StreamWriter asyncio.transports.BaseTransport asyncio.subprocess.Process""",
    ),
    (
        _SHARED,
        " ".join(
            f"{package}.{name}"
            for package in ("multiprocessing", "multiprocess")
            for name in (
                "synchronize.SemLock",
                "synchronize.Condition",
                "synchronize.Event",
                "queues.Queue",
                "queues.SimpleQueue",
                "sharedctypes.SynchronizedBase",
                "connection._ConnectionBase",
                "connection.Listener",
            )
        ),
    ),
    (
        _CONNECTION,
        """socket.socket _socket.socket ssl.SSLObject _ssl._SSLContext selectors._BaseSelectorImpl select.epoll
        select.poll select.kqueue posix.ScandirIterator""",
    ),
    (_DATABASE, "sqlite3.Connection sqlite3.Cursor sqlite3.Blob"),
    (_MAPPING, "mmap.mmap"),
    (_STEPS, "builtins.generator builtins.coroutine builtins.async_generator builtins.frame builtins.traceback"),
    (_CONTEXT, "_contextvars.Context _contextvars.Token _contextvars.ContextVar"),
)

_BY_NAME: Final = {name: kind for kind, names in _NAMES for name in names.split()}

_OWN_WAYS: Final = ("__reduce__", "__reduce_ex__", "__getstate__")


class Bound(pickle.PicklingError, TypeError):  # a TypeError is what pickle itself raises for them
    """Something was to be pickled that cannot travel.

    Attributes:
        thing: what; None in a copy.
    """

    def __init__(self, text: str, thing: Any = None) -> None:
        super().__init__(text)
        self.thing = thing

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


def kind_of(thing: Any) -> Kind | None:
    """What of the above a thing is; None for what may be pickled."""
    return _kind_of_type(type(thing))  # type: ignore[arg-type, unused-ignore]  # types can be hashed


@functools.lru_cache(maxsize=1024)
def _kind_of_type(kind: type) -> Kind | None:
    for base in kind.__mro__:
        found = _BY_NAME.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            return found
        if says_how(base):
            return None
    return None


def says_how(kind: type) -> bool:
    """Whether a class itself says how its objects are pickled."""
    return kind is not object and any(name in vars(kind) for name in _OWN_WAYS)


def refusal(thing: Any) -> Any:
    """What a pickler's `reducer_override` is to return for a thing: NotImplemented for all that may travel.

    Raises:
        Bound: it is bound to this process.
    """
    kind = kind_of(thing)
    if kind is None:
        return NotImplemented
    name = standard_name(thing) if kind is OPEN_FILE else None
    if name is not None:
        return _standard, (name,)
    raise Bound(f"{name_of(type(thing))} is {kind.what}: {kind.why}", thing)


def name_of(kind: type) -> str:
    """The name of a type as users write it."""
    return f"{kind.__module__.lstrip('_')}.{kind.__qualname__}".removeprefix("builtins.")


# -- what a process has from its beginning, and each has its own


def standard_name(thing: Any) -> str | None:
    """The name in `sys` of a stream that each process has from its beginning; None for any other file."""
    for name in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        stream: Any = getattr(sys, name)
        for path in (name, f"{name}.buffer", f"{name}.buffer.raw"):
            if stream is None:
                break
            if stream is thing:
                return path
            stream = getattr(stream, "raw" if path.endswith("buffer") else "buffer", None)
    return None


def _standard(path: str) -> Any:
    found: Any = sys
    for name in path.split("."):
        found = getattr(found, name)
    return found


# -- where pickle itself makes such copies


def watch_plain_pickle(pickles: types.CodeType) -> None:
    """Has `pickle.dumps` refuse, when the function with this code calls it, what it would copy wrongly elsewhere.

    Frames of items are made by a plain `pickle.dumps`, since a pickler with a say in each object costs more than
    most items do. Only for the few types that pickle copies is it asked, through `copyreg`, who calls.
    """
    _WATCHED.add(pickles)
    watch_what_is_loaded()


_WATCHED: Final[set[types.CodeType]] = set()

_COPIED_BY_PICKLE: Final = {
    "asyncio.locks": ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"),
    "asyncio.queues": ("Queue", "LifoQueue", "PriorityQueue"),
    "asyncio.runners": ("Runner",),
    "multiprocessing.connection": ("Connection",),
    "multiprocess.connection": ("Connection",),
    "shelve": ("Shelf", "BsdDbShelf", "DbfilenameShelf"),
    "dbm.dumb": ("_Database",),
}


def watch_what_is_loaded() -> None:
    """Has the same refused of packages that were not loaded yet."""
    for module, names in _COPIED_BY_PICKLE.items():
        if (loaded := sys.modules.get(module)) is not None:
            for name in names:
                kind: Any = getattr(loaded, name, None)
                if kind is not None and kind not in copyreg.dispatch_table:
                    copyreg.pickle(kind, _reduce_unless_watched)


def _reduce_unless_watched(thing: Any) -> Any:
    # The C pickler has no frame of its own: the caller of this function is whoever called `dumps`.
    if sys._getframe(1).f_code in _WATCHED:
        refusal(thing)
    return thing.__reduce_ex__(2)
