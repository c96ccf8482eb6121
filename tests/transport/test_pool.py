"""Memory is received into again and again, and never while somebody looks at it."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.transport.linux.blocks import SMALLEST
from cascata.transport.tcp import buffer_pool as pools
from cascata.transport.tcp.buffer_pool import BufferPool

sizes = st.sampled_from([1, SMALLEST - 1, SMALLEST, SMALLEST + 1, 3 * SMALLEST, 5 * SMALLEST])


@given(st.lists(st.tuples(sizes, st.integers(0, 5)), max_size=60))
def test_no_two_who_look_share_memory(takes: list[tuple[int, int]]) -> None:
    pool = BufferPool()
    held: list[tuple[int, memoryview]] = []
    for number, (size, dropped) in enumerate(takes):
        memory = pool.take(size)
        assert len(memory) == size
        memory[:] = bytes([number]) * size
        held.append((number, memory))
        del memory
        del held[:dropped]
        assert all(bytes(each) == bytes([owner]) * len(each) for owner, each in held)


def test_memory_that_nobody_looks_at_is_used_again() -> None:
    pool = BufferPool()
    first = pool.take(SMALLEST)
    whose = first.obj
    part = first[10:20]
    del first
    assert pool.take(SMALLEST).obj is not whose, "a part of it is looked at"
    del part
    assert any(pool.take(SMALLEST).obj is whose for _ in range(2))


def test_what_numpy_keeps_is_not_used_again() -> None:
    np = pytest.importorskip("numpy")
    pool = BufferPool()
    array = np.frombuffer(pool.take(SMALLEST), "u1")[5:10]
    array[:] = 7
    for _ in range(3):
        pool.take(SMALLEST)[:] = bytes(SMALLEST)
    assert array.tolist() == [7] * 5


@pytest.mark.parametrize("size", [SMALLEST, 3 * SMALLEST])
def test_no_more_is_remembered_than_is_said(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEPT", 10 * SMALLEST)
    pool = BufferPool()
    tracemalloc.start()
    try:
        for each in (2 * SMALLEST, size):
            held = [pool.take(each) for _ in range(40)]
            assert len({id(memory.obj) for memory in held}) == 40
            del held
            assert tracemalloc.get_traced_memory()[0] < 10 * SMALLEST + 100_000
    finally:
        tracemalloc.stop()


def test_what_is_too_large_to_be_remembered_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEPT", 10 * SMALLEST)
    pool = BufferPool()
    whose = pool.take(SMALLEST).obj
    assert len(pool.take(11 * SMALLEST)) == 11 * SMALLEST
    assert pool.take(SMALLEST).obj is whose


def test_who_has_not_been_asked_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEPT", 10 * SMALLEST)
    pool = BufferPool()
    small = pool.take(SMALLEST).obj
    middle = pool.take(3 * SMALLEST).obj
    assert pool.take(SMALLEST).obj is small
    held = [pool.take(5 * SMALLEST), pool.take(5 * SMALLEST)]
    assert pool.take(3 * SMALLEST).obj is not middle
    assert len({id(memory.obj) for memory in held}) == 2
