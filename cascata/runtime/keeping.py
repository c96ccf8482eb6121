"""Finds components that keep the item of a call for later, where it can be seen: in state, closures and globals.

    call begins: how long is each list, dict …? ──> call ends ──> did one of them grow by its item?

What such a node sends later may come of the kept item, whoever's call it is then. A call that has sent nothing has
kept its item when it is found in any of them. One that has sent something may remember the item in a set, or as a key:
that is what caches do. docs/embedding.md tells what stays unseen.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from ..model import ComponentSpec
from .state import StateCell

__all__ = ["Keeping"]

_NAMES: Final = 32
"""Attributes of an object, or entries of a dict, that are looked at: at every call of a node with state."""

_LAST: Final = 32
"""Items of a list that has grown, from its end, among which the kept one is looked for."""

_QUEUES: Final = (asyncio.Queue, queue.Queue)
_CONTAINERS: Final = (list, dict, set, deque, *_QUEUES)

Before = tuple[dict[int, int], list[int], dict[tuple[int, Any], Any]]
"""The sizes of the containers of a node and of those that it shares, and what its state has under names."""


class Keeping:
    """Watches where a component could keep items.

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
    def of(cls, component: ComponentSpec, states: Mapping[str, StateCell[Any]]) -> Keeping | None:
        """For a node; None when there is nowhere to keep anything, or the component says whether it keeps items."""
        if component.options.get("keeps") is not None:
            return None
        shared = _shared_by(component.runner)
        if not states and not shared:
            return None
        return cls([*states.values()], shared, alone=component.options.get("concurrency", 1) == 1)

    def before(self) -> Before:
        """To be called before a call of the runner: what `kept` compares with."""
        return (
            {id(each): _size(each) for each in self._own()},
            [_size(each) for each in self._shared],
            self._names(),
        )

    def kept(self, items: Iterable[Any], before: Before, *, sent: bool) -> bool:
        """Whether a call that has ended kept one of its items. What was there before is not kept by this call.

        Args:
            items: of the call.
            before: what `before` gave.
            sent: whether the call sent something.
        """
        own, shared, names = before
        grown = [each for each in self._own() if _size(each) > own.get(id(each), 0)]
        if not sent and self._alone and not all(isinstance(each, dict | set) for each in grown):
            return True  # of what has become of the item, perhaps
        grown += [each for each, size in zip(self._shared, shared, strict=True) if _size(each) > size]
        now = self._names()
        changed = [(names.get(key), value) for key, value in now.items() if names.get(key) is not value]
        return any(
            any(_is_in(item, each, sent=sent) for each in grown)
            or any(value is item and not _counted(earlier, value, sent=sent) for earlier, value in changed)
            for item in items
            if item is not None and not isinstance(item, bool)
        )

    def _own(self) -> Iterator[Any]:
        """The lists, queues, dicts … that are the state, or an attribute of it."""
        for cell in self._states:
            if isinstance(cell.value, _CONTAINERS):
                yield cell.value
            for _, inner in _named(cell.value):
                if isinstance(inner, _CONTAINERS):
                    yield inner

    def _names(self) -> dict[tuple[int, Any], Any]:
        """What the state is, and what it has under names."""
        found: dict[tuple[int, Any], Any] = {}
        for index, cell in enumerate(self._states):
            found[index, None] = cell.value
            found.update(((index, name), value) for name, value in _named(cell.value))
        return found


def _size(container: Any) -> int:
    size: int = container.qsize() if isinstance(container, _QUEUES) else len(container)
    return size


def _named(value: Any) -> Iterable[tuple[Any, Any]]:
    names = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    return [*islice(names.items(), _NAMES)] if isinstance(names, dict) else ()


def _is_in(item: Any, container: Any, *, sent: bool) -> bool:
    """Whether it is among what was put last into a container, by itself or in a tuple.

    Args:
        item: that is looked for.
        container: that has grown.
        sent: whether the call sent something.
    """
    if isinstance(container, _QUEUES):
        return False  # nobody can look into it
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
    return isinstance(after, int | float) and (sent or (isinstance(before, int | float) and after == before + 1))


def _shared_by(runner: Callable[..., Any]) -> list[Any]:
    function = inspect.unwrap(runner)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    found = [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # nothing was put there yet
            continue
    return [each for each in found if isinstance(each, _CONTAINERS)]
