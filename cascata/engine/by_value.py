"""How the definitions of a script go to a worker by value: where dill would look for a name that is not there yet."""

from __future__ import annotations

import enum
import io
import marshal
import pickle
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Final

from ..transport.dilled import reduce_anywhere

__all__ = ["MAIN", "dump_plainly", "reduce_definition"]

MAIN: Final = "__main__"


def reduce_definition(thing: Any) -> Any:
    """How to pickle a definition of `__main__`; NotImplemented for what dill does well."""
    if getattr(thing, "__module__", None) == MAIN:
        if isinstance(thing, enum.EnumMeta):
            return _make_enum, _enum_parts(thing)
        if isinstance(thing, typing.TypeVar):
            options = {"bound": thing.__bound__}
            options |= {"covariant": thing.__covariant__, "contravariant": thing.__contravariant__}
            return _make_named, (typing.TypeVar, (thing.__name__, *thing.__constraints__), options)
        if isinstance(thing, typing.ParamSpec | typing.TypeVarTuple):
            return _make_named, (type(thing), (thing.__name__,), {})
        if isinstance(thing, typing.NewType):
            return _make_named, (typing.NewType, (thing.__name__, thing.__supertype__), {})
    return reduce_anywhere(thing)


class _Beyond(pickle.PicklingError):
    """Something that this module leaves to dill."""


def dump_plainly(met: Callable[[Any], None], value: Any) -> bytes:
    """A pickle of `value` in which functions of `__main__` are sent by value, and that needs no dill to be read.

    dill takes more, and says better what it cannot take; but it is imported here and in every worker then.

    Args:
        met: is called with each function of `__main__` on the way.
        value: to pickle.

    Raises:
        Exception: `value` holds a class of `__main__`, a closure, or something else that pickle cannot take.
    """
    main = vars(sys.modules[MAIN])

    class Pickler(pickle.Pickler):
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, types.FunctionType):
                if thing.__module__ != MAIN and thing.__globals__ is not main:
                    return NotImplemented
                if thing.__globals__ is not main or thing.__closure__ is not None:
                    raise _Beyond(thing)
                met(thing)
                told = {name: getattr(thing, name) for name in _OF_FUNCTIONS}
                code = marshal.dumps(thing.__code__)
                return _make_function, (code,), (told, vars(thing)), None, None, _complete_function
            if isinstance(thing, type) and thing.__module__ == MAIN:
                raise _Beyond(thing)
            return reduce_definition(thing)

    file = io.BytesIO()
    Pickler(file, protocol=5).dump(value)
    return file.getvalue()


_OF_FUNCTIONS: Final = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
)


def _make_function(code: bytes) -> types.FunctionType:
    return types.FunctionType(marshal.loads(code), vars(sys.modules[MAIN]))  # noqa: S302  # as pickle


def _complete_function(function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """What a function holds may refer back to it: it comes when the function is there."""
    told, own = state
    for name, value in told.items():
        setattr(function, name, value)
    vars(function).update(own)


def _make_named(kind: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    made = kind(*args, **options)
    made.__module__ = MAIN
    return made


def _enum_parts(kind: enum.EnumMeta) -> tuple[Any, ...]:
    own = {
        name: value
        for name, value in vars(kind).items()
        if name not in kind.__members__
        and (
            not name.startswith("_")
            or (isinstance(value, types.FunctionType) and value.__module__ == MAIN and name != "__new__")
        )
    }
    if isinstance(new := vars(kind).get("__new_member__"), types.FunctionType | staticmethod):
        own["__new__"] = new
    members: dict[str, Any] = {name: kind[name].value for name in kind.__members__}
    return kind.__name__, kind.__qualname__, kind.__bases__, kind.__doc__, own, members


def _make_enum(
    name: str, qualname: str, bases: tuple[Any, ...], doc: str | None, own: dict[str, Any], members: dict[str, Any]
) -> Any:
    meta: Any = type(bases[-1])
    namespace = meta.__prepare__(name, bases)
    for key, value in {"__module__": MAIN, "__qualname__": qualname, "__doc__": doc, **own, **members}.items():
        namespace[key] = value
    return meta(name, bases, namespace)
