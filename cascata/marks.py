"""What marks a parameter: `In[T]`, `Out[T]`, `BlockingOut[T]`, `Stream[T]` and `State[T]` as a port, and `Stopping`.

They stand apart from `dsl`, which reads them: a worker whose components carry such annotations loads these few lines,
and not all that builds graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, NoReturn, Protocol, TypeAlias, TypeVar

from .errors import CascataError, DefinitionError
from .faces import public

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    class _Told(Coroutine[Any, Any, bool]):
        """What `Stopping.wait` gives, to a type checker: in the loop it is awaited, in a thread it is a bool."""

        def __bool__(self) -> bool: ...


__all__ = ["BlockingOut", "In", "Out", "State", "Stopping", "Stream", "T", "is_in"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class _InMark:
    """Marks an annotation as an in-port's. There is one of it, found by identity."""

    def __repr__(self) -> str:
        return "In"

    def __reduce__(self) -> str:
        return "_IN"


_IN: Final = _InMark()


def is_in(mark: object) -> bool:
    """Whether it is what `In[T]` annotates `T` with."""
    return mark is _IN


In: TypeAlias = Annotated[T, _IN]
"""An in-port: `value: In[float]`. The runner receives one item. A default is the port's default."""


@public
class Out(Protocol[T_contra]):
    """An out-port: `result: Out[float]`. The runner receives an object with `await result.send(item)`."""

    def send(self, item: T_contra, /) -> Coroutine[Any, Any, None]:
        """Sends an item to every connected in-port; waits while one of them has no room.

        What it gives back must be awaited: an item that has to wait and is not is lost, and fails the run. Raises
        `TypeError` in a plain `def`, which returns or yields what it sends.

        Under `@component(thread=True)` this is a blocking call instead, and gives nothing to await: declare the port
        as `BlockingOut` there, or a type checker takes the call for one whose `await` was forgotten.
        """
        ...


@public
class BlockingOut(Protocol[T_contra]):
    """An out-port of a runner in a thread: `result: BlockingOut[float]`, under `@component(thread=True)` only.

    While the program runs it is the same as `Out`, which may stand there too. A type checker tells them apart: what
    `Out.send` gives must be awaited, and this `send` has done its work when it returns.
    """

    def send(self, item: T_contra, /) -> None:
        """Sends an item to every connected in-port; blocks the thread while one of them has no room."""
        ...


@public
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


@public
class Stopping(Protocol):
    """Tells a component that the run is to end: `stopping: Stopping`. The parameter is no port.

    A source that declares it decides by itself how it ends: after `graph.stop()`, or SIGTERM, its sends go on as
    before, and it is not cancelled before the time of the stop is over. It is set as well when the run is cancelled.
    """

    def is_set(self) -> bool:
        """Whether the run is to end."""
        ...

    def wait(self, timeout: float | None = None) -> _Told:
        """Waits until the run is to end: `await stopping.wait()`. Cancelled: nothing has changed.

        Under `@component(thread=True)` it is a blocking call that gives the bool itself.

        Args:
            timeout: seconds after which it returns in any case; None: never.

        Returns:
            Whether the run is to end.
        """
        ...


@public
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
