"""`Channel`: many publishers, many consumers, in tasks, threads or processes.

A channel begins inside its process, where items are handed over as they are. When it is given to another process it
becomes a shared one, with what it holds; those who wait go on there.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
import weakref
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from .channel.threads import EMPTY, ENDED, ThreadChannel
from .channel.turns import SLICE_S
from .errors import CascataError, ChannelClosed, DefinitionError, SerializationError
from .faces import public
from .model import DEFAULT_CAPACITY
from .transport.shared.log import SharedChannel, SharedFds

__all__ = ["Channel", "Publisher"]

T = TypeVar("T")

_local: Final[weakref.WeakSet[Channel[Any]]] = weakref.WeakSet()
"""Channels that are still inside this process: a fork must share them first."""


class _Here(threading.local):
    """Of each thread: when its loop was last seen to turn. Who never has to wait must let it turn all the same."""

    turned = 0.0


_here: Final = _Here()


async def _turn() -> None:
    await asyncio.sleep(0)
    _here.turned = perf_counter()


@public
class Channel(Generic[T]):
    """A bounded, asynchronous channel: each item that is put is taken exactly once.

        channel = Channel(capacity=100)
        async with channel.open() as sender:
            await sender.put(item)
        async for item in channel: ...

    It ends when no publisher is open any more and it is empty; a consumer that starts before the first publisher
    waits. Hold one `open()` while publishers start, lest the first one end the channel.

    Where a publisher's block is left by an exception, or `fail` is called, the channel has failed: consumers take what
    was put before, and then get `ChannelFailed` instead of the end. So they do at the end of a channel when the process
    of a publisher that was open has died. A block that is cancelled was asked to end, and ends as usual.

    Give it to another process as an argument of `multiprocess.Process` (or `multiprocessing.Process`), with any
    start method. Until then items need not be picklable, and are handed over as they are; from then on, and after any
    fork of this process, they are pickled.

    Args:
        capacity: items put and not yet taken, at most. Exactly so many puts complete while nobody takes.

    Raises:
        DefinitionError: `capacity` is not a whole number of at least 1.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if type(capacity) is not int or capacity < 1:
            raise DefinitionError(f"Channel(capacity={capacity!r}): the capacity must be a whole number of at least 1")
        self._kind: ThreadChannel | SharedChannel = ThreadChannel(capacity)
        self._foreign: str | None = None
        _local.add(self)

    # -- publishing

    def open(self) -> Publisher[T]:
        """A publisher: open as long as its `with` or `async with` block, or until its `close()`.

        Raises:
            ChannelClosed: the channel is closed.
        """
        return Publisher(self)

    async def put(self, item: T) -> None:
        """Puts an item; waits while the channel is full. Counts as no publisher: see `open`.

        Raises:
            ChannelClosed: the channel is closed, or has failed; `__cause__` is what a publisher failed with.
            SerializationError: the channel is shared with other processes, and the item cannot be sent to them.

        Cancellation: the item was not put.
        """
        if perf_counter() - _here.turned > SLICE_S:
            await _turn()
        while not (current := self._current()).try_put(item):
            await current.room()
            _here.turned = perf_counter()

    def put_sync(self, item: T, timeout: float | None = None) -> None:
        """As `put`, for a thread without an event loop.

        Args:
            item: what to put.
            timeout: seconds to wait for room; None: as long as it takes.

        Raises:
            TimeoutError: there was no room in time; the item was not put.
            ChannelClosed, SerializationError: as `put`.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not (current := self._current()).try_put(item):
            current.room_sync(_left(until, f"there was no room in the channel for {timeout} s"))

    # -- consuming

    async def get(self) -> T:
        """Takes an item; waits while there is none.

        Raises:
            ChannelClosed: the channel has ended.
            ChannelFailed: a publisher failed or died, and all that was put before has been taken.
            SerializationError: the item cannot be unpickled in this process.

        Cancellation: nothing is lost; no item was taken.
        """
        item = await self._take()
        if item is ENDED:
            raise ChannelClosed(
                "the channel has ended: no publisher is open any more, or it was closed, and it is empty"
            )
        return item  # type: ignore[no-any-return]  # what was put is a T

    def get_sync(self, timeout: float | None = None) -> T:
        """As `get`, for a thread without an event loop.

        Args:
            timeout: seconds to wait for an item; None: as long as it takes.

        Raises:
            TimeoutError: there was no item in time.
            ChannelClosed, ChannelFailed, SerializationError: as `get`.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (item := (current := self._current()).try_take()) is EMPTY:
            current.item_sync(_left(until, f"there was no item in the channel for {timeout} s"))
        if item is ENDED:
            raise ChannelClosed(
                "the channel has ended: no publisher is open any more, or it was closed, and it is empty"
            )
        return item  # type: ignore[no-any-return]

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        item = await self._take()
        if item is ENDED:
            raise StopAsyncIteration
        return item  # type: ignore[no-any-return]

    async def _take(self) -> Any:
        if perf_counter() - _here.turned > SLICE_S:
            await _turn()
        while (item := (current := self._current()).try_take()) is EMPTY:
            await current.item()
            _here.turned = perf_counter()
        return item

    # -- the channel itself

    def close(self) -> None:
        """Ends the channel for good: putting raises `ChannelClosed`; what it holds can still be taken."""
        while not self._current().close():
            pass  # it was just given to another process: once more, there

    def fail(self, error: BaseException) -> None:
        """Ends the channel for good, with an error: consumers take what it holds, and then get `ChannelFailed`.

        Leaving the block of a publisher by an exception does the same. A channel that is closed, or has failed,
        stays as it is.

        Args:
            error: is the `__cause__` of what consumers get; where they are in another process and it cannot be
                pickled, in words.

        Raises:
            DefinitionError: `error` is no exception.
        """
        if not isinstance(error, BaseException):
            raise DefinitionError(f"channel.fail({error!r}): what a publisher failed with is an exception")
        while not self._current().close(error):
            pass  # as for `close`

    @property
    def closed(self) -> bool:
        """Whether it was closed or has failed, in any process."""
        return self._current().closed

    @property
    def capacity(self) -> int:
        """Items put and not yet taken, at most."""
        return self._kind.capacity

    def __len__(self) -> int:
        """Items put and not yet taken."""
        return len(self._current())

    def __bool__(self) -> bool:
        return True  # also when it is empty: `if channel:` asks whether there is one

    def __repr__(self) -> str:
        if self._foreign is not None:
            return "<Channel: of another process>"
        state = ", closed" if self.closed else ""
        shared = ", shared between processes" if isinstance(self._kind, SharedChannel) else ""
        return f"<Channel: {len(self)} of {self.capacity} items{state}{shared}>"

    def _current(self) -> ThreadChannel | SharedChannel:
        if self._foreign is not None:
            raise CascataError(self._foreign)
        return self._kind

    # -- on the way to another process

    def _share(self) -> SharedChannel:
        """Makes the channel one that processes share, with what it holds and who publishes."""
        local = self._kind
        if isinstance(local, SharedChannel):
            return local
        with local.lock:
            if isinstance(self._kind, SharedChannel):
                return self._kind  # another thread was faster
            shared = SharedChannel(local.capacity)
            for item in local.items:  # what cannot be pickled raises here, and the channel stays as it was
                shared.try_put(item)
            if local.opened and not local.publishers:
                shared.open()
                shared.release()
            for _ in range(local.publishers):
                shared.open()
            if local.closed:
                shared.close(local.error)
            local.items.clear()
            self._kind = shared
            local.moved = True
            local.wake_all()
        _local.discard(self)
        return shared

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocess import context, reduction

        maker = context.get_spawning_popen()
        if maker is None:
            from multiprocessing import context, reduction

            maker = context.get_spawning_popen()
        if maker is None:
            raise CascataError(
                "a Channel can be given to a process only as an argument of `Process(args=...)`: it is made of open "
                "files, which nothing else can carry"
            )
        # What the channel holds travels through the channel, and not as an argument of this process.
        context.set_spawning_popen(None)
        try:
            shared = self._share()
        finally:
            context.set_spawning_popen(maker)
        return _arrived, (shared.capacity, tuple(reduction.DupFd(fd) for fd in shared.fds))


def _arrived(capacity: int, fds: tuple[Any, ...]) -> Channel[Any]:
    channel: Channel[Any] = Channel(capacity)
    own = SharedFds(*(fd.detach() for fd in fds))
    for fd in own:
        os.set_inheritable(fd, False)
    channel._kind = SharedChannel(capacity, own)
    _local.discard(channel)
    return channel


def _left(until: float | None, why: str) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError(why)
    return left


class Publisher(Generic[T]):
    """An open publisher of a channel: `with`, `async with`, or `close()`. Made by `Channel.open`.

    A block that is left by an exception fails the channel: see `Channel.fail`. It does not when it was cancelled, or
    belongs to a generator that is closed: it was asked to end.
    """

    def __init__(self, channel: Channel[T]) -> None:
        if channel.closed:
            raise channel._current().refusal()
        self._channel = channel
        self._process = os.getpid()
        while not channel._current().open():
            pass  # it was just given to another process: once more, there
        self._open = True

    async def put(self, item: T) -> None:
        """As `Channel.put`. Raises `ChannelClosed` also when this publisher was closed."""
        self._check()
        await self._channel.put(item)

    def put_sync(self, item: T, timeout: float | None = None) -> None:
        """As `Channel.put_sync`. Raises `ChannelClosed` also when this publisher was closed."""
        self._check()
        self._channel.put_sync(item, timeout)

    def _check(self) -> None:
        if not self._open:
            raise ChannelClosed(
                "this publisher was closed; the channel may still be open: make another one with `channel.open()`"
            )

    def close(self) -> None:
        """The publisher is no longer open. Called again, it does nothing."""
        if self._open:
            self._open = False
            if self._process == os.getpid():  # a forked child has its parent's publishers only by name
                while not self._channel._current().release():
                    pass

    def __del__(self) -> None:
        if getattr(self, "_open", False) and self._process == os.getpid():
            warnings.warn(
                f"a publisher of {self._channel!r} was never closed, so its channel could not end: use `with` or "
                f"`async with channel.open()`, or call its `close()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def _leave(self, error: BaseException | None) -> None:
        failed = error is not None and not isinstance(error, asyncio.CancelledError | GeneratorExit)
        if error is not None and failed and self._open and self._process == os.getpid():
            self._channel.fail(error)
        self.close()

    def __enter__(self) -> Publisher[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    async def __aenter__(self) -> Publisher[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)


def _share_before_fork() -> None:
    """A forked child cannot see its parent's deques: channels must be shared before."""
    for channel in list(_local):
        try:
            channel._share()
        except Exception as problem:
            if isinstance(problem, CascataError) and not isinstance(problem, SerializationError):
                _unshared[channel] = str(problem)
                continue
            kept = f"{type(problem).__name__}: {problem}"
            _unshared[channel] = (
                f"this channel was not shared with the forked process, since what it held could not be pickled "
                f"({kept}). Fork before such items are put into it"
            )


def _mark_in_child() -> None:
    for channel, why in list(_unshared.items()):
        channel._foreign = why
    _unshared.clear()


_unshared: Final[weakref.WeakKeyDictionary[Channel[Any], str]] = weakref.WeakKeyDictionary()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_share_before_fork, after_in_child=_mark_in_child, after_in_parent=_unshared.clear)
