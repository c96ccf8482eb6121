"""What holds for every test: nothing is left behind, what hangs shows its stacks. What tests of several rooms use."""

from __future__ import annotations

import os
import re
import resource
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from cascata import Graph
from cascata.engine.local import forkserver
from tests import leaks
from tests.engine.parts import Count, Flag, Notes
from tests.programs import LINE_BY_LINE, Program, Script

ROOT = Path(__file__).parent.parent

# Scripts that a test starts see the tree that is tested, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

# What workers and scripts import is compiled once, as it is where cascata is installed, and not by each of them again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A test that hangs is ended by pytest-timeout, which shows the stacks of this process; its workers are
# ended by SIGABRT, at which faulthandler shows theirs. Nobody wants their core files.
os.environ["PYTHONFAULTHANDLER"] = "1"
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

# How long one example takes says nothing on a shared machine; pytest-timeout bounds the whole test.
settings.register_profile("cascata", deadline=None)
settings.load_profile("cascata")


@pytest.fixture(scope="session", autouse=True)
def orphans_are_seen() -> None:
    """A worker whose parent died is found by the check below, wherever in the tree it stood."""
    leaks.adopt_orphans()


REPEATED: Final = {"1 worker": "2 workers", "3 workers": "2 workers", "fork": "forkserver", "spawn": "forkserver"}
"""What differs between two cells of one test, and which of them is run on a further interpreter."""

REPEATED_IN: Final = {
    "tests/language/": dict.fromkeys(("1 to 3 workers", "2 workers", "3 workers"), "inline"),
    "tests/engine/": {"inline": "2 workers"},
    "tests/live/": {"inline": "2 workers"},
    "tests/contract/": {
        f"{kind}, multiprocess fork": f"{kind}, one loop" for kind in ("ring", "crossing", "brokered", "public")
    },
    "tests/workflow/": {"1 worker": "2 workers"},
}
"""The same in some folders: the language is a matter of loops, engines one of processes, and the contract's carriers
differ in what they are made of, which is no matter of the interpreter."""

ELSEWHERE: Final = "tests/engine/test_on_portable.py"
"""Runs the tests of other modules again, on another carrier."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--further-python",
        action="store_true",
        help="of cells that differ in the number of workers or in how they start only one: for an interpreter on "
        "which the tests run again",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what would show the same again; a test keeps at least one cell of each kind."""
    if not config.getoption("further_python"):
        return
    always = {item.nodeid for item in items if item.get_closest_marker("matrix") is None}
    left_out = [
        item
        for item in items
        if item.nodeid not in always
        or item.nodeid.startswith(ELSEWHERE)
        or any(cell in always for cell in _other_cells(item.nodeid))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _other_cells(name: str) -> Iterator[str]:
    here = next((cells for folder, cells in REPEATED_IN.items() if name.startswith(folder)), {})
    for repeated, kept in (*REPEATED.items(), *here.items()):
        other = re.sub(rf"\b{repeated}\b", kept, name)
        if other != name:
            yield other


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests of a group share what is costly to make: pytest-xdist marks their names, and versions of pytest undo it."""
    if session.config.getoption("loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") is not None and "@" not in item.nodeid:
                raise pytest.UsageError(f"{item.nodeid} has lost its group: pytest and pytest-xdist do not fit")


failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes on a test that it failed, for the check below."""
    report = yield
    if report.failed:
        item.stash[failed] = True
    return report


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest, orphans_are_seen: None) -> Iterator[None]:
    """No process, thread, descriptor, socket or shared memory more than before the test."""
    before = leaks.take()
    yield
    left = leaks.left_since(before)
    if not left:
        return
    leaks.end(before)
    text = "left behind:\n  " + "\n  ".join(left)
    if request.node.stash.get(failed, False):  # its traceback may hold these; a second failure would say nothing more
        print(text, file=sys.stderr)
    else:
        pytest.fail(text, pytrace=False)


# --- what tests of several rooms use ------------------------------------------------------------------


@pytest.fixture(scope="session")
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


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """What the components of a test tell it."""
    return Notes(str(tmp_path / "notes"))


@pytest.fixture
def flags(tmp_path: Path) -> list[Flag]:
    """Events that all processes see; none is set."""
    return [Flag(str(tmp_path / f"flag_{number}")) for number in range(4)]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs Python text as a program, to its end."""
    return Script(tmp_path)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
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
