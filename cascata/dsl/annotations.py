"""How annotations are read: `In[T]`, `Out[T]`, `BlockingOut[T]`, `Stream[T]`, `State[T]` of ports, and `Stopping`.

To a type checker `In[T]` is plain `T`, `Out[T]` and `BlockingOut[T]` have a typed `send`, `Stream[T]` is an iterator
and `State[T]` has a typed value. At run time they mark a parameter as a port. Reading never fails: an annotation that
cannot be resolved (a name imported for type checking only, say) still says which kind of port it is, and its type is
`Any`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from ..marks import BlockingOut, In, Out, State, Stopping, Stream, T, is_in
from ..records import dataclass

__all__ = [
    "BlockingOut",
    "Hint",
    "In",
    "Kind",
    "Out",
    "State",
    "Stopping",
    "Stream",
    "read_hint",
    "scopes_of",
    "type_text",
]

Kind = Literal["in-port", "out-port", "state", "stopping"]


@dataclass(frozen=True, slots=True)
class Hint:
    """What an annotation says: the kind of parameter (None: nothing about it) and the type of a port's items."""

    kind: Kind | None = None
    type: Any = Any
    stream: bool = False
    blocking: bool = False


class _UnknownType(type):
    """The class of `_Unknown`, which stands for a name that cannot be found, whatever is done with it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # typing looks for its own attributes, which must not seem to be there
            raise AttributeError(name)
        return cls

    def __getitem__(cls, _: Any) -> Any:
        return cls


class _Unknown(metaclass=_UnknownType):
    pass


_AS_TEXT: Final = re.compile(r"\s*(?:\w+\s*\.\s*)*(In|BlockingOut|Out|State|Stopping|Stream)\b")
_KINDS: Final[Mapping[str, Hint]] = {
    "In": Hint("in-port"),
    "Out": Hint("out-port"),
    "BlockingOut": Hint("out-port", blocking=True),
    "State": Hint("state"),
    "Stopping": Hint("stopping"),
    "Stream": Hint("in-port", stream=True),
}


def read_hint(annotation: Any, function: Callable[..., Any], scopes: Sequence[dict[str, Any]]) -> Hint:
    """Reads the annotation of one parameter of `function`.

    Args:
        annotation: the annotation as it stands: a type, a text, or a type with texts in it.
        function: whose globals and type parameters the texts refer to.
        scopes: names that its texts may refer to before its globals, see `scopes_of`.
    """
    missed: dict[str, Any] = {}
    names = ChainMap(missed, *scopes)
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    while True:
        try:
            found = typing.get_type_hints(holder, function.__globals__, names, include_extras=True)["it"]
        except (
            Exception
        ) as error:  # whatever a user's annotation raises, it must not stop a program that runs without it
            name = error.name if isinstance(error, NameError) else None
            if name is not None and name not in missed:
                missed[name] = _Unknown
                continue
            if not isinstance(annotation, str):
                return replace(_classify(annotation), type=Any)
            named = _AS_TEXT.match(annotation)
            return _KINDS[named.group(1)] if named else Hint()
        hint = _classify(found)
        return replace(hint, type=Any) if missed else hint


def scopes_of(function: Callable[..., Any], frame: types.FrameType) -> list[dict[str, Any]]:
    """Where the names of a function's annotations are looked for before its globals, the innermost first.

    Args:
        function: that is being declared.
        frame: from which it is; the functions and the class body that it stands in are found among those above.
    """
    plain: Any = inspect.unwrap(function)
    scopes = [{each.__name__: each for each in getattr(function, "__type_params__", ())}]
    for name, cell in zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True):
        try:
            scopes[0].setdefault(name, cell.cell_contents)
        except ValueError:
            continue  # it is defined later
    above: types.FrameType | None = frame
    while above is not None and "." in plain.__qualname__:
        if above.f_globals is plain.__globals__ and plain.__qualname__.startswith(f"{above.f_code.co_qualname}."):
            scopes.append(dict(above.f_locals))
        above = above.f_back
    if frame.f_locals is not frame.f_globals:
        scopes.append(dict(frame.f_locals))
    return scopes


def _classify(annotation: Any) -> Hint:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner = annotation.__origin__
        if any(map(is_in, annotation.__metadata__)):
            return Hint("in-port", Any if inner is T else inner)
        return _classify(inner)
    if origin is Out or annotation is Out:
        return Hint("out-port", *typing.get_args(annotation))
    if origin is BlockingOut or annotation is BlockingOut:
        (items,) = typing.get_args(annotation) or (Any,)
        return Hint("out-port", items, blocking=True)
    if origin is Stream or annotation is Stream:
        (items,) = typing.get_args(annotation) or (Any,)
        return Hint("in-port", items, stream=True)
    if annotation is Stopping:
        return Hint("stopping")
    if origin is State or annotation is State:
        return Hint("state", *typing.get_args(annotation))
    return Hint(None, annotation)


def type_text(annotation: Any) -> str:
    """A type as a user would write it: `int`, `list[str]`, `Any`."""
    from ..check.types import describe  # texts are needed when something is shown, not when it is declared

    return describe(annotation)
