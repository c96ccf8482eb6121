"""Large items between two ends in one process: copied once, seen where they lie, freed, paid for."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cascata.transport.codec import out_of_band
from cascata.transport.ends import budget
from cascata.transport.linux import arena as arenas
from cascata.transport.linux import blocks
from cascata.transport.linux.arena import Arena, Arenas
from cascata.transport.linux.blocks import block_size, make_arena, release_all
from cascata.transport.linux.large_items import Sharing
from cascata.transport.linux.messages import HEADER, IN_ARENA, IN_FILE, Frame
from tests.transport.ends import Crossing, Frames, crossing, generator, opened, unexpected

MB = 1 << 20


class Memory:
    """An arena, those who send through it and one who receives."""

    def __init__(self) -> None:
        self.fd = make_arena()
        self.arena = Arena(self.fd, 0)
        self.arenas = Arenas({0: self.fd}, 1)

    def frames(self, sharing: Sharing | None = None) -> Frames:
        """Of an edge that sends through the arena."""
        return Frames(arena=lambda: self.arena, sharing=sharing)

    def receive(self, frame: Frame) -> Any:
        message = memoryview(frame.header + frame.body)
        (item,) = opened(message, frame.fd, unexpected, lambda: self.arenas)
        return item

    def cross(self, item: Any) -> Any:
        (frame,) = self.frames().make(1, [item], unexpected)
        return self.receive(frame)

    @property
    def held(self) -> int:
        """Blocks that somebody holds, or that are on their way."""
        return sum(1 for state in self.arena.in_use if state)

    @property
    def blocks(self) -> int:
        return int(self.arena._head[0])

    def bytes_in_use(self) -> int:
        return os.fstat(self.fd).st_blocks * 512


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    os.close(made.fd)


def kind_of(frame: Frame) -> int:
    return int(HEADER.unpack(frame.header)[0])


# --- what arrives -----------------------------------------------------------------------------------


def test_an_array_arrives_writable_and_is_the_receivers_own(memory: Memory) -> None:
    sent = np.arange(MB // 8)
    came = memory.cross(sent)
    sent[:] = 0
    assert came.flags.writeable
    assert came[7] == 7
    came[7] = 1


def test_an_array_that_was_readonly_stays_so(memory: Memory) -> None:
    sent = np.arange(MB // 8)
    sent.flags.writeable = False
    assert not memory.cross(sent).flags.writeable


def test_large_bytes_and_their_kin_cross_beside_the_pickle_wherever_they_are(memory: Memory) -> None:
    plain, mutable = os.urandom(MB), bytearray(os.urandom(MB))
    item = {"a": [plain, (mutable, plain)], "b": mutable, "small": b"x"}
    (frame,) = memory.frames().make(1, [item], unexpected)
    assert kind_of(frame) == IN_ARENA
    came = memory.receive(frame)
    assert came == item
    assert type(came["b"]) is bytearray
    assert came["b"] is came["a"][1][0]
    assert came["a"][0] is came["a"][1][1]
    assert memory.held == 0  # bytes are copied out


@pytest.mark.parametrize("size", [10, 100_000])
def test_memoryviews_cross_with_their_form(memory: Memory, size: int) -> None:
    sent: Any = np.arange(2 * size, dtype="i4").reshape(2, size)
    came = memory.cross({"view": memoryview(sent)})["view"]
    assert (came.format, came.shape, came.readonly) == ("i", (2, size), False)
    assert came == memoryview(sent)
    assert memory.cross(memoryview(sent[:, ::2])) == memoryview(sent[:, ::2])
    assert memory.cross(memoryview(bytes(size))).readonly


def test_items_without_room_in_a_block_come_in_a_file_of_their_own(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arenas, "LARGEST", MB)
    (frame,) = memory.frames().make(1, [np.ones(MB)], unexpected)
    assert kind_of(frame) == IN_FILE
    assert memory.receive(frame).sum() == MB


def test_one_bad_item_among_large_ones_fails_alone(memory: Memory) -> None:
    bad: list[Any] = []
    items = [np.ones(MB // 8), generator(), b"x" * MB, np.ones(MB // 8)]
    frames = memory.frames().make(4, items, lambda item, _: bad.append(item))
    came = [
        each
        for frame in frames
        for each in opened(memoryview(frame.header + frame.body), frame.fd, unexpected, lambda: memory.arenas)
    ]
    assert bad == [items[1]]
    assert [len(each) for each in came] == [MB // 8, MB, MB // 8]


class Unloadable:
    def __setstate__(self, state: Any) -> None:
        raise ValueError("state")

    def __getstate__(self) -> Any:
        return 1


def test_large_items_beside_one_that_cannot_be_unpickled_are_salvaged(memory: Memory) -> None:
    items = [np.ones(MB // 8), Unloadable(), {"data": b"x" * (4 * MB)}]
    (frame,) = memory.frames().make(3, items, unexpected)
    problems: list[BaseException] = []
    came = opened(
        memoryview(frame.header + frame.body),
        -1,
        lambda _, __, problem: problems.append(problem),
        lambda: memory.arenas,
    )
    assert [str(problem) for problem in problems] == ["state"]
    assert came[0].sum() == MB // 8
    assert came[1] == items[2]


# --- blocks -----------------------------------------------------------------------------------------


def test_a_block_is_free_when_the_last_view_is_gone_and_then_used_again(memory: Memory) -> None:
    came = memory.cross(np.arange(MB // 8))
    part, raw = came[5:10], memoryview(came)
    del came
    gc.collect()
    assert memory.held == 1
    assert part.sum() == 35
    del part
    assert memory.held == 1
    assert raw[7] == 7
    del raw
    assert memory.held == 0
    for number in range(20):
        assert memory.cross(np.full(MB // 8, number))[3] == number
    assert memory.blocks == 1


def test_a_thousand_arrays_need_the_memory_of_those_that_are_held_at_one_time(memory: Memory) -> None:
    held: list[Any] = []
    for number in range(1_000):
        held.append(memory.cross(np.full(MB // 8, number)))
        if len(held) > 5:
            assert held.pop(0)[9] == number - 5
    assert memory.blocks == 6
    assert memory.bytes_in_use() < 9 * MB


def test_an_arena_that_is_full_makes_nobody_wait_and_is_used_again(memory: Memory) -> None:
    memory.arena._limit = 5 * MB
    kinds = []
    kept = []
    for number in range(10):
        (frame,) = memory.frames().make(1, [np.full(MB // 8, number)], unexpected)
        kinds.append(kind_of(frame))
        kept.append(memory.receive(frame))
    assert kinds == [IN_ARENA] * 4 + [IN_FILE] * 6
    assert [int(each[5]) for each in kept] == list(range(10))
    kept.clear()
    (frame,) = memory.frames().make(1, [np.ones(MB // 8)], unexpected)
    assert kind_of(frame) == IN_ARENA
    frame.drop()


def test_memory_of_free_blocks_goes_to_other_sizes(memory: Memory) -> None:
    memory.arena._limit = 10 * MB
    for size in (1, 3, 5, 8, 2, 8, 1, 5):
        held = [memory.cross(np.ones(size * MB // 8)) for _ in range(9 // size)]
        assert all(each.sum() == size * MB // 8 for each in held)
        assert memory.bytes_in_use() <= 10 * MB + blocks.DATA_AT
        del held
    assert memory.held == 0


def test_blocks_waste_at_most_an_eighth() -> None:
    for need in [1, 65_536, 65_537, MB, MB + 1, 3 * MB + 5, 100 * MB]:
        assert need <= block_size(need)
        assert block_size(need) % 4096 == 0
        assert need < 65_536 or block_size(need) <= need * 9 / 8 + 4096


def test_a_frame_that_is_not_sent_frees_its_block(memory: Memory) -> None:
    (frame,) = memory.frames().make(1, [np.ones(MB)], unexpected)
    assert memory.held == 1
    assert frame.drop() == 1
    assert memory.held == 0


def test_what_a_dead_worker_held_is_freed_and_what_is_on_its_way_to_it_is_not(memory: Memory) -> None:
    held = [memory.cross(np.ones(MB)) for _ in range(3)]
    (on_its_way,) = memory.frames().make(1, [np.ones(MB)], unexpected)
    assert release_all(memory.fd, 2) == 0
    assert release_all(memory.fd, 1) == 3
    assert memory.held == 1
    assert memory.receive(on_its_way).sum() == MB
    del held


def test_a_forked_child_that_lets_go_of_its_views_frees_nothing(memory: Memory) -> None:
    came = memory.cross(np.ones(MB))
    child = os.fork()
    if not child:
        del came
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert memory.held == 1
    assert came.sum() == MB


def test_a_worker_that_takes_a_dead_ones_place_keeps_off_the_blocks_that_are_still_held(memory: Memory) -> None:
    held = [memory.cross(np.full(MB // 8, number)) for number in range(4)]
    del held[2]
    memory.arena = Arena(memory.fd, 0)
    more = [memory.cross(np.full(MB // 8, 7)) for _ in range(3)]
    assert [int(each[0]) for each in held] == [0, 1, 3]
    assert [int(each[0]) for each in more] == [7, 7, 7]
    assert memory.blocks == 6


def test_memory_that_cannot_be_mapped_any_more_is_read(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOMEM, "too many are mapped")

    (frame,) = memory.frames().make(1, [np.arange(MB)], unexpected)
    memory.receive(frame)  # the table is mapped
    memory.arena.put([memoryview(bytes(MB))], 0, shared=False)  # holds the block that is mapped already
    (frame,) = memory.frames().make(1, [np.arange(MB)], unexpected)
    (alone,) = Frames().make(1, [np.arange(MB)], unexpected)
    monkeypatch.setattr(arenas, "map_range", full)
    monkeypatch.setattr("cascata.transport.linux.memory_file.map_range", full)
    held = memory.held
    memory.arenas._mapped.clear()
    came = memory.receive(frame)
    assert memory.held == held - 1
    assert came.flags.writeable
    assert came[9] == 9
    assert memory.receive(alone)[9] == 9


# --- fan-out ----------------------------------------------------------------------------------------


def test_edges_of_one_out_port_share_one_copy_which_nobody_can_write(memory: Memory) -> None:
    sharing = Sharing()
    edges = [memory.frames(sharing) for _ in range(3)]
    for number in range(3):
        sharing.round = lambda number=number: number  # type: ignore[misc]
        array = np.full(MB // 8, number)
        frames = [frame for edge in edges for frame in edge.make(number, [array], unexpected)]
        assert memory.held == 1 if number else memory.held <= 3  # at first it is not known that items are large
        came = [memory.receive(frame) for frame in frames]
        assert [each.flags.writeable for each in came] == [False] * 3
        assert [int(each[5]) for each in came] == [number] * 3
        while came:
            assert memory.held
            came.pop()
        assert memory.held == 0


def test_the_same_array_sent_again_is_copied_again(memory: Memory) -> None:
    sharing = Sharing()
    first, second = memory.frames(sharing), memory.frames(sharing)
    array = np.zeros(MB // 8)
    seen = []
    for number in range(4):
        sharing.round = lambda number=number: number  # type: ignore[misc]
        array[:] = number
        frames = [*first.make(number, [array], unexpected), *second.make(number, [array], unexpected)]
        seen += [memory.receive(frame)[3] for frame in frames]
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


def test_more_receivers_than_can_share_a_block_get_another(memory: Memory) -> None:
    sharing = Sharing()
    edges = [memory.frames(sharing) for _ in range(2 * blocks.SHARERS + 1)]
    for edge in edges:
        edge.encoder._calm = 2
    array = np.ones(MB)
    came = [memory.receive(frame) for edge in edges for frame in edge.make(1, [array], unexpected)]
    assert memory.held == 3
    assert all(each.sum() == MB for each in came)


def test_a_copy_that_all_receivers_have_let_go_of_is_not_shared_any_more(memory: Memory) -> None:
    sharing = Sharing()
    first, second = memory.frames(sharing), memory.frames(sharing)
    array = np.ones(MB)
    (frame,) = first.make(1, [array], unexpected)
    memory.receive(frame)
    other = memory.cross(np.zeros(MB))  # takes the block
    second.encoder._calm = 2
    (frame,) = second.make(1, [array], unexpected)
    assert memory.receive(frame).sum() == MB
    assert other.sum() == 0


# --- a system that is short of memory ---------------------------------------------------------------


@pytest.fixture
def short_of_memory() -> Iterator[None]:
    """No file of this process can grow beyond 1 MB: the error is that of a system that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_when_memory_is_short_the_item_fails_and_later_ones_pass(memory: Memory, short_of_memory: None) -> None:
    bad: list[BaseException] = []
    assert memory.frames().make(1, [np.ones(MB)], lambda _, problem: bad.append(problem)) == []
    assert [problem.errno for problem in bad if isinstance(problem, OSError)] == [errno.EFBIG]
    assert memory.held == 0
    assert memory.cross(np.ones(MB // 16)).sum() == MB // 16


def test_when_memory_is_short_that_of_free_blocks_is_given_up_first(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 4 * MB
    allocate = os.posix_fallocate

    def fallocate(fd: int, at: int, size: int) -> None:
        if memory.bytes_in_use() + size > left + blocks.DATA_AT:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(fd, at, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    held = [memory.cross(np.ones(MB // 8)) for _ in range(3)]
    del held
    assert memory.cross(np.ones(3 * MB // 8)).sum() == 3 * MB // 8
    assert memory.bytes_in_use() < 4 * MB


# --- bytes that a channel holds ---------------------------------------------------------------------


@pytest.fixture
def ten_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "CHANNEL_BYTES", 10 * MB)


async def full_after(ends: Crossing, item: Any) -> int:
    """How many items a writer takes while nobody takes them from it."""
    count = 0
    while True:
        putting = asyncio.ensure_future(_await(ends.writer.put(item)))
        await turn()
        if not putting.done():
            putting.cancel()
            await asyncio.wait([putting])
            return count
        count += 1


async def turn() -> None:
    """Lets the loop turn so often that whatever can happen without the reader has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _await(done: Any) -> None:
    await done


@pytest.mark.parametrize(
    ("capacity", "size", "expected"),
    [
        (100, MB, {10, 11}),
        (100, 30 * MB, {1}),
        (1, 30 * MB, {1}),
        (3, MB, {3}),
        (100, 100, {100}),
        (10, 3 * MB, {3, 4}),
    ],
)
async def test_a_channel_holds_its_budget_and_one_item_more(
    ten_megabytes: None, capacity: int, size: int, expected: set[int]
) -> None:
    async with crossing(capacity) as ends:
        assert await full_after(ends, bytes(size)) in expected


async def test_after_heavy_items_a_channel_holds_as_many_light_ones_as_before(ten_megabytes: None) -> None:
    async with crossing(100) as ends:
        for _ in range(3):
            await ends.writer.put(bytes(30 * MB))
            assert len(await ends.take()) == 30 * MB
            await ends.writer.put(bytes(9 * MB))
            await ends.writer.put(bytes(9 * MB))
            assert [len(await ends.take()) for _ in range(2)] == [9 * MB] * 2
        assert await full_after(ends, "light") == 100


async def test_several_writers_of_heavy_items_do_not_starve_each_other(ten_megabytes: None) -> None:
    async with crossing(7, writers=3) as ends:

        async def write(number: int) -> None:
            for item in range(10):
                await ends.writers[number].put((number, item, bytes(9 * MB)))

        writing = [asyncio.ensure_future(write(number)) for number in range(3)]
        came: list[tuple[int, int]] = [(await ends.take())[:2] for _ in range(30)]
        await asyncio.gather(*writing)
        for number in range(3):
            assert [item for writer, item in came if writer == number] == list(range(10))
        await turn()
        assert await full_after(ends, "light") == 7


async def test_a_writer_that_saves_gives_back_when_its_put_is_cancelled(ten_megabytes: None) -> None:
    async with crossing(8, writers=2) as ends:
        saving, other = ends.writers
        for _ in range(3):
            await other.put("light")
        await asyncio.sleep(0)
        ends.writers.reverse()
        assert await full_after(ends, bytes(4 * MB)) == 2
        late = asyncio.ensure_future(_await(saving.put(bytes(4 * MB))))
        await turn()
        late.cancel()
        await asyncio.wait([late])
        while ends.reader.items or ends.reader.ready or ends.reader._receive():
            await ends.take()
        await turn()
        ends.writers.reverse()
        assert await full_after(ends, "light") == 8


async def test_a_large_item_is_copied_within_put() -> None:
    async with crossing(100) as ends:
        array = np.zeros(MB // 8)
        for number in range(20):
            array[:] = number
            await ends.writer.put(array)
        assert [int((await ends.take())[3]) for _ in range(20)] == list(range(20))


async def test_small_items_go_together_again_when_no_large_ones_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascata.transport.ends.writer.FLUSH_S", 1_000.0)  # nothing is sent just for a slow machine
    async with crossing(1_000) as ends:
        await ends.writer.put(np.zeros(MB))
        await ends.take()
        for item in range(300):
            await ends.writer.put(item)
            assert await ends.take() == item
        for item in range(10):
            await ends.writer.put(item)
        assert len(ends.writer._pending) == 10


def test_views_of_what_arrived_do_not_keep_the_senders_object(memory: Memory) -> None:
    class Array(np.ndarray[Any, Any]):
        pass

    array = np.ones(MB).view(Array)
    gone = weakref.ref(array)
    (frame,) = memory.frames(Sharing()).make(1, [array], unexpected)
    del array
    assert gone() is None
    frame.drop()


def test_the_look_for_blobs_is_bounded() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert not out_of_band.holds_blobs(endless)
    assert not out_of_band.holds_blobs([*([0] * 1_000), bytes(MB)])
    assert out_of_band.holds_blobs([0, {"a": (bytes(MB),)}])
