"""The engines that behaviour is shown on, and the means by which components tell a test what they saw."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cascata import Graph
from cascata.engine.local import forkserver
from tests.engine.parts import Count, Flag, Notes

ENGINES: Final[dict[str, dict[str, Any]]] = {
    "inline": {"engine": "inline"},
    "1 worker": {"num_workers": 1},
    "2 workers": {"num_workers": 2},
    "3 workers": {"num_workers": 3},
}

EACH: Final = {name: options for name, options in ENGINES.items() if name != "1 worker"}
"""One worker alone is a loop like inline, with the ends of a process like two: the three of them show little more."""

ON_PROCESSES: Final = {name: options for name, options in ENGINES.items() if name != "inline"}


@pytest.fixture(scope="session", autouse=True)
def the_fork_server_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The fork server ends with the last run that uses it; held here, it need not start for each of these tests.

    Workers import the module of a test for its components, and pytest with it: this server has imported that already.
    """
    folder = tmp_path_factory.mktemp("preloaded")
    (folder / "sitecustomize.py").write_text("import numpy, pytest\n", "utf-8")
    with forkserver.needed():
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
            graph = Graph()
            graph.count = Count
            graph.count.upto < 0
            graph.run(num_workers=1, start_method="forkserver")
        yield


@pytest.fixture(params=EACH.values(), ids=[*EACH])
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run: each engine, and with processes several numbers of workers."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture(params=ON_PROCESSES.values(), ids=[*ON_PROCESSES])
def workers(request: pytest.FixtureRequest) -> dict[str, Any]:
    """As `engine`, for what only processes do."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """What the components of a test tell it."""
    return Notes(str(tmp_path / "notes"))


@pytest.fixture
def flags(tmp_path: Path) -> list[Flag]:
    """Events that all processes see; none is set."""
    return [Flag(str(tmp_path / f"flag_{number}")) for number in range(4)]


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
            timeout=30,
            check=False,
        )

    def prints(self, text: str, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
        """The lines that the script prints. It has nothing to say on stderr, and leaves with 0."""
        done = self(text, *arguments, environment=environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs Python text as a program."""
    return Script(tmp_path)
