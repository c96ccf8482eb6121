"""State of an instance: made before its first item, undone at its end, whatever ended it.

    async with AsyncExitStack() as stack:
        cell = await make_state(spec, args, stack)
        ... run the instance ...

An error that ends the block reaches the initializer's generator or manager, as in a `with` block.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from typing import Any, Generic, TypeVar

from ..model import StateArgs, StateSpec

__all__ = ["StateCell", "make_state"]

T = TypeVar("T")


class StateCell(Generic[T]):
    """The object by which a runner reads and replaces one state of its instance.

    Attributes:
        value: the value; assigning replaces it.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def get(self) -> T:
        """The value."""
        return self.value

    def set(self, value: T) -> None:
        """Replaces the value."""
        self.value = value

    def let_go(self) -> None:
        """The instance has ended: flushes a file, and drops the value.

        A file that others refer to as well stays open, since it is not the instance's to close. One that only the
        instance had is closed: it would be freed now in any case, and a later garbage collection might close its layers
        in the wrong order and lose what is buffered.

        Raises:
            OSError: what was written cannot be.
        """
        value = self.value
        del self.value
        if isinstance(value, io.IOBase) and not value.closed:
            value.flush()
            if sys.getrefcount(value) <= 2:  # this name, and the argument
                value.close()

    def __repr__(self) -> str:
        return f"StateCell({getattr(self, 'value', '(its instance has ended)')!r})"


async def make_state(spec: StateSpec, args: StateArgs, stack: contextlib.AsyncExitStack) -> StateCell[Any]:
    """Makes one state of an instance.

    A generator function's first value is the state, and the rest of it runs when `stack` closes. What an
    initializer returns is entered when it is a manager of `contextlib`; anything else, files and locks
    included, is the value as it stands.

    Args:
        spec: the state as declared.
        args: arguments of its initializer.
        stack: what closes when the instance ends; then the cell lets go of its value.

    Returns:
        The cell to hand to the runner.

    Raises:
        Exception: whatever the initializer raises.

    When it is cancelled, nothing has been entered in `stack` for this state.
    """
    cell: StateCell[Any] = StateCell(None)
    stack.callback(cell.let_go)  # first in, so that it is done last
    initializer = spec.initializer
    if inspect.isgeneratorfunction(initializer):
        initializer = contextlib.contextmanager(initializer)
    elif inspect.isasyncgenfunction(initializer):
        initializer = contextlib.asynccontextmanager(initializer)
    made = initializer(*args.args, **args.kwargs)
    if inspect.iscoroutine(made):
        made = await made
    if _is_contextlib_manager(made):
        if hasattr(type(made), "__aenter__"):
            made = await stack.enter_async_context(made)
        else:
            made = stack.enter_context(made)
    cell.value = made
    return cell


def _is_contextlib_manager(made: object) -> bool:
    # Having __enter__ is not enough: a file, a lock or a database connection is a value to work with, and
    # entering it would mean something else. Being made by contextlib, or written on top of it, is a statement.
    return any(base.__module__ == "contextlib" for base in type(made).__mro__)
