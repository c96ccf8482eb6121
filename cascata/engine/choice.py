"""What a run runs on: which transport its workers have, and how they start."""

from __future__ import annotations

import os
import sys

from ..errors import CascataError
from ..options import RunOptions
from . import run_at_import

__all__ = ["is_by_calls", "is_portable", "start_method_of"]


def is_portable() -> bool:
    """Whether local runs use the portable transport: off Linux, or when `CASCATA_TRANSPORT=portable` asks for it."""
    return _asked() == "portable" or sys.platform != "linux"


def is_by_calls() -> bool:
    """Whether workers on Ray are not even to try to connect to each other: `CASCATA_TRANSPORT=calls` asks for it."""
    return _asked() == "calls"


def _asked() -> str:
    """The transport that is asked for. Raises `CascataError` when there is none of that name."""
    asked = os.environ.get("CASCATA_TRANSPORT", "")
    if asked not in ("", "portable", "calls"):
        raise CascataError(
            f"CASCATA_TRANSPORT={asked!r}: what can be asked for is 'portable', for local workers, and 'calls', for "
            f"workers on Ray. Unset it to have what suits the system and the network"
        )
    return asked


def start_method_of(options: RunOptions) -> str:
    """How the worker processes of a run start.

    Unless it is said: by the fork server, on Linux; by spawn where nothing but what every system has is used. A frozen
    program can begin nothing but itself: it forks, where that can be had.

    Raises:
        CascataError: a fork server is asked for that cannot be.
    """
    frozen = run_at_import.is_frozen()
    if frozen and options.start_method == "forkserver":
        raise run_at_import.no_server()
    if options.start_method is not None:
        return options.start_method
    if frozen and sys.platform == "linux":
        return "fork"
    return "spawn" if is_portable() else "forkserver"
