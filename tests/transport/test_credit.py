"""Credits in a pipe: as many as there should be, in whatever portions they go and come."""

from __future__ import annotations

import fcntl
import os
import random

import pytest

from cascata.transport.linux.credits import credit_pipe, credits_in, give, grow, pages_for, take


def test_as_many_pages_as_credits_need_and_no_more() -> None:
    for pages in range(2, 600):
        most = credits_in(pages)
        assert pages_for(most) <= pages
        assert pages_for(most + 1) > pages
    assert pages_for(1) == credits_in(1) == 1


@pytest.mark.parametrize("capacity", [1, 2, 100, 4_097, 4_098, 10_000, 60_000, 70_000])
def test_credits_can_be_given_back_in_any_portions(capacity: int) -> None:
    reading, writing, real = credit_pipe(capacity)
    assert real == capacity
    rng = random.Random(capacity)
    try:
        for _ in range(3_000):
            taken = take(reading, rng.choice([1, 2_047, 2_049, 4_095, 4_097, capacity]))
            while taken:
                portion = min(taken, rng.choice([1, 2_049, 2_049, 2_500, 4_096, 4_097, taken]))
                give(writing, portion)
                taken -= portion
        left = 0
        while got := take(reading, capacity):
            left += got
        assert left == capacity
    finally:
        os.close(reading)
        os.close(writing)


def test_a_capacity_beyond_the_systems_limits_is_cut_to_what_the_pipe_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            raise PermissionError
        return fcntl_fcntl(fd, command, argument)

    fcntl_fcntl = fcntl.fcntl
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    reading, writing, real = credit_pipe(1_000_000)
    size = fcntl_fcntl(writing, fcntl.F_GETPIPE_SZ)
    assert real == credits_in(size // 4096)
    assert grow(writing, real, 1_000) == 0
    assert take(reading, 10**6) == real
    os.close(reading)
    os.close(writing)


def test_a_pipe_grows_by_as_many_credits_as_are_asked() -> None:
    reading, writing, real = credit_pipe(10)
    assert grow(writing, real, 50_000) == 50_000
    assert take(reading, 10**6) == 50_010
    os.close(reading)
    os.close(writing)


def test_credits_that_nobody_can_take_are_given_all_the_same() -> None:
    reading, writing, _ = credit_pipe(5)
    os.close(reading)
    give(writing, 3)
    os.close(writing)


def test_an_empty_pipe_gives_nothing() -> None:
    reading, writing, _ = credit_pipe(5)
    assert [take(reading, 3), take(reading, 3), take(reading, 3)] == [3, 2, 0]
    os.close(reading)
    os.close(writing)
