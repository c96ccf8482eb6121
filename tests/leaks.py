"""What a test may not leave behind: descendants, threads, file descriptors, shared memory.

    before = take()
    ...                          the test
    left_since(before)           one line for each thing that was not there before

Two helpers of the standard library live as long as the interpreter, once something started them:
the forkserver and the resource tracker, one of each for `multiprocessing` and for `multiprocess`.
These four processes and the pipes that hold them are tolerated; what they start is not.

Only what this process and those below it hold is looked at: a file in /dev/shm that none of them maps or has open is
another program's. (cascata gives no memory a name: tests/fault/test_privacy.py.)

Once the test process is connected to a Ray cluster, processes and connections come and go as Ray sees fit, and are not
looked at; actors are. Its files in /dev/shm are nobody's leak, whichever process sees them.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from tests.processes import below

__all__ = ["Process", "Snapshot", "adopt_orphans", "end", "left_since", "named", "take"]

PROC: Final = Path("/proc")
SHARED_MEMORY: Final = Path("/dev/shm")

SETTLE: Final = 1.0
"""Seconds that a descendant which is not our child may take to vanish after its killer returned."""

TICKS: Final = os.sysconf("SC_CLK_TCK")
"""Of the clock by which the system tells when a process was started, in a second."""

PR_SET_CHILD_SUBREAPER: Final = 36

ACTOR: Final = "ray::WorkerActor"
"""How the command of a process of ours on Ray begins."""

RAYS_FDS: Final = ("socket:", "anon_inode:")
"""How the descriptors begin that come and go with Ray's connections."""

OBJECT_STORE: Final = "plasma"
"""How the names of Ray's files in `SHARED_MEMORY` begin."""


class Process(NamedTuple):
    """A process: its start time tells it from a later one with the same id."""

    pid: int
    started: int

    def describe(self) -> str:
        folder = PROC / str(self.pid)
        command = _read(folder / "cmdline").replace("\0", " ").strip()[:120]
        waits_in = _read(folder / "wchan").strip("0\n ")
        return f"process {self.pid}: {command or '?'}" + (f" (waits in {waits_in})" if waits_in else "")

    def is_rays_own(self) -> bool:
        """Whether it belongs to a Ray cluster, and is not an actor."""
        command = _read(PROC / str(self.pid) / "cmdline")
        program, *_ = command.partition("\0-c\0")  # a fork server has been told our `sys.path`, where Ray has a folder
        return "/ray/" in program or (command.startswith("ray::") and not command.startswith(ACTOR))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the test process holds at one moment.

    Attributes:
        taken: when, in the ticks in which the system tells when a process was started.
        processes: those below this one.
        unjoined: process objects that were never joined.
        threads: of this process.
        descriptors: of this process: how often each file, pipe, socket … is open.
        shared_memory: the names in `SHARED_MEMORY`.
    """

    taken: int = 0
    processes: frozenset[Process] = frozenset()
    unjoined: frozenset[str] = frozenset()
    threads: frozenset[threading.Thread] = frozenset()
    descriptors: Counter[str] = field(default_factory=Counter)
    shared_memory: frozenset[str] = frozenset()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def _permanent() -> tuple[set[int], set[int]]:
    """Process ids and descriptors of the standard library's helpers."""
    pids: set[int] = set()
    descriptors: set[int] = set()
    for package in ("multiprocessing", "multiprocess"):
        for module, helper, pid, descriptor in (
            ("forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
            ("resource_tracker", "_resource_tracker", "_pid", "_fd"),
        ):
            found = getattr(sys.modules.get(f"{package}.{module}"), helper, None)
            if (started := getattr(found, pid, None)) is not None:
                pids.add(started)
            if (held := getattr(found, descriptor, None)) is not None:
                descriptors.add(held)
    return pids, descriptors


def _looked_up(pid: int) -> tuple[Process | None, str]:
    """A process, if there is one of that id, and its state."""
    stat = _read(PROC / str(pid) / "stat")
    if not stat:
        return None, "X"
    fields = stat[stat.rindex(")") + 2 :].split()  # the name in parentheses may hold anything
    return Process(pid, int(fields[19])), fields[0]


def _descendants() -> frozenset[Process]:
    """Living processes below this one. Dead ones are another matter: `_unjoined`."""
    found: set[Process] = set()
    for _ in range(2):  # a list of children may miss some while another one of them ends
        for pid in below(os.getpid()):
            process, state = _looked_up(pid)
            if process is not None and state not in "ZX":
                found.add(process)
    return frozenset(found)


def _unjoined() -> frozenset[str]:
    """Process objects that were started and never joined: dead, they would be zombies."""
    return frozenset(
        repr(process)
        for package in ("multiprocessing", "multiprocess")
        for process in getattr(sys.modules.get(f"{package}.process"), "_children", ())
    )


def _descriptors(permanent: set[int]) -> Counter[str]:
    """How often each file, pipe, socket … is open."""
    targets: Counter[str] = Counter()
    for fd in os.listdir(f"{PROC}/self/fd"):  # noqa: PTH208
        try:
            target = os.readlink(f"{PROC}/self/fd/{fd}")  # noqa: PTH115
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        if int(fd) not in permanent:
            targets[target] += 1
    return targets


def take() -> Snapshot:
    """What this process holds now. Off Linux only threads are seen."""
    threads = frozenset(threading.enumerate())
    if not sys.platform.startswith("linux"):
        return Snapshot(threads=threads)
    pids, descriptors = _permanent()
    return Snapshot(
        taken=int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS),
        processes=frozenset(process for process in _descendants() if process.pid not in pids),
        unjoined=_unjoined(),
        threads=threads,
        descriptors=_descriptors(descriptors),
        shared_memory=frozenset(e.name for e in SHARED_MEMORY.iterdir() if not e.name.startswith(OBJECT_STORE)),
    )


def _held(names: frozenset[str]) -> frozenset[str]:
    """Those of the files in shared memory that this process, or one below it, maps or has open."""
    paths = {f"{SHARED_MEMORY}/{name}": name for name in names}
    held: set[str] = set()
    for pid in (os.getpid(), *(process.pid for process in _descendants())):
        mapped = (line.split(maxsplit=5)[-1] for line in _read(PROC / str(pid) / "maps").splitlines())
        held.update(paths[target] for target in (*mapped, *_open_files(pid)) if target in paths)
    return frozenset(held)


def _open_files(pid: int) -> Iterator[str]:
    """What each descriptor of a process is open on."""
    try:
        fds = os.listdir(f"{PROC}/{pid}/fd")  # noqa: PTH208
    except OSError:  # it has ended meanwhile
        return
    for fd in fds:
        try:
            yield os.readlink(f"{PROC}/{pid}/fd/{fd}")  # noqa: PTH115
        except OSError:  # the descriptor of this very listing
            continue


def named(command: str) -> list[Process]:
    """Living processes whose command begins like that."""
    return [each for each in sorted(_descendants()) if _read(PROC / str(each.pid) / "cmdline").startswith(command)]


def _ray_runs() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _difference(before: Snapshot, after: Snapshot) -> list[str]:
    if _ray_runs():
        before, after = _without_rays(before), _without_rays(after)
    return [
        *(process.describe() for process in sorted(_new(after.processes, before))),
        *(f"never joined: {process}" for process in sorted(after.unjoined - before.unjoined)),
        *(f"thread: {thread!r}" for thread in after.threads - before.threads),
        *(f"descriptor: {n} × {target}" for target, n in sorted((after.descriptors - before.descriptors).items())),
        *(f"shared memory: {name}" for name in sorted(after.shared_memory - before.shared_memory)),
    ]


def _new(processes: frozenset[Process], before: Snapshot) -> frozenset[Process]:
    """Those of the processes that were started after a snapshot; it may have missed one that was there."""
    return frozenset(each for each in processes - before.processes if each.started >= before.taken)


def _without_rays(snapshot: Snapshot) -> Snapshot:
    """Without what Ray's own processes and connections are."""
    return replace(
        snapshot,
        processes=frozenset(process for process in snapshot.processes if not process.is_rays_own()),
        descriptors=Counter({what: n for what, n in snapshot.descriptors.items() if not what.startswith(RAYS_FDS)}),
    )


def left_since(before: Snapshot, settle: float = SETTLE) -> list[str]:
    """One line for each thing that was not there `before`.

    Threads and descriptors count as they are once garbage is collected. Processes that others have
    to reap, and what they hold in /dev/shm, have `settle` seconds to go.
    """
    if not _difference(before, _take_since(before)):
        return []
    gc.collect()
    deadline = time.monotonic() + settle
    while True:
        after = _take_since(before)
        passing = _new(after.processes, before) or after.shared_memory - before.shared_memory
        if not passing or time.monotonic() > deadline:
            return _difference(before, after)
        time.sleep(0.01)


def _take_since(before: Snapshot) -> Snapshot:
    """As `take`; of the files in shared memory that were not there `before`, those that are held here."""
    after = take()
    new = after.shared_memory - before.shared_memory
    return replace(after, shared_memory=after.shared_memory - new | _held(new)) if new else after


def end(before: Snapshot, settle: float = SETTLE) -> None:
    """Ends every descendant that was not there `before`; at SIGABRT each shows its stacks (see `conftest.py`)."""
    permanent, _ = _permanent()

    def left() -> list[int]:
        return [process.pid for process in _new(_descendants(), before) if process.pid not in permanent]

    for signum in (signal.SIGABRT, signal.SIGKILL):
        for pid in left():
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + settle
        while left() and time.monotonic() < deadline:
            time.sleep(0.01)


def adopt_orphans() -> None:
    """Makes this process the parent of orphans among its descendants, so that `take` sees them (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
