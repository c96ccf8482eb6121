"""Graphs as users touch them: adding, naming, looking, copying, composing, and the verbs."""

from __future__ import annotations

import asyncio
import copy
import threading
from typing import Any

import dill
import pytest

import cascata.check.deadlock
import cascata.engine.run
from cascata.dsl import Graph, Group
from cascata.dsl.draft import RESERVED_NODE_NAMES
from cascata.engine import boot
from cascata.errors import CascataError, DeadlockError, DefinitionError
from cascata.interrupts import Interrupts
from cascata.model import Endpoint, GraphSpec, Plan
from cascata.options import RunOptions

from .nodes import Double, Show, Source, Three

# --- adding -----------------------------------------------------------------------------------------


def test_a_node_is_there_under_its_name() -> None:
    graph = Graph()
    graph.source = Source
    assert isinstance(graph.source, Source)
    assert graph.source is graph.source
    assert str(graph.source) == "source"


def test_add_gives_the_node_back() -> None:
    graph = Graph()
    assert graph.add(Source, "source") is graph.source
    assert isinstance(graph.add(Double * 2, "work"), Group)


def test_a_name_twice_is_refused() -> None:
    graph = Graph()
    graph.work = Double
    with pytest.raises(
        DefinitionError, match=r"graph.work is there already: a node of Double. Take another name.*Graph\("
    ):
        graph.work = Source
    with pytest.raises(DefinitionError, match=r"graph.work is there already"):
        graph.add(Source, "work")
    assert isinstance(graph.work, Double)


def test_the_members_of_a_group_have_names_too() -> None:
    graph = Graph()
    graph.work = Double * 2
    assert list(graph.work) == [graph.work_0, graph.work_1]
    assert (len(graph.work), graph.work[1]) == (2, graph.work_1)
    assert graph.work_0 in graph.work
    with pytest.raises(
        DefinitionError, match=r"graph.work_1 is there already: a node of Double, member of the group work"
    ):
        graph.work_1 = Double


def test_a_group_that_would_take_a_name_twice_adds_nothing() -> None:
    graph = Graph()
    graph.work_1 = Source
    with pytest.raises(DefinitionError, match=r"graph.work_1 is there already"):
        graph.work = Double * 2
    assert list(graph.nodes) == ["work_1"]


@pytest.mark.parametrize("name", [*RESERVED_NODE_NAMES, "_private"])
def test_a_reserved_name_is_refused_with_the_closed_list(name: str) -> None:
    graph = Graph()
    with pytest.raises(DefinitionError, match=f"'{name}' cannot be the name of a node.*uses it itself") as raised:
        graph.add(Source, name)
    assert "add, astream, check, check_deadlocks, copy, draw" in str(raised.value)


def test_every_public_name_of_a_graph_is_reserved() -> None:
    assert {name for name in dir(Graph) if not name.startswith("_")} <= set(RESERVED_NODE_NAMES)
    with pytest.raises(DefinitionError, match="'run' cannot be the name of a node"):
        Graph().run = Source  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("name", ["two words", "class", "", "1st", 5])
def test_a_name_is_a_python_name(name: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot be the name of a node: it is an attribute of the graph"):
        Graph().add(Source, name)


def test_what_is_no_component_is_refused_with_the_right_form() -> None:
    def plain() -> None: ...

    graph = Graph()
    graph.source = Source
    with pytest.raises(
        DefinitionError, match=r"a plain function is not a component. Write @component above `def plain`"
    ):
        graph.plain = plain
    with pytest.raises(DefinitionError, match=r"source is in a graph already.*`graph.again = MyComponent`"):
        graph.again = graph.source
    with pytest.raises(DefinitionError, match=r"source.n is a port"):
        graph.again = graph.source.n
    for value in (5, None, dict):
        with pytest.raises(DefinitionError, match=r"`graph.again = .*`: a graph takes a component class, `Class \* n`"):
            graph.add(value, "again")  # type: ignore[arg-type]
    assert list(graph.nodes) == ["source"]


def test_nothing_is_removed() -> None:
    graph = Graph()
    graph.source = Source
    with pytest.raises(DefinitionError, match=r"`del graph.source`.*new Graph\(\)"):
        del graph.source


# --- looking ----------------------------------------------------------------------------------------


def test_an_unknown_node_is_named_with_the_nearest() -> None:
    graph = Graph()
    graph.arange = Source
    with pytest.raises(AttributeError, match=r"the graph has no node 'arrange'. Did you mean 'arange'\?"):
        graph.arrange  # noqa: B018 - asking is what raises
    with pytest.raises(AttributeError, match=r"no node 'zzz'. There are: arange."):
        graph.zzz  # noqa: B018 - likewise
    with pytest.raises(AttributeError, match=r"no node 'runn'. Did you mean 'run'\?"):
        graph.runn()


def test_an_unknown_port_is_named_with_the_nearest() -> None:
    graph = Graph()
    graph.double = Double
    graph.work = Double * 2
    with pytest.raises(AttributeError, match=r"double \(Double\) has no port 'yy'. Did you mean 'y'\?"):
        graph.double.yy  # noqa: B018 - asking is what raises
    with pytest.raises(AttributeError, match=r"work \(Double \* 2\) has no port 'out'. There are: x, y."):
        graph.work.out  # noqa: B018 - likewise
    with pytest.raises(AttributeError, match=r"double \(Double\) has no port 'z'"):
        graph.double.z = 5
    assert not hasattr(graph.double, "z")


def test_nodes_and_edges_are_listed_in_the_order_of_definition() -> None:
    graph = Graph()
    graph.source = Source
    graph.work = Double * 2
    graph.show = Show
    graph.source.out >> graph.work.x
    graph.work.y >> 3 >= graph.show.data
    assert list(graph.nodes.items()) == [
        ("source", graph.source),
        ("work_0", graph.work_0),
        ("work_1", graph.work_1),
        ("show", graph.show),
    ]
    first, second = graph.edges
    assert (first.source, first.target, first.batch) == (Endpoint("source", "out"), Endpoint("work", "x"), None)
    assert (second.source, second.target, second.batch) == (Endpoint("work", "y"), Endpoint("show", "data"), 3)


def test_ports_and_nodes_are_offered_for_completion() -> None:
    graph = Graph()
    graph.double = Double
    assert {"double", "run"} <= set(dir(graph))
    assert {"x", "y", "clk"} <= set(dir(graph.double))


def test_repr_shows_nodes_constants_and_connections() -> None:
    graph = Graph()
    graph.source = Source
    graph.three = Three
    graph.work = Double * 2
    graph.source.n < 3
    graph.source.out >> graph.three.a
    assert repr(graph) == (
        "Graph of 4 nodes and 1 connections\n"
        "  source: Source(n=3) -> out\n"
        "  three: Three(a, b, c=3) -> out, rest\n"
        "  work_0: Double(x) -> y\n"
        "  work_1: Double(x) -> y\n"
        "  source.out >> three.a"
    )
    assert repr(graph.source) == "<node source: Source(n=3) -> out>"
    assert repr(graph.work) == "<group work of 2: work_0: Double(x) -> y, work_1: Double(x) -> y>"


def test_the_repr_of_a_large_graph_is_bounded() -> None:
    graph = Graph()
    graph.work = Double * 100
    lines = repr(graph).splitlines()
    assert len(lines) == 31
    assert lines[-1] == "  and 71 lines more"


# --- pins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", [-1, 1.0, "0", True])
def test_a_worker_is_a_number_from_zero(worker: Any) -> None:
    graph = Graph()
    graph.source = Source
    with pytest.raises(DefinitionError, match=r"graph.pin\(source, .*\): a worker is a whole number.*count from 0"):
        graph.pin(graph.source, worker)


def test_a_pin_is_for_a_node_of_this_graph() -> None:
    graph, other = Graph(), Graph()
    graph.source = Source
    other.source = Source
    with pytest.raises(DefinitionError, match=r"graph.pin\('sorce', 0\): no such node.*Did you mean 'source'"):
        graph.pin("sorce", 0)
    for node in (other.source, Source, graph.source.n, 5):
        with pytest.raises(DefinitionError, match=r"no such node in this graph. Pin a node or a group"):
            graph.pin(node, 0)


# --- copies and subgraphs ---------------------------------------------------------------------------


def inner() -> Graph:
    graph = Graph()
    graph.first = Double
    graph.work = Three * 2
    graph.first.y >> graph.work.a
    graph.work.b < 7
    graph.work.sync("a")
    graph.work.seen < {"k": 1}
    graph.first.y >> 3 >= graph.work_0.c
    graph.pin("first", 1)
    graph.export(graph.first.x, "inp")
    graph.export(graph.work.out, "result")
    return graph


def test_a_copy_resolves_to_the_same_and_goes_its_own_way() -> None:
    graph = inner()
    for twin in (graph.copy(), copy.copy(graph)):
        assert twin.resolve() == graph.resolve()
        assert twin.edges == graph.edges
        assert twin.first is not graph.first
        twin.show = Show
        twin.work.out >> twin.show.data
        twin.first.x < 1
        assert twin.resolve() != graph.resolve()
        with pytest.raises(DefinitionError, match=r"connected to work_0.a and work_1.a already"):
            twin.first.y >> twin.work.a


def test_a_copy_exports_what_the_original_does() -> None:
    outer = Graph()
    outer.sub = inner().copy()
    assert str(outer.sub.inp) == "sub_first.x"


def test_a_graph_can_be_serialized() -> None:
    graph = inner()
    assert dill.loads(dill.dumps(graph)).resolve() == graph.resolve()
    assert copy.deepcopy(graph).resolve() == graph.resolve()


def test_a_copy_of_everything_takes_neither_the_module_nor_the_runs_along(engine: Engine) -> None:
    names: dict[str, Any] = {"Graph": Graph, "Source": Source, "lock": threading.Lock()}
    exec("graph = Graph()\ngraph.source = Source\ngraph.source.n < [1]\ngraph.start()", names)  # noqa: S102 - as a notebook
    twin = copy.deepcopy(names["graph"])
    constant = twin.resolve().nodes["source"].inputs["n"].constant
    assert constant == [1]
    assert constant is not names["graph"].resolve().nodes["source"].inputs["n"].constant
    with pytest.raises(CascataError, match="nothing was started"):
        twin.join()


def test_a_subgraph_is_a_copy_under_a_prefix() -> None:
    outer = Graph()
    outer.source = Source
    original = inner()
    outer.sub = original
    original.first.x < 5
    original.extra = Show
    assert list(outer.nodes) == ["source", "sub_first", "sub_work_0", "sub_work_1"]
    spec = outer.resolve()
    assert spec.groups == {"sub_work": ("sub_work_0", "sub_work_1")}
    assert spec.pins == {"sub_first": 1}
    assert [str(edge.source) for edge in spec.edges] == ["sub_first.y", "sub_first.y"]
    assert spec.edges[1].batch == 3
    assert [channel.name for channel in spec.channels] == ["sub_work.a", "sub_work_0.c (3 at a time of sub_first.y)"]
    member = spec.nodes["sub_work_1"]
    assert (member.group, member.member, member.inputs["b"].constant) == ("sub_work", 1, 7)
    assert member.triggers == (("a",),)
    assert member.state_args["seen"].kwargs == {"k": 1}
    assert outer.sub_work.a is not original.work.a


def test_exported_ports_work_like_any_other() -> None:
    outer = Graph()
    outer.source = Source
    outer.show = Show
    outer.sub = inner()
    outer.source >> outer.sub
    outer.sub.result >> outer.show.data
    assert [(str(edge.source), str(edge.target)) for edge in outer.edges[2:]] == [
        ("source.out", "sub_first.x"),
        ("sub_work.out", "show.data"),
    ]
    assert outer.sub.inp is outer.sub_first.x
    assert repr(outer.sub) == "<subgraph sub: inp = sub_first.x, result = sub_work.out>"


def test_subgraphs_nest_and_are_used_several_times() -> None:
    middle = Graph()
    middle.left = inner()
    middle.right = inner()
    middle.export(middle.left.inp, "inp")
    outer = Graph()
    outer.whole = middle
    outer.again = middle
    assert "whole_left_work_0" in outer.nodes
    assert str(outer.whole.inp) == "whole_left_first.x"
    assert str(outer.again_right.result) == "again_right_work.out"


def test_a_graph_can_hold_a_copy_of_itself() -> None:
    graph = inner()
    graph.sub = graph
    assert list(graph.nodes) == ["first", "work_0", "work_1", "sub_first", "sub_work_0", "sub_work_1"]
    assert len(graph.edges) == 4


def test_a_subgraph_that_would_take_a_name_twice_adds_nothing() -> None:
    outer = Graph()
    outer.sub_work_1 = Source
    with pytest.raises(DefinitionError, match=r"graph.sub_work_1 is there already"):
        outer.sub = inner()
    assert list(outer.nodes) == ["sub_work_1"]


def test_a_subgraph_is_written_to_its_end() -> None:
    unfinished = inner()
    unfinished.work.out >> 3
    outer = Graph()
    with pytest.raises(DefinitionError, match=r"`work.out >> 3` connects nothing"):
        outer.sub = unfinished
    assert list(outer.nodes) == []


def test_a_name_that_a_subgraph_does_not_export_is_named_with_the_nearest() -> None:
    outer = Graph()
    outer.sub = inner()
    with pytest.raises(AttributeError, match=r"sub \(a subgraph\) has no port 'resul'. Did you mean 'result'\?"):
        outer.sub.resul  # noqa: B018 - asking is what raises


def test_only_ports_of_the_graph_are_exported() -> None:
    graph, other = inner(), inner()
    for port in (other.first.x, graph.first, "first.x", graph.work.seen):
        with pytest.raises(
            DefinitionError, match=r"graph.export\(.*'port'\): not an in-port or out-port of this graph"
        ):
            graph.export(port, "port")
    with pytest.raises(DefinitionError, match=r"graph.export\(work.b, 'inp'\): first.x is exported as 'inp' already"):
        graph.export(graph.work.b, "inp")
    with pytest.raises(DefinitionError, match=r"graph.export\('sync'\): a node uses this name itself"):
        graph.export(graph.work.b, "sync")


# --- verbs ------------------------------------------------------------------------------------------


class Handle:
    """Stands for a run that was started."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stopped = False

    def stop(self, within: float | None = None) -> None:
        self.stopped = True

    def join(self) -> str:
        return f"report {self.number}, {'stopped' if self.stopped else 'ended'}"


class Engine:
    """Stands for the engine, and notes what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[GraphSpec, RunOptions]] = []
        self.handles: list[Handle] = []

    def run(self, spec: GraphSpec, options: RunOptions, interrupts: Interrupts) -> str:
        self.given.append((spec, options))
        return "report"

    async def run_async(self, spec: GraphSpec, options: RunOptions) -> str:
        return self.run(spec, options, Interrupts())

    def start(self, spec: GraphSpec, options: RunOptions, interrupts: Interrupts) -> Handle:
        self.run(spec, options, interrupts)
        self.handles.append(Handle(len(self.handles)))
        return self.handles[-1]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    for place, verb in ((boot, "run"), (boot, "run_async"), (cascata.engine.run, "start")):
        monkeypatch.setattr(place, verb, getattr(engine, verb))
    return engine


@pytest.fixture
def graph() -> Graph:
    graph = Graph()
    graph.source = Source
    graph.show = Show
    graph.source.n < 3
    graph.source >> graph.show
    return graph


def test_run_gives_the_resolved_graph_and_checked_options_to_the_engine(graph: Graph, engine: Engine) -> None:
    assert str(graph.run(num_workers=2)) == "report"
    assert str(asyncio.run(graph.run_async(timeout=1.0))) == "report"
    (spec, options), (again, other_options) = engine.given
    assert spec == again == graph.resolve()
    assert (options.num_workers, options.timeout, other_options.timeout) == (2, None, 1.0)


@pytest.mark.parametrize("verb", ["run", "start"])
def test_options_are_checked_first(graph: Graph, engine: Engine, verb: str) -> None:
    with pytest.raises(DefinitionError, match=f"graph.{verb}: unknown option 'num_worker'. Did you mean 'num_workers'"):
        getattr(graph, verb)(num_worker=2)
    with pytest.raises(DefinitionError, match=f"graph.{verb}: option 'engine' must be one of processes, inline, ray"):
        getattr(graph, verb)(engine="threads")
    assert engine.given == []


@pytest.mark.parametrize("verb", ["run", "start", "run_async"])
def test_the_graph_is_checked_before_it_runs(graph: Graph, engine: Engine, verb: str) -> None:
    graph.double = Double
    with pytest.raises(DeadlockError, match=r"double\.x") as raised:
        started = getattr(graph, verb)()
        asyncio.run(started)
    assert len(raised.value.issues) == 1
    assert engine.given == []


def test_an_empty_graph_is_not_run(engine: Engine) -> None:
    with pytest.raises(DefinitionError, match=r"graph.run: the graph has no nodes. Add one: `graph.name ="):
        Graph().run()


def test_check_is_there_under_both_names(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[GraphSpec] = []
    monkeypatch.setattr(cascata.check.deadlock, "check", checked.append)
    graph.check()
    graph.check_deadlocks()
    assert checked == [graph.resolve()] * 2


def test_shard_gives_the_plan(graph: Graph) -> None:
    plan = graph.shard(2)
    assert isinstance(plan, Plan)
    assert sorted(node for worker in plan.workers for node in worker) == ["show", "source"]
    with pytest.raises(DefinitionError, match=r"graph.shard: option 'num_workers' must be a whole number"):
        graph.shard(0)


def test_join_waits_for_the_oldest_run_first(graph: Graph, engine: Engine) -> None:
    graph.start()
    graph.start(num_workers=1)
    assert str(graph.join()) == "report 0, ended"
    assert str(graph.join()) == "report 1, ended"


def test_stop_stops_all_that_was_started_and_not_joined(graph: Graph, engine: Engine) -> None:
    graph.start()
    graph.start()
    graph.stop()
    assert [handle.stopped for handle in engine.handles] == [True, True]
    assert str(graph.join()) == "report 0, stopped"


@pytest.mark.parametrize("verb", ["stop", "join"])
def test_stop_and_join_need_a_run(graph: Graph, engine: Engine, verb: str) -> None:
    with pytest.raises(CascataError, match=rf"graph.{verb}\(\): nothing was started.*Call graph.start\(\) first"):
        getattr(graph, verb)()
    graph.start()
    graph.join()
    with pytest.raises(CascataError, match="nothing was started"):
        getattr(graph, verb)()


def test_a_copy_has_nothing_started(graph: Graph, engine: Engine) -> None:
    graph.start()
    with pytest.raises(CascataError, match="nothing was started"):
        graph.copy().join()
