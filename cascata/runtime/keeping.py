"""Finds components that keep the item of a call for later, where it can be seen: in state, closures and globals.

    call begins: how long is each list, dict …? ──> call ends, nothing was sent ──> did one of them grow by the item?

What such a node sends later may come of the kept item, whoever's call it is then. Only calls that sent nothing are
looked at: who has answered may remember what it likes. docs/embedding.md tells what stays unseen.
"""

from __future__ import annotations

import inspect
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

_CONTAINERS: Final = (list, dict, set, deque)


class Keeping:
    """Watches where a component could keep items.

    Args:
        states: of the node.
        shared: containers that the runner reaches by its closure and its module's globals.
    """

    def __init__(self, states: Sequence[StateCell[Any]], shared: Sequence[Any]) -> None:
        self._states = states
        self._shared = shared

    @classmethod
    def of(cls, component: ComponentSpec, states: Mapping[str, StateCell[Any]]) -> Keeping | None:
        """For a node; None when there is nowhere to keep anything, or the component says whether it keeps items."""
        if component.options.get("keeps") is not None:
            return None
        shared = _shared_by(component.runner)
        return cls([*states.values()], shared) if states or shared else None

    def begin(self, items: Iterable[Any]) -> Callable[[], bool]:
        """To be called before a call of the runner; what it returns tells afterwards whether an item was kept.

        An item that was there before is not kept by this call: it is known, and was left out for that.
        """
        wanted = [item for item in items if item is not None and not isinstance(item, bool)]
        sizes = {id(each): len(each) for each in self._containers()}
        names = self._names()

        def kept() -> bool:
            grown = [each for each in self._containers() if len(each) > sizes.get(id(each), 0)]
            named = self._names()
            changed = [(names.get(key), value) for key, value in named.items() if names.get(key) is not value]
            return any(
                any(_is_in(item, each) for each in grown)
                or any(value is item and not _counted(before, value) for before, value in changed)
                for item in wanted
            )

        return kept

    def _containers(self) -> Iterator[Any]:
        """The lists, dicts … that are the state, or an attribute of it: the items of an `asyncio.Queue` are one."""
        yield from self._shared
        for cell in self._states:
            value = cell.value
            if isinstance(value, _CONTAINERS):
                yield value
            for _, inner in _named(value):
                if isinstance(inner, _CONTAINERS):
                    yield inner

    def _names(self) -> dict[tuple[int, Any], Any]:
        """What the state is, and what it has under names."""
        found: dict[tuple[int, Any], Any] = {}
        for index, cell in enumerate(self._states):
            found[index, None] = cell.value
            found.update(((index, name), value) for name, value in _named(cell.value))
        return found


def _named(value: Any) -> Iterable[tuple[Any, Any]]:
    names = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    return [*islice(names.items(), _NAMES)] if isinstance(names, dict) else ()


def _is_in(item: Any, container: Any) -> bool:
    """Whether it is among what was put last into a container, by itself or in a tuple."""
    if isinstance(container, set):
        try:
            return item in container
        except Exception:  # its hash and its comparison may be a user's
            return False
    if isinstance(container, dict):
        last = [each for pair in islice(reversed(container.items()), _LAST) for each in pair]
    else:
        last = [*islice(reversed(container), _LAST)]
    return any(each is item or (isinstance(each, tuple) and any(part is item for part in each)) for each in last)


def _counted(before: Any, after: Any) -> bool:
    """Whether a number is a counter's rather than an item."""
    return isinstance(before, int | float) and isinstance(after, int | float) and after == before + 1


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
