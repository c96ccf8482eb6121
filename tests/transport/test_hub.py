"""Waiting for fds: the hub of a loop, and for anybody who has only a channel."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from cascata.transport.linux.fd_hub import READABLE, WRITABLE, Hub
from cascata.transport.shared.readiness import wait_readable, wait_readable_sync
from tests.coroutines import turn


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)
    os.close(writing)


async def test_what_becomes_ready_is_told_once_each_time(pipe: tuple[int, int]) -> None:
    hub = Hub()
    told: list[int] = []
    hub.watch(pipe[0], READABLE, told.append)
    await turn(3)
    assert told == []
    os.write(pipe[1], b"x")
    await turn(3)
    assert len(told) == 1
    await turn(3)
    assert len(told) == 1  # although it is readable still
    os.write(pipe[1], b"x")
    await turn(3)
    assert len(told) == 2
    hub.close()


async def test_what_is_ready_from_the_beginning_is_told(pipe: tuple[int, int]) -> None:
    hub = Hub()
    told: list[int] = []
    hub.watch(pipe[1], WRITABLE, told.append)
    await turn(3)
    assert told == [WRITABLE]
    hub.close()


async def test_what_is_watched_for_can_change_and_what_is_so_already_is_told_then(pipe: tuple[int, int]) -> None:
    hub = Hub()
    told: list[int] = []
    hub.watch(pipe[0], 0, told.append)
    os.write(pipe[1], b"x")
    await turn(3)
    assert told == []
    hub.change(pipe[0], READABLE)
    await turn(3)
    assert len(told) == 1
    hub.change(pipe[0], 0)
    os.write(pipe[1], b"x")
    await turn(3)
    assert len(told) == 1
    hub.close()


async def test_what_is_forgotten_is_not_told(pipe: tuple[int, int]) -> None:
    hub = Hub()
    told: list[int] = []
    hub.watch(pipe[0], READABLE, told.append)
    os.write(pipe[1], b"x")
    hub.forget(pipe[0])
    hub.forget(pipe[0])
    await turn(3)
    assert told == []
    hub.close()
    hub.forget(pipe[0])


async def test_more_fds_than_one_look_shows_are_all_told() -> None:
    hub = Hub()
    told: set[int] = set()
    pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(200)]
    for number, (reading, writing) in enumerate(pipes):
        hub.watch(reading, READABLE, lambda _, number=number: told.add(number))  # type: ignore[misc]  # a default
        os.write(writing, b"x")
    await turn(10)
    assert len(told) == 200
    hub.close()
    for reading, writing in pipes:
        os.close(reading)
        os.close(writing)


async def test_each_who_waits_for_an_fd_is_woken_while_it_stays_readable(pipe: tuple[int, int]) -> None:
    waiting = [asyncio.ensure_future(wait_readable([pipe[0]])) for _ in range(5)]
    await turn(3)
    os.write(pipe[1], b"x")
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)


async def test_who_was_cancelled_leaves_nothing_registered(pipe: tuple[int, int]) -> None:
    waiting = asyncio.ensure_future(wait_readable([pipe[0]]))
    await turn()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not asyncio.get_running_loop().remove_reader(pipe[0])


async def test_any_of_several_fds_will_do(pipe: tuple[int, int]) -> None:
    other = os.pipe2(os.O_NONBLOCK)
    waiting = [asyncio.ensure_future(wait_readable([pipe[0], other[0]])) for _ in range(3)]
    only = asyncio.ensure_future(wait_readable([pipe[0]]))
    await turn(3)
    os.close(other[1])  # hung up
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    await turn(5)
    assert not only.done()
    os.write(pipe[1], b"x")
    async with asyncio.timeout(10):
        await only
    os.close(other[0])


def test_a_wait_whose_loop_was_closed_ends_in_peace(pipe: tuple[int, int]) -> None:
    loop = asyncio.new_event_loop()
    waiting = wait_readable([pipe[0]])

    async def begin() -> None:
        waiting.send(None)

    loop.run_until_complete(begin())
    loop.close()
    waiting.close()


def test_a_thread_waits_as_long_as_it_says(pipe: tuple[int, int]) -> None:
    wait_readable_sync([pipe[0]], 0)
    wait_readable_sync([pipe[0]], -1)
    timer = threading.Timer(0.01, os.write, (pipe[1], b"x"))
    timer.start()
    for timeout in (None, 1e30, float("inf")):
        wait_readable_sync([pipe[0]], timeout)
    timer.join()
