"""How the definitions of a script go to a worker by value: where dill would look for a name that is not there yet."""

from __future__ import annotations

import collections
import enum
import importlib
import inspect
import io
import marshal
import pickle
import sys
import types
import typing
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from ...transport.codec.by_dill import reduce_anywhere

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
        if typing.is_typeddict(thing):
            made = type(thing), thing.__name__, thing.__bases__, vars(thing).get("__orig_bases__", ())
            return _make_typed_dict, made, (_own(thing), _annotations(thing)), None, None, _complete_class
        if isinstance(thing, type) and thing.__bases__ == (tuple,) and hasattr(thing, "_field_defaults"):
            fields: Any = thing
            parts = fields.__name__, fields._fields, tuple(fields._field_defaults.values())
            bare = frozenset(vars(_make_named_tuple(*parts)))
            return _make_named_tuple, parts, (_own(thing, bare), _annotations(thing)), None, None, _complete_class
        if sys.version_info >= (3, 14) and isinstance(thing, type) and thing.__annotate__ is not None:
            # Forgets what they were evaluated to, which may be the class itself: they are evaluated when asked for.
            thing.__annotate__ = thing.__annotate__
        if isinstance(thing, types.FunctionType) and thing.__globals__ is vars(sys.modules[MAIN]) and _is_lazy(thing):
            return _reduce_function(thing)
    return reduce_anywhere(thing)


_IN_CLASS: Final = "__classdict__"
"""The cell by which, since Python 3.12, what is evaluated late in a class sees the names of the class."""

_OF_ANY_CLASS: Final = frozenset(
    ["__dict__", "__weakref__", "__annotations__", "__annotations_cache__", "__annotate__", "__annotate_func__"]
)


def _own(cls: type, bare: AbstractSet[str] = frozenset()) -> dict[str, Any]:
    """The attributes that make a class what it is, less those of a `bare` one that the script has not written."""
    own = {
        name: value
        for name, value in vars(cls).items()
        if name not in _OF_ANY_CLASS and (name not in bare or getattr(value, "__module__", None) == MAIN)
    }
    return {**own, "__doc__": cls.__doc__, "__qualname__": cls.__qualname__}


def _annotations(thing: Any) -> dict[str, Any]:
    """Those of a function or class itself; as texts, where since Python 3.14 they name what is not there."""
    try:
        return inspect.get_annotations(thing)
    except Exception:  # whatever a user's annotation raises when it is evaluated
        lazily: Any = importlib.import_module("annotationlib")
        texts: dict[str, Any] = lazily.get_annotations(thing, format=lazily.Format.STRING)
        return texts


def _is_lazy(function: types.FunctionType) -> bool:
    """Whether dill fails at it, since Python 3.14.

    It would send all of a class with what evaluates the annotations there, or evaluate annotations of a function that
    name what is not there.
    """
    if sys.version_info >= (3, 14):
        try:
            inspect.get_annotations(function)
        except Exception:  # as above
            return True
        return _IN_CLASS in function.__code__.co_freevars
    return False


def _make_typed_dict(meta: Any, name: str, bases: tuple[Any, ...], written: tuple[Any, ...]) -> Any:
    # Not by `meta` itself, which works out again what the class says of its keys: it comes with the other attributes.
    return type.__new__(meta, name, bases, {"__module__": MAIN, "__orig_bases__": written})


def _make_named_tuple(name: str, fields: tuple[str, ...], defaults: tuple[Any, ...]) -> Any:
    make: Any = collections.namedtuple  # noqa: PYI024  # with fields as they come
    return make(name, fields, defaults=defaults, module=MAIN)


def _complete_class(cls: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """What a class holds may refer back to it: it comes when the class is there."""
    own, annotations = state
    for name, value in own.items():
        setattr(cls, name, value)
    cls.__annotations__ = annotations


def _reduce_function(function: types.FunctionType) -> Any:
    """How to pickle a function of `__main__`: one that sees a class sees there only the names that it uses."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if (inside := cells.get(_IN_CLASS)) is not None:
        names = inside.cell_contents
        cells[_IN_CLASS] = types.CellType({each: names[each] for each in function.__code__.co_names if each in names})
    made = marshal.dumps(function.__code__), *cells.values()
    return _make_function, made, (_told(function), vars(function)), None, None, _complete_function


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
                return _reduce_function(thing)
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
)


def _told(function: types.FunctionType) -> dict[str, Any]:
    return {**{name: getattr(function, name) for name in _OF_FUNCTIONS}, "__annotations__": _annotations(function)}


def _make_function(code: bytes, *cells: types.CellType) -> types.FunctionType:
    its: types.CodeType = marshal.loads(code)  # noqa: S302  # as pickle
    return types.FunctionType(its, vars(sys.modules[MAIN]), closure=cells)


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
