"""Carries what is logged in a worker to the program's own handlers.

    worker:  logger "cascata" and children ──> _Forwarder ── dict ──> send ─┐   (the engine's way)
    parent:  the logger of that name, its handlers  <── replay(dict) <──────┘

A dict holds plain values only, so that any pickler carries it. Whatever an `extra=` holds besides is
pickled on its own, next to its `repr`: a value that one side cannot write or the other cannot read
costs that value, never the record, and never the connection.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from cascata.log import logger, tag

__all__ = ["install_forwarding", "replay", "worker_level"]

_PLAIN: Final = (str, int, float, bool, bytes, type(None))
_OTHERS: Final = "cascata_others"  # the key of the values that are not plain: name -> (repr, pickle or None)
_LEFT_OUT: Final = frozenset({"args", "exc_info", "message", "asctime"})  # put into msg and exc_text, or made anew
_NEVER: Final = sys.maxsize  # a level that no record reaches

_formatter: Final = logging.Formatter()


def _family() -> Iterator[logging.Logger]:
    """The logger "cascata" and its children, as far as they were made."""
    yield logger
    for name, each in list(logger.manager.loggerDict.items()):
        if name.startswith("cascata.") and isinstance(each, logging.Logger):  # else a placeholder
            yield each


def worker_level() -> int:
    """The least level that any logger of the family lets through here: what a worker has to send.

    Records below it are not even made in workers. The parent asks each logger again when it replays, so a child that
    wants more than the others gets it alone.
    """
    levels = (each.getEffectiveLevel() for each in _family() if not each.disabled)
    return max(min(levels, default=_NEVER), logger.manager.disable + 1)


def install_forwarding(send: Callable[[dict[str, Any]], None], level: int) -> None:
    """Makes a worker's loggers send what they are given, and nothing else.

    Handlers, filters and levels that a forked worker inherits are taken off "cascata" and its children: they are the
    parent's matter, and apply there, once.

    Args:
        send: takes one record as a dict of plain values. May be called from any thread. What it raises is kept from
            the code that logs; what it logs itself is dropped.
        level: the least level to send, from `worker_level` in the parent.
    """
    for each in _family():
        each.handlers.clear()
        each.filters.clear()
        each.setLevel(logging.NOTSET)
        each.propagate = True
        each.disabled = False
    logger.addHandler(_Forwarder(send))
    logger.setLevel(level)
    logger.propagate = False


def replay(data: dict[str, Any]) -> None:
    """Hands a worker's record to the logger of its name here, when that is enabled for the record's level.

    Raises nothing: what a handler or a filter of the program raises goes where `logging` sends its own errors.
    """
    attributes = {name: value for name, value in data.items() if name != _OTHERS}
    for name, (text, pickled) in data.get(_OTHERS, {}).items():
        attributes[name] = _unpickled(text, pickled)
    record = logging.makeLogRecord(attributes)
    try:
        target = logging.getLogger(record.name)
        if target.isEnabledFor(record.levelno):
            target.handle(record)
    except Exception:
        _complain(logging.NullHandler(), record)


class _Forwarder(logging.Handler):
    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send
        self._busy = threading.local()  # per thread: another thread's record is not a recursion

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(self._busy, "sending", False):
            return  # logged while sending: it would come here again, and again
        self._busy.sending = True
        try:
            self._send(_as_dict(record))
        except OSError:
            pass  # the parent is gone, and its end is this worker's too: nobody is left to tell
        except Exception:
            _complain(self, record)
        finally:
            self._busy.sending = False


def _complain(handler: logging.Handler, record: logging.LogRecord) -> None:
    with contextlib.suppress(Exception):  # it prints to sys.stderr, which may be closed
        handler.handleError(record)


def _as_dict(record: logging.LogRecord) -> dict[str, Any]:
    tag(record)  # the filter on the logger does not see a child's record
    data: dict[str, Any] = {}
    others: dict[str, tuple[str, bytes | None]] = {}
    for name, value in record.__dict__.items():
        if name in _LEFT_OUT:
            continue
        if type(value) in _PLAIN:
            data[name] = value
        elif name not in {"msg", "levelno"}:
            others[name] = _repr(value), _pickled(value)
    data["levelno"] = int(record.levelno)  # an IntEnum is no plain value
    data["msg"] = _message(record)
    data["args"] = None  # so that a "%" in the message is left alone
    data["exc_info"] = None
    if record.exc_info and not record.exc_text:
        data["exc_text"] = _formatter.formatException(record.exc_info)
    if others:
        data[_OTHERS] = others
    return data


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as problem:  # "%d" with a text, a missing argument, a __str__ that raises
        return f"{_repr(record.msg)} with arguments {_repr(record.args)} ({type(problem).__name__}: {problem})"
    return str.__str__(text)  # of a subclass, the plain text


def _repr(value: object) -> str:
    try:
        return str.__str__(repr(value))
    except Exception as problem:
        return f"<{type(value).__name__}, whose repr raised {type(problem).__name__}>"


def _pickled(value: object) -> bytes | None:
    try:
        return pickle.dumps(value)
    except Exception:
        return None


def _unpickled(text: str, pickled: bytes | None) -> Any:
    if pickled is None:
        return text
    try:
        return pickle.loads(pickled)
    except Exception:
        return text
