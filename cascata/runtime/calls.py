"""One call of a runner: every form of it behind the same two shapes.

A runner's parameters are items (from trigger ports), fixed values (constants, out-ports, state) and
sampled values. `bind` puts the fixed ones in their places, so that a call needs only the items;
`drive` turns whatever form the runner has into sends on its out-port.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any

from ..model import ComponentSpec

__all__ = ["Send", "bind", "drive"]

Send = Callable[[Any], Awaitable[None]]


def bind(spec: ComponentSpec, varying: Sequence[str], fixed: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of the varying parameters, in the order given, that calls the runner.

    Args:
        spec: the component.
        varying: names of parameters that differ from call to call.
        fixed: the other parameters with their values.
    """
    runner = spec.runner
    positional = [name for name in spec.parameters if name not in spec.keyword_only]
    if not spec.keyword_only and list(varying) == positional[: len(varying)]:
        rest = tuple(fixed[name] for name in positional[len(varying) :])
        if not rest:
            return runner
        if len(varying) == 1 and len(rest) == 1:
            (only,) = rest
            return lambda item: runner(item, only)
        if len(varying) == 1 and len(rest) == 2:
            second, third = rest
            return lambda item: runner(item, second, third)
        return lambda *items: runner(*items, *rest)
    names = tuple(varying)
    return lambda *items: runner(**fixed, **dict(zip(names, items, strict=True)))


def drive(
    spec: ComponentSpec, call: Callable[..., Any], send: Send | None
) -> tuple[Callable[..., Awaitable[Any]], Send]:
    """Makes any form of runner awaitable.

    Args:
        spec: the component; its form decides.
        call: what `bind` gave.
        send: of the only out-port; None when the component has none, or several.

    Returns:
        A function of the items whose awaited value, when it is not None, is to be given to the second one, which sends it.
    """

    async def result(value: Any) -> None:
        if send is None:
            raise TypeError(
                f"{spec.name} returned a value ({type(value).__name__}), but it has {len(spec.outports)} out-ports: only with "
                f"exactly one is it clear where the value goes. Write `await port.send(value)` instead"
            )
        await send(value)

    async def run_plain(*items: Any) -> Any:
        value = call(*items)
        return await value if inspect.isawaitable(value) else value

    async def run_async_generator(*items: Any) -> None:
        async with aclosing(call(*items)) as values:
            async for value in values:
                await result(value)

    async def run_generator(*items: Any) -> None:
        with closing(call(*items)) as values:
            for value in values:
                await result(value)

    forms: dict[str, Callable[..., Awaitable[Any]]] = {
        "async": call,
        "plain": run_plain,
        "async_generator": run_async_generator,
        "generator": run_generator,
    }
    return forms[spec.form], result
