"""Ports declared by annotations: `In[T]`, `Out[T]`, `BlockingOut[T]`, `Stream[T]` and `State[T]`; how they are read.

To a type checker `In[T]` is plain `T`, `Out[T]` and `BlockingOut[T]` have a typed `send`, `Stream[T]` is an iterator
and `State[T]` has a typed value. At run time they mark a parameter as a port. Reading never fails: an annotation that
cannot be resolved (a name imported for type checking only, say) still says which kind of port it is, and its type is
`Any`.
"""

from __future__ import annotations

import builtins
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, NoReturn, Protocol, TypeAlias, TypeVar

from ..errors import CascataError, DefinitionError
from ..records import dataclass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

__all__ = ["BlockingOut", "Hint", "In", "Kind", "Out", "State", "Stream", "read_hint", "type_text"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

Kind = Literal["in-port", "out-port", "state"]


class _InMark:
    """Marks an annotation as an in-port's. There is one of it, found by identity."""

    def __repr__(self) -> str:
        return "In"

    def __reduce__(self) -> str:
        return "_IN"


_IN: Final = _InMark()

In: TypeAlias = Annotated[T, _IN]
"""An in-port: `value: In[float]`. The runner receives one item. A default is the port's default."""


class Out(Protocol[T_contra]):
    """An out-port: `result: Out[float]`. The runner receives an object with `await result.send(item)`."""

    def send(self, item: T_contra, /) -> Coroutine[Any, Any, None]:
        """Sends an item to every connected in-port; waits while one of them has no room.

        Under `@component(thread=True)` this is a blocking call instead, and gives nothing to await: declare the port
        as `BlockingOut` there, or a type checker takes the call for one whose `await` was forgotten.
        """
        ...


class BlockingOut(Protocol[T_contra]):
    """An out-port of a runner in a thread: `result: BlockingOut[float]`, under `@component(thread=True)` only.

    While the program runs it is the same as `Out`, which may stand there too. A type checker tells them apart: what
    `Out.send` gives must be awaited, and this `send` has done its work when it returns.
    """

    def send(self, item: T_contra, /) -> None:
        """Sends an item to every connected in-port; blocks the thread while one of them has no room."""
        ...


class Stream(Protocol[T_co]):
    """An in-port that the runner reads itself: `items: Stream[float]`.

    The runner is called once, and takes the items with `async for item in items`; the loop ends when the stream
    does. What follows it can send last items, and a runner that returns earlier reads no more: its senders are stopped.
    """

    def __aiter__(self) -> AsyncIterator[T_co]:
        """`async for item in items`, in an `async def`."""
        ...

    def __anext__(self) -> Coroutine[Any, Any, T_co]:
        """`await anext(items)`. Cancelled: nothing is taken."""
        ...

    def next(self, timeout: float | None = None) -> Coroutine[Any, Any, T_co]:
        """Takes one item, as `anext` does, and waits no longer than a time for it.

        In a cycle, bound a wait by this and not by `asyncio.timeout`: a node that just waits for an item is taken to
        have nothing left to send, and a cycle in which all nodes wait so is ended.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: the time passed. Nothing is taken.
            StopAsyncIteration: the stream has ended.
        """
        ...

    def __iter__(self) -> Iterator[T_co]:
        """`for item in items`, under `@component(thread=True)` only."""
        ...


class State(Generic[T]):
    """State of an instance: `seen: State[int] = State(int)`.

    In the declaration it carries the initializer; while a node runs, the parameter is an object with
    `get()`, `set(value)` and `value`.

    Args:
        initializer: makes the value in the worker before the first item: a plain function or class, an
            `async def`, a generator function (sync or async: what it yields is the value, what follows
            the `yield` runs at the end), or one that returns a `contextlib` manager, which is entered.
            `node.seen < args` sets its arguments.

    Raises:
        DefinitionError: the initializer cannot be called.
    """

    __slots__ = ("_initializer",)

    def __init__(
        self,
        initializer: Callable[
            ...,
            T
            | Awaitable[T]
            | Iterator[T]
            | AsyncIterator[T]
            | AbstractContextManager[T]
            | AbstractAsyncContextManager[T]
            | Coroutine[Any, Any, AbstractContextManager[T]]
            | Coroutine[Any, Any, AbstractAsyncContextManager[T]],
        ],
    ) -> None:
        if not callable(initializer):
            raise DefinitionError(
                f"State({initializer!r}): an initializer is called to make the value. "
                f"Write State(lambda: {initializer!r})."
            )
        self._initializer = initializer

    @property
    def initializer(self) -> Callable[..., Any]:
        """What makes the value."""
        return self._initializer

    def get(self) -> T:
        """The value."""
        self._only_in_a_node()

    def set(self, value: T) -> None:
        """Replaces the value."""
        self._only_in_a_node()

    @property
    def value(self) -> T:
        """The value; assigning replaces it."""
        self._only_in_a_node()

    @value.setter
    def value(self, value: T) -> None:
        self._only_in_a_node()

    def _only_in_a_node(self) -> NoReturn:
        raise CascataError(f"{self!r} only declares state; its value is there while a node runs.")

    def __repr__(self) -> str:
        return f"State({getattr(self._initializer, '__qualname__', self._initializer)})"


@dataclass(frozen=True, slots=True)
class Hint:
    """What an annotation says: the kind of port (None: nothing about ports) and the type of its items."""

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


class _Names(dict[str, Any]):
    """Names for evaluating an annotation. One that is nowhere is `_Unknown`, and noted in `missed`."""

    def __init__(self, *scopes: Mapping[str, Any]) -> None:
        super().__init__()
        self.scopes = (*scopes, vars(builtins))
        self.missed = False

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        for scope in self.scopes:
            if name in scope:
                return scope[name]
        self.missed = True
        return _Unknown


_AS_TEXT: Final = re.compile(r"\s*(?:\w+\s*\.\s*)*(In|BlockingOut|Out|State|Stream)\b")
_KINDS: Final[Mapping[str, Hint]] = {
    "In": Hint("in-port"),
    "Out": Hint("out-port"),
    "BlockingOut": Hint("out-port", blocking=True),
    "State": Hint("state"),
    "Stream": Hint("in-port", stream=True),
}


def read_hint(annotation: Any, function: Callable[..., Any], scope: Mapping[str, Any]) -> Hint:
    """Reads the annotation of one parameter of `function`.

    Args:
        annotation: the annotation as it stands: a type, a text, or a type with texts in it.
        function: whose globals and type parameters the texts refer to.
        scope: names of the place where the function is defined, for texts that refer to local classes.
    """
    names = _Names(
        {each.__name__: each for each in getattr(function, "__type_params__", ())}, scope, function.__globals__
    )
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        found = typing.get_type_hints(holder, function.__globals__, names, include_extras=True)["it"]
    except Exception:  # whatever a user's annotation raises, it must not stop a program that runs without it
        if not isinstance(annotation, str):
            return replace(_classify(annotation), type=Any)
        named = _AS_TEXT.match(annotation)
        return _KINDS[named.group(1)] if named else Hint()
    hint = _classify(found)
    return replace(hint, type=Any) if names.missed else hint


def _classify(annotation: Any) -> Hint:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner = annotation.__origin__
        if any(each is _IN for each in annotation.__metadata__):
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
    if origin is State or annotation is State:
        return Hint("state", *typing.get_args(annotation))
    return Hint(None, annotation)


def type_text(annotation: Any) -> str:
    """A type as a user would write it: `int`, `list[str]`, `Any`."""
    from ..check.types import describe  # texts are needed when something is shown, not when it is declared

    return describe(annotation)
