"""The channel that processes share: a log in anonymous memory, guarded by a lock that dies with its holder.

    put ── append at head ──> [ header | .... message message message .... ] ── read at tail ──> take
                                 count, offsets      (memory file)

Nobody holds more than the one item that it takes: whichever process asks next gets the next item, and one that is
killed takes nothing with it but what it had in hand.

- The lock is `flock` on this process's own opening of the memory file: the kernel releases it when the process dies.
  State is written beside the state in force, which a counter selects: a process that is killed
  in the middle has changed nothing.
- Two eventfds say "there may be items" and "there may be room". They are raised before the change that they announce,
  and lowered, under the lock, by who finds that it is not so: a wake-up may be for nothing, but none is lost. Once
  the channel is closed nobody lowers them.
- A third one says "there was a publisher", and is never lowered. From then on the end of the publishers is that of the
  channel: each process that has some holds the writing end of a pipe, and the others see the last one go, however it
  went. The state counts these processes: when all are gone and some still count, they died.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import struct
import threading
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ...channel.threads import EMPTY, ENDED, failure_of, refusal
from ...errors import CascataError, ChannelClosed, ChannelFailed, SerializationError, in_words
from ..codec import by_dill
from ..codec.process_bound import Bound, watch_plain_pickle
from . import after_fork
from .readiness import wait_readable, wait_readable_sync

with suppress(ImportError):  # not on Windows, where no channel is shared
    import fcntl

__all__ = ["SharedChannel", "SharedFds"]

_PAGE: Final = mmap.PAGESIZE
_STATE: Final = struct.Struct("<QQQBI")
_STATES_AT: Final = (64, 128)
_COUNTER: Final = 0
_LENGTH: Final = struct.Struct("<Q")
_AT_ONCE: Final = 1024
"""Bytes that are read in one go with a message's length."""

_FREE_AT: Final = 1 << 20
"""Bytes that were read before their memory is given back to the system."""

_KEEP_SIZE_AND_PUNCH: Final = 3


_State = tuple[int, int, int, int, int]
"""What the header says: items, where the next message goes, where the first one is, whether it is closed (`_CLOSED`,
`_FAILED`), and how many processes have publishers."""

_CLOSED: Final = 1
_FAILED: Final = 2
"""Behind the last item stands a message that is none: what a publisher failed with."""

_DIED: Final = (
    "a process has died, or ended, while a publisher of this channel was open in it: nobody knows whether there was "
    "more to come. All that was put has been taken"
)


class SharedFds(NamedTuple):
    """What makes the same channel in another process."""

    memory: int
    items: int
    room: int
    opened: int
    presence: int


def _make_fds() -> SharedFds:
    if not hasattr(os, "memfd_create"):
        raise CascataError(
            "a Channel can be given to another process on Linux only: this system has no anonymous memory that "
            "processes could share. Inside one process it works everywhere; between processes, let a graph carry items"
        )
    made: list[int] = []
    try:
        made.append(os.memfd_create("cascata-channel", os.MFD_CLOEXEC))
        os.ftruncate(made[0], _PAGE)
        made.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        made.append(os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        made.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        presence, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
    os.close(writing)
    return SharedFds(made[0], made[1], made[2], made[3], presence)


class _Lock:
    """Between the threads of this process, and between processes: as long as the process lives."""

    __slots__ = ("_fd", "_threads")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._threads = threading.Lock()

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._threads.release()


class SharedChannel:
    """A bounded channel between processes.

    Args:
        capacity: items put and not yet taken, at most.
        fds: of a channel that was made in another process; it becomes this object's own. None makes a new channel.

    Raises:
        OSError: the system is short of fds or of memory.
    """

    def __init__(self, capacity: int, fds: SharedFds | None = None) -> None:
        self.capacity = capacity
        self.fds = _make_fds() if fds is None else fds
        self._own = self._presence = -1
        self._publishing = 0
        self._seen_opened = False
        self._header = mmap.mmap(self.fds.memory, _PAGE)
        if fds is None:
            _STATE.pack_into(self._header, _STATES_AT[0], 0, _PAGE, _PAGE, 0, 0)
        self.after_fork()
        after_fork.renew(self)

    def after_fork(self) -> None:
        """A forked child needs an opening of its own of the memory file: an inherited one shares its parent's lock."""
        if self._own >= 0:
            os.close(self._own)
        self._own = os.open(f"/proc/self/fd/{self.fds.memory}", os.O_RDWR | os.O_CLOEXEC)
        self._presence = -1  # `forked.private` has closed it
        self._publishing = 0
        self._publishers_lock = threading.Lock()
        self._lock = _Lock(self._own)

    def __del__(self) -> None:
        if not hasattr(self, "fds"):
            return
        if self._presence >= 0:
            after_fork.unprivate(self._presence)
        for fd in (*self.fds, self._own, self._presence):
            if fd >= 0:
                os.close(fd)

    # -- state, under the lock

    def _state(self) -> _State:
        """The state in force; whole also without the lock."""
        header = self._header
        while True:
            counter = header[_COUNTER]
            state = _STATE.unpack_from(header, _STATES_AT[counter & 1])
            if header[_COUNTER] == counter:
                return state

    def _commit(self, used: int, head: int, tail: int, closed: int, publishing: int) -> None:
        header = self._header
        counter = header[_COUNTER] + 1 & 0xFF
        _STATE.pack_into(header, _STATES_AT[counter & 1], used, head, tail, closed, publishing)
        header[_COUNTER] = counter

    # -- what the public channel asks

    def __len__(self) -> int:
        return self._state()[0]

    @property
    def closed(self) -> bool:
        return bool(self._state()[3])

    # The pipe and the count change under the lock, so that who holds it sees each living process in both or in none.
    # The order is that of a death in between: who is not counted, or not any more, has nothing left to put.

    def open(self) -> bool:
        """One publisher more, in this process."""
        with self._publishers_lock:
            if not self._publishing:
                with self._lock:
                    self._presence = os.open(f"/proc/self/fd/{self.fds.presence}", os.O_WRONLY | os.O_CLOEXEC)
                    after_fork.private(self._presence)
                    self._count_process(+1)
                os.eventfd_write(self.fds.opened, 1)
            self._publishing += 1
        return True

    def release(self) -> bool:
        """One publisher less, in this process."""
        with self._publishers_lock:
            self._publishing -= 1
            if not self._publishing:
                with self._lock:
                    self._count_process(-1)
                    after_fork.unprivate(self._presence)
                    os.close(self._presence)
                    self._presence = -1
        return True

    def _count_process(self, change: int) -> None:
        used, head, tail, closed, publishing = self._state()
        self._commit(used, head, tail, closed, publishing + change)

    def close(self, error: BaseException | None = None) -> bool:
        """Ends the channel for good, unless it has ended so: with an error if a publisher failed."""
        failure = b"" if error is None else pickle.dumps(failure_of(error), 5)  # it carries what pickle cannot in words
        with self._lock:
            used, head, tail, closed, publishing = self._state()
            if closed:
                return True
            if failure:
                if not used:  # at the front again
                    head = tail = _PAGE
                _write(self._own, failure, head)
            os.eventfd_write(self.fds.items, 1)
            os.eventfd_write(self.fds.room, 1)
            self._commit(used, head, tail, _FAILED if failure else _CLOSED, publishing)
        return True

    def refusal(self) -> ChannelClosed:
        """What publishers are told when it is closed."""
        with self._lock:
            return self._refusal()

    def _refusal(self) -> ChannelClosed:
        _, head, _, closed, _ = self._state()
        return refusal(pickle.loads(_read(self._own, head)).__cause__ if closed == _FAILED else None)

    @property
    def opened(self) -> bool:
        """Whether there was a publisher."""
        if not self._seen_opened:
            self._seen_opened = bool(_events(self.fds.opened, select.POLLIN))
        return self._seen_opened

    @property
    def deserted(self) -> bool:
        """Whether there were publishers, and all are gone."""
        return self.opened and bool(_events(self.fds.presence, 0))

    def try_put(self, item: Any) -> bool:
        """Puts an item if there is room.

        Raises:
            ChannelClosed: the channel is closed, or has failed.
            SerializationError: the item cannot be sent to another process.
        """
        if self._state()[0] >= self.capacity:  # no need to pickle
            with self._lock:
                if not self._has_room(self._state()):
                    return False
        data = _dumps(item)
        with self._lock:
            state = self._state()
            if not self._has_room(state):
                return False
            used, head, tail, closed, publishing = state
            if not used:  # at the front again
                head = tail = _PAGE
            head = _write(self._own, data, head)
            if not used:
                os.eventfd_write(self.fds.items, 1)
            self._commit(used + 1, head, tail, closed, publishing)
        return True

    def _has_room(self, state: _State) -> bool:
        used, _, _, closed, _ = state
        if closed:
            raise self._refusal()
        if used < self.capacity:
            return True
        _lower(self.fds.room)
        return False

    def try_take(self) -> Any:
        """An item, `EMPTY` or `ENDED`.

        Raises:
            ChannelFailed: a publisher failed or died, and all that was put before has been taken.
            SerializationError: an item was taken that cannot be unpickled here.
        """
        data = self._try_read()
        if data is EMPTY and self.deserted:
            data = self._try_read()  # once more: what they put last is there by now
            if data is EMPTY:
                with self._lock:
                    died = self._state()[4] and self.deserted
                if died:
                    raise ChannelFailed(_DIED)
                return ENDED
        return _loads(data) if isinstance(data, bytes) else data

    def _try_read(self) -> Any:
        with self._lock:
            used, head, tail, closed, publishing = self._state()
            if not used:
                if closed == _FAILED:
                    raise pickle.loads(_read(self._own, tail))
                if closed:
                    return ENDED
                _lower(self.fds.items)
                return EMPTY
            data = _read(self._own, tail)
            end = tail + _LENGTH.size + len(data)
            if used == self.capacity:
                os.eventfd_write(self.fds.room, 1)
            self._commit(used - 1, head, end, closed, publishing)
            self._free(tail, end, last=used == 1 and closed != _FAILED)
        return data

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
        # Before the first publisher came, the pipe says "none" all the time.
        return [self.fds.items, self.fds.presence if self.opened else self.fds.opened]


def _events(fd: int, events: int) -> int:
    poll = select.poll()
    poll.register(fd, events)
    return sum(found for _, found in poll.poll(0))


def _lower(eventfd: int) -> None:
    try:
        os.eventfd_read(eventfd)
    except BlockingIOError:
        pass


def _write(fd: int, data: bytes, at: int) -> int:
    """Writes a message; returns where it ends."""
    head = _LENGTH.pack(len(data))
    if len(data) < _AT_ONCE:
        head += data
        data = b""
    for part in (head, data):
        rest = memoryview(part)
        while rest:  # the system writes at most 2 GB in one go
            written = os.pwrite(fd, rest, at)
            at += written
            rest = rest[written:]
    return at


def _read(fd: int, at: int) -> bytes:
    """Reads a message."""
    first = os.pread(fd, _AT_ONCE, at)
    (length,) = _LENGTH.unpack_from(first)
    end = _LENGTH.size + length
    if end <= len(first):
        return first[_LENGTH.size : end]
    parts = [first[_LENGTH.size :]]
    got = len(first)
    while got < end:
        parts.append(os.pread(fd, end - got, at + got))
        got += len(parts[-1])
    return b"".join(parts)


def _dumps(item: Any) -> bytes:
    try:
        return pickle.dumps(item, 5)
    except Exception as problem:
        try:
            return by_dill.dumps(item)
        except Exception as another:
            from ..codec.locating import bound_in

            kind = type(item).__name__
            if isinstance(another, Bound) and (told := bound_in(item, "the item", another)) is not None:
                raise SerializationError(
                    f"an item of type {kind} cannot be put into a channel that processes share: {told.text}",
                    type=told.type,
                ) from another
            raise SerializationError(
                f"an item of type {kind} cannot be put into a channel that processes share: {type(problem).__name__}: "
                f"{problem}. Put what can be pickled: a path instead of an open file, an id instead of a connection",
                type=kind,
            ) from problem


watch_plain_pickle(_dumps.__code__)


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
