"""What is found in a graph before it runs, and what is left alone."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from cascata.check import check, findings
from cascata.cycles import cycles, feeds_of
from cascata.errors import DeadlockError
from tests.plan.specs import chain, spec

PAIR = ["work_0", "work_1"]


def the_finding(*args: object, **kwargs: object) -> str:
    found = findings(spec(*args, **kwargs))  # type: ignore[arg-type]
    assert len(found) == 1, found
    return found[0]


# ── in-ports ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_graph_that_can_run_has_no_findings() -> None:
    graph = spec("abc", *chain("abc"), constants={"b.factor": 2}, defaults={"c.width": 80})
    assert findings(graph) == ()
    check(graph)


def test_an_in_port_that_nothing_feeds_is_named_with_both_ways_to_feed_it() -> None:
    text = the_finding(["a", "add"], "a.out >> add.x", unfed=["add.y"])
    assert text.startswith("add.y:")
    assert "`some_node.out_port >> graph.add.y`" in text
    assert "`graph.add.y < value`" in text


def test_a_constant_or_a_default_feeds_an_in_port() -> None:
    assert findings(spec("a", constants={"a.x": None}, defaults={"a.y": None})) == ()


def test_a_channel_without_a_writer_feeds_nothing() -> None:
    graph = spec("ab", "a.out >> b.x")
    unwritten = type(graph.channels[0])(0, "b.x", 10, graph.channels[0].readers, ())
    graph = type(graph)(graph.nodes, (unwritten,), ())
    assert [text.partition(":")[0] for text in findings(graph)] == ["b.x"]


def test_a_sampled_in_port_that_nothing_feeds_is_said_to_be_sampled() -> None:
    text = the_finding("ab", "a.out >> b.x", unfed=["b.y"], triggers={"b": [["x"]]})
    assert text.startswith("b.y:")
    assert "sampled" in text


def test_a_trigger_that_only_has_a_constant_is_named_with_its_value() -> None:
    text = the_finding("ab", "a.out >> b.x", constants={"b.y": "always"}, triggers={"b": [["x"], ["y"]]})
    assert text.startswith("b.y:")
    assert "'always'" in text
    assert "clk and sync" in text


def test_what_is_wrong_with_every_member_of_a_group_is_said_once() -> None:
    text = the_finding(
        ["a", *PAIR], "a.out >> work_0.x, work_1.x", unfed=["work_0.y", "work_1.y"], groups={"work": PAIR}
    )
    assert text.startswith("work.y:")
    assert "graph.work.y < value" in text
    assert "2 members" in text


def test_what_is_wrong_with_one_member_of_a_group_names_the_member() -> None:
    text = the_finding(
        ["a", *PAIR],
        "a.out >> work_0.x, work_1.x",
        unfed=["work_0.y"],
        constants={"work_1.y": 1},
        groups={"work": PAIR},
    )
    assert text.startswith("work_0.y:")


# ── cycles ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unseeded_cycle_is_named_in_order_with_the_port_to_seed() -> None:
    text = the_finding("abc", "a.out >> b.x", "b.out >> c.x", "c.out >> a.x")
    assert "a.out >> b.x, b.out >> c.x, c.out >> a.x" in text
    assert "`graph.a.x < value`" in text


def test_a_node_that_feeds_only_itself_is_an_unseeded_cycle() -> None:
    assert "cycle a.out >> a.x:" in the_finding("a", "a.out >> a.x")


@pytest.mark.parametrize("port", ["a.x", "b.x", "c.x"])
def test_a_cycle_with_a_first_value_anywhere_is_seeded(port: str) -> None:
    assert findings(spec("abc", "a.out >> b.x", "b.out >> c.x", "c.out >> a.x", seeds={port: 0})) == ()


def test_a_cycle_fed_from_outside_through_the_same_port_is_seeded() -> None:
    assert findings(spec("abc", "a.out, c.out >> b.x", "b.out >> c.x")) == ()


def test_a_cycle_fed_from_outside_through_another_port_counts_as_seeded() -> None:
    assert findings(spec("abc", "a.out >> b.y", "c.out >> b.x", "b.out >> c.x")) == ()


def test_two_unseeded_cycles_are_two_findings() -> None:
    found = findings(spec("abcd", "a.out >> b.x", "b.out >> a.x", "c.out >> d.x", "d.out >> c.x"))
    assert [text.partition(":")[0] for text in found] == ["a.x", "c.x"]


def test_a_cycle_behind_an_unseeded_cycle_is_no_finding_of_its_own() -> None:
    graph = spec("abcde", "a.out >> b.x", "b.out >> a.x", "b.out, d.out >> c.x", "c.out >> d.x", "d.out >> e.x")
    assert len(findings(graph)) == 1


def test_a_seed_in_one_of_two_synchronised_feedbacks_is_not_enough() -> None:
    text = the_finding("a", "a.one >> a.x", "a.two >> a.y", seeds={"a.x": 0})
    assert "cycle a.two >> a.y:" in text


def test_a_seed_in_one_of_two_independent_triggers_is_enough() -> None:
    graph = spec("a", "a.one >> a.x", "a.two >> a.y", seeds={"a.x": 0}, triggers={"a": [["x"], ["y"]]})
    assert findings(graph) == ()


def test_a_sampled_feedback_without_a_first_value_is_found() -> None:
    graph = {"triggers": {"a": [["x"]]}, "seeds": {"a.x": 0}}
    assert "cycle a.two >> a.y:" in the_finding("a", "a.one >> a.x", "a.two >> a.y", **graph)


def test_a_cycle_through_a_group_is_written_as_users_wire_it() -> None:
    text = the_finding(
        ["merge", *PAIR],
        "merge.out >> work_0.x, work_1.x",
        "work_0.out, work_1.out >> merge.x",
        groups={"work": PAIR},
    )
    assert "work.out >> merge.x" in text
    assert "merge.out >> work.x" in text
    assert "work_0" not in text


def test_an_in_port_that_nothing_feeds_is_not_also_reported_as_a_cycle() -> None:
    text = the_finding("ab", "a.out >> b.x", "b.out >> a.x", seeds={"a.x": 0}, unfed=["b.y"])
    assert text.startswith("b.y:")


# ── the error, and what others ask ────────────────────────────────────────────────────────────────────────


def test_the_error_carries_every_finding_in_its_text_and_in_issues() -> None:
    graph = spec("abc", "a.out >> b.x", "b.out >> a.x", unfed=["c.x", "c.y"])
    with pytest.raises(DeadlockError) as caught:
        check(graph)
    assert caught.value.issues == findings(graph)
    assert len(caught.value.issues) == 3
    assert all(issue in str(caught.value) for issue in caught.value.issues)
    assert pickle.loads(pickle.dumps(caught.value)).issues == caught.value.issues


def test_the_error_of_one_finding_is_one_line() -> None:
    with pytest.raises(DeadlockError, match=r"^the graph cannot run to its end: a\.x: .*$") as caught:
        check(spec("a", unfed=["a.x"]))
    assert "\n" not in str(caught.value)


def test_cycles_are_the_nodes_that_feed_themselves_in_the_order_of_definition() -> None:
    graph = spec(
        "abcdef", "a.out >> b.x", "c.out >> b.x", "b.out >> c.x", "c.out >> d.x", "e.out >> e.x", "e.out >> f.x"
    )
    assert cycles(feeds_of(graph)) == [("b", "c"), ("e",)]


def test_a_graph_without_cycles_has_none() -> None:
    assert cycles(feeds_of(spec("abcd", "a.out >> b.x", "a.out >> c.x", "b.out, c.out >> d.x"))) == []
    assert cycles(feeds_of(spec(""))) == []


def test_a_graph_without_cycles_is_checked_without_networkx() -> None:
    code = (
        "import sys\n"
        "from cascata.check import check\n"
        "from tests.plan.specs import chain, spec\n"
        "check(spec('abc', *chain('abc')))\n"
        "print('networkx' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
