"""Pictures in files and in notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cascata import Graph
from cascata.errors import CascataError, DefinitionError
from tests.draw.reading import parsed
from tests.serial.graphs import everything

ROOT = Path(__file__).parents[2]


def test_an_svg_is_written_and_given_back(tmp_path: Path) -> None:
    file = tmp_path / "graph.svg"
    picture = everything().draw(file)
    assert file.read_text("utf-8") == picture == everything().draw(str(file))
    parsed(picture)


def test_a_png_is_written(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    file = tmp_path / "graph.PNG"
    everything().draw(file)
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_the_package_for_png_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(CascataError, match=r"graph.png.*pip install 'cascata\[draw\]'.*SVG needs nothing"):
        everything().draw(tmp_path / "graph.png")
    assert not (tmp_path / "graph.png").exists()


def test_without_a_font_a_png_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    monkeypatch.setattr("cascata.draw.files._has_fonts", lambda: False)
    with pytest.raises(CascataError, match="a PNG would have no text"):
        everything().draw(tmp_path / "graph.png")


@pytest.mark.parametrize("name", ["graph.gif", "graph", ".svg"])
def test_another_kind_of_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"written as \.svg or \.png.*to_dot.*to_mermaid"):
        everything().draw(tmp_path / name)


def test_a_plan_and_a_number_of_workers_are_one_too_many() -> None:
    graph = everything()
    plan = graph.shard(2)
    for draw in (graph.draw, graph.to_dot, graph.to_mermaid):
        with pytest.raises(DefinitionError, match=r"a plan, or num_workers.*not both"):
            draw(plan=plan, num_workers=2)


def test_a_drawing_is_short_in_a_prompt_and_whole_as_a_text() -> None:
    picture = everything().draw()
    assert len(repr(picture)) < 80
    assert str(picture).startswith("<svg ")
    assert picture._repr_svg_() == str(picture)


def test_a_notebook_shows_a_graph() -> None:
    assert everything()._repr_svg_() == str(everything().draw())


def test_a_notebook_shows_the_text_of_a_graph_that_is_half_a_line_short() -> None:
    graph = everything()
    graph.pool.result >> 3
    assert graph._repr_svg_() is None
    with pytest.raises(DefinitionError, match="connects nothing"):
        graph.draw()


def test_drawing_loads_nothing_heavy() -> None:
    code = (
        "import sys; from tests.serial.graphs import everything; everything().draw(); "
        "print(sorted({'networkx', 'numpy', 'rich', 'dill'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


def test_the_pictures_of_the_pages_are_what_their_code_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "make_pictures.py", tmp_path], check=True, capture_output=True)
    kept = ROOT / "docs" / "img"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(each.name for each in kept.glob("*.svg"))
    for each in tmp_path.iterdir():
        assert each.read_text("utf-8") == (kept / each.name).read_text("utf-8"), "run docs/make_pictures.py"


def test_functions_are_drawn_by_their_names_and_nothing_by_its_address() -> None:
    graph = everything()
    graph.numbers.count.set(lambda: 1)
    graph.pool.factor.set(parsed)
    other = graph.copy()
    other.numbers.count.set(lambda: 1)
    assert "= parsed" in (picture := str(graph.draw()))
    assert "= &lt;lambda&gt;" in picture
    assert str(other.draw()) == picture
    graph.numbers.count.set(object())
    other.numbers.count.set(object())
    assert str(other.draw()) == str(graph.draw())


def test_a_graph_for_networkx_has_every_way_of_an_item() -> None:
    graph = everything()
    spec = graph.resolve()
    network = graph.to_networkx()
    assert list(network.nodes) == list(spec.nodes)
    ways = sum(len(spec.channels[edge.channel].readers) for edge in spec.edges)
    assert network.number_of_edges() == ways
    assert network.nodes["two_part_scale_1"]["subgraphs"] == ("two", "two_part")
    assert network.nodes["pool_1"] | {"constants": {}} == {
        "component": "Scale",
        "module": "tests.serial.graphs",
        "group": "pool",
        "member": 1,
        "constants": {},
        "seeds": {},
        "subgraphs": (),
        "worker": None,
    }
    assert network.nodes["numbers"]["worker"] == 0
    assert network.nodes["two_besides"]["seeds"] == {"value": -1}
    assert network.get_edge_data("two_tally", "collect")[0] == {
        "source_port": "counted",
        "target_port": "item",
        "batch": 2,
        "capacity": 100,
        "channel": spec.nodes["collect"].inputs["item"].channels[1],
    }


def test_an_empty_graph_is_an_empty_network() -> None:
    assert len(Graph().to_networkx()) == 0
