"""The fallback for what pickle cannot take: lambdas, closures, classes made inside functions.

What can be found by name goes by name, so that it is the same object on the other side; the rest goes by value.
"""

from __future__ import annotations

import functools
import importlib
import io
import sys
import types
from collections.abc import Callable
from typing import Any

from .process_bound import refusal

__all__ = ["dump_with", "dumps", "reduce_anywhere"]


def dumps(value: Any) -> bytes:
    """A pickle of `value` that `pickle.loads` reads where dill is installed.

    Raises:
        Exception: what dill raises when it cannot take it either.
    """
    return dump_with(_by_name, value)


def dump_with(reduce: Callable[[Any], Any], value: Any) -> bytes:
    """The same, with a say in how things are pickled: `reduce(thing)` as `pickle.Pickler.reducer_override`."""
    import dill

    class Pickler(dill.Pickler):  # type: ignore[misc]  # dill carries no types
        def reducer_override(self, thing: Any) -> Any:
            return reduce(thing)

    file = io.BytesIO()
    Pickler(file, protocol=5, byref=False, recurse=False).dump(value)
    return file.getvalue()


def reduce_anywhere(thing: Any) -> Any:
    """How to pickle what dill gets wrong wherever it goes; NotImplemented for all else.

    Raises:
        Bound: dill would make a copy of what belongs to this process.
    """
    if isinstance(thing, types.ModuleType):
        if sys.modules.get(thing.__name__) is thing:
            return importlib.import_module, (thing.__name__,)  # dill would send what the module holds
    elif type(thing) is functools.cached_property:
        # Until Python 3.12 it has a lock, which is for the threads of one process.
        return _cached_property, (thing.func, thing.attrname, thing.__doc__)
    elif thing is _main_names():  # the globals of its functions: what dill writes for them only dill reads
        return _main_names, ()
    return refusal(thing)


def _by_name(thing: Any) -> Any:
    if isinstance(thing, type | types.FunctionType) and _found_by_name(thing):
        return thing.__qualname__
    return reduce_anywhere(thing)


def _found_by_name(thing: Any) -> bool:
    found: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is thing


def _main_names() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def _cached_property(function: Any, name: str | None, doc: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made
