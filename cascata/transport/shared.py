"""The channel that processes share: a log in anonymous memory, guarded by a lock that dies with its holder.

    put ── append at head ──> [ header | .... message message message .... ] ── read at tail ──> take
                                 count, offsets      (memory file)

Nobody holds more than the one item that it takes: whichever process asks next gets the next item, and one that is
killed takes nothing with it but what it had in hand.

- The lock is `flock` on this process's own opening of the memory file: the kernel releases it when the process dies.
  State is written beside the state in force, which one byte selects: a process that is killed
  in the middle has changed nothing.
- Two eventfds say "there may be items" and "there may be room". They are raised before the change that they announce, and
  lowered, under the lock, by who finds that it is not so: a wake-up may be for nothing, but none is lost.
- Publishers hold the writing end of a pipe: its readers see the last one go, however it went.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from ..channel.threads import EMPTY, ENDED
from ..errors import ChannelClosed, SerializationError, in_words
from . import dilled, forked
from .readiness import wait_readable, wait_readable_sync

__all__ = ["SharedChannel", "SharedFds"]

_PAGE: Final = mmap.PAGESIZE
_STATE: Final = struct.Struct("<QQQBB")
_STATES_AT: Final = (64, 128)
_SELECTOR: Final = 0
_LENGTH: Final = struct.Struct("<Q")
_FREE_AT: Final = 1 << 20
"""Bytes that were read before their memory is given back to the system."""

_KEEP_SIZE_AND_PUNCH: Final = 3


class _State(NamedTuple):
    """What the header says. Offsets are into the memory file; `head` is where the next message goes."""

    used: int
    head: int
    tail: int
    opened: int
    closed: int


class SharedFds(NamedTuple):
    """What makes the same channel in another process."""

    memory: int
    items: int
    room: int
    presence: int


class SharedChannel:
    """A bounded channel between processes.

    Args:
        capacity: items put and not yet taken, at most.
        fds: of a channel that was made in another process; it becomes this object's own. None makes a new channel.
    """

    def __init__(self, capacity: int, fds: SharedFds | None = None) -> None:
        self.capacity = capacity
        if fds is None:
            memory = os.memfd_create("cascata-channel", os.MFD_CLOEXEC)
            os.ftruncate(memory, _PAGE)
            items = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            room = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            presence, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            os.close(writing)
            fds = SharedFds(memory, items, room, presence)
            self._header = mmap.mmap(memory, _PAGE)
            _STATE.pack_into(self._header, _STATES_AT[0], *_State(0, _PAGE, _PAGE, 0, 0))
        else:
            self._header = mmap.mmap(fds.memory, _PAGE)
        self.fds = fds
        self._publishing: list[int] = []
        self.after_fork()
        forked.renew(self)

    def after_fork(self) -> None:
        """A forked child needs an opening of its own of the memory file: an inherited one shares its parent's lock."""
        inherited: int | None = getattr(self, "_own", None)
        if inherited is not None:
            os.close(inherited)
            self._publishing.clear()  # `forked.private` has closed them
        self._own = os.open(f"/proc/self/fd/{self.fds.memory}", os.O_RDWR | os.O_CLOEXEC)
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            for fd in self._publishing:
                forked.unprivate(fd)
            for fd in (*self.fds, *self._publishing, self._own):
                os.close(fd)

    # -- state, under the lock

    @contextmanager
    def _locked(self) -> Iterator[_State]:
        with self._lock:
            fcntl.flock(self._own, fcntl.LOCK_EX)
            try:
                yield self._state()
            finally:
                fcntl.flock(self._own, fcntl.LOCK_UN)

    def _state(self) -> _State:
        return _State(*_STATE.unpack_from(self._header, _STATES_AT[self._header[_SELECTOR]]))

    def _commit(self, state: _State) -> None:
        other = 1 - self._header[_SELECTOR]
        _STATE.pack_into(self._header, _STATES_AT[other], *state)
        self._header[_SELECTOR] = other

    # -- what the public channel asks

    def __len__(self) -> int:
        return self._state().used

    @property
    def closed(self) -> bool:
        return bool(self._state().closed)

    def open(self) -> None:
        """One publisher more, in this process."""
        writing = os.open(f"/proc/self/fd/{self.fds.presence}", os.O_WRONLY | os.O_CLOEXEC)
        forked.private(writing)
        self._publishing.append(writing)
        with self._locked() as state:
            if not state.opened:
                os.eventfd_write(self.fds.items, 1)  # takers must begin to watch the publishers
                self._commit(state._replace(opened=1))

    def release(self) -> None:
        """One publisher less, in this process."""
        if self._publishing:
            writing = self._publishing.pop()
            forked.unprivate(writing)
            os.close(writing)

    def close(self) -> None:
        with self._locked() as state:
            os.eventfd_write(self.fds.items, 1)
            os.eventfd_write(self.fds.room, 1)
            self._commit(state._replace(closed=1))

    def _publishers_gone(self) -> bool:
        poll = select.poll()
        poll.register(self.fds.presence, 0)
        return bool(poll.poll(0))

    def try_put(self, item: Any) -> bool:
        """Puts an item if there is room.

        Raises:
            ChannelClosed: the channel is closed.
            SerializationError: the item cannot be sent to another process.
        """
        if self._state().used >= self.capacity and not self.closed:
            with self._locked() as state:
                if state.used >= self.capacity:
                    _lower(self.fds.room)
                    return False
        data = _dumps(item)
        with self._locked() as state:
            if state.closed:
                raise ChannelClosed("the channel is closed: nothing can be put into it any more")
            if state.used >= self.capacity:
                _lower(self.fds.room)
                return False
            at = state.head
            if not state.used:
                at = _PAGE  # empty: begin again at the front
            view = memoryview(_LENGTH.pack(len(data)) + data)
            head = at
            while view:
                written = os.pwrite(self._own, view, head)
                head += written
                view = view[written:]
            if not state.used:
                os.eventfd_write(self.fds.items, 1)
            self._commit(state._replace(used=state.used + 1, head=head, tail=state.tail if state.used else _PAGE))
        return True

    def try_take(self) -> Any:
        """An item, `EMPTY` or `ENDED`.

        Raises:
            SerializationError: an item was taken that cannot be unpickled here.
        """
        gone = self._publishers_gone()  # before looking: what they put last is there by then
        with self._locked() as state:
            if not state.used:
                if state.closed or (state.opened and gone):
                    return ENDED
                _lower(self.fds.items)
                return EMPTY
            (length,) = _LENGTH.unpack(os.pread(self._own, _LENGTH.size, state.tail))
            data = _read(self._own, state.tail + _LENGTH.size, length)
            tail = state.tail + _LENGTH.size + length
            if state.used == self.capacity:
                os.eventfd_write(self.fds.room, 1)
            self._commit(state._replace(used=state.used - 1, tail=tail))
            self._free(state.tail, tail, last=state.used == 1)
        return _loads(data)

    def _free(self, start: int, end: int, *, last: bool) -> None:
        """Gives memory back that was read."""
        if last:
            if end - _PAGE > _FREE_AT:
                os.ftruncate(self._own, _PAGE)
            return
        if end // _FREE_AT != start // _FREE_AT:
            start = max(_PAGE, (start // _FREE_AT - 1) * _FREE_AT)
            end = end // _PAGE * _PAGE
            _punch(self._own, start, end - start)

    async def room(self) -> None:
        await wait_readable([self.fds.room])

    async def item(self) -> None:
        await wait_readable(self._item_fds())

    def room_sync(self, timeout: float | None) -> None:
        wait_readable_sync([self.fds.room], timeout)

    def item_sync(self, timeout: float | None) -> None:
        wait_readable_sync(self._item_fds(), timeout)

    def _item_fds(self) -> list[int]:
        # Before the first publisher came, the pipe says "none" all the time; the first one raises `items`.
        return [self.fds.items, self.fds.presence] if self._state().opened else [self.fds.items]


def _lower(eventfd: int) -> None:
    try:
        os.eventfd_read(eventfd)
    except BlockingIOError:
        pass


def _read(fd: int, at: int, length: int) -> bytes:
    data = os.pread(fd, length, at)
    if len(data) == length:
        return data
    parts = [data]
    got = len(data)
    while got < length:  # the system reads at most 2 GB in one go
        parts.append(os.pread(fd, length - got, at + got))
        got += len(parts[-1])
    return b"".join(parts)


def _dumps(item: Any) -> bytes:
    try:
        return pickle.dumps(item, 5)
    except Exception as problem:
        try:
            return dilled.dumps(item)
        except Exception:
            kind = type(item).__name__
            raise SerializationError(
                f"an item of type {kind} cannot be put into a channel that processes share: {type(problem).__name__}: "
                f"{problem}. Put what can be pickled: a path instead of an open file, an id instead of a connection",
                type=kind,
            ) from problem


def _loads(data: bytes) -> Any:
    try:
        return pickle.loads(data)  # what dill has written, pickle reads: it names dill's own functions
    except Exception as problem:
        raise SerializationError(
            f"an item was taken that cannot be unpickled in this process: {in_words(problem)}. Its class must "
            f"be importable here, and its `__setstate__` or constructor must not raise"
        ) from problem


def _punch(fd: int, at: int, length: int) -> None:
    """Gives the memory of a range back to the system. Where that cannot be had, it is given back at the end."""
    import ctypes

    fallocate = ctypes.CDLL(None).fallocate
    fallocate(fd, _KEEP_SIZE_AND_PUNCH, ctypes.c_longlong(at), ctypes.c_longlong(length))
