"""Programs of their own, which tests run to their end, or watch, signal and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from tests.processes import below, gone_within, lives
from tests.speed import PATIENCE_S, in_time

__all__ = ["LINE_BY_LINE", "SOON_S", "Program", "Script", "environment_with"]

SOON_S: Final = 2.0
"""Seconds within which a death, a failure or a signal has ended everything."""

LINE_BY_LINE: Final = "import sys\nsys.stdout.reconfigure(line_buffering=True)\n"
"""How a program that is watched begins: what it prints is seen at once, and in whole lines."""


def environment_with(more: dict[str, str]) -> dict[str, str]:
    """This process's environment and more. Output is buffered by lines: whole lines of several processes do not mix."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return inherited | more


class Script:
    """Runs Python text as a program of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), "utf-8")
        return path

    def __call__(
        self, text: str | None, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the text as `main.py`, or with None an interpreter with these arguments, until it ends."""
        if text is not None:
            arguments = (str(self.write("main.py", text)), *arguments)
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment_with(environment or {}),
            input=textwrap.dedent(stdin),
            capture_output=True,
            text=True,
            timeout=50,  # less than a test has
            check=False,
        )

    def prints(self, text: str, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
        """The lines that the script prints. It has nothing to say on stderr, and leaves with 0."""
        done = self(text, *arguments, environment=environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()


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
        """Waits for its end: its exit code, and what it printed since. It has so long, and on a busy machine longer."""
        began = time.monotonic()
        code = self.process.wait(PATIENCE_S)
        assert in_time(seconds, since=began), f"it took {time.monotonic() - began:.1f} s to end"
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
