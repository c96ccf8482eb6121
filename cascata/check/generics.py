"""What the parameters of generic types mean: which base takes which of them, and how each of them varies.

Classes written in Python say so themselves (`__orig_bases__`, the variance of their TypeVars). The built-in ones
do not; for these, the tables below say what their stubs say.
"""

from __future__ import annotations

import collections
import typing
from collections import abc
from collections.abc import Mapping
from types import GenericAlias
from typing import Any, Final, Literal, TypeVar

__all__ = ["Variance", "arguments_for", "filled", "variances"]

Variance = Literal["co", "contra", "in", "either"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
of: Final = GenericAlias  # of(list, int) is list[int], and no type checker takes it for an annotation

# class -> (its variables, its bases with them), as typeshed has it
_BASES: Final[Mapping[Any, tuple[tuple[Any, ...], tuple[Any, ...]]]] = {
    abc.Iterator: ((A,), (of(abc.Iterable, A),)),
    abc.Reversible: ((A,), (of(abc.Iterable, A),)),
    abc.Generator: ((A, B, C), (of(abc.Iterator, A),)),
    abc.Collection: ((A,), (of(abc.Iterable, A), of(abc.Container, A))),
    abc.Sequence: ((A,), (of(abc.Reversible, A), of(abc.Collection, A))),
    abc.MutableSequence: ((A,), (of(abc.Sequence, A),)),
    abc.Set: ((A,), (of(abc.Collection, A),)),
    abc.MutableSet: ((A,), (of(abc.Set, A),)),
    abc.Mapping: ((A, B), (of(abc.Collection, A),)),
    abc.MutableMapping: ((A, B), (of(abc.Mapping, (A, B)),)),
    abc.KeysView: ((A,), (of(abc.Set, A),)),
    abc.ItemsView: ((A, B), (of(abc.Set, of(tuple, (A, B))),)),
    abc.ValuesView: ((A,), (of(abc.Collection, A),)),
    abc.Coroutine: ((A, B, C), (of(abc.Awaitable, C),)),
    abc.AsyncIterator: ((A,), (of(abc.AsyncIterable, A),)),
    abc.AsyncGenerator: ((A, B), (of(abc.AsyncIterator, A),)),
    list: ((A,), (of(abc.MutableSequence, A),)),
    set: ((A,), (of(abc.MutableSet, A),)),
    frozenset: ((A,), (of(abc.Set, A),)),
    tuple: ((A,), (of(abc.Sequence, A),)),
    dict: ((A, B), (of(abc.MutableMapping, (A, B)), of(abc.Reversible, A))),
    collections.deque: ((A,), (of(abc.MutableSequence, A),)),
    collections.defaultdict: ((A, B), (of(dict, (A, B)),)),
    collections.OrderedDict: ((A, B), (of(dict, (A, B)),)),
    collections.Counter: ((A,), (of(dict, (A, int)),)),
    collections.ChainMap: ((A, B), (of(abc.MutableMapping, (A, B)),)),
    str: ((), (of(abc.Sequence, str),)),
    bytes: ((), (of(abc.Sequence, int),)),
    bytearray: ((), (of(abc.MutableSequence, int),)),
    memoryview: ((), (of(abc.Sequence, int),)),
    range: ((), (of(abc.Sequence, int),)),
}

_VARIANCES: Final[Mapping[Any, tuple[Variance, ...]]] = {
    **dict.fromkeys(
        [
            abc.Iterable, abc.Container, abc.Iterator, abc.Reversible, abc.Collection, abc.Sequence, abc.Set,
            abc.KeysView, abc.ValuesView, abc.Awaitable, abc.AsyncIterable, abc.AsyncIterator, frozenset, tuple, type,
        ],
        ("co",),
    ),
    **dict.fromkeys([list, set, collections.deque, collections.Counter, abc.MutableSequence, abc.MutableSet], ("in",)),
    **dict.fromkeys([dict, collections.defaultdict, collections.OrderedDict, collections.ChainMap], ("in", "in")),
    abc.Mapping: ("in", "co"),
    abc.MutableMapping: ("in", "in"),
    abc.ItemsView: ("co", "co"),
    abc.Generator: ("co", "contra", "co"),
    abc.Coroutine: ("co", "contra", "co"),
    abc.AsyncGenerator: ("co", "contra"),
}  # fmt: skip


def variances(origin: Any, count: int) -> tuple[Variance, ...]:
    """How a class varies with each of its parameters; "either" where nobody says."""
    either: Variance = "either"
    known = _VARIANCES.get(origin) or tuple(map(_variance, _variables(origin)))
    return known if len(known) == count else (either,) * count


def _variance(variable: Any) -> Variance:
    if getattr(variable, "__infer_variance__", False) or not isinstance(variable, TypeVar):
        return "either"
    if variable.__covariant__:
        return "co"
    return "contra" if variable.__contravariant__ else "in"


def arguments_for(origin: Any, arguments: tuple[Any, ...], target: Any) -> tuple[Any, ...] | None:
    """What a generic type is as a type of one of its bases: `dict[str, int]` is an `Iterable` of `str`.

    Args:
        origin: the class, without its arguments.
        arguments: its arguments; empty when it was written without.
        target: the base, without arguments.

    Returns:
        The arguments of the base, `Any` for those that are not known; None when nothing is known of them,
        or the class does not have that base.
    """
    if origin is target:
        return arguments or None
    variables = _variables(origin)
    given = arguments if len(arguments) == len(variables) else (Any,) * len(variables)
    values = dict(zip(variables, given, strict=True))
    for base in _bases(origin):
        base_origin = typing.get_origin(base) or base
        if base_origin is origin or base_origin is object:
            continue
        found = arguments_for(base_origin, tuple(filled(each, values) for each in typing.get_args(base)), target)
        if found is not None:
            return found
    return None


def _variables(origin: Any) -> tuple[Any, ...]:
    if origin in _BASES:
        return _BASES[origin][0]
    if hasattr(origin, "__parameters__"):
        return tuple(origin.__parameters__)
    # `class ByName(dict[str, T])` is generic though it has no Generic among its bases
    return tuple(dict.fromkeys(each for base in _bases(origin) for each in getattr(base, "__parameters__", ())))


def _bases(origin: Any) -> tuple[Any, ...]:
    if origin in _BASES:
        return _BASES[origin][1]
    # `__orig_bases__` is inherited by classes that have none of their own
    own: tuple[Any, ...] = getattr(origin, "__dict__", {}).get("__orig_bases__", ())
    return own or tuple(getattr(origin, "__bases__", ()))


def filled(annotation: Any, values: Mapping[Any, Any]) -> Any:
    """An annotation with its type variables replaced."""
    if isinstance(annotation, TypeVar):
        return values.get(annotation, Any)
    variables = getattr(annotation, "__parameters__", ())
    if not variables or isinstance(annotation, type):  # a class has the variables of its definition
        return annotation
    return annotation[tuple(values.get(variable, Any) for variable in variables)]
