"""At a worker's end is saved what a program's end would save; and nothing of the program's is ended with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from cascata import Graph, In, Out, State, component
from cascata.errors import CascataError, ComponentError
from tests.cells import matrix
from tests.engine.parts import Count
from tests.programs import Script

Options = dict[str, Any]

STARTED: Final[dict[str, Options]] = {
    "inline": {"engine": "inline"},
    **{method: {"num_workers": 1, "start_method": method} for method in ("forkserver", "spawn", "fork")},
}
METHODS: Final = [*STARTED][1:]

HOLDS_OPEN: Final = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
"""For objects of a test that hold an open file to their end."""


@pytest.fixture(params=STARTED.values(), ids=[*STARTED])
def started(request: pytest.FixtureRequest) -> Options:
    """Options of a run: inline, and each start method."""
    options: Options = request.param
    return options


class Log:
    """An object that holds a file."""

    def __init__(self, path: str) -> None:
        self.file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115  # that it is not closed is the point


@component
async def Writes(item: In[int], file: State = State(open), log: State = State(Log)) -> None:  # type: ignore[type-arg]
    file.value.write(f"{item};")
    log.value.file.write(f"{item};")
    if item == 3:
        raise LookupError


def writing(upto: int, file: Path, log: Path) -> Graph:
    """A graph that writes so many numbers into two files."""
    graph = Graph()
    graph.count, graph.write = Count, Writes
    graph.count.upto < upto
    graph.write.file < (str(file), "w")
    graph.write.log < (str(log),)
    graph.count.number >> graph.write.item
    return graph


@HOLDS_OPEN
def test_what_a_state_wrote_is_in_the_file_when_the_run_returns(started: Options, tmp_path: Path) -> None:
    file, log = tmp_path / "file", tmp_path / "log"
    writing(3, file, log).run(**started)
    assert (file.read_text(), log.read_text()) == ("0;1;2;", "0;1;2;")


@HOLDS_OPEN
def test_what_a_state_wrote_is_in_the_file_when_the_run_fails(started: Options, tmp_path: Path) -> None:
    file, log = tmp_path / "file", tmp_path / "log"
    with pytest.raises(ComponentError, match="LookupError"):
        writing(9, file, log).run(**started)
    assert (file.read_text(), log.read_text()) == ("0;1;2;3;", "0;1;2;3;")


@component
async def WritesAndWaits(written: Out[str], file: State = State(open)) -> None:  # type: ignore[type-arg]
    file.value.write("written")
    await written.send("written")
    await asyncio.Event().wait()


@component
async def Fails(written: In[str]) -> None:
    raise LookupError(written)


def test_what_a_state_wrote_is_in_the_file_when_its_node_is_cancelled(started: Options, tmp_path: Path) -> None:
    graph = Graph()
    graph.write, graph.fails = WritesAndWaits, Fails
    graph.write.file < (str(tmp_path / "file"), "w")
    graph.write.written >> graph.fails.written
    with pytest.raises(ComponentError, match="LookupError"):
        graph.run(**started)
    assert (tmp_path / "file").read_text() == "written"


@HOLDS_OPEN
def test_a_state_whose_file_cannot_be_written_fails_the_run(started: Options, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="No space left") as caught:
        writing(3, Path("/dev/full"), tmp_path / "log").run(**started)
    assert caught.value.node == "write"


def test_a_file_that_a_state_shares_with_others_stays_open(tmp_path: Path) -> None:
    shared = (tmp_path / "shared").open("w", encoding="utf-8")
    with shared:
        graph = Graph()
        graph.first, graph.second = WritesInto, WritesInto
        for node in (graph.first, graph.second):
            node.file < (shared,)
        graph.run(engine="inline")
        shared.write("and I;")
    assert (tmp_path / "shared").read_text() == "I;I;and I;"


def same(file: Any) -> Any:
    return file


@component
async def WritesInto(file: State = State(same)) -> None:  # type: ignore[type-arg]
    file.value.write("I;")


LEFT: Final[list[Any]] = []


@component
def LeavesFull(out: Out[int]) -> None:
    file = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115  # as above
    file.write("lost")
    LEFT.append(file)


def test_what_is_left_open_and_cannot_be_written_fails_the_run() -> None:
    graph = Graph()
    graph.leaves = LeavesFull
    with pytest.raises(CascataError, match=r"'/dev/full' could not be saved: OSError.*No space left"):
        graph.run(num_workers=1)


LEAVES: Final = """
    import atexit, builtins, gzip, logging, sys, tempfile, threading, weakref, zipfile
    from logging.handlers import MemoryHandler
    from pathlib import Path
    from cascata import *

    KEPT = tempfile.NamedTemporaryFile()
    FOLDER = tempfile.TemporaryDirectory()
    atexit.register(print, "the program's own")

    class Deletes:
        def __init__(self, path):
            self.path, self.itself = path, self

        def __del__(self):
            self.path.write_text("saved")

    def cycle(file):
        def inner():
            return file, inner
        file.write("saved")
        return inner

    @component
    async def Leaves(folder: In[str]):
        global text, archive, watched
        folder = Path(folder)
        text = open(folder / "global", "w")
        text.write("saved")
        builtins.cycle = cycle(open(folder / "cycle", "w"))
        builtins.kept = gzip.open(folder / "gzip", "wt")
        builtins.kept.write("saved")
        archive = zipfile.ZipFile(folder / "zip", "w")
        archive.writestr("name", "saved")
        Deletes(folder / "del")
        watched = cycle
        weakref.finalize(watched, (folder / "finalize").write_text, "saved")
        atexit.register((folder / "atexit").write_text, "saved")
        handler = MemoryHandler(100, target=logging.FileHandler(folder / "log"))
        logging.getLogger("kept").addHandler(handler)
        logging.getLogger("kept").warning("saved")

        def write():
            go_on.wait()
            builtins.late = open(folder / "thread", "w")
            builtins.late.write("saved")

        go_on = threading.Event()
        threading.Thread(target=write).start()
        threading.Timer(0.1, go_on.set).start()

    graph = Graph()
    graph.leaves = Leaves
    graph.leaves.folder < "."
    graph.run(num_workers=1, start_method=sys.argv[1])
    assert Path(KEPT.name).exists() and Path(FOLDER.name).exists()
    found = {name: Path(name).read_text().strip() for name in "global cycle del finalize atexit log thread".split()}
    found["gzip"] = gzip.open("gzip", "rt").read()
    found["zip"] = zipfile.ZipFile("zip").read("name").decode()
    assert all(text == "saved" for text in found.values()), found
"""


@pytest.mark.parametrize(
    ("method", "transport"),
    [
        ("forkserver", ""),
        ("fork", ""),
        ("spawn", "portable"),
        matrix("spawn", ""),
        matrix("forkserver", "portable"),
    ],
)
def test_what_a_component_leaves_is_saved_and_what_the_program_has_is_left_to_it(
    script: Script, method: str, transport: str
) -> None:
    done = script(LEAVES, method, environment={"CASCATA_TRANSPORT": transport})
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "the program's own\n"), done.stderr


SHARED: Final = """
    import sys
    from {package}.shared_memory import ShareableList, SharedMemory
    from cascata import *

    memory = SharedMemory(create=True, size=100)
    listed = ShareableList([1, 2])
    memory.buf[0] = 7

    @component
    async def Attaches(name: In[str], memory: Out, listed: In):
        await memory.send(SharedMemory(name))
        listed[0] += 1

    @component
    async def Uses(memory: In):
        memory.buf[1] = memory.buf[0] + 1
        memory.close()

    graph = Graph()
    graph.attaches, graph.uses = Attaches, Uses
    graph.attaches.name < memory.name
    graph.attaches.listed < listed
    graph.attaches.memory >> graph.uses.memory
    graph.run(num_workers=2, start_method=sys.argv[1])
    again = SharedMemory(memory.name)
    print([*again.buf[:2]], listed[0])
    again.close()
    memory.close()
    memory.unlink()
    listed.shm.close()
    listed.shm.unlink()
"""


@pytest.mark.parametrize(
    ("package", "transport", "method"),
    [
        ("multiprocessing", "", "forkserver"),
        ("multiprocess", "", "spawn"),
        ("multiprocessing", "portable", "spawn"),
        matrix("multiprocessing", "", "spawn"),
        matrix("multiprocessing", "", "fork"),
        matrix("multiprocess", "", "forkserver"),
    ],
)
def test_shared_memory_of_the_program_survives_the_workers_that_attach(
    script: Script, package: str, transport: str, method: str
) -> None:
    environment = {"CASCATA_TRANSPORT": transport}
    assert script.prints(SHARED.format(package=package), method, environment=environment) == ["[7, 8] 2"]
