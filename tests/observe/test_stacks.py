"""What each thread is doing, seen from another one."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from types import FrameType

from cascata.observe import stacks


def test_the_frames_of_a_thread_are_those_that_it_is_in() -> None:
    begun, over = threading.Event(), threading.Event()

    def inner() -> None:
        begun.set()
        over.wait()

    thread = threading.Thread(target=inner)
    thread.start()
    begun.wait()
    try:
        found = stacks.threads()
    finally:
        over.set()
        thread.join()
    assert thread.ident is not None
    assert [frame.f_code.co_name for frame in found[thread.ident] if frame.f_code is inner.__code__] == ["inner"]
    assert found[threading.get_ident()][1:] == [frame for frame, _ in traceback.walk_stack(sys._getframe())]


async def _deep(levels: int) -> None:
    if levels:
        await _deep(levels - 1)
        await asyncio.sleep(0)
        await _deep(levels - 1)


def test_frames_of_coroutines_that_are_suspended_meanwhile_do_no_harm() -> None:
    before = sys.getswitchinterval()
    over = threading.Event()

    async def work() -> None:
        while not over.is_set():
            await asyncio.gather(*(_deep(4) for _ in range(20)))

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        sys.setswitchinterval(1e-5)
        for _ in range(300):
            for stack in stacks.threads().values():
                assert all(isinstance(frame, FrameType) for frame in stack)
                assert stacks.summary(stack)
    finally:
        sys.setswitchinterval(before)
        over.set()
        thread.join()
