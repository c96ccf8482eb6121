"""Connecting: ports, nodes, groups, batches, broadcasts; types; and every connection that is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cascata.dsl import Graph, In, Out, component
from cascata.errors import DefinitionError

from .nodes import Double, Show, Source, Three, Words


@pytest.fixture
def graph() -> Graph:
    graph = Graph()
    graph.source = Source
    graph.double = Double
    graph.show = Show
    graph.three = Three
    graph.words = Words
    return graph


def edges(graph: Graph) -> list[str]:
    return [f"{edge.source} {edge.batch or '>>'} {edge.target}" for edge in graph.edges]


# --- ports ------------------------------------------------------------------------------------------


def test_connecting_gives_the_out_port_back_and_fans_out(graph: Graph) -> None:
    out = graph.double.y >> graph.show.data >> graph.three.a
    assert out is graph.double.y
    assert edges(graph) == ["double.y >> show.data", "double.y >> three.a"]


def test_connect_is_the_same_as_the_operator(graph: Graph) -> None:
    assert graph.double.y.connect(graph.show.data) is graph.double.y
    assert edges(graph) == ["double.y >> show.data"]


def test_several_out_ports_may_feed_one_in_port(graph: Graph) -> None:
    graph.double.y >> graph.show.data
    graph.source.out >> graph.show.data
    assert edges(graph) == ["double.y >> show.data", "source.out >> show.data"]


def test_a_node_may_feed_itself(graph: Graph) -> None:
    graph.double.y >> graph.double.x
    assert edges(graph) == ["double.y >> double.x"]


def test_the_same_connection_twice_is_refused(graph: Graph) -> None:
    graph.double.y >> graph.show.data
    with pytest.raises(DefinitionError, match=r"double.y is connected to show.data already.*every item twice"):
        graph.double.y >> graph.show.data
    with pytest.raises(DefinitionError, match=r"`double.y >>= show.data`: double.y is connected to show.data already"):
        graph.double.y >>= graph.show.data
    assert len(graph.edges) == 1


def test_ports_of_two_graphs_are_not_connected(graph: Graph) -> None:
    other = Graph()
    other.show = Show
    with pytest.raises(DefinitionError, match=r"`double.y >> show.data` connects two graphs.*`graph.sub = other`"):
        graph.double.y >> other.show.data
    with pytest.raises(DefinitionError, match="connects two graphs"):
        graph.double >> other.show
    assert edges(graph) == []


# --- batches ----------------------------------------------------------------------------------------


def test_everything_in_one_list_through_attributes(graph: Graph) -> None:
    graph.double.y >>= graph.show.data
    assert edges(graph) == ["double.y all show.data"]


def test_everything_in_one_list_through_bare_names(graph: Graph) -> None:
    out, inp = graph.double.y, graph.show.data
    out >>= inp
    assert out is graph.double.y
    assert edges(graph) == ["double.y all show.data"]


def test_everything_in_one_list_from_a_group(graph: Graph) -> None:
    graph.group = Double * 3
    graph.group.y >>= graph.show.data
    assert edges(graph) == ["group.y all show.data"]


def test_lists_of_so_many(graph: Graph) -> None:
    statement = graph.double.y >> 3 >= graph.show.data
    assert repr(statement) == "double.y >> 3 >= show.data"
    assert edges(graph) == ["double.y 3 show.data"]


def test_batches_by_method(graph: Graph) -> None:
    assert graph.double.y.connect(graph.show.data, batch=3) is graph.double.y
    assert graph.source.out.connect(graph.show.data, batch="all") is graph.source.out
    assert edges(graph) == ["double.y 3 show.data", "source.out all show.data"]


@pytest.mark.parametrize("batch", [0, -1, 2.5, True, "every"])
def test_a_batch_is_a_number_or_all(graph: Graph, batch: Any) -> None:
    with pytest.raises(DefinitionError, match=r"double.y to show.data: a batch is a whole number.*or 'all', not "):
        graph.double.y.connect(graph.show.data, batch=batch)


def test_a_batch_that_is_never_finished_is_named_when_the_graph_resolves(graph: Graph) -> None:
    graph.double.y >> 3
    with pytest.raises(DefinitionError, match=r"`double.y >> 3` connects nothing: write `double.y >> 3 >= inp`"):
        graph.resolve()


def test_a_batch_goes_to_a_node_with_one_free_in_port(graph: Graph) -> None:
    graph.double.y >> 3 >= graph.show
    graph.three.a < 1
    graph.source.out >>= graph.three
    assert edges(graph) == ["double.y 3 show.data", "source.out all three.b"]


# --- nodes ------------------------------------------------------------------------------------------


def test_a_chain_of_nodes(graph: Graph) -> None:
    graph.source.n < 3
    assert (graph.source >> graph.double >> graph.show) is graph.show
    assert edges(graph) == ["source.out >> double.x", "double.y >> show.data"]


def test_an_out_port_into_a_node_gives_the_node_back(graph: Graph) -> None:
    assert (graph.source.out >> graph.double) is graph.double
    assert graph.double.y.connect(graph.show) is graph.show
    assert edges(graph) == ["source.out >> double.x", "double.y >> show.data"]


def test_several_free_in_ports_are_listed(graph: Graph) -> None:
    with pytest.raises(
        DefinitionError, match=r"`double >> three`: three \(Three\) has 2 free in-ports, three.a, three.b"
    ):
        graph.double >> graph.three


def test_a_constant_a_default_and_a_connection_take_a_port_out(graph: Graph) -> None:
    graph.three.a < 1
    graph.double >> graph.three
    assert edges(graph) == ["double.y >> three.b"]
    with pytest.raises(DefinitionError, match=r"three \(Three\) has no free in-port. three.a, three.b, three.c: all"):
        graph.source.out >> graph.three


def test_several_free_out_ports_are_listed(graph: Graph) -> None:
    with pytest.raises(DefinitionError, match=r"three \(Three\) has 2 free out-ports, three.out, three.rest. Name one"):
        graph.three >> graph.show
    graph.three.out >> graph.show
    graph.three >> graph.double
    assert edges(graph) == ["three.out >> show.data", "three.rest >> double.x"]


def test_a_node_without_free_or_any_out_port_says_so(graph: Graph) -> None:
    graph.double.y >> graph.show.data
    with pytest.raises(
        DefinitionError, match=r"`double >> words`: double \(Double\) has no free out-port. double.y: all"
    ):
        graph.double >> graph.words
    with pytest.raises(DefinitionError, match=r"`show >> double`: show \(Show\) has no out-port"):
        graph.show >> graph.double


# --- groups -----------------------------------------------------------------------------------------


def wires(graph: Graph) -> dict[str, tuple[list[str], list[str]]]:
    """Channel to its writers and its readers."""
    spec = graph.resolve()
    return {
        channel.name: (
            [str(spec.edges[edge].source) for edge in channel.edges],
            [str(each) for each in channel.readers],
        )
        for channel in spec.channels
    }


def test_a_group_takes_from_one_shared_stream(graph: Graph) -> None:
    graph.group = Double * 2
    graph.source.out >> graph.group.x
    assert wires(graph) == {"group.x": (["source.out"], ["group_0.x", "group_1.x"])}


def test_several_sources_of_a_group_are_merged_into_its_stream(graph: Graph) -> None:
    graph.group = Double * 2
    graph.source.out >> graph.group.x
    graph.double.y >> graph.group.x
    assert wires(graph) == {"group.x": (["source.out", "double.y"], ["group_0.x", "group_1.x"])}


def test_the_members_of_a_group_are_merged_into_one_in_port(graph: Graph) -> None:
    graph.group = Double * 2
    graph.group.y >> graph.show.data
    assert wires(graph) == {"show.data": (["group_0.y", "group_1.y"], ["show.data"])}


def test_groups_of_the_same_size_are_wired_member_to_member(graph: Graph) -> None:
    graph.first = Double * 2
    graph.second = Double * 2
    graph.first >> graph.second
    assert wires(graph) == {
        "second_0.x": (["first_0.y"], ["second_0.x"]),
        "second_1.x": (["first_1.y"], ["second_1.x"]),
    }


def test_groups_of_other_sizes_share_one_stream(graph: Graph) -> None:
    graph.first = Double * 2
    graph.second = Double * 3
    graph.first.y >> graph.second.x
    assert wires(graph) == {
        "second.x": (["first_0.y", "first_1.y"], ["second_0.x", "second_1.x", "second_2.x"]),
    }


def test_a_member_may_have_an_edge_of_its_own_beside_the_shared_stream(graph: Graph) -> None:
    graph.group = Double * 2
    graph.source.out >> graph.group.x
    graph.double.y >> graph.group_1.x
    assert wires(graph) == {
        "group.x": (["source.out"], ["group_0.x", "group_1.x"]),
        "group_1.x": (["double.y"], ["group_1.x"]),
    }
    assert graph.resolve().nodes["group_1"].inputs["x"].channels == (0, 1)


def test_a_member_that_is_wired_through_its_group_is_not_wired_again(graph: Graph) -> None:
    graph.first = Double * 2
    graph.second = Double * 2
    graph.first.y >> graph.second.x
    with pytest.raises(DefinitionError, match=r"first_0.y is connected to second_0.x already"):
        graph.first_0.y >> graph.second_0.x


def test_a_broadcast_gives_every_member_a_channel_of_its_own(graph: Graph) -> None:
    graph.group = Double * 2
    graph.source.out.broadcast() >> graph.group.x >> graph.three.a
    assert wires(graph) == {
        "group_0.x": (["source.out"], ["group_0.x"]),
        "group_1.x": (["source.out"], ["group_1.x"]),
        "three.a": (["source.out"], ["three.a"]),
    }
    assert [edge.broadcast for edge in graph.edges] == [True, True]


def test_a_broadcast_to_a_group_as_a_node_gives_the_group_back(graph: Graph) -> None:
    graph.group = Double * 2
    assert (graph.source.out.broadcast() >> graph.group) is graph.group


def test_a_groups_port_is_free_when_it_is_so_on_every_member(graph: Graph) -> None:
    graph.group = Double * 2
    graph.group_1.x < 1
    with pytest.raises(DefinitionError, match=r"group \(Double \* 2\) has no free in-port. group.x: all connected, or"):
        graph.source.out >> graph.group


def test_a_batched_connection_has_a_channel_of_its_own(graph: Graph) -> None:
    graph.group = Double * 2
    graph.source.out >> graph.show.data
    graph.double.y >> 3 >= graph.show.data
    graph.group.y >>= graph.show.data
    assert wires(graph) == {
        "show.data": (["source.out"], ["show.data"]),
        "show.data (3 at a time of double.y)": (["double.y"], ["show.data"]),
        "show.data (all of group.y)": (["group_0.y", "group_1.y"], ["show.data"]),
    }
    assert [edge.batch for edge in graph.resolve().edges] == [None, 3, "all", "all"]


# --- types ------------------------------------------------------------------------------------------


def test_types_that_do_not_fit_are_named_with_both_ports(graph: Graph) -> None:
    with pytest.raises(TypeError) as raised:
        graph.double.y >> graph.words.word
    assert isinstance(raised.value, DefinitionError)
    assert str(raised.value) == "`double.y >> words.word`: double.y sends int, and words.word takes str."
    assert graph.edges == ()


def test_types_are_checked_between_nodes_and_groups(graph: Graph) -> None:
    graph.group = Words * 2
    with pytest.raises(TypeError, match=r"double.y sends int, and group.word takes str"):
        graph.double >> graph.group


def test_types_of_batches_are_lists(graph: Graph) -> None:
    @component
    async def Total(numbers: In[list[int]], total: Out[int]) -> None: ...

    graph.total = Total
    graph.double.y >>= graph.total.numbers
    with pytest.raises(TypeError, match=r"source.out sends list\[int\] in batches, and double.x takes int"):
        graph.source.out >> 2 >= graph.double.x


def test_a_list_of_batched_items_may_be_taken_as_a_list_of_something_wider(graph: Graph) -> None:
    """Nobody else holds that list, so nobody can put something else into it."""

    @component
    async def Mean(numbers: In[list[float]]) -> None: ...

    graph.mean = Mean
    graph.double.y.connect(graph.mean.numbers, batch=3)
    with pytest.raises(TypeError, match=r"words.text sends list\[str\] in batches, and mean.numbers takes list"):
        graph.words.text.connect(graph.mean.numbers, batch=3)


def test_a_port_without_a_type_takes_and_gives_everything(graph: Graph) -> None:
    graph.double.y >> graph.show.data
    graph.three.out >> graph.words.word
    assert len(graph.edges) == 2


# --- reprs ------------------------------------------------------------------------------------------


def test_ports_show_their_types_values_and_connections(graph: Graph) -> None:
    graph.source.n < 3
    graph.source >> graph.double
    assert repr(graph.source.n) == "<in-port source.n: int, capacity 100, constant 3>"
    assert repr(graph.source.out) == "<out-port source.out: int, source.out >> double.x>"
    assert repr(graph.three.c) == "<in-port three.c, capacity 100, default 3>"
    assert repr(graph.three.seen) == "<state three.seen: dict>"
    assert str(graph.source.n) == "source.n"


def test_a_groups_port_shows_the_constants_of_its_members() -> None:
    graph = Graph()
    graph.group = Double * 2
    graph.group.x < 1
    assert repr(graph.group.x) == "<in-port group.x: int, capacity 100, constant 1>"
    graph.group_1.x < 2
    assert repr(graph.group.x) == "<in-port group.x: int, capacity 100, constant 1, 2>"
