"""What a run runs on: which transport its workers have, and how they start."""

from __future__ import annotations

import os
import sys

from ..errors import CascataError
from ..options import RunOptions
from . import run_at_import

__all__ = ["is_portable", "start_method_of"]


def is_portable() -> bool:
    """Whether local runs use the portable transport: off Linux, or when `CASCATA_TRANSPORT=portable` asks for it.

    Raises:
        CascataError: something else is asked for.
    """
    asked = os.environ.get("CASCATA_TRANSPORT", "")
    if asked not in ("", "portable"):
        raise CascataError(
            f"CASCATA_TRANSPORT={asked!r}: what can be asked for is 'portable', for local workers. Unset it to have "
            f"what suits the system"
        )
    return asked == "portable" or sys.platform != "linux"


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
