"""From what was written to the frozen `GraphSpec`."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given, strategies

from cascata import Graph, In, Out, State, component
from cascata.errors import DefinitionError
from cascata.model import MISSING, ChannelSpec, EdgeSpec, Endpoint, InputSpec, StateArgs

from .nodes import Double, Show, Source, Three


@component
async def Five(a: In[int], b: In[int], c: In[int], d: In[int] = 4, e: In[int] = 5) -> None: ...


@pytest.fixture
def graph() -> Graph:
    graph = Graph()
    graph.source = Source
    graph.five = Five
    return graph


def feed(graph: Graph, *ports: str) -> None:
    for port in ports:
        graph.source.out >> getattr(graph.five, port)


def five(graph: Graph) -> tuple[Any, Any]:
    node = graph.resolve().nodes["five"]
    return node.triggers, node.sampled


# --- the whole --------------------------------------------------------------------------------------


def test_a_pipeline_resolves_into_nodes_channels_and_edges() -> None:
    graph = Graph()
    graph.source = Source
    graph.double = Double
    graph.show = Show
    graph.source.n < 10
    graph.source.out >> graph.double.x
    graph.double.y >> graph.show.data
    spec = graph.resolve()
    assert list(spec.nodes) == ["source", "double", "show"]
    assert spec.nodes["source"].inputs["n"] == InputSpec(Source.spec.inports[0], constant=10)
    assert spec.nodes["source"].outputs["out"].edges == (0,)
    assert spec.nodes["double"].inputs["x"].channels == (0,)
    assert spec.nodes["show"].component is Show.spec
    assert spec.channels == (
        ChannelSpec(0, "double.x", 100, (Endpoint("double", "x"),), (0,)),
        ChannelSpec(1, "show.data", 10, (Endpoint("show", "data"),), (1,)),
    )
    assert spec.edges == (EdgeSpec(0, Endpoint("source", "out"), 0), EdgeSpec(1, Endpoint("double", "y"), 1))
    assert spec.groups == {}
    assert spec.pins == {}


def test_resolving_changes_nothing_and_later_changes_do_not_reach_it(graph: Graph) -> None:
    feed(graph, "a")
    first, again = graph.resolve(), graph.resolve()
    assert first == again
    feed(graph, "b")
    graph.five.c < 1
    graph.five.clk("a")
    graph.pin("five", 1)
    assert first == again
    assert graph.resolve() != first


def test_the_spec_is_frozen_and_picklable(graph: Graph) -> None:
    spec = graph.resolve()
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.edges = ()  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_groups_know_their_members_and_members_their_place() -> None:
    graph = Graph()
    graph.work = Double * 3
    spec = graph.resolve()
    assert spec.groups == {"work": ("work_0", "work_1", "work_2")}
    assert [(node.group, node.member) for node in spec.nodes.values()] == [("work", 0), ("work", 1), ("work", 2)]


def test_pins_are_kept() -> None:
    graph = Graph()
    graph.source = Source
    graph.work = Double * 2
    graph.pin(graph.source, 1)
    graph.pin("work", 0)
    assert graph.resolve().pins == {"source": 1, "work_0": 0, "work_1": 0}


# --- constants, defaults, seeds ---------------------------------------------------------------------


def test_a_constant_is_taken_by_reference(graph: Graph) -> None:
    value = [1, 2, 3]
    graph.five.a < value
    assert graph.resolve().nodes["five"].inputs["a"].constant is value


def test_a_constant_may_be_none(graph: Graph) -> None:
    graph.five.a.set(None)
    assert graph.resolve().nodes["five"].inputs["a"].constant is None


def test_the_last_constant_counts(graph: Graph) -> None:
    graph.five.a < 1
    graph.five.a < 2
    assert graph.resolve().nodes["five"].inputs["a"].constant == 2


def test_a_default_is_a_constant_until_something_replaces_it(graph: Graph) -> None:
    assert graph.resolve().nodes["five"].inputs["d"].constant == 4
    graph.five.d < 40
    assert graph.resolve().nodes["five"].inputs["d"].constant == 40


def test_a_connection_replaces_a_default(graph: Graph) -> None:
    feed(graph, "d")
    fed = graph.resolve().nodes["five"].inputs["d"]
    assert (fed.constant, fed.seed, fed.channels) == (MISSING, MISSING, (0,))


@pytest.mark.parametrize("value_first", [True, False])
def test_a_value_on_a_connected_port_is_delivered_first(graph: Graph, value_first: bool) -> None:
    if value_first:
        graph.five.a < 7
    feed(graph, "a")
    if not value_first:
        graph.five.a < 7
    fed = graph.resolve().nodes["five"].inputs["a"]
    assert (fed.constant, fed.seed, fed.channels) == (MISSING, 7, (0,))
    assert "a" in graph.resolve().nodes["five"].triggers[0]


def test_a_groups_constant_goes_to_every_member() -> None:
    graph = Graph()
    graph.work = Three * 2
    graph.work.a < 1
    graph.work_1.a < 2
    nodes = graph.resolve().nodes
    assert [nodes[name].inputs["a"].constant for name in ("work_0", "work_1")] == [1, 2]


def test_an_in_port_that_nothing_feeds_stays_for_the_check(graph: Graph) -> None:
    fed = graph.resolve().nodes["five"].inputs["a"]
    assert (fed.constant, fed.seed, fed.channels) == (MISSING, MISSING, ())


# --- triggers ---------------------------------------------------------------------------------------


def test_without_clk_and_sync_all_ports_without_a_constant_are_zipped(graph: Graph) -> None:
    feed(graph, "a", "b", "e")
    graph.five.c < 1
    assert five(graph) == ((("a", "b", "e"),), ())


def test_a_node_with_constants_only_runs_once(graph: Graph) -> None:
    for port in (graph.five.a, graph.five.b, graph.five.c):
        port < 1
    assert five(graph) == ((), ())


def test_clk_lets_each_port_trigger_and_samples_the_others(graph: Graph) -> None:
    feed(graph, "a", "b", "c")
    graph.five.clk(graph.five.a, graph.five.b)
    assert five(graph) == ((("a",), ("b",)), ("c",))


def test_sync_zips_its_ports_and_samples_the_others(graph: Graph) -> None:
    feed(graph, "a", "b", "c", "d")
    graph.five.sync(graph.five.a, graph.five.b)
    assert five(graph) == ((("a", "b"),), ("c", "d"))


@pytest.mark.parametrize("in_one_call", [True, False])
def test_several_groups_may_be_named(graph: Graph, in_one_call: bool) -> None:
    feed(graph, "a", "b", "c", "d")
    if in_one_call:
        graph.five.sync((graph.five.a, "b"), ("c", "d"))
    else:
        graph.five.sync("a", "b")
        graph.five.sync(graph.five.c, graph.five.d)
    assert five(graph) == ((("a", "b"), ("c", "d")), ())


def test_clk_and_sync_go_together(graph: Graph) -> None:
    feed(graph, "a", "b", "c")
    graph.five.clk("c")
    graph.five.sync("a", "b")
    assert five(graph) == ((("c",), ("a", "b")), ())


def test_a_constant_in_a_group_lets_the_others_decide(graph: Graph) -> None:
    feed(graph, "a", "b")
    graph.five.c < 1
    graph.five.sync("a", "c", "d")
    assert five(graph) == ((("a",),), ("b",))


def test_a_group_of_constants_stays_for_the_check(graph: Graph) -> None:
    feed(graph, "a", "b", "c")
    graph.five.clk("d")
    assert five(graph) == ((("d",),), ("a", "b", "c"))


def test_what_is_said_to_a_group_holds_for_every_member() -> None:
    graph = Graph()
    graph.work = Three * 2
    graph.work.sync(graph.work.a)
    assert [node.triggers for node in graph.resolve().nodes.values()] == [(("a",),), (("a",),)]


@pytest.mark.parametrize("method", ["clk", "sync"])
def test_a_trigger_is_an_in_port_of_the_node(graph: Graph, method: str) -> None:
    trigger = getattr(graph.five, method)
    with pytest.raises(DefinitionError, match=rf"five.{method}\(source.out\): not an in-port of five \(Five\).*five.a"):
        trigger(graph.source.out)
    with pytest.raises(DefinitionError, match=rf"five.{method}\(source.n\): not an in-port of five"):
        trigger(graph.source.n)
    with pytest.raises(DefinitionError, match=rf"five.{method}\('aa'\): not an in-port of five.*Did you mean 'a'"):
        trigger("aa")
    with pytest.raises(DefinitionError, match=rf"five.{method}\(5\): not an in-port"):
        trigger(5)
    with pytest.raises(DefinitionError, match=rf"five.{method}\(...\) names in-ports.*has: five.a, five.b"):
        trigger()
    assert five(graph)[0] == (("a", "b", "c"),)


def test_a_port_triggers_once(graph: Graph) -> None:
    with pytest.raises(DefinitionError, match=r"five.sync\(...\): five.a triggers the runner already"):
        graph.five.sync("a", "a")
    graph.five.clk("a")
    with pytest.raises(DefinitionError, match=r"five.sync\(...\): five.a triggers the runner already"):
        graph.five.sync("a", "b")


def test_ports_and_groups_are_not_mixed(graph: Graph) -> None:
    with pytest.raises(
        DefinitionError, match=r"five.sync\(...\) mixes ports and groups of ports. Write `five.sync\(p, q"
    ):
        graph.five.sync("a", ("b", "c"))


# --- state ------------------------------------------------------------------------------------------


def pair(first: int, second: int = 0) -> tuple[int, int]:
    return first, second


@component
async def Keeps(x: In[int], kept: State[tuple[int, int]] = State(pair)) -> None: ...


@pytest.mark.parametrize(
    ("given", "args"),
    [
        (1, StateArgs((1,))),
        ((1, 2), StateArgs((1, 2))),
        ({"first": 1, "second": 2}, StateArgs(kwargs={"first": 1, "second": 2})),
        (((1, 2),), StateArgs(((1, 2),))),
        ([1, 2], StateArgs(([1, 2],))),
    ],
)
def test_arguments_of_an_initializer(given: Any, args: StateArgs) -> None:
    graph = Graph()
    graph.keeps = Keeps
    graph.keeps.kept < given
    assert graph.resolve().nodes["keeps"].state_args == {"kept": args}


def test_arguments_by_method_and_for_a_group() -> None:
    graph = Graph()
    graph.keeps = Keeps * 2
    graph.keeps.kept.set((1,))
    assert [node.state_args["kept"] for node in graph.resolve().nodes.values()] == [StateArgs((1,))] * 2


def test_arguments_that_the_initializer_does_not_take_are_refused() -> None:
    graph = Graph()
    graph.keeps = Keeps
    with pytest.raises(
        DefinitionError, match=r"`keeps.kept < \(1, 2, 3\)`: pair makes this state, and not so: too many"
    ):
        graph.keeps.kept < (1, 2, 3)
    with pytest.raises(DefinitionError, match=r"a tuple is positional arguments, a dict".replace("a tuple", "A tuple")):
        graph.keeps.kept < {"third": 3}


def test_arguments_that_are_missing_are_named_when_the_graph_resolves() -> None:
    graph = Graph()
    graph.keeps = Keeps
    with pytest.raises(
        DefinitionError, match=r"keeps.kept: the initializer pair needs arguments.*'first'.*keeps.kept <"
    ):
        graph.resolve()


def test_out_ports_that_are_not_connected_have_no_edges() -> None:
    @component
    async def Both(a: Out[int], b: Out[int]) -> None: ...

    graph = Graph()
    graph.both = Both
    assert [output.edges for output in graph.resolve().nodes["both"].outputs.values()] == [(), ()]


@component
async def Pass(x: In[Any], y: Out[Any]) -> None: ...


@given(
    sizes=strategies.lists(strategies.integers(1, 3), min_size=1, max_size=4),
    wanted=strategies.lists(
        strategies.tuples(
            strategies.integers(0, 3), strategies.integers(0, 3), strategies.sampled_from([None, 2, "all", "broadcast"])
        ),
        max_size=10,
    ),
)
def test_channels_edges_and_ports_of_any_graph_agree(sizes: list[int], wanted: list[tuple[int, int, Any]]) -> None:
    graph = Graph()
    for index, size in enumerate(sizes):
        graph.add(Pass * size if size > 1 else Pass, f"n{index}")
    written = 0
    for start, end, how in wanted:
        out, inp = getattr(graph, f"n{start % len(sizes)}").y, getattr(graph, f"n{end % len(sizes)}").x
        with contextlib.suppress(DefinitionError):  # the same connection twice
            out.broadcast() >> inp if how == "broadcast" else out.connect(inp, batch=how)
            written += 1
    spec = graph.resolve()
    assert len(graph.edges) == written
    assert [edge.id for edge in spec.edges] == list(range(len(spec.edges)))
    for edge in spec.edges:
        assert edge.id in spec.channels[edge.channel].edges
        assert edge.id in spec.nodes[edge.source.node].outputs[edge.source.port].edges
    for index, channel in enumerate(spec.channels):
        assert channel.id == index
        assert {spec.edges[edge].channel for edge in channel.edges} == {index}
        assert len({spec.edges[edge].batch for edge in channel.edges}) == 1
        for reader in channel.readers:
            assert index in spec.nodes[reader.node].inputs[reader.port].channels
    delivered = [(spec.edges[e].source, c.readers) for c in spec.channels for e in c.edges]
    assert len(delivered) == len(set(delivered)) == len(spec.edges)
