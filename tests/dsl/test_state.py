"""State of an instance: every way to make it, and what is entered and left."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cascata.model import StateArgs, StateSpec
from cascata.runtime.persist import StateCell, make_state

steps: list[str] = []


@pytest.fixture(autouse=True)
def no_steps_yet() -> None:
    steps.clear()


def make(initializer: Any, *args: Any, **kwargs: Any) -> tuple[Any, list[str]]:
    """The value of the state, and what happened until then; `steps` then has what happened until the end."""

    async def within() -> tuple[Any, list[str]]:
        async with AsyncExitStack() as stack:
            cell = await make_state(StateSpec("it", initializer), StateArgs(args, kwargs), stack)
            return cell.value, list(steps)

    return asyncio.run(within())


def test_a_cell_gets_sets_and_shows_its_value() -> None:
    cell = StateCell(1)
    cell.set(2)
    cell.value += 1
    assert cell.get() == cell.value == 3
    assert repr(cell) == "StateCell(3)"


def test_a_function_makes_it_from_its_arguments() -> None:
    assert make(lambda a, b: (a, b), 1, b=2)[0] == (1, 2)


def test_a_class_makes_it() -> None:
    assert make(int)[0] == 0


def test_a_coroutine_function_makes_it() -> None:
    async def connect(where: str) -> str:
        await asyncio.sleep(0)
        return f"connected to {where}"

    assert make(connect, "here")[0] == "connected to here"


def generator() -> Iterator[str]:
    steps.append("in")
    yield "value"
    steps.append("out")


async def async_generator() -> AsyncIterator[str]:
    steps.append("in")
    yield "value"
    steps.append("out")


async def coroutine_for_a_manager() -> Any:
    return contextlib.asynccontextmanager(async_generator)()


@pytest.mark.parametrize(
    "initializer",
    [
        generator,
        async_generator,
        contextlib.contextmanager(generator),
        contextlib.asynccontextmanager(async_generator),
        coroutine_for_a_manager,
    ],
)
def test_generators_and_managers_of_contextlib_are_entered_and_left(initializer: Any) -> None:
    value, before = make(initializer)
    assert value == "value"
    assert before == ["in"]
    assert steps == ["in", "out"]


def test_a_manager_written_on_top_of_contextlib_is_entered() -> None:
    class Own(contextlib.AbstractContextManager[str]):
        def __enter__(self) -> str:
            return "entered"

        def __exit__(self, *error: object) -> None:
            steps.append("out")

    assert make(Own)[0] == "entered"
    assert steps == ["out"]


def test_an_exit_stack_is_entered() -> None:
    def stack() -> contextlib.ExitStack:
        made = contextlib.ExitStack()
        made.callback(steps.append, "out")
        return made

    make(stack)
    assert steps == ["out"]


@pytest.mark.parametrize("initializer", [threading.Lock, io.StringIO])
def test_other_objects_with_an_enter_of_their_own_are_values(initializer: Any) -> None:
    value, _ = make(initializer)
    if isinstance(value, io.StringIO):
        assert not value.closed
    else:
        assert not value.locked()


def test_a_generator_that_a_function_returns_is_a_value() -> None:
    value, _ = make(lambda: (number for number in range(3)))
    assert list(value) == [0, 1, 2]


def test_the_error_that_ends_the_instance_reaches_the_generator() -> None:
    def held() -> Iterator[str]:
        try:
            yield "value"
        except ValueError as error:
            steps.append(str(error))
            raise

    async def within() -> None:
        async with AsyncExitStack() as stack:
            await make_state(StateSpec("it", held), StateArgs(), stack)
            raise ValueError("the end")

    with pytest.raises(ValueError, match="the end"):
        asyncio.run(within())
    assert steps == ["the end"]


def test_states_are_left_in_reverse_order() -> None:
    def held(name: str) -> Iterator[str]:
        yield name
        steps.append(name)

    async def within() -> None:
        async with AsyncExitStack() as stack:
            for name in ("first", "second"):
                await make_state(StateSpec(name, held), StateArgs((name,)), stack)

    asyncio.run(within())
    assert steps == ["second", "first"]


def test_an_error_of_an_initializer_passes_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        make(lambda: 1 / 0)
