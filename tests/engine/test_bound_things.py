"""What belongs to one process: copies of it are refused by name, before anything is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engine import bound_things
from tests.programs import Script, environment_with

pytestmark = pytest.mark.timeout(120)  # the first test of the table makes all of it

Told = dict[str, dict[str, Any]]

ARRIVE: Final = {"not used", "left out of its state"}
WAIT: Final = {"global", "attribute of a global", "attribute of a class"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the script says: all of the table in one program, since most of its time is its start."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", bound_things.__file__],
        cwd=tmp_path_factory.mktemp("things"),
        env=environment_with({}),
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    found: Told = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", bound_things.MAKE)
def test_what_belongs_to_its_process_is_refused_wherever_it_is(told: Told, kind: str) -> None:
    for place, outcome in told[kind].items():
        if place in ARRIVE:
            assert outcome == "sent", place
        else:
            assert outcome != "sent", place
            error, of_type, text = outcome
            assert error == "SerializationError"
            assert of_type in text
            assert of_type not in {"function", "dict", "list", "Settings"}, place
            assert any(word in text for word in ("Make it", "Send", "Connect", "Start it")), text


@pytest.mark.parametrize("kind", bound_things.GENERATORS)
def test_what_nothing_copies_may_be_a_global_as_long_as_nobody_uses_it(told: Told, kind: str) -> None:
    for place, outcome in told[kind].items():
        assert (outcome == "sent") == (place in ARRIVE | WAIT), place


def test_the_error_says_where_the_thing_is(told: Told) -> None:
    said = {place: outcome[2] for place, outcome in told["text file"].items() if outcome != "sent"}
    assert "the global 'THING' of bound_things.py" in said["global"]
    assert "SETTINGS.log.parts[1]['thing'] is an open file" in said["attribute of a global"]
    assert "the variable 'thing' that the runner of Uses closes over" in said["closure"]
    assert "the value of uses.item is" in said["default"]
    assert "the value of uses.item[1] is" in said["constant"]
    assert "the state uses.kept is" in said["argument of a state"]
    assert "Kept.thing is" in said["attribute of a class"]
    for place in ("in an item", "in an item of TCP"):
        assert "item['rows'][0] is an open file" in said[place]
        assert "sent by a.o" in said[place]


FILE_OF_THE_SCRIPT: Final = """
    from pathlib import Path
    from cascata import *
    from cascata.errors import SerializationError

    OUT = open("rows.csv", "w")
    print("id,square", file=OUT, flush=True)
    OUT.write("not flushed yet;")

    @component
    async def Save():
        OUT.write("row;")

    graph = Graph()
    graph.save = Save
    for method in {methods}:
        try:
            graph.run(num_workers=1, start_method=method)
        except SerializationError as error:
            assert "OUT" in str(error) and "State(open)" in str(error), error
            print(method, error.node)
    graph.run(engine="inline")
    OUT.close()
    print(Path("rows.csv").read_text().split())
"""


@pytest.mark.parametrize("transport", ["", "portable"])
def test_a_file_of_the_script_is_refused_under_each_start_method_and_stays_whole(
    script: Script, transport: str
) -> None:
    methods = ["forkserver", "spawn"] if transport else ["forkserver", "spawn", "fork"]
    lines = script.prints(FILE_OF_THE_SCRIPT.format(methods=methods), environment={"CASCATA_TRANSPORT": transport})
    assert lines == [*(f"{method} save" for method in methods), "['id,square', 'not', 'flushed', 'yet;row;']"]


def test_a_file_that_is_sent_is_refused_and_stays_whole(script: Script) -> None:
    lines = script.prints(
        """
        from pathlib import Path
        from cascata import *
        from cascata.errors import SerializationError

        @component
        async def Make(file: Out):
            opened = open("sent.txt", "w")
            opened.write("header;")
            opened.flush()
            await file.send({"log": opened})

        @component
        async def Use(file: In):
            file["log"].write("row;")
            file["log"].close()

        graph = Graph()
        graph.make, graph.use = Make, Use
        graph.make.file >> graph.use.file
        try:
            graph.run(num_workers=2)
        except SerializationError as error:
            print(error.node, error.port, error.type, "item['log'] is an open file" in str(error))
        print(Path("sent.txt").read_text())
        graph.run(engine="inline")
        print(Path("sent.txt").read_text())
        """
    )
    assert lines == ["make file TextIOWrapper True", "header;", "header;row;"]


def test_standard_streams_and_loggers_are_those_of_the_worker(script: Script) -> None:
    lines = script.prints(
        """
        import logging, sys
        from cascata import *

        OUT = sys.stdout
        TOLD = {"to": sys.stderr, "raw": sys.stdout.buffer}
        LOGGER = logging.getLogger("mine")

        @component
        async def Make(made: Out):
            await made.send(sys.stdout)

        @component
        async def Use(made: In, to: In = sys.stdout):
            assert to is OUT is made is sys.stdout and TOLD["to"] is sys.stderr and TOLD["raw"] is sys.stdout.buffer
            assert LOGGER is logging.getLogger("mine")
            print("here", file=to)

        graph = Graph()
        graph.make, graph.use = Make, Use
        graph.make.made >> graph.use.made
        graph.run(num_workers=2)
        """
    )
    assert lines == ["here"]


def test_what_processes_share_by_inheritance_is_inherited_by_fork(script: Script) -> None:
    lines = script.prints(
        """
        import multiprocessing
        from cascata import *

        QUEUE = multiprocessing.get_context("fork").SimpleQueue()

        @component
        async def Puts():
            QUEUE.put("put")

        graph = Graph()
        graph.puts = Puts
        graph.run(num_workers=1, start_method="fork")
        print(QUEUE.get())
        """
    )
    assert lines == ["put"]


def test_a_file_in_a_shared_channel_is_refused(tmp_path: Path) -> None:
    from cascata.errors import SerializationError
    from cascata.transport.shared.log import _dumps

    with (tmp_path / "kept.txt").open("w") as file, pytest.raises(SerializationError, match=r"the item\[1\] is an"):
        _dumps([1, file])
