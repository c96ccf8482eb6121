"""`Component.test`: one call outside any graph."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cascata import BlockingOut, In, Out, State, Stopping, component, inport, outport
from cascata.errors import ComponentError


@component
@inport("data_in", capacity=10)
@inport("constant_in", default=1)
@outport("data_out")
async def NumberIncrementer(data_in: int, constant_in: int, data_out: Any) -> None:
    await data_out.send(data_in + constant_in)


def test_what_is_sent_is_given_back_by_port() -> None:
    assert NumberIncrementer.test(data_in=1, constant_in=2) == {"data_out": [3]}


def test_defaults_apply() -> None:
    assert NumberIncrementer.test(data_in=1) == {"data_out": [2]}


def test_it_works_where_a_loop_runs_already() -> None:
    async def inside() -> dict[str, list[int]]:
        return NumberIncrementer.test(data_in=4)

    assert asyncio.run(inside()) == {"data_out": [5]}


def test_an_error_is_raised_where_a_loop_runs_already() -> None:
    @component
    async def failing(x: In[int]) -> None:
        raise ValueError(x)

    async def inside() -> None:
        failing.test(x=7)

    with pytest.raises(ValueError, match="7"):
        asyncio.run(inside())


def test_the_async_form_is_awaited_in_the_running_loop() -> None:
    @component
    async def which(loop: Out[Any]) -> None:
        await loop.send(asyncio.get_running_loop())

    async def inside() -> bool:
        return (await which.test_async())["loop"] == [asyncio.get_running_loop()]

    assert asyncio.run(inside())


def test_a_missing_value_is_named() -> None:
    with pytest.raises(TypeError, match=r"NumberIncrementer.test: no value for in-port 'data_in'.*test\(data_in=...\)"):
        NumberIncrementer.test(constant_in=2)


def test_an_unknown_name_is_named_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"there is no in-port 'datain'. Did you mean 'data_in'\?"):
        NumberIncrementer.test(datain=1)


def test_an_out_port_takes_no_value() -> None:
    with pytest.raises(TypeError, match="'data_out' is an out-port"):
        NumberIncrementer.test(data_in=1, data_out=2)


def test_the_async_form_checks_its_values_too() -> None:
    with pytest.raises(TypeError, match="no value for in-port 'data_in'"):
        asyncio.run(NumberIncrementer.test_async())


# --- every form of runner ---------------------------------------------------------------------------


def test_an_async_generator_sends_what_it_yields() -> None:
    @component
    async def count(n: In[int], out: Out[int | None]) -> AsyncIterator[int | None]:
        for i in range(n):
            yield i
        yield None

    assert count.test(n=2) == {"out": [0, 1, None]}


def test_a_generator_sends_what_it_yields() -> None:
    @component
    def count(n: In[int], out: Out[int]) -> Iterator[int]:
        yield from range(n)

    assert count.test(n=3) == {"out": [0, 1, 2]}


def test_a_plain_function_sends_what_it_returns() -> None:
    @component
    def double(x: In[int], out: Out[int]) -> int:
        return 2 * x

    assert double.test(x=3) == {"out": [6]}


def test_nothing_is_sent_for_none() -> None:
    @component
    def odd(x: In[int], out: Out[int]) -> int | None:
        return x if x % 2 else None

    assert odd.test(x=2) == {"out": []}


def test_a_coroutine_sends_what_it_returns() -> None:
    @component
    async def double(x: In[int], out: Out[int]) -> int:
        return 2 * x

    assert double.test(x=3) == {"out": [6]}


def test_a_thread_runs_elsewhere_and_sends_without_await() -> None:
    @component(thread=True)
    def blocking(x: In[int], out: Out[int], where: Out[threading.Thread]) -> None:
        assert out.send(x) is None  # type: ignore[func-returns-value,unused-ignore]
        _ = where.send(threading.current_thread())

    sent = blocking.test(x=1)
    assert sent["out"] == [1]
    assert sent["where"] != [threading.current_thread()]


def test_a_thread_sends_what_it_yields_and_returns() -> None:
    @component(thread=True)
    def yields(x: In[int], out: Out[int]) -> Iterator[int]:
        yield x

    @component(thread=True)
    def returns(x: In[int], out: Out[int]) -> int:
        return x

    assert yields.test(x=1) == returns.test(x=1) == {"out": [1]}


@pytest.mark.parametrize("outs", [0, 2])
def test_a_returned_value_needs_exactly_one_out_port(outs: int) -> None:
    async def runner(a: Any, b: Any) -> int:
        return 1

    declared: Any = runner
    for index, name in enumerate("ab"):
        declared = outport(name)(declared) if index < outs else inport(name, default=0)(declared)
    runner_class = component(declared)
    with pytest.raises(ComponentError, match="runner returned a value, which goes to its only out-port") as raised:
        runner_class.test()
    assert raised.value.node == "runner"


def test_send_can_be_used_as_a_task_gathered_and_timed() -> None:
    @component
    async def many(x: In[int], out: Out[int]) -> None:
        await asyncio.create_task(out.send(x))
        await asyncio.gather(out.send(x + 1), out.send(x + 2))
        await asyncio.wait_for(out.send(x + 3), timeout=1)

    assert many.test(x=0) == {"out": [0, 1, 2, 3]}


def test_keyword_only_parameters_are_given_by_name() -> None:
    @component
    async def keyed(x: In[int], *, factor: In[int] = 2, out: Out[int]) -> None:
        await out.send(x * factor)

    assert keyed.test(x=3) == {"out": [6]}


def test_an_error_of_the_runner_passes_as_it_is() -> None:
    error = ValueError("mine")

    @component
    async def failing(x: In[int]) -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as raised:
        failing.test(x=1)
    assert raised.value is error


def test_a_generator_is_closed_when_it_cannot_go_on() -> None:
    closed: list[str] = []

    @component
    async def stops(x: In[int], out: Out[int]) -> AsyncIterator[int]:
        try:
            yield x
            raise ValueError(x)
        finally:
            closed.append("closed")

    with pytest.raises(ValueError, match="1"):
        stops.test(x=1)
    assert closed == ["closed"]


# --- state ------------------------------------------------------------------------------------------


def test_state_is_made_anew_for_each_call() -> None:
    @component
    async def counting(x: In[int], out: Out[int], seen: State[int] = State(int)) -> None:
        seen.value += x
        seen.set(seen.get() + 1)
        await out.send(seen.value)

    assert counting.test(x=5) == {"out": [6]}
    assert counting.test(x=5) == {"out": [6]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [(3, (3, 0)), ((3, 4), (3, 4)), ({"start": 3, "step": 5}, (3, 5))],
)
def test_state_takes_the_arguments_of_its_initializer(given: Any, expected: tuple[int, int]) -> None:
    def pair(start: int, step: int = 0) -> tuple[int, int]:
        return start, step

    @component
    async def counting(out: Out[tuple[int, int]], seen: State[tuple[int, int]] = State(pair)) -> None:
        await out.send(seen.value)

    assert counting.test(seen=given) == {"out": [expected]}


def test_state_is_left_when_the_runner_raises() -> None:
    steps: list[object] = []

    @contextlib.contextmanager
    def opened() -> Iterator[str]:
        steps.append("in")
        try:
            yield "value"
        except ValueError as error:
            steps.append(error)
            raise
        finally:
            steps.append("out")

    @component
    async def failing(x: In[int], held: State[str] = State(opened)) -> None:
        steps.append(held.value)
        raise ValueError(x)

    with pytest.raises(ValueError, match="1") as raised:
        failing.test(x=1)
    assert steps == ["in", "value", raised.value, "out"]


def test_a_trial_is_not_stopped() -> None:
    @component
    async def Asks(out: Out[bool], stopping: Stopping) -> None:
        await out.send(stopping.is_set())
        await out.send(await stopping.wait(0.001))

    @component(thread=True)
    def AsksInAThread(out: BlockingOut[bool], stopping: Stopping) -> None:
        out.send(stopping.is_set())
        out.send(bool(stopping.wait(0.001)))

    assert Asks.test() == AsksInAThread.test() == {"out": [False, False]}
    with pytest.raises(TypeError, match="no in-port 'stopping'"):
        Asks.test(stopping=True)
