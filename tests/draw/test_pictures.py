"""What every picture of a graph shows, in SVG, Graphviz and Mermaid."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from cascata import Graph, In, Out, Stream, component, inport
from cascata.draw import svg, to_dot, to_mermaid
from cascata.errors import DefinitionError
from tests.draw.reading import hints, parsed, size, texts
from tests.serial.graphs import Collect, Join, Numbers, Scale, everything, graphs

Picture = Callable[..., str]
PICTURES = [svg, to_dot, to_mermaid]

some_graphs = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def one(kind: Any, name: str = "node") -> Graph:
    graph = Graph()
    graph.add(kind, name)
    return graph


# --- in all of them ---------------------------------------------------------------------------------


@some_graphs
@given(graphs())
def test_every_name_of_a_node_a_port_and_a_component_stands_in_the_picture(graph: Graph) -> None:
    spec = graph.resolve()
    names = {node.group or node.name for node in spec.nodes.values()} | spec.subgraphs.keys()
    names -= {name for name, each in spec.subgraphs.items() if not each.nodes}
    for node in spec.nodes.values():
        names |= {node.component.name, *node.inputs, *node.outputs}
    shown = texts(svg(spec))
    assert names <= {part for text in shown for part in [text, text.removesuffix(", ordered")]}
    for picture in (to_dot(spec), to_mermaid(spec)):
        assert names <= set(
            re.findall(r"\w+", picture.replace("out_", " ").replace("in_", " ")) + re.findall(r"\w+", picture)
        )


@pytest.mark.parametrize("draw", PICTURES)
def test_the_same_graph_gives_the_same_text(draw: Picture) -> None:
    plan = everything().shard(2)
    assert draw(everything().resolve()) == draw(everything().resolve())
    assert draw(everything().resolve(), plan) == draw(everything().resolve(), plan)


def test_the_same_graph_gives_the_same_text_in_another_process() -> None:
    code = "from tests.serial.graphs import everything; print(everything().draw(), end='')"
    shown = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert shown[0] == shown[1] == everything().draw()


@pytest.mark.parametrize("draw", PICTURES)
def test_drawing_does_not_change_the_graph(draw: Picture) -> None:
    graph = everything()
    before = graph.resolve()
    draw(graph.resolve())
    assert graph.resolve() == before


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("graph", [Graph(), one(Collect)], ids=["empty", "one node"])
def test_the_smallest_graphs_can_be_drawn(draw: Picture, graph: Graph) -> None:
    assert draw(graph.resolve())


@pytest.mark.parametrize("draw", PICTURES)
def test_a_plan_of_another_graph_is_refused(draw: Picture) -> None:
    plan = one(Collect, "other").shard(1)
    with pytest.raises(DefinitionError, match=r"not of this graph.*node, other are in one of them only"):
        draw(one(Collect).resolve(), plan)


@pytest.mark.parametrize("draw", PICTURES)
def test_a_value_that_cannot_show_itself_is_shown_by_its_type(draw: Picture) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    graph = one(Collect)
    graph.node.item.set(Shy())
    assert "Shy" in draw(graph.resolve())


@pytest.mark.parametrize("draw", PICTURES)
def test_a_graph_that_lacks_something_is_drawn_all_the_same(draw: Picture) -> None:
    assert "not fed" in draw(one(Collect).resolve())


# --- SVG --------------------------------------------------------------------------------------------


@some_graphs
@given(graphs())
def test_a_picture_is_xml_whatever_is_in_the_graph(graph: Graph) -> None:
    assert min(size(svg(graph.resolve()))) > 0


def test_special_characters_are_escaped() -> None:
    @component
    async def Tagged(text: In[str]) -> None:
        """Needs <b> & "quotes" and a \x00."""

    graph = one(Tagged)
    graph.node.text < '<&">'
    picture = svg(graph.resolve())
    assert "= '<&\">'" in texts(picture)
    assert any('<b> & "quotes"' in hint for hint in hints(picture))
    assert "&lt;&amp;" in picture


def test_names_that_are_not_latin_have_room() -> None:
    def width(name: str) -> float:
        return size(svg(one(Collect, name).resolve()))[0]

    assert width("处理所有传入的数据并将结果写入文件") > width("process_some_file") > width("proc")


def test_long_constants_are_cut_and_stand_whole_in_a_hint() -> None:
    graph = one(Collect)
    graph.node.item < "x" * 100
    picture = svg(graph.resolve())
    assert max(map(len, texts(picture))) < 40
    assert any("x" * 100 in hint for hint in hints(picture))


def test_hints_tell_type_capacity_and_documentation() -> None:
    graph = one(Numbers)
    graph.pool = Scale * 2
    graph.node.number >> graph.pool.value
    found = hints(svg(graph.resolve()))
    assert "value, capacity 7" in found
    assert "node.number → pool.value, capacity 7, each item to whichever member is free" in found
    assert any("Sends the numbers up to" in hint for hint in found)


def test_a_group_is_one_stack() -> None:
    graph = Graph()
    graph.pool = Scale * 12
    picture = svg(graph.resolve())
    assert texts(picture).count("pool") == 1
    assert "×12" in texts(picture)
    assert not any("pool_3" in text for text in texts(picture))


def test_what_is_special_about_a_connection_stands_on_it() -> None:
    graph = Graph()
    graph.numbers = Numbers
    graph.pool = Scale * 2
    graph.each = Scale * 3
    graph.lists = Collect
    graph.whole = Collect
    graph.numbers.number >> graph.pool.value
    graph.numbers.number.broadcast() >> graph.each.value
    graph.pool.result >> 3 >= graph.lists.item
    graph.pool_1.result.connect(graph.whole.item, batch="all")
    shown = texts(svg(graph.resolve()))
    assert {"broadcast", "[3]", "[all] from pool_1"} <= set(shown)
    assert sum("broadcast" in text for text in shown) == 1


def test_groups_of_one_size_are_linked_once() -> None:
    graph = Graph()
    graph.one = Scale * 4
    graph.two = Scale * 4
    graph.one.result >> graph.two.value
    picture = svg(graph.resolve())
    assert picture.count('class="cascata-link"') == 1
    assert any("member to member" in hint for hint in hints(picture))


def test_members_that_were_wired_one_by_one_are_told_apart() -> None:
    graph = Graph()
    graph.numbers = Numbers
    graph.pool = Scale * 3
    graph.numbers.number >> graph.pool_0.value
    graph.numbers.number >> graph.pool_2.value
    assert {"to pool_0", "to pool_2"} <= set(texts(svg(graph.resolve())))


def test_ports_show_how_they_trigger() -> None:
    graph = Graph()
    graph.numbers = Numbers
    graph.meet = Join
    for port in (graph.meet.left, graph.meet.right, graph.meet.config):
        graph.numbers.number >> port
    plain = svg(graph.resolve())
    assert 'class="cascata-sign"' not in plain
    graph.meet.clk("left")
    graph.meet.right < 3
    picture = svg(graph.resolve())
    assert picture.count('class="cascata-sign"') == 1
    assert picture.count("cascata-wire cascata-sampled") == 2
    assert {"first 3, sampled", "sampled"} <= set(texts(picture))
    assert 'class="cascata-sign"' in svg(synchronised().resolve())


def synchronised() -> Graph:
    graph = Graph()
    graph.numbers = Numbers
    graph.meet = Join
    for port in (graph.meet.left, graph.meet.right, graph.meet.config):
        graph.numbers.number >> port
    graph.meet.sync("left", "right")
    return graph


def test_a_port_that_the_runner_reads_says_so() -> None:
    @component
    async def Read(items: Stream[int], total: Out[int]) -> None:
        """Reads its stream itself."""

    graph = one(Numbers, "numbers")
    graph.read = Read
    graph.numbers.number >> graph.read.items
    assert "stream" in texts(svg(graph.resolve()))


def test_a_frame_shows_its_name_and_the_names_of_its_ports() -> None:
    shown = texts(everything().draw())
    assert {"one", "two", "two_part"} <= set(shown)
    assert "counted" in shown


def test_a_plan_gives_colours_numbers_and_a_legend() -> None:
    graph = everything()
    picture = graph.draw(plan=graph.shard(2))
    assert {"worker 0", "worker 1", "0", "1"} <= set(texts(picture))
    assert picture == graph.draw(num_workers=2)
    assert picture != graph.draw()


def test_many_workers_do_not_make_the_picture_wider_than_a_screen() -> None:
    graph = one(Scale * 64)
    assert size(graph.draw(num_workers=64))[0] < 800


def test_pictures_are_made_for_light_and_dark_pages() -> None:
    assert "prefers-color-scheme:dark" in everything().draw()


# --- Graphviz and Mermaid ---------------------------------------------------------------------------


@some_graphs
@given(graphs())
def test_a_graphviz_text_is_balanced(graph: Graph) -> None:
    text = to_dot(graph.resolve())
    assert text.startswith("digraph cascata {\n")
    unquoted = re.sub(r'"(?:\\.|[^"\\])*"', '""', re.sub(r"label=<.*>\];", "];", text))
    assert unquoted.count("{") == unquoted.count("}") > 0
    assert '"' not in unquoted.replace('""', "")
    for label in re.findall(r"label=<(.*)>\];", text):
        parsed(label)


def test_a_graphviz_text_links_ports() -> None:
    graph = one(Numbers, "numbers")
    graph.show = Collect
    graph.numbers >> graph.show
    assert '"numbers":"out_number":e -> "show":"in_item":w [' in to_dot(graph.resolve())


@some_graphs
@given(graphs())
def test_a_mermaid_text_has_only_lines_that_mermaid_knows(graph: Graph) -> None:
    label = r'"(?:\w|[ .,:=+\-*/×→…()\']|#\d+;|</?b>|<br/>)*"'
    known = re.compile(
        rf"flowchart LR|n\d+(\[{label}\]|\[\[{label}\]\])|subgraph s\d+\[{label}\]|direction LR|end|"
        rf"n\d+ (-->|-\.->)\|{label}\| n\d+"
    )
    lines = to_mermaid(graph.resolve()).splitlines()
    assert [line for line in lines if not known.fullmatch(line.strip())] == []
    assert sum(line.strip().startswith("subgraph") for line in lines) == sum(line.strip() == "end" for line in lines)


def test_a_mermaid_text_is_not_broken_by_names_that_mermaid_uses() -> None:
    @component
    @inport("end", default='say "hi" #1 `x` <b>')
    async def graph_(end: Any) -> None:
        """Has the names that break flowcharts."""

    text = to_mermaid(one(graph_, "end").resolve())
    assert 'n0["<b>end</b><br/>graph_<br/>end = #39;' in text or "n0[\"<b>end</b><br/>graph_<br/>end = 'say" in text
    assert "`" not in text
    assert "#34;hi#34;" in text
