"""Globals of a script that cannot be sent to a worker: they do no harm, and say so when they are used."""

from __future__ import annotations

import textwrap
from typing import Final

import pytest

from tests.programs import Script

LOCKED: Final = """
import socket, threading
from cascata import *

numbers = (number for number in range(3))
lock = threading.Lock()

def helper():
    return next(numbers)

@component
async def Uses(use: In[bool]):
    if use:
        helper()
    print("done")

graph = Graph()
graph.uses = Uses
"""


def test_a_global_that_cannot_be_sent_does_no_harm_as_long_as_it_is_not_used(script: Script) -> None:
    assert script.prints(LOCKED + "uses.use < False\ngraph.run()\n") == ["done"]


def test_a_global_that_cannot_be_sent_says_so_when_it_is_used(script: Script) -> None:
    done = script(
        LOCKED
        + textwrap.dedent("""
        from cascata.errors import *
        uses.use < True
        try:
            graph.run()
        except SerializationError as error:
            print(error)
        except ComponentError as error:
            print(repr(error.__cause__))
        """)
    )
    assert done.stderr == ""
    for part in ("SerializationError", "'numbers'", "generator", "@persist"):
        assert part in done.stdout


@pytest.mark.parametrize("use", ["graph.nodes", "uses", "graph.run()"])
def test_the_graph_itself_stays_at_home_and_says_so(script: Script, use: str) -> None:
    done = script(
        f"""
        from cascata import *

        @component
        async def Uses():
            print({use})

        graph = Graph()
        graph.uses = Uses
        graph.run()
        """
    )
    if use == "uses":
        assert "not sent" in done.stdout
    else:
        assert done.returncode == 1
        assert "graphs and nodes stay in the process that made them" in done.stderr


def test_what_can_be_sent_beside_what_cannot_is_sent(script: Script) -> None:
    lines = script.prints(
        """
        from cascata import *

        bad = (each for each in range(3))
        good = {"a": 1}

        class Holds:
            bad = bad
            good = good

        class Fine:
            pass

        @component
        async def Uses():
            print(good, Fine.__name__, "bad" in globals())
            if not good:
                print(bad, Holds)

        graph = Graph()
        graph.uses = Uses
        graph.run()
        """
    )
    assert lines == ["{'a': 1} Fine True"]


def test_a_large_global_that_nothing_reaches_is_not_sent(script: Script) -> None:
    lines = script.prints(
        """
        from cascata import *

        class Large:
            def __reduce__(self):
                raise SystemExit("was sent")

        large = Large()
        unused = [large]

        @component
        async def Uses():
            print("done")

        graph = Graph()
        graph.uses = Uses
        graph.run()
        """
    )
    assert lines == ["done"]
