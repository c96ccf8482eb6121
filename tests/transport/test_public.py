"""`Channel`, beyond what all kinds promise: on its way to other processes, and used in wrong ways."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import multiprocess
import pytest

from cascata import Channel
from cascata.errors import CascataError, ChannelClosed, ChannelFailed, DefinitionError, RemoteError, SerializationError
from tests.transport.ends import generator, open_fds

CONTEXTS = [
    pytest.param(package.get_context(method), id=f"{package.__name__} {method}")
    for package in (multiprocess, multiprocessing)
    for method in ("fork", "forkserver", "spawn")
]
QUICK = multiprocess.get_context("fork")


def in_child(context: Any, target: Callable[..., None], *arguments: Any) -> None:
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()


# --- on the way to another process ------------------------------------------------------------------


def answer(questions: Channel[Any], answers: Channel[Any]) -> None:
    with answers.open():
        while True:
            try:
                answers.put_sync(questions.get_sync() * 2)
            except ChannelClosed:
                return


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_channel_is_given_to_a_process_with_what_it_holds(context: Any) -> None:
    questions: Channel[int] = Channel(5)
    answers: Channel[int] = Channel(3)
    questions.put_sync(1)
    with questions.open() as sender:
        process = context.Process(target=answer, args=(questions, answers))
        process.start()
        for item in range(2, 20):
            sender.put_sync(item)
            assert answers.get_sync(timeout=30) == 2 * (item - 1)
    assert answers.get_sync(timeout=30) == 38
    with pytest.raises(ChannelClosed):
        answers.get_sync(timeout=30)
    process.join()
    process.close()


def give_on(channel: Channel[Any], context_of: str) -> None:
    in_child(multiprocess.get_context(context_of), put_one, channel)


def put_one(channel: Channel[Any]) -> None:
    with channel.open() as sender:
        sender.put_sync(os.getppid() != 0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_may_give_it_on(method: str) -> None:
    channel: Channel[bool] = Channel(1)
    in_child(multiprocess.get_context("spawn"), give_on, channel, method)
    assert channel.get_sync(timeout=0)
    with pytest.raises(ChannelClosed):
        channel.get_sync(timeout=0)


async def test_who_waits_when_it_is_given_away_goes_on_waiting() -> None:
    channel: Channel[bool] = Channel(1)
    taking = asyncio.ensure_future(channel.get())
    in_thread: list[bool] = []
    thread = threading.Thread(target=lambda: in_thread.append(channel.get_sync()))
    thread.start()
    await asyncio.sleep(0)
    with channel.open():
        process = QUICK.Process(target=put_two, args=(channel,))
        process.start()
        assert await taking
        thread.join()
        assert in_thread == [True]
        process.join()
        process.close()


def put_two(channel: Channel[Any]) -> None:
    put_one(channel)
    put_one(channel)


async def test_who_waits_for_room_when_it_is_given_away_goes_on_waiting() -> None:
    channel: Channel[Any] = Channel(1)
    await channel.put("first")
    putting = asyncio.ensure_future(channel.put("second"))
    await asyncio.sleep(0)
    with channel.open():
        process = QUICK.Process(target=put_one, args=(channel,))
        process.start()
        taken = [await channel.get() for _ in range(3)]
        assert taken[0] == "first"
        assert set(taken[1:]) == {"second", True}
        await putting
        process.join()
        process.close()


def test_publishers_that_were_open_before_it_was_given_away_still_count() -> None:
    channel: Channel[int] = Channel(3)
    before, also_before = channel.open(), channel.open()
    channel._share()
    before.close()
    with pytest.raises(TimeoutError):
        channel.get_sync(timeout=0)
    also_before.close()
    also_before.close()
    with pytest.raises(ChannelClosed):
        channel.get_sync(timeout=0)


def test_one_that_had_ended_or_was_closed_stays_so_when_it_is_given_away() -> None:
    ended: Channel[int] = Channel(3)
    with ended.open() as sender:
        sender.put_sync(1)
    closed: Channel[int] = Channel(3)
    closed.put_sync(1)
    closed.close()
    for channel in (ended, closed):
        channel._share()
        assert channel.get_sync(timeout=0) == 1
        with pytest.raises(ChannelClosed):
            channel.get_sync(timeout=0)
    assert closed.closed
    assert not ended.closed


def close_all(*things: Any) -> None:
    for thing in things:
        thing.close()


def test_one_that_has_failed_stays_so_when_it_is_given_away() -> None:
    channel: Channel[int] = Channel(3)
    channel.put_sync(1)
    channel.fail(ValueError("disk full"))
    channel._share()
    assert channel.get_sync(timeout=0) == 1
    for _ in range(2):
        with pytest.raises(ChannelFailed, match="ValueError: disk full") as caught:
            channel.get_sync(timeout=0)
        assert isinstance(caught.value.__cause__, ValueError)
    for use in (channel.open, lambda: channel.put_sync(2)):
        with pytest.raises(ChannelClosed, match="ValueError: disk full"):
            use()


def test_an_error_that_cannot_be_pickled_is_told_in_words() -> None:
    class Local(Exception):
        """Can be found by nobody."""

    channel: Channel[int] = Channel(3)
    channel._share()
    with pytest.raises(Local), channel.open() as sender:
        sender.put_sync(1)
        raise Local("of my own")
    assert channel.get_sync(timeout=0) == 1
    with pytest.raises(ChannelFailed, match="of my own") as caught:
        channel.get_sync(timeout=0)
    assert isinstance(caught.value.__cause__, RemoteError)


def test_what_large_items_leave_behind_a_failure_is_told_behind() -> None:
    """Memory that was read is given back, and the failure stands behind it."""
    channel: Channel[bytes] = Channel(5)
    channel._share()
    for _ in range(5):
        channel.put_sync(bytes(3_000_000))
    channel.fail(ValueError("after them"))
    for _ in range(5):
        assert len(channel.get_sync(timeout=0)) == 3_000_000
    with pytest.raises(ChannelFailed, match="after them"):
        channel.get_sync(timeout=0)


async def test_a_failed_publisher_ends_the_loop_of_a_consumer_with_its_error() -> None:
    channel: Channel[int] = Channel(10)

    async def publish() -> None:
        async with channel.open():
            await channel.put(1)
            raise ValueError("disk full")

    publishing = asyncio.ensure_future(publish())
    taken: list[int] = []
    with pytest.raises(ChannelFailed) as caught:
        async for item in channel:
            taken += [item]
    assert taken == [1]
    assert caught.value.__cause__ is publishing.exception()


def test_a_publisher_that_was_closed_before_an_exception_has_not_failed() -> None:
    channel: Channel[int] = Channel(10)
    with pytest.raises(ValueError, match="later"), channel.open() as sender:
        sender.close()
        raise ValueError("later")
    with pytest.raises(ChannelClosed):
        channel.get_sync(timeout=0)
    with pytest.raises(DefinitionError, match="is an exception"):
        channel.fail("in words")  # type: ignore[arg-type]


def test_a_forked_child_closes_no_publisher_of_its_parent() -> None:
    channel: Channel[int] = Channel(1)
    with channel.open() as sender:
        in_child(QUICK, close_all, sender)
        with pytest.raises(TimeoutError):
            channel.get_sync(timeout=0)
        in_child(QUICK, close_all, channel)
        assert channel.closed


def test_two_threads_that_give_it_away_at_once_give_the_same_channel() -> None:
    for _ in range(50):
        channel: Channel[int] = Channel(100)
        for item in range(100):
            channel.put_sync(item)
        barrier = threading.Barrier(2)
        shared = []

        def share(channel: Channel[int] = channel, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            shared.append(channel._share())  # noqa: B023  # the list of this round

        threads = [threading.Thread(target=share) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared[0] is shared[1]
        assert [channel.get_sync(timeout=0) for _ in range(100)] == list(range(100))


def test_what_happens_while_it_is_given_away_is_not_lost() -> None:
    """Publishers that open and close, and a `close`, at the same moment in other threads."""
    for _ in range(100):
        channel: Channel[int] = Channel(10)
        barrier = threading.Barrier(4)
        holding = channel.open()

        def open_and_close(channel: Channel[int] = channel, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for _ in range(20):
                channel.open().close()

        def share(channel: Channel[int] = channel, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            channel._share()

        def close(holding: Any = holding, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            holding.close()

        threads = [threading.Thread(target=target) for target in (open_and_close, open_and_close, share, close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(ChannelClosed):
            channel.get_sync(timeout=0)


class Sneaky:
    """Pickles a channel as if it were any object."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_channel_inside_a_channel_cannot_travel(context: Any) -> None:
    outer: Channel[Any] = Channel(2)
    inner: Channel[Any] = Channel(2)
    outer.put_sync(Sneaky(inner))
    if context.get_start_method() == "fork":
        in_child(context, is_foreign, outer)
    else:
        with pytest.raises(SerializationError, match="only as an argument"):
            context.Process(target=is_foreign, args=(outer,)).start()
    assert isinstance(outer.get_sync(), Sneaky)


def is_foreign(channel: Channel[Any]) -> None:
    assert "another process" in repr(channel)
    for use in (lambda: channel.put_sync(1), channel.get_sync, lambda: len(channel), channel.open, channel.close):
        try:
            use()
        except CascataError as error:
            assert "could not be pickled" in str(error)  # noqa: PT017  # in a process without pytest
        else:
            raise AssertionError


def test_a_fork_leaves_a_channel_alone_whose_items_cannot_be_pickled() -> None:
    channel: Channel[Any] = Channel(2)
    item = generator()
    channel.put_sync(item)
    in_child(QUICK, is_foreign, channel)
    assert channel.get_sync() is item


def test_a_channel_cannot_be_pickled_by_the_way() -> None:
    with pytest.raises(CascataError, match="only as an argument of"):
        pickle.dumps(Channel())


# --- used in one process ----------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, -1, 1.5, "3", None, True])
def test_a_capacity_is_a_whole_number_of_at_least_one(capacity: Any) -> None:
    with pytest.raises(DefinitionError, match="capacity"):
        Channel(capacity)


@pytest.mark.parametrize("shared", [False, True])
def test_waiting_in_a_thread_ends_in_time(shared: bool) -> None:
    channel: Channel[int] = Channel[int](1)
    if shared:
        channel._share()
    for timeout in (0, -1, 0.001):
        with pytest.raises(TimeoutError, match="no item"):
            channel.get_sync(timeout=timeout)
    channel.put_sync(1)
    for timeout in (0, -1, 0.001):
        with pytest.raises(TimeoutError, match="no room"):
            channel.put_sync(2, timeout=timeout)
    assert len(channel) == 1
    timer = threading.Timer(0.01, channel.get_sync)
    timer.start()
    channel.put_sync(3, timeout=float("inf"))
    timer.join()


async def test_a_publisher_that_was_closed_puts_no_more_while_its_channel_goes_on() -> None:
    channel: Channel[int] = Channel(1)
    with channel.open():
        sender = channel.open()
        sender.close()
        with pytest.raises(ChannelClosed, match="this publisher"):
            await sender.put(1)
        with pytest.raises(ChannelClosed, match="this publisher"):
            sender.put_sync(1)
        await channel.put(1)


@pytest.mark.filterwarnings("default::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_publisher_that_nobody_closes_is_named() -> None:
    channel: Channel[int] = Channel(7)
    sender = channel.open()
    with pytest.warns(ResourceWarning, match="publisher of <Channel: 0 of 7 items> was never closed"):
        del sender


def test_a_repr_says_how_full_it_is_and_whether_it_is_closed_or_shared() -> None:
    channel: Channel[int] = Channel(3)
    channel.put_sync(1)
    assert repr(channel) == "<Channel: 1 of 3 items>"
    channel.close()
    channel._share()
    assert repr(channel) == "<Channel: 1 of 3 items, closed, shared between processes>"


async def test_a_wait_with_a_timeout_loses_nothing() -> None:
    channel: Channel[int] = Channel(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.get(), 0.001)
    await channel.put(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(channel.put(2), 0.001)
    assert await asyncio.wait_for(channel.get(), 1) == 1
    assert len(channel) == 0


def test_a_thousand_channels_leave_nothing() -> None:
    def use(shared: bool) -> None:
        channel: Channel[bytes] = Channel(3)
        if shared:
            channel._share()
        with channel.open() as sender:
            sender.put_sync(bytes(10_000))
        assert len(channel.get_sync()) == 10_000

        async def use_in_loop() -> None:
            await channel.put(b"")
            assert [item async for item in channel] == [b""]

        asyncio.run(use_in_loop())

    use(True)
    gc.collect()
    fds, resident = open_fds(), resident_bytes()
    for number in range(1_000):
        use(number % 2 == 0)
    gc.collect()
    assert open_fds() <= fds
    assert resident_bytes() - resident < 8_000_000


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123  # a file of one line
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_closing_it_at_the_interpreters_end_is_quiet() -> None:
    import subprocess
    import sys

    script = "from cascata import Channel; channel = Channel(2); channel._share(); kept = channel.open()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
