"""About how many bytes an item holds, for whoever keeps items: cheap rather than exact.

Counted are `nbytes` of arrays and memoryviews, `sys.getsizeof` of everything else, and what lists, tuples, dicts and
plain objects hold, two levels deep. Of a long container only some values are looked at, and stand for all. What is
behind `__slots__`, in sets, or deeper is not seen. Nothing here raises.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any, Final

__all__ = ["weight"]

_LEVELS: Final = 2
_LOOKED_AT: Final = 32
"""Values of a container that are looked at."""

_PLAIN: Final = frozenset({bool, bytes, bytearray, complex, float, int, str, type(None)})
"""Types whose `sys.getsizeof` says all."""


def weight(item: Any, levels: int = _LEVELS) -> int:
    """About how many bytes an item holds.

    Args:
        item: of a user.
        levels: how deep to look into containers.
    """
    kind = type(item)
    if kind in _PLAIN:
        return sys.getsizeof(item)
    try:
        size = sys.getsizeof(item)
        nbytes = getattr(item, "nbytes", None) if hasattr(kind, "nbytes") else None  # asks no `__getattr__` of a user
        if type(nbytes) is int:
            return max(size, nbytes)
        if not levels:
            return size
        if kind is dict:
            return size + _of_all(list(islice(item.values(), _LOOKED_AT)), len(item), levels)
        if isinstance(item, list | tuple):
            step = -(-len(item) // _LOOKED_AT) or 1
            return size + _of_all(item[::step], len(item), levels)
        inner = item.__dict__ if hasattr(kind, "__dictoffset__") and kind.__dictoffset__ else None
        if type(inner) is dict:
            return size + _of_all(list(islice(inner.values(), _LOOKED_AT)), len(inner), levels)
    except Exception:  # a user's class may do anything
        return 0
    return size


def _of_all(some: Any, count: int, levels: int) -> int:
    """What all values weigh, by some of them."""
    if not some:
        return 0
    return sum(weight(each, levels - 1) for each in some) * count // len(some)
