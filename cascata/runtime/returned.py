"""What a runner returns or yields, on its way to the only out-port: a value, and not what it should have awaited."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from ..model import ComponentSpec

__all__ = ["check_returned", "is_awaitable", "sending"]

MOST_KNOWN: Final = 64
"""Types of values that are remembered as such; more than a component returns."""


def sending(
    spec: ComponentSpec, send: Callable[[Any], Awaitable[None]] | None
) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """What is called with each value that a runner returns or yields.

    Args:
        spec: its component.
        send: of its only out-port; None if it has not exactly one.
    """
    known: set[type] = set()

    async def result(value: Any) -> None:
        if send is None:
            raise TypeError(
                f"{spec.name} returned a value, but it has {len(spec.outports)} out-ports: only with exactly one is it "
                f"clear where the value goes. Write `await port.send(value)` instead"
            )
        kind = type(value)
        if kind not in known:
            check_returned(spec, value)
            if len(known) < MOST_KNOWN:
                known.add(kind)
        await send(value)

    return result


def is_awaitable(value: Any) -> bool:
    """As `inspect.isawaitable`, which takes five times as long for what is not."""
    return hasattr(type(value), "__await__") or (type(value) is types.GeneratorType and inspect.isawaitable(value))


def check_returned(spec: ComponentSpec, value: Any) -> None:
    """Raises `TypeError` for a coroutine, a task or future, or a generator: it stands for values, and is none."""
    returned, statement = ("yielded", "yield") if "generator" in spec.form else ("returned", "return")
    if isinstance(value, Coroutine):
        value.close()  # nobody will await it, and it is told here
        what = f"the coroutine {getattr(value, '__qualname__', value)}, which it did not await"
        instead = f"`{statement} await ...` in an `async def`"
    elif isinstance(value, asyncio.Future):
        what = f"a {type(value).__name__}, which it did not await"
        instead = f"`{statement} await ...` in an `async def`"
    elif isinstance(value, types.GeneratorType):
        what = f"the generator {value.__qualname__}, and not what it gives"
        instead = "`yield from ...`" if spec.form != "async_generator" else "`for value in ...: yield value`"
        instead = f"{instead}, or `{statement} list(...)`"
    elif isinstance(value, types.AsyncGeneratorType):
        what = f"the generator {value.__qualname__}, and not what it gives"
        instead = "`async for value in ...: yield value` in an `async def`"
    else:
        return
    raise TypeError(f"{spec.name} {returned} {what}: that is no item. Write {instead}")
