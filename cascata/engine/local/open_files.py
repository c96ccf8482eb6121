"""The fds of a process: room for those of a run, and which ones the programs inherit that a component starts."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Final

from ...errors import CascataError

__all__ = ["keep_to_this_process", "make_room_for_fds"]

SPARE: Final = 64
"""For what components open."""


def make_room_for_fds(wanted: int, why: str) -> None:
    """Raises the soft limit of open files when so many more are wanted.

    Args:
        wanted: fds that will be opened.
        why: what they are for, in words.

    Raises:
        CascataError: the hard limit does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    needed = sum(1 for _ in Path("/proc/self/fd").iterdir()) + wanted + SPARE
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CascataError(
            f"{why} need {wanted} open files more, {needed} in all, but this system allows a process {hard}. Raise the "
            f"limit (`ulimit -Hn`, or LimitNOFILE of the service), or let fewer edges cross from worker to worker: "
            f"with fewer workers (num_workers=), or with graph.pin"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def keep_to_this_process() -> None:
    """Closes on exec what a clean interpreter was given: a program that a component starts has no business with it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # one of them is that of this listing
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)
