"""One call of a component outside any graph: what `Component.test` does."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Self

from ..errors import ComponentError
from ..model import MISSING, ComponentSpec, StateArgs
from ..options import suggestion
from .ports import state_args

__all__ = ["run_once", "run_once_blocking"]


class _Collector:
    """An out-port that keeps what is sent to it.

    Args:
        sent: makes what `send` gives back; None: in a thread there is nothing to await.

    Attributes:
        items: what was sent.
        unawaited: calls of `send` that nobody has awaited: in a run, they lose their items when there is no room.
    """

    __slots__ = ("_sent", "items", "unawaited")

    def __init__(self, sent: Callable[[_Collector], Awaitable[None]] | None) -> None:
        self.items: list[Any] = []
        self.unawaited = 0
        self._sent = sent

    def send(self, item: Any, /) -> Awaitable[None] | None:
        self.items.append(item)
        return None if self._sent is None else self._sent(self)


class _Items:
    """A stream with the items that a test gives. The runner gets an iterator in a thread, else this object."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        from aioitertools.builtins import iter as mixed_iter

        self._items = mixed_iter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._items)

    async def next(self, timeout: float | None = None) -> Any:
        async with asyncio.timeout(timeout):
            return await self.__anext__()


class _NotStopping:
    """Tells a runner in a thread that nobody has stopped it."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        return threading.Event().wait(timeout)


def run_once_blocking(spec: ComponentSpec, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """`run_once` for callers without a loop, and for those whose thread has one running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run_once(spec, values))
    # A loop that runs in this thread cannot run another one (a notebook): a thread of its own can.
    result: list[dict[str, list[Any]]] = []
    problem: list[BaseException] = []

    def work() -> None:
        try:
            result.append(asyncio.run(run_once(spec, values)))
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name=f"cascata-test-{spec.name}")
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    return result[0]


async def run_once(spec: ComponentSpec, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Calls the runner once.

    Args:
        spec: the component.
        values: a value for each in-port without a default; for a stream, an iterable of its items; for a state,
            arguments of its initializer.

    Returns:
        Out-port to the list of what was sent to it.

    Raises:
        TypeError: a value is missing, or its name is unknown.
        ComponentError: the runner returns a value and there is not exactly one out-port; or it has not awaited what
            `send` gave back.
        Exception: whatever the runner or an initializer raises.

    When it is cancelled, the runner is cancelled and its state is torn down.
    """
    from ..runtime.persist import make_state
    from ..runtime.ports.lost_sends import no_send_in_a_plain_def  # a definition needs none of these; a call does
    from ..runtime.ports.outport import PlainPort
    from ..runtime.ports.stop_event import StopEvent

    arguments, for_states = _checked(spec, values)
    ports = {port.name: _Collector(None if spec.options["thread"] else _sent) for port in spec.outports}
    async with contextlib.AsyncExitStack() as stack:
        for state in spec.states:
            arguments[state.name] = await make_state(state, for_states.get(state.name, StateArgs()), stack)
        arguments.update(ports)
        if spec.form in ("plain", "generator") and not spec.options["thread"]:
            arguments.update(
                (name, PlainPort(name, each, lambda name: TypeError(no_send_in_a_plain_def(spec, name))))
                for name, each in ports.items()
            )
        for name in spec.stopping:
            arguments[name] = _NotStopping() if spec.options["thread"] else StopEvent()
        for port in spec.inports:
            if port.stream:
                arguments[port.name] = _stream(spec, port.name, arguments[port.name])
        positional = [arguments[name] for name in spec.parameters if name not in spec.keyword_only]
        by_name = {name: arguments[name] for name in spec.parameters if name in spec.keyword_only}
        await _call(spec, lambda: spec.runner(*positional, **by_name), ports)
        await _look_for_unawaited(spec, ports)
    return {name: port.items for name, port in ports.items()}


def _sent(port: _Collector) -> Awaitable[None]:
    """What `send` gives back: it knows whether it was awaited."""
    from ..channel.base import Pending

    async def sent() -> None:
        pass

    def begin() -> Coroutine[Any, Any, None]:
        port.unawaited -= 1
        return sent()

    port.unawaited += 1
    return Pending(begin, lambda: None)


async def _look_for_unawaited(spec: ComponentSpec, ports: Mapping[str, _Collector]) -> None:
    """Raises `ComponentError` for sends that were not awaited."""
    from ..channel.waiting_line import BEGINNING_TURNS

    for _ in range(BEGINNING_TURNS):
        if any(port.unawaited for port in ports.values()):
            await asyncio.sleep(0)  # tasks that were just made for them begin
    for name, port in ports.items():
        if port.unawaited:
            raise ComponentError(
                f"{spec.name}.test: {port.unawaited} of {len(port.items)} calls of `{name}.send(...)` were never "
                f"awaited. In a run, each loses its item when there is no room for it. Write `await {name}.send(...)`",
                node=spec.name,
            )


def _stream(spec: ComponentSpec, port: str, items: Any) -> Any:
    if isinstance(items, Iterable) and spec.options["thread"]:
        return iter(items)
    if isinstance(items, Iterable | AsyncIterable) and not spec.options["thread"]:
        return _Items(items)
    raise TypeError(
        f"{spec.name}.test: in-port {port!r} is a stream, and {items!r} is no iterable of its items. "
        f"Write {port}=[...]."
    )


async def _call(spec: ComponentSpec, call: Callable[[], Any], ports: Mapping[str, _Collector]) -> None:
    if spec.form == "async":
        result = await call()
    elif spec.form == "async_generator":
        result = None
        async with contextlib.aclosing(call()) as items:
            async for item in items:
                _send(spec, item, ports)
    else:

        def plainly() -> Any:
            if spec.form == "plain":
                return call()
            with contextlib.closing(call()) as items:
                for item in items:
                    _send(spec, item, ports)
            return None

        if spec.options["thread"]:
            result = await asyncio.to_thread(plainly)
        else:
            result = plainly()
            if inspect.isawaitable(result):
                result = await result
    if result is not None:
        _send(spec, result, ports)


def _send(spec: ComponentSpec, item: Any, ports: Mapping[str, _Collector]) -> None:
    from ..runtime.ports.return_values import check_returned

    check_returned(spec, item)
    if len(ports) != 1:
        names = ", ".join(ports) or "none"
        raise ComponentError(
            f"{spec.name} returned a value, which goes to its only out-port, but its out-ports are: {names}. "
            "Send with `await port.send(item)`.",
            node=spec.name,
        )
    next(iter(ports.values())).items.append(item)


def _checked(spec: ComponentSpec, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, StateArgs]]:
    """Arguments for the in-ports, and for the initializers."""
    inports = {port.name: port.default for port in spec.inports}
    states = {state.name for state in spec.states}
    for name in values:
        if name not in inports and name not in states:
            if any(port.name == name for port in spec.outports):
                raise TypeError(f"{spec.name}.test: {name!r} is an out-port; what is sent to it is in the result.")
            raise TypeError(f"{spec.name}.test: there is no in-port {name!r}.{suggestion(name, [*inports, *states])}")
    arguments = {name: values.get(name, default) for name, default in inports.items()}
    missing = [name for name, value in arguments.items() if value is MISSING]
    if missing:
        raise TypeError(
            f"{spec.name}.test: no value for in-port {' and '.join(map(repr, missing))}. "
            f"Write {spec.name}.test({', '.join(f'{name}=...' for name in missing)})."
        )
    return arguments, {name: state_args(values[name]) for name in states if name in values}
