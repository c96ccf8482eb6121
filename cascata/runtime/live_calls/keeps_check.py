"""Finds components that keep the item of a call for later, where it can be seen: in state, closures and globals.

    call begins: how long is each list, dict …? ──> call ends ──> did one of them grow by its item?

What such a node sends later may come of the kept item, and go to another caller. A call that has sent nothing has
kept its item when it is found in any of them. One that has sent something may remember the item in a set, or as a key:
that is what caches do. docs/embedding.md tells what stays unseen.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from ...model import ComponentSpec
from ..persist import StateCell

__all__ = ["KeepsCheck"]

_NAMES: Final = 32
"""Attributes of an object, or entries of a dict, that are looked at: at every call of a node with state."""

_LAST: Final = 32
"""Items of a list that has grown, from its end, among which the kept one is looked for."""

_QUEUES: Final = (asyncio.Queue, queue.Queue)
_CONTAINERS: Final = (list, dict, set, deque, *_QUEUES)

Seen = tuple[Any, int, dict[Any, tuple[Any, int]]]
"""A state, its size, and what it has under names with their sizes."""

Before = tuple[list[Seen], list[int]]
"""The states of a node as they were, and the sizes of the containers that it shares."""


class KeepsCheck:
    """Compares, before and after each call of a runner, the places where it could keep its item.

    Args:
        states: of the node.
        shared: containers that the runner reaches by its closure and its module's globals.
        alone: whether one call runs at a time: what changes meanwhile is its doing.
    """

    def __init__(self, states: Sequence[StateCell[Any]], shared: Sequence[Any], *, alone: bool) -> None:
        self._states = states
        self._shared = shared
        self._alone = alone

    @classmethod
    def of(cls, component: ComponentSpec, states: Mapping[str, StateCell[Any]]) -> KeepsCheck | None:
        """The check for a node; None when it has no place to keep items, or declares whether it does (`keeps=`)."""
        if component.options.get("keeps") is not None:
            return None
        shared = _shared_by(component.runner)
        if not states and not shared:
            return None
        return cls([*states.values()], shared, alone=component.options.get("concurrency", 1) == 1)

    def before(self) -> Before:
        """Looks at the places before a call of the runner: `kept` compares with what this returns."""
        return [_look(cell.value) for cell in self._states], [_size(each) for each in self._shared]

    def kept(self, items: Iterable[Any], before: Before, *, sent: bool) -> bool:
        """Whether a call that has ended kept one of its items. What was there before is not kept by this call.

        Args:
            items: of the call.
            before: what `before` returned.
            sent: whether the call sent something.
        """
        states, shared = before
        grown: list[Any] = []
        changed: list[tuple[Any, Any]] = []
        for cell, (value, size, names) in zip(self._states, states, strict=True):
            _compare(value, size, cell.value, grown, changed)
            for name, inner in _named(cell.value):
                earlier, earlier_size = names.get(name, (None, 0))
                _compare(earlier, earlier_size, inner, grown, changed)
        if grown and not sent and self._alone and not all(isinstance(each, dict | set) for each in grown):
            return True  # of what has become of the item, perhaps
        grown += [each for each, size in zip(self._shared, shared, strict=True) if _size(each) > size]
        if not grown and not changed:
            return False
        return any(
            any(_is_in(item, each, sent=sent) for each in grown)
            or any(value is item and not _counted(earlier, value, sent=sent) for earlier, value in changed)
            for item in items
            if item is not None and not isinstance(item, bool)
        )


def _look(value: Any) -> Seen:
    """A state as it is: itself, its size, and what it has under names with their sizes."""
    names = {name: (inner, _size(inner)) for name, inner in _named(value)}
    return value, _size(value), names


def _compare(before: Any, size: int, now: Any, grown: list[Any], changed: list[tuple[Any, Any]]) -> None:
    """Notes a value that was replaced, and a container that has grown, or came with something in it."""
    if now is not before:
        changed.append((before, now))
        size = 0
    if _size(now) > size:
        grown.append(now)


def _size(value: Any) -> int:
    """How much is in a container; 0 for anything else."""
    if not isinstance(value, _CONTAINERS):
        return 0
    size: int = value.qsize() if isinstance(value, _QUEUES) else len(value)
    return size


def _named(value: Any) -> Iterable[tuple[Any, Any]]:
    """The entries of a dict, or the attributes of an object; not all, if there are many."""
    names = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    return [*islice(names.items(), _NAMES)] if names and isinstance(names, dict) else ()


def _is_in(item: Any, container: Any, *, sent: bool) -> bool:
    """Whether it is among what was put last into a container, by itself or in a tuple.

    Args:
        item: that is looked for.
        container: that has grown.
        sent: whether the call sent something.
    """
    if isinstance(container, _QUEUES):
        return False  # one cannot look into it without taking
    if isinstance(container, set):
        try:
            return not sent and item in container
        except Exception:  # its hash and its comparison may be a user's
            return False
    if isinstance(container, dict):
        last = [] if sent else [*islice(reversed(container), _LAST)]
        if not isinstance(item, int | float):  # else it is a count, perhaps
            last += islice(reversed(container.values()), _LAST)
    else:
        last = [*islice(reversed(container), _LAST)]
    return any(each is item or (isinstance(each, tuple) and any(part is item for part in each)) for each in last)


def _counted(before: Any, after: Any, *, sent: bool) -> bool:
    """Whether a number may be a counter's, or a sum, rather than an item."""
    if not isinstance(after, int | float):
        return False
    return sent or after == (before if isinstance(before, int | float) else 0) + 1


def _shared_by(runner: Callable[..., Any]) -> list[Any]:
    """The containers that a runner reaches by its closure and by the globals that it names."""
    function = inspect.unwrap(runner)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    found = [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # the cell is empty
            continue
    return [each for each in found if isinstance(each, _CONTAINERS)]
