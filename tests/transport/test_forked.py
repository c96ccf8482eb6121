"""What a forked process does not inherit."""

from __future__ import annotations

import os
from pathlib import Path

from cascata.transport.shared import after_fork


class Thing:
    def __init__(self) -> None:
        self.made_in = os.getpid()

    def after_fork(self) -> None:
        self.made_in = os.getpid()


def in_child(check: object) -> bool:
    """Whether `check()` holds in a forked process."""
    assert callable(check)
    pid = os.fork()
    if not pid:
        os._exit(0 if check() else 1)
    return os.waitpid(pid, 0)[1] == 0


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_private_fds_are_closed_in_a_child_and_stay_open_here() -> None:
    reading, writing = os.pipe()
    after_fork.private(writing)
    assert in_child(lambda: is_open(reading) and not is_open(writing))
    assert is_open(writing)
    after_fork.unprivate(writing)
    assert in_child(lambda: is_open(writing))
    os.close(reading)
    os.close(writing)


def test_a_child_does_not_close_a_number_again_that_its_child_inherits() -> None:
    reading, writing = os.pipe()
    after_fork.private(writing)

    def grandchild() -> bool:
        os.dup2(reading, writing)  # takes the number that was just closed
        return in_child(lambda: is_open(writing))

    assert in_child(grandchild)
    after_fork.unprivate(writing)
    os.close(reading)
    os.close(writing)


def test_things_are_made_fit_for_a_child_as_long_as_they_live() -> None:
    thing, dropped = Thing(), Thing()
    after_fork.renew(thing)
    after_fork.renew(dropped)
    del dropped
    assert in_child(lambda: thing.made_in == os.getpid())
    assert thing.made_in == os.getpid()
