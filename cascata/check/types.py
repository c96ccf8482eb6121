"""Whether what an out-port sends fits what an in-port takes, by the rules of static type checkers.

The rules are those of the typing specification (https://typing.python.org/en/latest/spec/), as far as objects
at run time know them. A false alarm would stop a graph that works, so whatever is not understood fits.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections import abc
from collections.abc import Iterable
from typing import Any, Final, ForwardRef, Literal, NewType

from ..model import MISSING
from .generics import Variance, arguments_for, filled, variances

__all__ = ["assignable", "describe"]

_WRAPPERS: Final = frozenset({"ClassVar", "Final", "NotRequired", "ReadOnly", "Required"})
_GUARDS: Final = frozenset({"TypeGuard", "TypeIs"})
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not one of the interpreter's own types, which set no attributes
_LONGEST: Final = 120
_NO_MEMBERS: Final = frozenset(
    {
        "__abstractmethods__", "__annotations__", "__class_getitem__", "__dict__", "__doc__", "__init__",
        "__match_args__", "__module__", "__new__", "__orig_bases__", "__parameters__", "__slots__",
        "__subclasshook__", "__weakref__", "_is_protocol", "_is_runtime_protocol",
    }
)  # fmt: skip


def assignable(source: Any, target: Any) -> bool:
    """Whether a value of one type may go where another type is expected.

    Args:
        source: the annotation of what is sent.
        target: the annotation of what is taken.

    Returns:
        What a type checker would say: subclasses, unions on both sides, `Literal`, promotion of int to float to
        complex (and, since PEP 688, none of bytearray to bytes), variance of generics, tuples, `type[X]`,
        callables, protocols by the names of their members, `NewType`, `TypedDict`, `NamedTuple`. True
        for `Any`, type variables, unresolved names, generics without parameters, and all that is not understood.
    """
    try:
        return _Comparison().fits(source, target)
    except Exception:  # of an annotation's own code: it is not understood
        return True


class _Comparison:
    """One question, and what it has found about aliases: a recursive alias meets itself on the way."""

    def __init__(self) -> None:
        self._aliases: dict[tuple[Any, Any], bool] = {}

    def fits(self, source: Any, target: Any) -> bool:
        source, target = _plain(source), _plain(target)
        if _is_unknown(source) or _is_unknown(target) or target is object or _same(source, target):
            return True
        if _is_alias(source) or _is_alias(target):
            return self._fits_aliases(source, target)
        if _is_never(source) or _is_never(target):
            return _is_never(source)
        if _is_union(source):
            return all(self.fits(each, target) for each in typing.get_args(source))
        values = _values(source)
        if _is_union(target):
            if any(self.fits(source, each) for each in typing.get_args(target)):
                return True
            # bool goes where Literal[True] | Literal[False] is taken: each of its values goes somewhere
            return len(values) > 1 and all(self.fits(Literal[value], target) for value in values)
        if typing.get_origin(target) is Literal:
            return bool(values) and all(_is_one_of(value, typing.get_args(target)) for value in values)
        if typing.get_origin(source) is Literal:
            return all(self.fits(type(value), target) for value in values)
        if isinstance(source, NewType):
            return self.fits(source.__supertype__, target)
        if isinstance(target, NewType):
            return False
        source_class, target_class = typing.get_origin(source) or source, typing.get_origin(target) or target
        return self._fits_class(source, source_class, target, target_class)

    def _fits_aliases(self, source: Any, target: Any) -> bool:
        pair = (source, target)
        if pair not in self._aliases:
            self._aliases[pair] = True  # so it is taken to be while it is looked at
            self._aliases[pair] = self.fits(_alias_value(source), _alias_value(target))
        return self._aliases[pair]

    def _fits_class(self, source: Any, source_class: Any, target: Any, target_class: Any) -> bool:
        """Each is a class, perhaps with arguments."""
        if Any in source_class.__mro__:
            return True
        if target_class is abc.Callable:
            return self._fits_callable(source, source_class, target)
        if target_class is type or (source_class is type and typing.get_args(source)):
            return self._fits_type(source, source_class, target, target_class)
        if typing.is_typeddict(source_class) or typing.is_typeddict(target_class):
            return self._fits_typeddict(source, target)
        if issubclass(source_class, tuple) and issubclass(tuple, target_class):
            return self._fits_tuple(source, source_class, target, target_class)
        if target_class is float and issubclass(source_class, int):
            return True
        if target_class is complex and issubclass(source_class, int | float):
            return True
        if target_class not in source_class.__mro__ and _is_protocol(target_class):
            return _has_members(source_class, target_class)
        if issubclass(target_class, typing.IO):  # the stubs derive files from it; at run time none is
            return any(_member(source_class, name) is not None for name in ("read", "write", "__getattr__"))
        return issubclass(source_class, target_class) and self._fits_arguments(
            arguments_for(source_class, typing.get_args(source), target_class), typing.get_args(target), target_class
        )

    def _fits_arguments(self, given: tuple[Any, ...] | None, taken: tuple[Any, ...], target_class: type) -> bool:
        if given is None or len(given) != len(taken):
            return True
        return all(map(self._fits_argument, given, taken, variances(target_class, len(taken))))

    def _fits_argument(self, given: Any, taken: Any, variance: Variance) -> bool:
        match variance:
            case "co":
                return self.fits(given, taken)
            case "contra":
                return self.fits(taken, given)
            case "in":
                return self.fits(given, taken) and self.fits(taken, given)
            case "either":
                return self.fits(given, taken) or self.fits(taken, given)

    def _fits_callable(self, source: Any, source_class: Any, target: Any) -> bool:
        if source_class is not abc.Callable:
            return source_class is type or _member(source_class, "__call__") is not None
        given, taken = typing.get_args(source), typing.get_args(target)
        if not given or not taken:
            return True
        (parameters, result), (passed, expected) = given, taken
        if not isinstance(parameters, list) or not isinstance(passed, list):  # `...`, or a ParamSpec
            return self.fits(result, expected)
        return (
            len(parameters) == len(passed)
            and all(map(self.fits, passed, parameters))  # the other way round: what is passed must be taken
            and self.fits(result, expected)
        )

    def _fits_type(self, source: Any, source_class: Any, target: Any, target_class: Any) -> bool:
        """`type[X]`, whose values are classes, on one of the sides."""
        of = typing.get_args(source) if source_class is type else ()
        if target_class is type:
            return issubclass(source_class, type) and all(map(self.fits, of, typing.get_args(target)))
        metaclass = type(_plain(of[0]))
        return _is_protocol(target_class) or not issubclass(metaclass, type) or issubclass(metaclass, target_class)

    def _fits_typeddict(self, source: Any, target: Any) -> bool:
        if not typing.is_typeddict(target):
            return self.fits(dict[str, object], target)
        if not typing.is_typeddict(source):
            return source is dict or source is typing.Dict  # noqa: UP006 - what users wrote
        given, taken = typing.get_type_hints(source), typing.get_type_hints(target)
        return all(
            name in given
            and (name in source.__required_keys__) == (name in target.__required_keys__)
            and self._fits_argument(given[name], kind, "in")
            for name, kind in taken.items()
        )

    def _fits_tuple(self, source: Any, source_class: Any, target: Any, target_class: Any) -> bool:
        """A tuple to a tuple or to one of its bases: `Sequence[int]` takes what `tuple[int, ...]` takes."""
        given = _items(source, source_class)
        arguments = typing.get_args(target)
        taken = _items(target, target_class) if target_class is tuple else (*arguments, ...) if arguments else None
        if given is None or taken is None:
            return True
        if len(taken) == 2 and taken[1] is ...:
            return all(self.fits(each, taken[0]) for each in given if each is not ...)
        if len(given) == 2 and given[1] is ...:
            return _is_unknown(
                _plain(given[0])
            )  # `tuple[Any, ...]` goes everywhere, `tuple[int, ...]` may be too short
        return len(given) == len(taken) and all(map(self.fits, given, taken))


# ── what an annotation is ─────────────────────────────────────────────────────────────────────────────────


def _plain(annotation: Any) -> Any:
    """An annotation without what does not change the type; None is the type of None."""
    if annotation is None:
        return types.NoneType
    if annotation is typing.LiteralString:
        return str
    origin = typing.get_origin(annotation)
    form = getattr(origin, "_name", None)
    if origin is typing.Annotated or form in _WRAPPERS:
        return _plain(typing.get_args(annotation)[0])
    if form in _GUARDS:
        return bool
    return annotation


def _is_unknown(annotation: Any) -> bool:
    """Whether nothing is known of it: `Any`, a type variable, a name that was not resolved, no annotation at all."""
    if annotation is Any or annotation is inspect.Parameter.empty:
        return True
    origin = typing.get_origin(annotation) or annotation
    return not (
        isinstance(origin, type | NewType)
        or typing.get_origin(annotation) is Literal
        or _is_union(annotation)
        or _is_never(annotation)
        or _is_alias(annotation)
    )


def _is_never(annotation: Any) -> bool:
    return annotation is typing.Never or annotation is typing.NoReturn


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_alias(annotation: Any) -> bool:
    """Whether it is an alias of a `type` statement, which has its value when asked (Python 3.12)."""
    return type(typing.get_origin(annotation) or annotation).__name__ == "TypeAliasType"


def _alias_value(annotation: Any) -> Any:
    if not _is_alias(annotation):
        return annotation
    alias = typing.get_origin(annotation)
    if alias is None:
        return annotation.__value__
    return filled(alias.__value__, dict(zip(alias.__type_params__, typing.get_args(annotation), strict=True)))


def _same(source: Any, target: Any) -> bool:
    return source is target or (type(source) is type(target) and bool(source == target))


def _is_one_of(value: Any, values: Iterable[Any]) -> bool:
    return any(type(value) is type(each) and value == each for each in values)  # 1 is not True


def _values(annotation: Any) -> tuple[Any, ...]:
    """All values of a type that has few, else nothing."""
    if annotation is types.NoneType:
        return (None,)
    if annotation is bool:
        return (True, False)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum) and not issubclass(annotation, enum.Flag):
        return tuple(annotation)
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def _items(annotation: Any, cls: Any) -> tuple[Any, ...] | None:
    """The types of a tuple's items, `(int, ...)` for any number of them; None when they are not known."""
    if cls is not tuple:
        if hasattr(cls, "_fields"):
            hints = typing.get_type_hints(cls)
            return tuple(hints.get(name, Any) for name in cls._fields)
        items = arguments_for(cls, typing.get_args(annotation), tuple)
    elif annotation is tuple or annotation is typing.Tuple:  # noqa: UP006 - what users wrote
        items = None
    else:
        items = typing.get_args(annotation)
    if items is not None and any(
        getattr(each, "__unpacked__", False) or typing.get_origin(each) is typing.Unpack for each in items
    ):
        return None  # tuple[int, *tuple[str, ...]]
    return items


# ── protocols ─────────────────────────────────────────────────────────────────────────────────────────────


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False)) and typing.Protocol in cls.__mro__


def _member(cls: type, name: str) -> Any:
    """An attribute of instances as far as the class knows it, else None; a metaclass has no say."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _has_members(cls: Any, protocol: type) -> bool:
    """Whether the methods of a protocol are there. What `__init__` may set on an instance is taken to be set."""
    if cls is abc.Callable:
        cls = types.FunctionType
    if _member(cls, "__getattr__") is not None:
        return True
    sets_attributes = bool(cls.__flags__ & _HEAP_TYPE)
    return all(
        _member(cls, name) is not None or (sets_attributes and not callable(_member(protocol, name)))
        for name in _members(protocol)
    )


def _members(protocol: type) -> set[str]:
    known: set[str] | None = getattr(protocol, "__protocol_attrs__", None)  # since Python 3.12
    if known is not None:
        return known
    bases = [base for base in protocol.__mro__ if _is_protocol(base) and base is not typing.Protocol]
    names = {name for base in bases for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in names - _NO_MEMBERS if not name.startswith("_abc_")}


# ── what an annotation is called ──────────────────────────────────────────────────────────────────────────


def describe(type: Any) -> str:
    """An annotation as a user would write it, for the text of an error.

    Args:
        type: any annotation.

    Returns:
        `int`, `list[str] | None`, `Literal['a']`, `Callable[[int], str]`, …; at most 120 characters.
    """
    try:
        text = _text(type)
    except Exception:  # as above
        text = repr(type)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _text(annotation: Any) -> str:
    if annotation is MISSING or annotation is inspect.Parameter.empty:
        return "Any"
    if annotation is ...:
        return "..."
    if isinstance(annotation, str | ForwardRef):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    if annotation is None or annotation is types.NoneType:
        return "None"
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{', '.join(map(_text, annotation))}]"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        name = getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
        return name.rpartition("<locals>.")[2] if name else repr(annotation).replace("typing.", "")
    if origin is typing.Annotated:
        return _text(arguments[0])
    if _is_union(annotation):
        return " | ".join(map(_text, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    name = getattr(origin, "__qualname__", None) or getattr(origin, "_name", None) or _text(origin)
    if not arguments:
        return f"{name}[()]" if origin is tuple and annotation is not typing.Tuple else name  # noqa: UP006 - as above
    return f"{name}[{', '.join(map(_text, arguments))}]"
