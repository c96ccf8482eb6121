"""What the ready-made nodes ask of their constants. Each check gives the value back, or raises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["above_zero", "function", "whole"]

F = TypeVar("F", bound=Callable[..., Any])


def whole(port: str, value: Any, least: int) -> int:
    """A whole number of at least `least`. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ValueError(f"{port!r} must be a whole number of at least {least}, not {value!r}")


def above_zero(port: str, value: Any, what: str) -> float:
    """A finite number above 0: of seconds, or of items. Raises `ValueError`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return value
    raise ValueError(f"{port!r} must be a number of {what} above 0, not {value!r}")


def function(port: str, value: F) -> F:
    """Something that can be called. Raises `TypeError`."""
    if not callable(value):
        raise TypeError(f"{port!r} must be a function of one item, not {value!r}: write `node.{port} < function`")
    return value
