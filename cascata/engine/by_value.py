"""How the definitions of a script go to a worker by value: where dill would look for a name that is not there yet."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any, Final

from ..transport.dilled import reduce_anywhere

__all__ = ["MAIN", "reduce_definition"]

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
