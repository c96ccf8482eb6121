"""Items to frames and back: inline, in memory, halved, salvaged."""

from __future__ import annotations

import gc
import os
import pickle
import random
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.transport.codec import out_of_band
from cascata.transport.codec.salvage import salvage
from cascata.transport.linux.memory_file import map_file
from cascata.transport.linux.messages import HEADER, INLINE_LIMIT, Frame, receive, transmit
from tests.transport.ends import Frames, generator, opened, unexpected


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with near, far:
        yield near, far


def encode(edge: int, total: int, items: list[Any], bad: Any, limit: int = INLINE_LIMIT) -> Iterable[Frame]:
    return Frames(edge, limit).make(total, items, bad)


def cross(
    sockets: tuple[socket.socket, socket.socket], items: list[Any], bad: Any = unexpected, limit: int = INLINE_LIMIT
) -> list[Any]:
    """Sends items through a socket, and returns what came."""
    near, far = sockets
    buffer = bytearray(HEADER.size + INLINE_LIMIT)
    came = []
    for frame in encode(3, 100, items, bad, limit):
        transmit(near, frame)
        message = receive(far, buffer)
        assert message is not None
        assert HEADER.unpack_from(message[0])[1] == 3
        came.extend(opened(*message))
    return came


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.integers())), min_size=1))
def test_what_goes_in_comes_out(items: list[Any]) -> None:
    (frame,) = encode(1, len(items), items, unexpected)
    message = memoryview(frame.header + frame.body)
    assert opened(message, frame.fd) == items


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096, INLINE_LIMIT - 30, INLINE_LIMIT + 1, 5_000_000])
def test_bodies_of_any_size_cross(sockets: tuple[socket.socket, socket.socket], size: int) -> None:
    assert cross(sockets, [b"x" * size, 7]) == [b"x" * size, 7]


def test_more_buffers_than_a_message_has_room_for_cross(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_of_band, "OUT_OF_BAND", 1)
    arrays = [np.full(3, number) for number in range(20_000)]
    came = cross(sockets, [arrays, "last"])
    assert came[1] == "last"
    assert [int(array[2]) for array in came[0]] == list(range(20_000))


def test_the_total_says_how_many_were_sent_before_bad_items_too() -> None:
    bad: list[Any] = []
    items = [1, generator(), 3, 4, generator(), 6, 7]
    made = list(encode(0, 50, items, lambda item, _: bad.append(item)))
    heads = [HEADER.unpack(frame.header) for frame in made]
    assert [opened(memoryview(frame.header + frame.body), -1) for frame in made] == [
        [1],
        [3],
        [4],
        [6, 7],
    ]
    assert [(total, count) for _, _, total, count, _ in heads] == [(44, 1), (46, 1), (47, 1), (50, 2)]
    assert bad == [items[1], items[4]]


def test_one_bad_item_among_many_costs_few_frames() -> None:
    items = [*range(500), generator(), *range(500)]
    assert len(list(encode(0, 1_001, items, lambda *_: None))) <= 20


def test_an_array_that_was_readonly_stays_so_and_others_are_writable(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    fixed = np.zeros(20_000)
    fixed.flags.writeable = False
    came = cross(sockets, [np.zeros(20_000), fixed, np.zeros(10)])
    assert [array.flags.writeable for array in came] == [True, False, True]


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("cascata-frame")


def test_the_memory_of_a_frame_lives_as_long_as_its_last_view(sockets: tuple[socket.socket, socket.socket]) -> None:
    before = mappings()
    (array, other) = cross(sockets, [np.arange(20_000), np.arange(20_000)])
    part = array[5:10]
    raw = memoryview(other)
    del array, other
    gc.collect()
    assert mappings() == before + 1
    assert part.sum() == 35
    assert raw[7] == 7
    del part
    gc.collect()
    assert mappings() == before + 1
    del raw
    gc.collect()
    assert mappings() == before


def test_a_large_frame_whose_memory_did_not_arrive_says_why() -> None:
    (frame,) = encode(0, 1, [np.zeros(20_000)], unexpected)
    os.close(frame.fd)
    with pytest.raises(OSError, match="no fd left"):
        opened(memoryview(frame.header + frame.body), -1)


def test_a_file_that_cannot_be_mapped_says_why() -> None:
    empty = os.memfd_create("empty")
    with pytest.raises(OSError, match="could not be mapped"):
        map_file(empty)
    os.close(empty)


def test_the_fd_of_a_large_frame_is_not_inherited(sockets: tuple[socket.socket, socket.socket]) -> None:
    (frame,) = encode(0, 1, [np.zeros(20_000)], unexpected)
    transmit(sockets[0], frame)
    message = receive(sockets[1], bytearray(HEADER.size + INLINE_LIMIT))
    assert message is not None
    assert not os.get_inheritable(message[1])
    os.close(message[1])


def test_a_frame_that_could_not_be_made_leaves_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError("full")

    monkeypatch.setattr(os, "pwrite", fail)
    bad: list[BaseException] = []
    assert list(encode(0, 1, [np.zeros(20_000)], lambda _, problem: bad.append(problem))) == []
    assert [str(problem) for problem in bad] == ["full"]


# --- items that cannot be unpickled -----------------------------------------------------------------


class Good:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Good) and self.value == other.value

    def __hash__(self) -> int:
        return hash(str(self.value))


class BadState:
    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: Any) -> None:
        raise ValueError("state")


def explode(text: str) -> Any:
    raise KeyError(text)


class BadCall:
    def __reduce__(self) -> Any:
        return explode, ("call",)


class BadNew:
    def __new__(cls, *arguments: Any) -> Self:
        if arguments == ("here",):
            return super().__new__(cls)
        raise OSError("new")

    def __getnewargs__(self) -> tuple[str]:
        return ("there",)


class BadHash:
    on_this_side = True

    def __hash__(self) -> int:
        if not BadHash.on_this_side:
            raise TypeError("hash")
        return 1


class Gone:
    """Is not there where it is unpickled."""


def bad_items() -> list[Any]:
    return [BadState(), BadCall(), BadNew("here"), {BadHash(): 1}, {BadHash()}, frozenset([BadHash()]), Gone(), Gone]


def good_items() -> list[Any]:
    twice = [1, 2]
    plain = [1, "text", b"x" * 300, 2.5, None, 10**30, len, Good]
    nested = [[1, [2]], {"a": (1, 2, 3, 4)}, (1,), {1, 2}, frozenset([3]), twice, [twice, twice]]
    return [*plain, *nested, Good(1), Good([Good(2)])]


def wrapped(rng: random.Random, item: Any) -> Any:
    """The item somewhere in something that is good by itself."""
    for _ in range(rng.randrange(3)):
        item = rng.choice([[item, 1], Good(item), (0, item), {"k": item}, Good([7, (item,)]), [Good(1), item, Good]])
    return item


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50, 1_001, 2_500])
def test_all_items_but_the_bad_ones_are_salvaged(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    rng = random.Random(count)
    for _ in range(max(2, 600 // count)):
        items: list[Any] = []
        expected: list[Any] = []
        good = good_items()
        while len(items) < count:
            if rng.random() < 0.3:
                bad = wrapped(rng, rng.choice(bad_items()))
                items += rng.choice([[bad], [bad], [bad, bad], [bad, [bad, 5]]])[: count - len(items)]
            else:
                item = rng.choice(good)
                items.append(item)
                expected.append(item)
        body = pickle.dumps(items, 5)
        with monkeypatch.context() as there:
            there.setattr(BadHash, "on_this_side", False)
            there.delattr(f"{__name__}.Gone")
            salvaged, problems = salvage(body)
        assert salvaged == expected
        assert len(problems) == count - len(expected)


def test_what_a_bad_item_shares_with_good_ones_does_not_spoil_them() -> None:
    names = ["a", "b"]
    array = np.arange(5)
    items = [[names, array, BadState()], [names], {"array": array}, Good]
    salvaged, problems = salvage(pickle.dumps(items, 5))
    assert salvaged[0] == [names]
    assert salvaged[1]["array"].sum() == 10
    assert salvaged[2] is Good
    assert [str(problem) for problem in problems] == ["state"]


def test_buffers_of_salvaged_items_are_found() -> None:
    out_of_band: list[pickle.PickleBuffer] = []
    items = [BadState(), np.arange(5), BadCall(), np.arange(3)]
    body = pickle.dumps(items, 5, buffer_callback=out_of_band.append)
    salvaged, problems = salvage(body, [buffer.raw() for buffer in out_of_band])
    assert [array.tolist() for array in salvaged] == [[0, 1, 2, 3, 4], [0, 1, 2]]
    assert len(problems) == 2


def test_a_pickle_that_is_broken_in_itself_is_no_frame() -> None:
    with pytest.raises((EOFError, IndexError, pickle.UnpicklingError)):
        salvage(pickle.dumps([1, 2, 3], 5)[:-3])
