"""Names of nodes as names of the module or notebook: there and nowhere else, and never over anything else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

from cascata.dsl import Graph
from cascata.errors import CascataWarning

from .nodes import Double, Source

START = """
from cascata.dsl import Graph
from tests.dsl.nodes import Double, Show, Source
"""


def cell(code: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs code as a notebook runs a cell: with one dict for all names."""
    names = {} if names is None else names
    exec(textwrap.dedent(START + textwrap.dedent(code)), names)  # noqa: S102 - that is what a notebook does
    return names


def test_names_are_injected_where_the_graph_was_made() -> None:
    names = cell(
        """
        graph = Graph()
        graph.source = Source
        graph.work = Double * 2
        source.n < 3
        source.out >> work.x
        """
    )
    assert names["source"] is names["graph"].source
    assert names["work"] is names["graph"].work
    assert "work_0" not in names
    assert len(names["graph"].edges) == 1


def test_a_script_finds_the_names(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        START
        + textwrap.dedent(
            """
            graph = Graph()
            graph.arange = Source
            graph.show = Show
            arange.n < 10
            arange.out >> show.data
            print(sorted(graph.nodes), graph.edges[0].source, arange is graph.arange)
            """
        )
    )
    shown = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=True)
    assert shown.stdout == "['arange', 'show'] arange.out True\n"


def test_a_subgraph_is_injected_too() -> None:
    names = cell("inner = Graph()\ninner.add(Double, 'double')\ngraph = Graph()\ngraph.sub = inner")
    assert names["sub"] is names["graph"].sub


def test_add_injects_no_name() -> None:
    names = cell("graph = Graph()\nnode = graph.add(Source, 'source')")
    assert "source" not in names


def test_nothing_is_injected_inside_of_a_function() -> None:
    names = cell(
        """
        def build():
            graph = Graph()
            graph.source = Source
            return graph
        graph = build()
        """
    )
    assert "source" not in names


def test_nothing_is_injected_when_only_the_graph_was_made_at_the_top() -> None:
    names = cell(
        """
        graph = Graph()
        def fill():
            graph.source = Source
        fill()
        """
    )
    assert "source" not in names


def test_nothing_is_injected_when_only_the_assignment_stands_at_the_top() -> None:
    names = cell(
        """
        def make():
            return Graph()
        graph = make()
        graph.source = Source
        """
    )
    assert "source" not in names


def test_nothing_is_injected_into_another_module() -> None:
    graph = cell("graph = Graph()")["graph"]
    names: dict[str, Any] = {"graph": graph}
    cell("graph.source = Source", names)
    assert "source" not in names
    assert "source" in graph.nodes


def test_nothing_is_injected_in_the_body_of_a_class() -> None:
    names = cell(
        """
        class Pipeline:
            graph = Graph()
            graph.source = Source
        """
    )
    assert "source" not in names
    assert not hasattr(names["Pipeline"], "source")


def test_a_cell_can_run_again() -> None:
    code = "graph = Graph()\ngraph.source = Source\ngraph.work = Double * 2\nsource.out >> work.x"
    names = cell(code)
    first = names["source"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cell(code, names)
    assert names["source"] is names["graph"].source
    assert names["source"] is not first


@pytest.mark.parametrize("present", [1, None, [], Source, type("Odd", (), {"__eq__": lambda *_: 1 / 0})()])
def test_a_name_in_use_is_left_with_a_warning(present: Any) -> None:
    names = {"source": present}
    with pytest.warns(CascataWarning, match=r"the name 'source' is in use here.*left as it is.*`graph.source`") as seen:
        cell("graph = Graph()\ngraph.source = Source", names)
    assert names["source"] is present
    assert "source" in names["graph"].nodes
    assert seen[0].filename == "<string>"


def test_another_name_for_a_node_is_a_name_in_use() -> None:
    names = cell("graph = Graph()\ngraph.source = Source\nother = source")
    with pytest.warns(CascataWarning, match="the name 'other' is in use here"):
        cell("graph.other = Double", names)
    assert names["other"] is names["graph"].source


def test_a_builtin_is_left_with_a_warning() -> None:
    with pytest.warns(CascataWarning, match=r"'print' is a builtin of Python and was left as it is.*`graph.print`"):
        names = cell("graph = Graph()\ngraph.print = Source")
    assert "print" not in names


def test_a_graph_in_a_function_needs_no_names() -> None:
    graph = Graph()
    graph.source = Source
    graph.double = Double
    graph.source >> graph.double
    assert "source" not in globals()
    assert len(graph.edges) == 1
