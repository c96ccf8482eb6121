"""About how many bytes an item holds, so that what is kept can be bounded: cheap rather than exact.

Counted are `nbytes` of arrays and memoryviews, `memory_usage()` of data frames, `sys.getsizeof` of everything else, and
what lists, tuples, dicts and plain objects hold, two levels deep. Of a container only some values are looked at, and
stand for all, so that no item takes longer than some tens of microseconds. What is behind `__slots__`, in sets, or
deeper is not seen. Nothing here raises.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from types import FunctionType
from typing import Any, Final

__all__ = ["item_bytes"]

_LEVELS: Final = 2
_LOOKED_AT: Final = (0, 4, 8)
"""Values of a container that are looked at, by the levels that are left."""

_PLAIN: Final = frozenset({bool, bytes, bytearray, complex, float, int, str, type(None)})
"""Types whose `sys.getsizeof` says all."""


def item_bytes(item: Any, levels: int = _LEVELS) -> int:
    """About how many bytes an item holds.

    Args:
        item: of a user.
        levels: how deep to look into containers.
    """
    kind = type(item)
    if kind in _PLAIN:
        return sys.getsizeof(item)
    try:
        if kind is list or kind is tuple:
            return sys.getsizeof(item) + (_of_list(item, levels) if levels else 0)
        if kind is dict:
            return sys.getsizeof(item) + (_of_dict(item, levels) if levels else 0)
        nbytes = getattr(item, "nbytes", None) if hasattr(kind, "nbytes") else None  # asks no `__getattr__` of a user
        if type(nbytes) is int:
            return max(object.__sizeof__(item), nbytes)
        if type(kind.__sizeof__) is FunctionType:  # it may do anything: that of a data frame looks at every string
            size = object.__sizeof__(item)
            if hasattr(kind, "memory_usage"):
                return size + int(item.memory_usage().sum())
        else:
            size = sys.getsizeof(item)
        if not levels:
            return size
        if isinstance(item, list | tuple):
            return size + _of_list(item, levels)
        inner = item.__dict__ if hasattr(kind, "__dictoffset__") and kind.__dictoffset__ else None
        if type(inner) is dict:
            return size + _of_dict(inner, levels)
    except Exception:  # a user's class may do anything
        return 0
    return size


def _of_list(values: Sequence[Any], levels: int) -> int:
    """The bytes of all values, by some of them."""
    most = _LOOKED_AT[levels]
    count = len(values)
    return _of_some(values if count <= most else values[:: -(-count // most)], count, levels - 1)


def _of_dict(values: Mapping[Any, Any], levels: int) -> int:
    most = _LOOKED_AT[levels]
    count = len(values)
    return _of_some(list(values.values() if count <= most else islice(values.values(), most)), count, levels - 1)


def _of_some(some: Sequence[Any], count: int, levels: int) -> int:
    if not some:
        return 0
    size = 0
    for each in some:
        size += sys.getsizeof(each) if type(each) in _PLAIN else item_bytes(each, levels)
    return size * count // len(some)
