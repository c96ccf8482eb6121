"""State of an instance: what its initializer may be, and when what it gives is left again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

import pytest

from cascata.model import StateArgs, StateSpec
from cascata.runtime.persist import StateCell, make_state


class Told(list[str]):
    """What happened."""


@contextmanager
def manager(told: Told) -> Iterator[str]:
    told.append("made")
    try:
        yield "value"
    except BaseException as error:
        told.append(repr(error))
        raise
    finally:
        told.append("left")


@asynccontextmanager
async def async_manager(told: Told) -> AsyncIterator[str]:
    with manager(told) as value:
        yield value


def generator(told: Told) -> Iterator[str]:
    with manager(told) as value:
        yield value


async def async_generator(told: Told) -> AsyncIterator[str]:
    with manager(told) as value:
        yield value


async def coroutine(told: Told) -> Any:
    await asyncio.sleep(0)
    return manager(told)


INITIALIZERS = [manager, async_manager, generator, async_generator, coroutine]

each_kind = pytest.mark.parametrize("initializer", INITIALIZERS, ids=lambda each: each.__name__)


def made(initializer: Callable[..., Any], args: StateArgs, inside: Callable[[StateCell[Any]], None]) -> None:
    """Makes a state, does something with it, and leaves it."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            inside(await make_state(StateSpec("state", initializer), args, stack))

    asyncio.run(main())


@each_kind
def test_what_is_to_be_entered_is_entered_and_left(initializer: Callable[..., Any]) -> None:
    told = Told()
    made(initializer, StateArgs((told,)), lambda cell: told.append(cell.value))
    assert told == ["made", "value", "left"]


@each_kind
def test_an_error_reaches_the_initializer(initializer: Callable[..., Any]) -> None:
    told = Told()

    def fail(cell: StateCell[Any]) -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        made(initializer, StateArgs((told,)), fail)
    assert told == ["made", "ValueError('inside')", "left"]


def test_arguments_are_given_by_position_and_by_name() -> None:
    seen: list[Any] = []
    made(lambda *args, **kwargs: (args, kwargs), StateArgs((1, 2), {"a": 3}), lambda cell: seen.append(cell.get()))
    assert seen == [((1, 2), {"a": 3})]


class OwnManager:
    """Has what a `with` statement asks for, and says nowhere that it is meant for it."""

    def __enter__(self) -> Self:
        raise AssertionError("it was entered")

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it was left")


def test_a_value_that_could_be_entered_is_left_alone() -> None:
    values: list[Any] = []
    made(OwnManager, StateArgs(), lambda cell: values.append(cell.value))
    assert isinstance(values[0], OwnManager)


def test_a_cell_is_read_and_written_in_two_ways() -> None:
    cell = StateCell(1)
    cell.set(2)
    assert cell.get() == cell.value == 2
    cell.value = 3
    assert cell.get() == 3
    assert repr(cell) == "StateCell(3)"


def test_a_cell_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        StateCell(1).vaule = 2  # type: ignore[attr-defined]  # the typing error that slots catch
