"""Dataclasses that are made in a tenth of the time: every process of a run begins by making a hundred of them.

`dataclasses` writes and compiles up to eight functions for each class. Here the ones that are alike for all classes
are shared, and `__init__`, which is not, is compiled when the first instance is made: most classes of a run have none.
What is decorated is a dataclass for all else: `fields`, `replace`, `asdict`, `match` and pickle take it as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform

__all__ = ["dataclass"]

T = TypeVar("T")


@dataclass_transform(frozen_default=False, field_specifiers=(field,))
def dataclass(
    *, frozen: bool = False, slots: bool = False, eq: bool = True, repr: bool = True
) -> Callable[[type[T]], type[T]]:
    """As `dataclasses.dataclass`, for classes without `__post_init__`, `InitVar` and keyword-only fields."""

    def make(plain: type[T]) -> type[T]:
        if plain.__doc__ is None:
            plain.__doc__ = (
                f"{plain.__name__}({', '.join(vars(plain).get('__annotations__', ()))})"  # else it is costly
            )
        cls: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(plain)
        own = vars(cls)
        cls.__init__ = _when_needed(cls, frozen=frozen)
        if repr and "__repr__" not in own:
            cls.__repr__ = _repr
        if eq and "__eq__" not in own:
            equal, hashed = _comparing(cls)
            cls.__eq__ = equal
            if "__hash__" not in own or own["__hash__"] is None:
                cls.__hash__ = hashed if frozen else None
        if frozen:
            cls.__setattr__ = _refuse_to_set
            cls.__delattr__ = _refuse_to_delete
            if slots:  # pickle would set them one by one
                cls.__getstate__ = _get_state
                cls.__setstate__ = _set_state
        made: type[T] = cls
        return made

    return make


def _when_needed(cls: Any, *, frozen: bool) -> Callable[..., None]:
    """An `__init__` that puts the true one into its place when it is called."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807  # it stands for it
        cls.__init__ = _init(cls, frozen=frozen)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _init(cls: Any, *, frozen: bool) -> Callable[..., None]:
    parameters, lines = ["self"], []
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    for each in fields(cls):
        value = name = each.name
        if each.default_factory is not MISSING:
            known[f"_make_{name}"] = each.default_factory
            parameters.append(f"{name}=_missing")
            value = f"_make_{name}() if {name} is _missing else {name}"
        elif each.default is not MISSING:
            known[f"_default_{name}"] = each.default
            parameters.append(f"{name}=_default_{name}")
        else:
            parameters.append(name)
        lines.append(f"  _set(self, {name!r}, {value})" if frozen else f"  self.{name} = {value}")
    text = f"def __init__({', '.join(parameters)}):\n" + ("\n".join(lines) or "  pass")
    # Names of fields are names of Python. Of text, `exec` would make Python forget that Ctrl-C ends the program, and
    # that its exit status is to tell so.
    exec(compile(text, "<dataclass>", "exec"), known)  # noqa: S102
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


@recursive_repr("...")
def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _comparing(cls: Any) -> tuple[Callable[[Any, object], Any], Callable[[Any], int]]:
    names = [each.name for each in fields(cls) if each.compare]
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda _: ()

    def equal(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return (values(self),) == (values(other),)  # in a tuple, what is the same object is equal

    def hashed(self: Any) -> int:
        return hash((values(self),))

    return equal, hashed


def _refuse_to_set(_: Any, name: str, __: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__match_args__]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__match_args__, state, strict=True):
        object.__setattr__(self, name, value)
