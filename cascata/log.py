"""The logger `"cascata"` of the standard library, which knows the node that logs.

    log.info(...) in a runner ── tagged with node, component, worker
        │ inline                          │ in a worker process
        ▼                                 ▼
    the program's handlers  <── replayed ── forwarded (cascata.observe.log)

`from cascata import log` gives this module. Its functions are the logger's own methods, so that the caller's
file and line are right, and handlers, levels, filters and pytest's `caplog` work as with any logger. Nothing is printed
in a program that did not ask: with `show`, with `logging.basicConfig`, or with a handler of its own.

Every record of the logger, and of its children (`"cascata.x"`) when they propagate, has the attributes `node`,
`component` and `worker`. They are None outside a runner, so that `%(node)s` in a format never fails. (A filter or
handler that sits on a child itself sees its record before it is tagged, since records pass upwards.)

Nothing here imports anything of cascata.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from contextvars import ContextVar
from typing import Any, Final, TextIO

from .records import dataclass

__all__ = [
    "Where",
    "critical",
    "current",
    "debug",
    "error",
    "exception",
    "hide",
    "info",
    "log",
    "logger",
    "show",
    "tag",
    "warning",
]


@dataclass(frozen=True, slots=True)
class Where:
    """What is running: the name of the node, the name of its component class, the index of its worker.

    A worker's own code, outside any node, has a `worker` only.
    """

    node: str | None = None
    component: str | None = None
    worker: int | None = None


_NOWHERE: Final = Where()

current: Final[ContextVar[Where]] = ContextVar("cascata.log.current", default=_NOWHERE)
"""What is running here. Set by the runtime in each node's task, and copied from there into its subtasks and threads."""


def tag(record: logging.LogRecord) -> bool:
    """Puts `node`, `component` and `worker` on a record that lacks them. A logging filter: always True."""
    where = current.get()
    attributes = record.__dict__
    attributes.setdefault("node", where.node)  # what a caller gave as `extra=` stays, and so does a replayed record's
    attributes.setdefault("component", where.component)
    attributes.setdefault("worker", where.worker)
    return True


class _Tagger(logging.NullHandler):
    """Keeps the library silent as a `NullHandler` does, and tags the records of child loggers.

    A logger's filters see only what is logged on that very logger, but its handlers see what its
    children propagate, before the root's handlers do. A global record factory would reach further, and
    would reach the records of every other library too.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        return tag(record)


logger: Final = logging.getLogger("cascata")
logger.addFilter(tag)
logger.addHandler(_Tagger())

# Bound methods, not wrappers: findCaller needs no stacklevel, and a disabled level costs what it costs in logging.
debug: Final = logger.debug
info: Final = logger.info
warning: Final = logger.warning
error: Final = logger.error
exception: Final = logger.exception
critical: Final = logger.critical
log: Final = logger.log


_COLOURS: Final = (  # the least level that has each colour, the highest first
    (logging.CRITICAL, "\x1b[1;31m"),
    (logging.ERROR, "\x1b[31m"),
    (logging.WARNING, "\x1b[33m"),
    (logging.INFO, "\x1b[32m"),
)
_FAINT: Final = "\x1b[2m"
_NODE: Final = "\x1b[36m"
_RESET: Final = "\x1b[0m"


class _Format(logging.Formatter):
    """`INFO - name@Class : message`; outside a runner `INFO : message`."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        level, where = record.levelname, ""
        node, component = getattr(record, "node", None), getattr(record, "component", None)
        if node is not None:
            where = f"{node}@{component}" if component is not None else f"{node}"
        if self._colours:
            colour = next((colour for least, colour in _COLOURS if record.levelno >= least), _FAINT)
            level = f"{colour}{level}{_RESET}"
            where = where and f"{_NODE}{where}{_RESET}"
        return f"{level} - {where} : {record.message}" if where else f"{level} : {record.message}"


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, OSError):  # no stream of io (pytest has such), or a closed one
        return False


def _wants_colours(stream: object) -> bool:
    # https://no-color.org: NO_COLOR counts when it is set and not empty. Windows has colours where its Terminal is.
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return _is_terminal(stream) and (sys.platform != "win32" or "WT_SESSION" in os.environ)


def _is_console(stream: object) -> bool:
    standard = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return stream is not None and (any(stream is each for each in standard) or _is_terminal(stream))


_SHOWN: Final = "cascata_shown"


def _not_shown(record: logging.LogRecord) -> bool:
    return _SHOWN not in record.__dict__


class _Console(logging.Handler):
    """What `show` installs. Writes to its stream, by default to whatever `sys.stderr` is at the moment.

    Records go on to the root logger's handlers, as they should: to a file, to `caplog`. But a handler
    there that prints to the console would print them a second time, in another format. So those, and
    only those, get a filter that leaves out the records which this handler has printed. They are looked
    for at each record, because `logging.basicConfig` may be called after `show`.
    """

    def __init__(self, stream: TextIO | None, level: int) -> None:
        super().__init__(level)
        self._stream = stream
        self._plain, self._coloured = _Format(colours=False), _Format(colours=True)
        self._level_before = logger.level
        self._level_set = logger.level
        if logger.getEffectiveLevel() > level:
            self._level_set = level
            logger.setLevel(level)

    def remove(self) -> None:
        """Undoes what `show` did, except what the user changed since."""
        logger.removeHandler(self)
        if logger.level == self._level_set:
            logger.setLevel(self._level_before)
        for handler in logging.root.handlers:
            handler.removeFilter(_not_shown)
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = self._stream if self._stream is not None else sys.stderr
            if stream is None:  # a program without a console (pythonw)
                return
            formatter = self._coloured if _wants_colours(stream) else self._plain
            stream.write(formatter.format(record) + "\n")
            stream.flush()
            if _is_console(stream):
                self._keep_from_root(record)
        except RecursionError:
            raise
        except Exception:
            with contextlib.suppress(Exception):  # it prints, and the console may be what is broken
                self.handleError(record)

    def _keep_from_root(self, record: logging.LogRecord) -> None:
        record.__dict__[_SHOWN] = True
        for handler in logging.root.handlers:
            console: Any = getattr(handler, "console", None)  # rich's handler has one, with a file
            if _is_console(getattr(handler, "stream", None)) or _is_console(getattr(console, "file", None)):
                handler.addFilter(_not_shown)  # once: addFilter leaves out what is there already


def _level_number(level: int | str) -> int:
    known = logging.getLevelNamesMapping()
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    if isinstance(level, str) and level.upper() in known:
        return known[level.upper()]
    names = ", ".join(name for name, number in known.items() if number != logging.NOTSET)
    raise ValueError(f"log.show: {level!r} is no logging level. Write one of {names}, or a number.")


def show(level: int | str = "INFO", stream: TextIO | None = None) -> None:
    """Prints what is logged as `INFO - name@Class : message`, in colour on a terminal (`NO_COLOR` switches it off).

    A second call replaces the first. When the root logger has a handler that prints to the console as well, each
    record is printed once, in this format; the root's other handlers (files, `caplog`) get every record as before.

    Args:
        level: the least level that is printed, by name or number. The logger's own level is lowered to it when
            needed, and never raised: another handler may want more.
        stream: where to; None: `sys.stderr`, as it is when a record is printed.

    Raises:
        ValueError: there is no such level.
    """
    number = _level_number(level)
    hide()
    logger.addHandler(_Console(stream, number))


def hide() -> None:
    """Undoes `show`: its handler goes, and the logger's level is again what it was. Does nothing without a `show`."""
    for handler in logger.handlers[:]:
        if isinstance(handler, _Console):
            handler.remove()
