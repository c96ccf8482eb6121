"""What can be saved of a frame with an item that cannot be unpickled: all the others.

Only a frame that failed comes here. It is unpickled once more, slowly, by Python's own unpickler, which goes
on where the fast one stops: what raises is replaced by a `_Spoiled` object, and items that hold one are the
bad ones.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["salvage"]


def salvage(body: bytes, buffers: Sequence[memoryview], bad: Callable[[Exception], None]) -> list[Any]:
    """The items of a pickled list that can be unpickled.

    Args:
        body: the pickle of a list.
        buffers: its out-of-band buffers.
        bad: called with the error of each item that cannot.

    Raises:
        Exception: the pickle is no list, or is broken in itself.
    """
    good = []
    for item in _Salvager(io.BytesIO(body), buffers=buffers).load():
        try:
            pickle.dumps(item, 5)  # looks into every corner of it
        except _HoldsSpoiled as found:
            bad(found.error)
        else:
            good.append(item)
    return good


class _HoldsSpoiled(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Spoiled:
    """Stands where an object should be that raised when it was made; takes whatever is done to it."""

    error: Exception

    def __new__(cls, *_: Any, **__: Any) -> _Spoiled:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _ignore(self, *_: Any, **__: Any) -> None:
        pass

    append = extend = add = update = __setitem__ = __setstate__ = _ignore

    def __call__(self, *_: Any, **__: Any) -> _Spoiled:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise _HoldsSpoiled(self.error)

    __hash__ = object.__hash__


def _spoiled(error: Exception) -> _Spoiled:
    made = _Spoiled()
    made.error = error
    return made


Load = Callable[[Any], None]


class _Salvager(pickle._Unpickler):
    """Python's unpickler, with the opcodes that run foreign code guarded."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except Exception as error:
            return type(name, (_Spoiled,), {"error": error})


def _guard(opcode: bytes, replace: Callable[[Any, _Spoiled], None]) -> None:
    original: Load = pickle._Unpickler.dispatch[opcode[0]]

    def load(self: Any) -> None:
        try:
            original(self)
        except Exception as error:
            replace(self, _spoiled(error))

    _Salvager.dispatch[opcode[0]] = load


def _on_top(unpickler: Any, spoiled: _Spoiled) -> None:
    """The object is on the stack: perhaps also in the memo, for items that refer to it later."""
    made = unpickler.stack[-1]
    unpickler.stack[-1] = spoiled
    for key, known in unpickler.memo.items():
        if known is made:
            unpickler.memo[key] = spoiled


def _pushed(unpickler: Any, spoiled: _Spoiled) -> None:
    """What it was to be made of has been taken from the stack already."""
    unpickler.append(spoiled)


_guard(pickle.REDUCE, _on_top)
_guard(pickle.BUILD, _on_top)
_guard(pickle.NEWOBJ, _pushed)
_guard(pickle.NEWOBJ_EX, _pushed)
