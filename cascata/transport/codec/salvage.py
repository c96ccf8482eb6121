"""What can be had of a frame when one of its items cannot be unpickled: all the others.

    mark  item 0  item 1 ── fails ──> a hole, with its place on the stack noted ──> item 1 is left out
                                      (what takes the hole in is spoilt with it)

A frame is the pickle of a list. The interpreter's own unpickler, the one that is written in Python, is told to go on
after a failure. A pickle is a program for a stack machine; where a hole goes is seen by following which slot of the
stack it is in: an operation that takes it off the stack leaves what it made of it on top.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final

from .out_of_band import Blobs

__all__ = ["salvage"]


def salvage(
    body: bytes | bytearray | memoryview, buffers: Sequence[Any] = (), blobs: Sequence[memoryview] = ()
) -> tuple[list[Any], list[BaseException]]:
    """The items of a pickled list that can be unpickled.

    Args:
        body: the pickle.
        buffers: what it keeps out of band.
        blobs: what it names by number.

    Returns:
        The items, in order, and for each of those that are left out what it raised.

    Raises:
        Exception: one item cannot be told from another.
    """
    unpickler = _Unpickler(io.BytesIO(body), buffers, blobs)
    items = unpickler.load()
    spoilt = unpickler.spoilt
    if len(items) == 1:  # comes without a mark of its own
        problems = [*spoilt.values(), *(why for _, _, why in unpickler.holes)]
        return ([], problems[:1]) if problems else (items, [])
    return [item for index, item in enumerate(items) if index not in spoilt], list(spoilt.values())


class _Hole:
    """Is on the stack in place of what could not be made."""


_HOLE: Final = _Hole()

_Load = Callable[[Any], None]


class _Unpickler(pickle._Unpickler):
    """Goes on after failures.

    Attributes:
        spoilt: index in the list -> what was raised.
        holes: marks below it, place above the last of them, what was raised; of the batch at hand.
    """

    stack: list[Any]
    metastack: list[list[Any]]
    memo: dict[int, Any]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BytesIO, buffers: Sequence[Any], blobs: Sequence[memoryview]) -> None:
        super().__init__(file, buffers=buffers)
        self._blob = Blobs(blobs)
        self.spoilt: dict[int, BaseException] = {}
        self._complete = 0  # items of the list in batches that are complete
        self.holes: list[tuple[int, int, BaseException]] = []
        self._tainted: dict[int, BaseException] = {}  # what a hole went into, by its key in the memo

    def persistent_load(self, pid: Any) -> Any:
        return self._blob(pid)

    def follow(self) -> None:
        """After an operation: a hole that is no longer on the stack is in what is on top."""
        level, top = len(self.metastack), len(self.stack) - 1
        for index, (hole_level, place, why) in enumerate(self.holes):
            if (hole_level, place) > (level, top):
                self.holes[index] = (level, top, why)
                self._taint(self.stack[-1], why)

    def _taint(self, thing: Any, why: BaseException) -> None:
        for key, value in self.memo.items():
            if value is thing:
                self._tainted[key] = why

    def fail(self, why: BaseException) -> None:
        """What is on top is spoilt."""
        self.holes.append((len(self.metastack), len(self.stack) - 1, why))
        if self.stack[-1] is not _HOLE:
            self._taint(self.stack[-1], why)

    def memoized(self) -> None:
        """What is on top was given a key."""
        slot = len(self.metastack), len(self.stack) - 1
        for level, place, why in self.holes:
            if (level, place) == slot:
                self._tainted[len(self.memo) - 1] = why

    def recall(self, key: int) -> None:
        self.stack.append(self.memo[key])
        if key in self._tainted:
            self.fail(self._tainted[key])

    def finish_batch(self, load: _Load) -> None:
        """The list comes as `mark item item ... APPENDS`, in batches: now a place on the stack is an item's index."""
        for _, place, why in sorted(self.holes, key=lambda hole: hole[1]):
            self.spoilt.setdefault(self._complete + place, why)
        self.holes.clear()
        load(self)
        self._complete = len(self.stack[-1])


def _step(load: _Load) -> _Load:
    def step(self: _Unpickler) -> None:
        load(self)
        self.follow()

    return step


def _guarded(fill: Callable[[list[Any]], None]) -> Callable[[_Load], _Load]:
    """An operation that may fail; then `fill(stack)` puts on top what is spoilt."""

    def guard(load: _Load) -> _Load:
        def step(self: _Unpickler) -> None:
            try:
                load(self)
            except BaseException as problem:  # of an item's own code, which may raise anything
                fill(self.stack)
                self.follow()
                self.fail(problem)
            else:
                self.follow()

        return step

    return guard


def _instead_of_the_function(stack: list[Any]) -> None:
    stack[-1] = _HOLE  # the function itself is whole, and others may use it


# When these fail, they have taken their operands off the stack.
_makes: Final = _guarded(lambda stack: stack.append(_HOLE))
_calls: Final = _guarded(_instead_of_the_function)
# What these change is on top, also when they fail.
_changes: Final = _guarded(lambda _: None)


def _appends(load: _Load) -> _Load:
    change = _changes(load)

    def step(self: _Unpickler) -> None:
        if len(self.metastack) == 1:
            self.finish_batch(load)
        else:
            change(self)

    return step


def _memoizes(load: _Load) -> _Load:
    def step(self: _Unpickler) -> None:
        load(self)
        self.memoized()

    return step


def _recalls(bytes_of_key: int) -> _Load:
    def step(self: _Unpickler) -> None:
        self.recall(int.from_bytes(self.read(bytes_of_key), "little"))

    return step


def _dispatch() -> dict[int, _Load]:
    kinds: dict[bytes, Callable[[_Load], _Load]] = {
        pickle.APPENDS: _appends,
        pickle.MEMOIZE: _memoizes,
        pickle.REDUCE: _calls,
        pickle.STOP: lambda load: load,
        pickle.BINGET: lambda _: _recalls(1),
        pickle.LONG_BINGET: lambda _: _recalls(4),
        **dict.fromkeys((pickle.STACK_GLOBAL, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.FROZENSET), _makes),
        **dict.fromkeys((pickle.BUILD, pickle.APPEND, pickle.SETITEM, pickle.SETITEMS, pickle.ADDITEMS), _changes),
    }
    ordinary: dict[int, _Load] = dict(pickle._Unpickler.dispatch)
    return {code: kinds.get(bytes([code]), _step)(load) for code, load in ordinary.items()}


_Unpickler.dispatch = _dispatch()
