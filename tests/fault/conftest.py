"""What the fault tests share with those of the engines, and a way to see and to end the processes of a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import pytest

from tests.engine.conftest import engine, environment_with, flags, notes, script, the_fork_server_stays

__all__ = ["engine", "flags", "notes", "script", "the_fork_server_stays"]

SOON_S: Final = 2.0
"""Seconds within which a death, a failure or a signal has ended everything."""

PATIENCE_S: Final = 20.0

LINE_BY_LINE: Final = "import sys\nsys.stdout.reconfigure(line_buffering=True)\n"
"""How a program of these tests begins: what it prints is seen at once, and in whole lines."""


def below(pid: int) -> list[int]:
    """Processes below another one, the dead ones that nobody has reaped included."""
    found = [pid]
    for parent in found:  # grows on the way
        for thread in Path(f"/proc/{parent}/task").glob("*"):  # each has the children that it started
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found[1:]


def lives(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


def gone_within(pids: list[int], seconds: float) -> bool:
    """Waits until none of the processes lives."""
    deadline = time.monotonic() + seconds
    while any(map(lives, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Program:
    """A script that runs in a session of its own, with the lines that it prints."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self.path = path
        self.errors_to = path.with_suffix(".stderr").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors_to,
            text=True,
            cwd=path.parent,
            env=environment_with(environment),
            start_new_session=True,
        )
        self.seen: list[int] = []

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def lines_until(self, text: str, count: int = 1) -> list[str]:
        """What it prints until a line says `text` for the `count`-th time, that one included."""
        lines: list[str] = []
        while lines.count(text) < count:
            line = self._out.readline()
            assert line, f"it ended before it printed {text!r} {count} times: {lines}\n{self.errors()}"
            lines.append(line.rstrip("\n"))
        return lines

    def descendants(self) -> list[int]:
        """Its processes, itself excluded; remembered, so that none is forgotten when their parent dies."""
        now = below(self.process.pid)
        self.seen += [pid for pid in now if pid not in self.seen]
        return now

    def signal_group(self, number: int) -> None:
        """As a terminal does: to the program and all of its processes."""
        self.descendants()
        os.killpg(self.process.pid, number)

    def signal(self, number: int) -> None:
        """To the program alone."""
        self.descendants()
        self.process.send_signal(number)

    def end(self, seconds: float = SOON_S) -> tuple[int, str]:
        """Waits for its end: its exit code, and what it printed since."""
        code = self.process.wait(seconds)
        assert gone_within(self.seen, SOON_S), f"still there: {[pid for pid in self.seen if lives(pid)]}"
        self._reap()  # before its output is read to the end: they may hold it open
        return code, self._out.read()

    def errors(self) -> str:
        self.errors_to.flush()
        return Path(self.errors_to.name).read_text()

    def _reap(self) -> None:
        for pid in self.seen:
            with suppress(ChildProcessError):  # this process adopts orphans: see `leaks.adopt_orphans`
                os.waitpid(pid, os.WNOHANG)

    def close(self) -> None:
        self.descendants()
        for pid in (self.process.pid, *self.seen):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        gone_within(self.seen, SOON_S)
        self._reap()
        self._out.close()
        self.errors_to.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Any]:
    """Starts Python text as a program; whatever is left of it afterwards is killed."""
    started: list[Program] = []

    def start(text: str, **environment: str) -> Program:
        path = tmp_path / f"main_{len(started)}.py"
        path.write_text(LINE_BY_LINE + textwrap.dedent(text), "utf-8")
        started.append(Program(path, environment))
        return started[-1]

    yield start
    for each in started:
        each.close()
