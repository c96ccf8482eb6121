"""Who runs where: what is kept together, what is spread, and what is said about it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.errors import DefinitionError
from cascata.model import GraphSpec, NodeSpec, Plan
from cascata.plan import available_cpus, partition
from tests.plan.specs import chain, spec

QUICK_START = ["arange", "add_numbers", "print_results"]
MEMBERS = [f"work_{number}" for number in range(4)]


def where(plan: Plan) -> dict[str, int]:
    return {node: worker for worker, nodes in enumerate(plan.workers) for node in nodes}


def _restarts(node: NodeSpec) -> bool:
    return bool(node.component.options["on_worker_death"] == "restart")


def crossing_of(graph: GraphSpec, plan: Plan) -> set[int]:
    """By the definition: not all of its writers and readers are on one worker."""
    at = where(plan)
    return {
        channel.id
        for channel in graph.channels
        if len(
            {at[graph.edges[edge].source.node] for edge in channel.edges} | {at[end.node] for end in channel.readers}
        )
        > 1
    }


# ── how many workers ──────────────────────────────────────────────────────────────────────────────────────


def test_there_are_never_more_workers_than_nodes() -> None:
    assert partition(spec("ab", *chain("ab")), 8).workers == (("a",), ("b",))


def test_without_a_number_there_are_as_many_workers_as_cores() -> None:
    names = [f"n{number}" for number in range(available_cpus() + 3)]
    assert len(partition(spec(names, *chain(names)), None).workers) == available_cpus()
    assert len(partition(spec("a"), None).workers) == 1


def test_without_a_number_there_are_as_many_workers_as_pins_name() -> None:
    names = [f"n{number}" for number in range(available_cpus() + 3)]
    plan = partition(spec(names, *chain(names), pins={"n0": available_cpus()}), None)
    assert len(plan.workers) == available_cpus() + 1
    assert "n0" in plan.workers[-1]


def test_a_graph_without_nodes_has_a_plan_without_workers() -> None:
    assert partition(spec(""), 2) == Plan((), {}, frozenset())


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2"])
def test_a_number_of_workers_that_is_none_is_refused(number: object) -> None:
    with pytest.raises(DefinitionError, match=r"num_workers.*whole number of at least 1"):
        partition(spec("a"), number)  # type: ignore[arg-type]


# ── what stays together ───────────────────────────────────────────────────────────────────────────────────


def test_a_chain_is_cut_in_even_parts_at_one_place_each() -> None:
    names = [f"n{number}" for number in range(12)]
    for workers in (2, 3, 4, 6):
        plan = partition(spec(names, *chain(names)), workers)
        assert [len(nodes) for nodes in plan.workers] == [12 // workers] * workers
        assert len(plan.crossing) == workers - 1


def test_chains_stay_whole_while_there_are_enough_of_them() -> None:
    graph = spec("abcdefgh", *chain("abcde"), *chain("fgh"))
    assert partition(graph, 2).workers == (tuple("abcde"), tuple("fgh"))
    assert partition(graph, 2).crossing == frozenset()


def test_a_chain_is_cut_when_a_worker_would_have_next_to_nothing_to_do() -> None:
    names = [f"n{number}" for number in range(20)]
    plan = partition(spec([*names, "single"], *chain(names)), 2)
    assert sorted(len(nodes) for nodes in plan.workers) == [10, 11]
    assert len(plan.crossing) == 1


def test_measured_weights_cut_a_chain_that_guessed_ones_leave_whole() -> None:
    graph = spec("abcdef", *chain("abcd"), *chain("ef"))
    assert partition(graph, 2).workers == (tuple("abcd"), tuple("ef"))
    measured = partition(graph, 2, {"a": 4.0, "b": 4.0, "c": 4.0, "d": 4.0, "e": 0.1, "f": 0.1})
    assert set("ab") <= set(measured.workers[0])
    assert set("cd") <= set(measured.workers[1])


def test_loads_are_balanced_by_weight() -> None:
    weights = {"a": 6.0, "b": 1.0, "c": 1.0, "d": 2.0, "e": 2.0}
    plan = partition(spec("abcde"), 2, weights)
    assert where(plan)["a"] not in {where(plan)[node] for node in "bcde"}


def test_weights_in_any_unit_give_the_same_plan() -> None:
    names = [f"n{number}" for number in range(9)]
    graph = spec(names, *chain(names))
    weights = {name: number + 1.0 for number, name in enumerate(names)}
    tiny = {name: weight * 1e-9 for name, weight in weights.items()}
    assert partition(graph, 3, weights) == partition(graph, 3, tiny)


def test_nodes_that_weigh_nothing_are_spread_all_the_same() -> None:
    plan = partition(spec("abcd"), 2, dict.fromkeys("abcd", 0.0))
    assert [len(nodes) for nodes in plan.workers] == [2, 2]


def test_a_node_that_the_weights_do_not_name_weighs_what_the_others_weigh_on_average() -> None:
    plan = partition(spec("abcde"), 2, {"a": 5.0, "b": 1.0, "c": 1.0, "d": 1.0, "of an earlier graph": 100.0})
    assert plan.workers == (("a",), ("b", "c", "d", "e"))


def test_a_chain_is_cut_where_the_least_traffic_was_measured() -> None:
    graph = spec("abcd", *chain("abcd"))
    edges = [(str(edge.source), graph.channels[edge.channel].name) for edge in graph.edges]
    weights = dict.fromkeys("abcd", 1.0)
    even = dict.fromkeys(edges, 1000)
    assert partition(graph, 2, weights, even).workers == (("a", "b"), ("c", "d"))
    busy = dict(zip(edges, (10_000_000, 5_000_000, 10), strict=True))
    assert partition(graph, 2, weights, busy).workers == (("a", "b", "c"), ("d",))


def test_a_chain_stays_whole_when_taking_its_items_across_would_cost_more_than_the_balance_gains() -> None:
    graph = spec("abcd", *chain("abc"))
    edges = [(str(edge.source), graph.channels[edge.channel].name) for edge in graph.edges]
    weights = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.5}
    assert len(partition(graph, 2, weights, dict.fromkeys(edges, 1000)).crossing) == 1
    assert partition(graph, 2, weights, dict.fromkeys(edges, 5_000_000)).crossing == frozenset()


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_amount_of_work_is_refused_with_its_node(weight: float) -> None:
    with pytest.raises(DefinitionError, match=r"node 'b'.*at least 0"):
        partition(spec("ab"), 2, {"b": weight})


def test_the_fewest_edges_cross() -> None:
    # two diamonds, joined by one edge: to keep d → e whole would cost three more
    graph = spec(
        "abcdefgh",
        "a.out >> b.x", "a.out >> c.x", "b.out, c.out >> d.x",
        "d.out >> e.x",
        "e.out >> f.x", "e.out >> g.x", "f.out, g.out >> h.x",
    )  # fmt: skip
    plan = partition(graph, 2)
    assert plan.workers == (tuple("abcd"), tuple("efgh"))
    assert plan.crossing == {3}


# ── cycles ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cycle_stays_on_one_worker() -> None:
    graph = spec("abcdef", "a.out, d.out >> b.x", *chain("bcdef"))
    plan = partition(graph, 3)
    assert len({where(plan)[node] for node in "bcd"}) == 1
    assert plan.reasons["c"] == "kept with b, d: they form a cycle"


def test_a_cycle_follows_a_pin_of_one_of_its_nodes() -> None:
    plan = partition(spec("abc", "a.out >> b.x", "b.out >> a.x", "b.out >> c.x", pins={"b": 1}), 2)
    assert plan.workers == (("c",), ("a", "b"))


def test_a_cycle_is_cut_only_when_there_are_too_few_nodes_beside_it_and_the_reason_says_so() -> None:
    graph = spec("abcd", "a.out, d.out >> b.x", *chain("bcd"))
    whole = partition(graph, 2)
    assert whole.workers == (("a",), ("b", "c", "d"))
    cut = partition(graph, 3)
    assert len(cut.workers) == 3
    assert cut.reasons["b"] == "in a cycle with c, d, which had to be cut to reach 3 workers"


def test_a_cycle_with_pins_to_two_workers_stays_in_two_parts() -> None:
    names = [f"n{number}" for number in range(6)]
    wires = [*chain(names), "n5.out >> n0.x", "n5.out >> end.x"]
    plan = partition(spec([*names, "end", "other"], *wires, pins={"n0": 0, "n3": 2}), 3)
    assert {where(plan)[name] for name in names} == {0, 2}
    assert plan.reasons["n1"].endswith("which pins take apart")


# ── groups ────────────────────────────────────────────────────────────────────────────────────────────────


def grouped(**extra: object) -> GraphSpec:
    shared = f"source.out >> {', '.join(f'{member}.x' for member in MEMBERS)}"
    merged = f"{', '.join(f'{member}.out' for member in MEMBERS)} >> sink.x"
    return spec(["source", *MEMBERS, "sink"], shared, merged, groups={"work": MEMBERS}, **extra)  # type: ignore[arg-type]


@pytest.mark.parametrize(("workers", "most"), [(2, 2), (3, 2), (4, 1), (5, 1)])
def test_members_of_a_group_spread_as_evenly_as_possible(workers: int, most: int) -> None:
    plan = partition(grouped(), workers)
    assert max(Counter(where(plan)[member] for member in MEMBERS).values()) == most
    assert plan.reasons["work_1"] == "member 1 of group work, spread over workers"


def test_members_stand_on_their_workers_in_order() -> None:
    placed = where(partition(grouped(), 2))
    assert [placed[member] for member in MEMBERS] == [0, 0, 1, 1]


def test_groups_wired_member_to_member_spread_as_chains() -> None:
    left, right = [f"left_{number}" for number in range(3)], [f"right_{number}" for number in range(3)]
    wires = [f"{one}.out >> {other}.x" for one, other in zip(left, right, strict=True)]
    plan = partition(spec([*left, *right], *wires, groups={"left": left, "right": right}), 3)
    assert plan.workers == (("left_0", "right_0"), ("left_1", "right_1"), ("left_2", "right_2"))
    assert plan.crossing == frozenset()


# ── nodes that restart ────────────────────────────────────────────────────────────────────────────────────


def test_a_node_that_may_restart_has_a_worker_of_its_own() -> None:
    plan = partition(spec("abcde", *chain("abcde"), restartable="c"), 2)
    assert plan.workers == (("a", "b", "d", "e"), ("c",))
    assert plan.reasons["c"] == "has worker 1 to itself, since it starts again when its worker dies"


def test_with_too_few_workers_for_all_that_restart_they_are_placed_like_others_and_say_so() -> None:
    plan = partition(spec("abcd", *chain("abcd"), restartable="abc"), 2)
    assert plan.workers == (("a", "b"), ("c", "d"))
    assert plan.reasons["a"].startswith("shares worker 0 though it starts again when its worker dies")


# ── pins ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_pins_are_obeyed_and_say_so() -> None:
    plan = partition(spec("abcd", *chain("abcd"), pins={"a": 1, "d": 0}), 2)
    assert "a" in plan.workers[1]
    assert "d" in plan.workers[0]
    assert plan.reasons["a"] == "pinned to worker 1"


def test_a_pin_on_each_of_as_many_workers_as_nodes_is_obeyed() -> None:
    assert partition(spec("abc", *chain("abc"), pins={"a": 2, "c": 0}), 3).workers == (("c",), ("b",), ("a",))


@pytest.mark.parametrize("worker", [2, 7, -1])
def test_a_pin_beyond_the_workers_names_the_node_and_the_range(worker: int) -> None:
    with pytest.raises(DefinitionError, match=rf"node 'b' is pinned to worker {worker}.*2 workers, 0 to 1"):
        partition(spec("abc", *chain("abc"), pins={"b": worker}), 2)


def test_a_pin_that_would_leave_another_worker_empty_is_refused_with_the_cause() -> None:
    with pytest.raises(DefinitionError, match=r"node 'a' is pinned to worker 1.*one worker.*cannot fill 2 workers"):
        partition(spec("ab", *chain("ab"), pins={"a": 1, "b": 1}), 2)


def test_workers_that_pins_leave_no_node_for_do_not_run() -> None:
    assert partition(spec("abc", *chain("abc"), pins=dict.fromkeys("abc", 0)), 3).workers == (("a", "b", "c"),)


def test_a_pin_of_a_node_that_does_not_exist_suggests_the_nearest() -> None:
    with pytest.raises(DefinitionError, match=r"'reeder'.*Did you mean 'reader'"):
        partition(spec(["reader"], pins={"reeder": 0}), 1)


# ── what users read ───────────────────────────────────────────────────────────────────────────────────────


def test_a_chain_on_a_worker_is_named_at_its_start() -> None:
    graph = spec("abcd", *chain("ab"), *chain("cd"))
    assert partition(graph, 2).reasons == {
        "a": "starts the chain a → b on worker 0",
        "b": "kept with a: their edge stays local",
        "c": "starts the chain c → d on worker 1",
        "d": "kept with c: their edge stays local",
    }


def test_a_cut_names_what_it_cuts_from_and_what_for() -> None:
    assert partition(spec("abcd", *chain("abcd")), 2).reasons["c"] == "cut from b to reach 2 workers"
    names = [f"n{number}" for number in range(20)]
    reasons = partition(spec([*names, "single"], *chain(names)), 2).reasons
    (cut,) = [(node, reason) for node, reason in reasons.items() if reason.startswith("cut")]
    before = names[names.index(cut[0]) - 1]
    assert cut[1] == f"cut from {before} to balance the load"


def test_one_worker_and_a_worker_for_each_node_need_no_other_reason() -> None:
    graph = spec(QUICK_START, *chain(QUICK_START))
    assert set(partition(graph, 1).reasons.values()) == {"there is only one worker"}
    assert partition(graph, 3).reasons["arange"] == "has worker 0 to itself: there are as many workers as nodes"


def test_a_plan_prints_as_a_table_of_workers_reasons_and_channels() -> None:
    assert str(partition(spec(QUICK_START, *chain(QUICK_START), pins={"print_results": 1}), 2)) == (
        "worker 0\n"
        "  arange         starts the chain arange → add_numbers on worker 0\n"
        "  add_numbers    kept with arange: their edge stays local\n"
        "worker 1\n"
        "  print_results  pinned to worker 1\n"
        "local channels\n"
        "  arange.out → add_numbers.x\n"
        "crossing channels\n"
        "  add_numbers.out → print_results.x"
    )


# ── for every graph ───────────────────────────────────────────────────────────────────────────────────────


@st.composite
def graphs(draw: st.DrawFn, *, pinned: bool = False, cyclic: bool = False) -> tuple[GraphSpec, int]:
    """A random graph of up to 14 nodes with a group, restartable nodes and merged channels, and a number of workers."""
    size = draw(st.integers(2, 14))
    workers = draw(st.integers(1, size))
    names = [f"n{number}" for number in range(size)]
    wires = []
    for number in range(1, size):
        writers = draw(st.sets(st.integers(0, number - 1), max_size=3))
        wires += [f"n{writer}.out >> n{number}.x{writer}" for writer in writers]
    if cyclic:
        back = draw(st.sets(st.integers(1, size - 1), max_size=3))
        wires += [f"n{number}.out >> n{draw(st.integers(0, number))}.back{number}" for number in back]
    first = draw(st.integers(0, size - 1))
    members = names[first : first + draw(st.integers(0, 5))]
    if len(members) > 1 and first > 0:
        wires.append(f"n0.out >> {', '.join(f'{member}.shared' for member in members)}")
    pins: dict[str, int] = {}
    if pinned:
        pins = draw(st.dictionaries(st.sampled_from(names), st.integers(0, workers - 1), max_size=size // 2))
    graph = spec(
        names,
        *wires,
        groups={"group": members} if len(members) > 1 else {},
        restartable=draw(st.sets(st.sampled_from(names), max_size=2)),
        pins=pins,
    )
    return graph, workers


@given(graphs(cyclic=True))
def test_every_node_is_placed_once_and_no_worker_is_empty(drawn: tuple[GraphSpec, int]) -> None:
    graph, workers = drawn
    plan = partition(graph, workers)
    assert len(plan.workers) == workers
    assert all(plan.workers)
    assert sorted(node for nodes in plan.workers for node in nodes) == sorted(graph.nodes)
    order = list(graph.nodes)
    assert all(list(nodes) == sorted(nodes, key=order.index) for nodes in plan.workers)
    assert plan.reasons.keys() == graph.nodes.keys()
    assert all(plan.reasons.values())


@given(graphs(cyclic=True))
def test_the_channels_that_cross_are_those_with_ends_on_different_workers(drawn: tuple[GraphSpec, int]) -> None:
    graph, workers = drawn
    plan = partition(graph, workers)
    assert plan.crossing == crossing_of(graph, plan)
    assert len(plan.channels) == len(graph.channels)


@given(graphs(pinned=True, cyclic=True))
def test_pins_are_obeyed_in_every_graph(drawn: tuple[GraphSpec, int]) -> None:
    graph, workers = drawn
    free = len(graph.nodes) - len(graph.pins)
    fillable = free + len(set(graph.pins.values()))
    if max(graph.pins.values(), default=0) >= min(workers, fillable):
        with pytest.raises(DefinitionError):
            partition(graph, workers)
        return
    plan = partition(graph, workers)
    assert len(plan.workers) == min(workers, fillable)
    assert all(plan.workers)
    assert all(where(plan)[node] == worker for node, worker in graph.pins.items())


@given(graphs(cyclic=True), st.integers(0, 5))
def test_the_same_graph_gives_the_same_plan(drawn: tuple[GraphSpec, int], seed: int) -> None:
    graph, workers = drawn
    weights = {name: float((number * 7 + seed) % 5) for number, name in enumerate(graph.nodes)}
    assert partition(graph, workers, weights) == partition(graph, workers, dict(reversed(weights.items())))


@given(graphs())
def test_nodes_that_restart_are_alone_and_members_of_a_group_spread_over_the_other_workers(
    drawn: tuple[GraphSpec, int],
) -> None:
    graph, workers = drawn
    plan = partition(graph, workers)
    members = graph.groups.get("group", ())
    restartable = [name for name, node in graph.nodes.items() if _restarts(node)]
    enough = len(restartable) + (len(restartable) < len(graph.nodes)) <= workers
    own = {where(plan)[name] for name in restartable} if enough else set()
    if enough:
        assert all(len(plan.workers[worker]) == 1 for worker in own)
    counts = Counter(where(plan)[member] for member in members)
    free = [counts[worker] for worker in range(workers) if worker not in own]
    if free and members:
        assert max(free) - min(free) <= 1


def test_plans_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from cascata.plan import partition\n"
        "from tests.plan.specs import chain, spec\n"
        "names = [f'n{i}' for i in range(15)]\n"
        "wires = [f'n{i}.out >> n{j}.x{i}' for j in range(15) for i in range(j) if (i * j) % 4 == 1]\n"
        "print(partition(spec(names, *wires, 'n9.out >> n1.back'), 4))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, timeout=30, env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
    assert "worker 3" in outputs.pop()


def test_a_graph_without_cycles_is_planned_without_networkx() -> None:
    code = (
        "import sys\n"
        "from cascata.plan import partition\n"
        "from tests.plan.specs import spec\n"
        "partition(spec('abcd', 'a.out >> b.x', 'a.out >> c.x', 'b.out, c.out >> d.x'), 2)\n"
        "print('networkx' in sys.modules)\n"
        "partition(spec('abc', 'a.out >> b.x', 'b.out >> a.x'), 2)\n"
        "print('networkx' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["False", "True"]
