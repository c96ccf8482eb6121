"""Frames survive whatever pieces their bytes come in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascata.transport.tcp.buffer_pool import BufferPool
from cascata.transport.tcp.stream_frames import HEADER, LONGEST, STAGING, Assembler, Frame, Kind, WireError, chunks

parts = st.one_of(st.binary(max_size=40), st.builds(lambda size: b"x" * size, st.integers(STAGING - 80, STAGING + 80)))
frames = st.builds(
    lambda number, body, buffers: Frame(
        Kind.DATA, number, number, number, body, [memoryview(each) for each in buffers]
    ),
    st.integers(0, 2**32 - 1),
    parts,
    st.lists(parts, max_size=3),
)


def put_together(data: bytes, sizes: list[int]) -> list[Frame]:
    """What an assembler makes of bytes that come in pieces of these sizes, again and again."""
    came: list[Frame] = []
    assembler = Assembler(came.append, BufferPool().take)
    at = turn = 0
    while at < len(data):
        room = assembler.room()
        assert len(room), "there is always room for something"
        count = min(len(room), sizes[turn % len(sizes)], len(data) - at)
        room[:count] = data[at : at + count]
        assembler.came(count)
        at += count
        turn += 1
    return came


def plain(frame: Frame) -> tuple[object, ...]:
    return (*frame[:4], bytes(frame.body), list(map(bytes, frame.buffers)), list(map(bytes, frame.blobs)), *frame[7:])


@settings(max_examples=40)
@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 300_000), min_size=1, max_size=5))
def test_frames_come_out_as_they_went_in(sent: list[Frame], sizes: list[int]) -> None:
    data = b"".join(bytes(chunk) for frame in sent for chunk in chunks(frame))
    assert [plain(frame) for frame in put_together(data, sizes)] == [plain(frame) for frame in sent]


def test_bytes_go_straight_to_where_a_large_part_belongs() -> None:
    came: list[Frame] = []
    assembler = Assembler(came.append, BufferPool().take)
    large = bytes(1 << 21)
    head, body = chunks(Frame(Kind.DATA, body=large))
    room = assembler.room()
    room[: len(head)] = head
    assembler.came(len(head))
    assert len(assembler.room()) == len(large)
    place = assembler.room()
    place[: len(body)] = body
    assembler.came(len(body))
    assert came[0].body is place.obj or memoryview(came[0].body).obj is place.obj


def test_buffers_arrive_writable_and_are_nobody_elses() -> None:
    original = bytearray(b"a" * 70_000)
    sent = Frame(Kind.DATA, body=b"pickle", buffers=[memoryview(original)])
    (came,) = put_together(b"".join(bytes(chunk) for chunk in chunks(sent)), [1_000])
    came.buffers[0][0] = ord("b")
    assert original[0] == ord("a")


def header(kind: int = Kind.DATA, parts: int = 0, blobs: int = 0, size: int = 0) -> bytes:
    return HEADER.pack(kind, False, blobs, 0, 0, parts, 0, 0, size)


@pytest.mark.parametrize(
    "said",
    [
        header(kind=200),
        header(parts=1 << 30),
        header(parts=1, blobs=2),
        header(size=LONGEST + 1),
        header(parts=1) + (LONGEST + 1).to_bytes(8, "little"),
        b"\xff" * 64,
    ],
)
def test_what_is_no_frame_is_refused_before_anything_is_kept_for_it(said: bytes) -> None:
    with pytest.raises(WireError):
        put_together(said, [len(said)])
