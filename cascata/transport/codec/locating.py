"""Where in an object something lies that cannot travel. Only an error needs to know: see `process_bound`."""

from __future__ import annotations

import functools
import gc
import types
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from ...records import dataclass
from .process_bound import OPEN_FILE, Bound, kind_of, name_of, says_how, standard_name

__all__ = ["Found", "bound_in", "first_bound"]

MOST_LOOKED_AT: Final = 100_000
"""Objects that are looked at to find the way to a culprit."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where something that cannot travel was found.

    Attributes:
        text: which it is, where, and what to do.
        type: the name of its type.
        harmless: see `Kind`.
    """

    text: str
    type: str
    harmless: bool


def bound_in(root: Any, label: str, problem: BaseException) -> Found | None:
    """What of `root` was the problem, once it could not be pickled.

    Args:
        root: what was to be pickled.
        label: its name in the text.
        problem: what pickling it raised. Lets go of the thing that it holds.

    Returns:
        What it was and where; None when the problem has another reason.
    """
    if not isinstance(problem, Bound) or problem.thing is None:
        return first_bound(root, label)
    culprit, problem.thing = problem.thing, None
    return _told(*(_locate(root, label, lambda thing: thing is culprit) or (f"what {label} holds", culprit)))


def first_bound(root: Any, label: str, *, inherits: bool = False) -> Found | None:
    """The first thing in `root` that cannot travel, and where it is.

    Args:
        root: where to search.
        label: its name in the text.
        inherits: whether it goes to a process that inherits the memory of this one. Then the search is a short one.
    """

    def wanted(thing: Any) -> bool:
        kind = kind_of(thing)
        return kind is not None and not (
            (inherits and kind.inherited) or (kind is OPEN_FILE and standard_name(thing) is not None)
        )

    def into(kind: type) -> bool:
        return not any(map(says_how, kind.__mro__)) and (not inherits or kind.__module__ == "__main__")

    found = _locate(root, label, wanted, into, MOST_LOOKED_AT // 20 if inherits else MOST_LOOKED_AT)
    return None if found is None else _told(*found)


def _told(path: str, thing: Any) -> Found:
    kind = kind_of(thing)
    assert kind is not None  # it was found for being of one
    return Found(
        f"{path} is {kind.what} ({name_of(type(thing))}), and {kind.why}. {kind.instead}",
        type(thing).__name__,
        kind.harmless,
    )


def _locate(
    root: Any,
    label: str,
    wanted: Callable[[Any], bool],
    into: Callable[[type], bool] = lambda _: True,
    most: int = MOST_LOOKED_AT,
) -> tuple[str, Any] | None:
    """Searches the shortest way to a thing.

    Args:
        root: where to begin.
        label: the root's name.
        wanted: whether something is it.
        into: whether objects of a type are looked into, which are neither containers nor functions.
        most: objects to look at.

    Returns:
        The way to it in words that a user can follow (`SETTINGS.log.file`, `item['rows'][3]`), and it; None when it is
        not found: pickling may make objects that nobody holds.
    """
    seen: set[int] = set()
    queue: deque[tuple[str, Any]] = deque([(label, root)])
    kept = []  # an id is that of one object only as long as it lives
    while queue and most:
        most -= 1
        path, thing = queue.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kept.append(thing)
        if wanted(thing):
            return path, thing
        queue.extend(_within(path, thing, into))
    return None


_NOTHING_INSIDE: Final = (str, bytes, bytearray, int, float, complex, type(None), types.ModuleType, types.CodeType)


def _within(path: str, thing: Any, into: Callable[[type], bool]) -> Iterator[tuple[str, Any]]:
    kind = type(thing)
    if issubclass(kind, _NOTHING_INSIDE):
        return
    if issubclass(kind, dict):
        for key, value in [*islice(dict.items(thing), MOST_LOOKED_AT)]:
            yield f"{path}[{key!r}]" if isinstance(key, str | int) else f"{path}[...]", value
            yield f"a key of {path}", key
    elif issubclass(kind, list | tuple):
        fields = getattr(kind, "_fields", ())
        for index, value in enumerate(islice(kind.__iter__(thing), MOST_LOOKED_AT)):
            yield f"{path}.{fields[index]}" if index < len(fields) else f"{path}[{index}]", value
    elif issubclass(kind, set | frozenset | deque):
        yield from ((f"an element of {path}", value) for value in islice(thing, MOST_LOOKED_AT))
    elif isinstance(thing, types.FunctionType):
        yield from _in_function(path, thing)
    elif isinstance(thing, types.MethodType):
        yield f"{path}.__self__", thing.__self__
        yield path, thing.__func__
    elif isinstance(thing, staticmethod | classmethod):
        yield path, thing.__func__
    elif isinstance(thing, type):
        if thing.__module__ == "__main__" or "<locals>" in thing.__qualname__:
            yield from ((f"{path}.{name}", value) for name, value in [*vars(thing).items()])
    elif kind is functools.partial:
        yield f"the function of {path}", thing.func
        yield f"{path}.args", thing.args
        yield f"{path}.keywords", thing.keywords
    elif into(kind):
        yield from _in_object(path, thing)


def _in_function(path: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the variable {name!r} that {path} closes over", cell.cell_contents
        except ValueError:
            continue  # it is not filled yet
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    for name, value in [
        *zip(names[len(names) - len(defaults) :], defaults, strict=True),
        *(function.__kwdefaults__ or {}).items(),
    ]:
        yield f"the default of {name!r} of {path}", value
    yield from ((f"{path}.{name}", value) for name, value in vars(function).items())


def _in_object(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    kind = type(thing)
    try:
        own = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        own = {}
    if isinstance(own, dict):
        yield from ((f"{path}.{name}", value) for name, value in [*own.items()])
    for base in kind.__mro__:
        for name, member in [*vars(base).items()]:
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield f"{path}.{name}", member.__get__(thing, kind)
                except AttributeError:
                    continue  # the slot is empty
    if not own:
        # What a C object holds has no name: a file in a `map`, in an iterator.
        yield from ((f"what {path} (of type {name_of(kind)}) holds", each) for each in gc.get_referents(thing))
