"""What holds for every ready-made node: how it is declared, what its docstring tells, what loading it costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cascata import components
from cascata.dsl import Component

NODES: list[type[Component]] = [getattr(components, name) for name in components.__all__]
PAGE = Path(__file__).parents[2] / "docs" / "components.md"


@pytest.mark.parametrize("node", NODES, ids=lambda node: str(node.__name__))
def test_a_docstring_tells_every_port_and_shows_an_example(node: type[Component]) -> None:
    text = inspect.getdoc(node)
    assert text
    listed = re.search(r"^Args:\n(.*?)(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL)
    assert listed
    assert sorted(re.findall(r"^    (\w+): ", listed[1], re.MULTILINE)) == sorted(node.spec.parameters)
    assert re.search(rf"^    graph\.\w+ = {node.__name__}$", text, re.MULTILINE)


@pytest.mark.parametrize("node", NODES, ids=lambda node: str(node.__name__))
def test_ports_have_the_same_names_everywhere(node: type[Component]) -> None:
    assert [port.name for port in node.spec.outports] == ["out"]
    first = node.spec.inports[0].name
    assert first == "inp" or (first in {"path", "root"} and node.spec.options["thread"])


@pytest.mark.parametrize("node", NODES, ids=lambda node: str(node.__name__))
def test_the_page_about_the_ready_made_nodes_has_a_row_for_each(node: type[Component]) -> None:
    assert f"| `{node.__name__}` |" in PAGE.read_text("utf-8")


def test_cascata_alone_does_not_load_them() -> None:
    code = "import sys, cascata; print([name for name in sys.modules if name.startswith('cascata.components')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_all_is_exact_and_sorted() -> None:
    public = {name for name, value in vars(components).items() if isinstance(value, type)}
    assert components.__all__ == sorted(public)
