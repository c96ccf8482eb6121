"""Values that JSON can hold: those that come back equal and of the same type, and nothing else."""

from __future__ import annotations

import math
from typing import Any, Final

from ..errors import DefinitionError, short_repr

__all__ = ["plain"]

_DEEPEST: Final = 100
"""Levels of nesting. Python's reader of JSON gives up far deeper, with an error that names no port."""

_LARGEST: Final = 14_000
"""Bits of a whole number: beyond 4300 digits Python refuses to write or read it as a text."""


def plain(value: Any, where: str) -> Any:
    """A copy of a value, made of None, bool, int, float, str, list and dict (with str as keys) only.

    Args:
        value: what an in-port or an initializer was given.
        where: the port, for the error's text.

    Raises:
        DefinitionError: some part of the value would not come back equal and of the same type.
    """
    return _plain(value, where, "", 0)


def _plain(value: Any, where: str, path: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if value.bit_length() <= _LARGEST:
            return value
        raise DefinitionError(f"{where}: a number of {value.bit_length()} bits is too large to be saved as JSON.")
    if kind is float:
        if math.isfinite(value):
            return value
        raise _refusal(value, where, path, "JSON has no such number")
    if depth == _DEEPEST:
        raise _refusal(value, where, path, f"it is nested more than {_DEEPEST} deep, perhaps in itself")
    if kind is list:
        return [_plain(each, where, f"{path}[{index}]", depth + 1) for index, each in enumerate(value)]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise _refusal(value, where, path, f"its key {key!r} would come back as a text")
        return {key: _plain(each, where, f"{path}[{key!r}]", depth + 1) for key, each in value.items()}
    why = "it would come back as a list" if isinstance(value, list | tuple) else f"JSON has no {kind.__qualname__}"
    raise _refusal(value, where, path, why)


def _refusal(value: Any, where: str, path: str, why: str) -> DefinitionError:
    at = f"{where}, at {path}" if path else where
    return DefinitionError(
        f"{at}: the value {short_repr(value)} ({type(value).__qualname__}) cannot be saved as JSON: {why}. These "
        "can be: None, True, False, numbers, texts, lists, and dicts with texts as keys. Give the port any other value "
        "after loading."
    )
