"""What each thread of this process is doing, seen from one of them."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterable
from itertools import accumulate, chain, repeat, takewhile, tee
from operator import call, itemgetter
from types import FrameType
from typing import Any

__all__ = ["summary", "threads"]


def threads() -> dict[int, list[FrameType]]:
    """The frames of every thread, the innermost first.

    They are taken by one call into C, so that no other thread runs in between: on CPython 3.11 the `f_back` of a
    coroutine's frame that was suspended meanwhile points anywhere.

    Returns:
        Thread id -> its frames.
    """
    back: Any = FrameType.__dict__["f_back"].__get__  # takes a frame, and something that it does not look at
    entries, again = tee(chain.from_iterable(map(dict.items, map(call, (sys._current_frames,)))))
    innermost = zip(map(itemgetter(1), entries))  # tuples of one, to chain
    without_end: Any = map(accumulate, map(chain, innermost, repeat(repeat(None))), repeat(back))
    stacks: Any = map(list, map(takewhile, repeat(bool), without_end))
    collects = gc.isenabled()
    gc.disable()  # a finalizer would be a chance for others to run
    try:
        return dict(zip(map(itemgetter(0), again), stacks))  # noqa: B905
    finally:
        if collects:
            gc.enable()


def summary(frames: Iterable[FrameType]) -> traceback.StackSummary:
    """Frames, the innermost first, as `traceback.extract_stack` gives them: the innermost last."""
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in reversed([*frames]))
