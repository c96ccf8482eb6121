"""The fallback for what pickle cannot take: lambdas, closures, classes made inside functions.

What can be found by name goes by name, so that it is the same object on the other side; the rest goes by value.
"""

from __future__ import annotations

import io
import sys
import types
from typing import Any

__all__ = ["dumps", "found_by_name"]


def _main_names() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def found_by_name(thing: Any) -> bool:
    """Whether a class or function is what its module has under its qualified name."""
    found: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is thing


def dumps(value: Any) -> bytes:
    """A pickle of `value` that `pickle.loads` reads where dill is installed.

    Raises:
        Exception: what dill raises when it cannot take it either.
    """
    import dill

    class ByName(dill.Pickler):  # type: ignore[misc]  # dill carries no types
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, type | types.FunctionType) and found_by_name(thing):
                return thing.__qualname__
            if thing is vars(
                sys.modules["__main__"]
            ):  # the globals of its functions: dill's own way needs dill's unpickler
                return _main_names, ()
            return NotImplemented

    file = io.BytesIO()
    ByName(file, protocol=5, byref=False, recurse=False).dump(value)
    return file.getvalue()
