"""What a runner returns or yields, on its way to the only out-port: a value, and not what it should have awaited."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from ...model import ComponentSpec

__all__ = ["check_returned", "sending"]

MOST_KNOWN: Final = 64
"""Types of values that are remembered as such; more than a component returns."""


def sending(
    spec: ComponentSpec, send: Callable[[Any], Awaitable[None]] | None, known: set[type]
) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """What is called with each value that a runner returns or yields.

    Args:
        spec: its component.
        send: of its only out-port; None if it has not exactly one.
        known: gets the types of what was sent: values of such a type are not looked at again.
    """

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


def check_returned(spec: ComponentSpec, value: Any) -> None:
    """Refuses what stands for values and is none.

    Raises:
        TypeError: the value is a coroutine, a task or future, or a generator.
    """
    returned, statement = ("yielded", "yield") if "generator" in spec.form else ("returned", "return")
    if isinstance(value, Coroutine):
        value.close()  # or Python would warn that it was never awaited, which the error says better
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
