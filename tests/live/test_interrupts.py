"""Ctrl-C in a program that streams through a graph, or holds one open; and a caller that does not listen."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cascata.errors import WorkerDied
from tests.live.parts import Killed, through

STREAM = """
import itertools, threading, time
from tests.live.parts import doubling

def items():
    yield 1
    while True:
        time.sleep(0.01)
        yield 2

try:
    for value in doubling().stream(items(), num_workers=2):
        if value == 2:
            print("on", flush=True)
except KeyboardInterrupt:
    print("interrupted", [each.name for each in threading.enumerate()])
"""

OPEN = """
import asyncio, threading
from tests.live.parts import doubling

async def main():
    async with doubling().open(num_workers=2) as live:
        print("on" if await live.call(1) == 2 else "wrong", flush=True)
        async for _ in live.results:
            pass

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", [each.name for each in threading.enumerate()])
"""


@pytest.mark.parametrize("code", [STREAM, OPEN], ids=["stream", "open"])
def test_ctrl_c_ends_the_run_in_order_and_leaves_nothing(tmp_path: Path, code: str) -> None:
    script = tmp_path / "main.py"
    script.write_text(code, "utf-8")
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "on\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert (program.returncode, out, err) == (0, "interrupted ['MainThread']\n", "")


def test_a_caller_whose_loop_stood_still_learns_what_happened_meanwhile(workers: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(WorkerDied):
            async with through(Killed).open(**workers) as live:
                await live.numbers.send(13)
                time.sleep(0.3)  # noqa: ASYNC251  # what should not be done
                async for _ in live.results:
                    pass

    asyncio.run(main())
