"""The report: a ledger that balances, a bottleneck that makes sense, and a table that a person can read."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascata.observe.report import EdgeReport, NodeReport, RunReport


def run_of(*nodes: NodeReport, edges: tuple[EdgeReport, ...] = (), wall_s: float = 10.0, **more: Any) -> RunReport:
    return RunReport({each.node: each for each in nodes}, edges, wall_s, num_workers=2, engine="processes", **more)


def node(name: str, busy: float, starved: float = 0.0, blocked: float = 0.0, **counts: int) -> NodeReport:
    return NodeReport(name, name.title(), 0, busy_s=busy, starved_s=starved, blocked_s=blocked, **counts)


PIPELINE = run_of(
    NodeReport("find", "FindModules", 0, sent=1790, busy_s=0.012, blocked_s=7.2),
    NodeReport("parse_0", "ParseModule", 1, received=900, sent=900, busy_s=7.1, starved_s=0.1, blocked_s=0.01),
    NodeReport("parse_1", "ParseModule", 0, received=890, sent=890, busy_s=7.0, starved_s=0.11, blocked_s=0.01),
    NodeReport("tables", "PrintTables", 1, received=1790, busy_s=0.3, starved_s=6.9),
    edges=(
        EdgeReport("find.path", "parse.path", sent=1790, delivered=1790),
        EdgeReport("parse_0.finding", "tables.finding", sent=900, delivered=900),
        EdgeReport("parse_1.finding", "tables.finding", sent=890, delivered=890),
    ),
    wall_s=7.3,
    start_method="forkserver",
)


@given(st.tuples(*[st.integers(0, 10**12)] * 4))
def test_an_edge_balances_when_every_item_sent_ended_somewhere(ends: tuple[int, int, int, int]) -> None:
    delivered, failed, dropped, undelivered = ends
    counts = {"delivered": delivered, "failed": failed, "dropped": dropped, "undelivered": undelivered}
    assert EdgeReport("a.out", "b.inp", sent=sum(ends), **counts).balanced
    assert not EdgeReport("a.out", "b.inp", sent=sum(ends) + 1, **counts).balanced


def test_an_edge_says_where_its_items_went() -> None:
    edge = EdgeReport("a.out", "b.inp", sent=2000, delivered=1990, failed=7, dropped=3)
    assert str(edge) == "a.out -> b.inp: sent 2,000 = delivered 1,990 + failed 7 + dropped 3"
    assert str(EdgeReport("a.out", "b.inp", sent=1)) == "a.out -> b.inp: sent 1 != delivered 0"


def test_the_bottleneck_is_the_node_that_is_always_at_work() -> None:
    report = run_of(node("fast", 1, blocked=9), node("slow", 9.5, starved=0.5), node("last", 0.5, starved=9.5))
    assert report.bottleneck == "slow"


def test_a_node_that_worked_hard_for_a_moment_is_not_the_bottleneck() -> None:
    assert run_of(node("moment", 0.5), node("steady", 6, starved=4)).bottleneck == "steady"


def test_of_equally_busy_nodes_the_bottleneck_is_the_one_that_waited_least() -> None:
    assert run_of(node("kept", 9.9, blocked=0.1), node("limits", 9.7, starved=0.02)).bottleneck == "limits"
    assert run_of(node("first", 9.0), node("second", 9.0)).bottleneck == "first"


def test_times_that_add_up_to_more_than_the_run_do_not_outdo_a_node_that_never_waits() -> None:
    assert run_of(node("many_at_once", 40, starved=60), node("limits", 9.9)).bottleneck == "limits"


def test_there_is_no_bottleneck_when_nothing_ran() -> None:
    assert run_of().bottleneck is None
    assert run_of(node("idle", 0, starved=10)).bottleneck is None
    assert run_of(node("idle", 0), wall_s=0.0).bottleneck is None


@given(
    st.lists(st.tuples(*[st.floats(0, 1e6)] * 3), max_size=6),
    st.floats(0, 1e6),
)
def test_the_bottleneck_is_a_busy_node_or_none_whatever_the_times(
    times: list[tuple[float, float, float]], wall_s: float
) -> None:
    report = run_of(*(node(f"n{index}", *each) for index, each in enumerate(times)), wall_s=wall_s)
    name = report.bottleneck
    assert name is None or report.nodes[name].busy_s > 0
    assert str(report)


def test_the_table_is_this() -> None:
    assert (
        str(PIPELINE)
        == """\
4 nodes on 2 workers (processes, forkserver) in 7.30 s

   node     component    worker  received   sent     busy  starved  blocked
   -------  -----------  ------  --------  -----  -------  -------  -------
   find     FindModules       0         0  1,790  12.0 ms      0 s   7.20 s
*  parse_0  ParseModule       1       900    900   7.10 s   100 ms  10.0 ms
   parse_1  ParseModule       0       890    890   7.00 s   110 ms  10.0 ms
   tables   PrintTables       1     1,790      0   300 ms   6.90 s      0 s

3 edges, 3,580 items sent, all delivered; nothing failed, nothing dropped
* bottleneck: parse_0, busy for 97% of the run"""
    )


def test_what_failed_and_what_was_dropped_is_shown_by_node_and_by_edge() -> None:
    edges = (
        EdgeReport("a.out", "b.inp", sent=10, delivered=8, failed=1, dropped=1),
        EdgeReport("b.out", "c.inp", sent=8, delivered=8),
    )
    lines = str(run_of(node("b", 1.0, received=9, failed=1, dropped=1), edges=edges)).splitlines()
    assert lines[2].split()[3:7] == ["received", "sent", "failed", "dropped"]
    assert lines[4].split()[4:8] == ["9", "0", "1", "1"]
    assert "2 edges, 18 items sent; not all delivered:" in lines
    assert "  a.out -> b.inp: sent 10 = delivered 8 + failed 1 + dropped 1" in lines
    assert not any("b.out" in line for line in lines)


def test_the_table_keeps_to_a_hundred_columns_and_long_names_keep_both_ends() -> None:
    name = "normalise_customer_addresses_in_the_subgraph_of_the_importer_17"
    long = NodeReport(name, "NormaliseCustomerAddressesComponent", 12, 12_345_678, 12_345_678, busy_s=75.0)
    table = str(run_of(long, *PIPELINE.nodes.values())).splitlines()[:-1]  # the verdict has the whole name
    assert max(len(line) for line in table) <= 100
    row = next(line for line in table if "12,345,678" in line)
    assert row.split()[1].startswith("normali")
    assert row.split()[1].endswith("_17")


def test_every_row_of_the_table_is_aligned() -> None:
    table = str(PIPELINE).splitlines()[2:8]
    end = table[0].index("worker") + len("worker")
    assert [line[:end].split()[-1] for line in table[2:]] == ["0", "1", "0", "1"]
    assert len({len(line) for line in table}) == 1


def test_the_table_is_plain_ascii() -> None:
    assert str(PIPELINE).isascii()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (4e-7, "0 s"),
        (12e-6, "12 us"),
        (0.9996e-3, "1.00 ms"),
        (0.0456, "45.6 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1.00 s"),
        (9.999, "10.0 s"),
        (67.84, "67.8 s"),
        (99.96, "1 min 40 s"),
        (123, "2 min 03 s"),
        (3599.7, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (36e5, "1,000 h 00 min"),
    ],
)
def test_times_are_shown_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert str(run_of(wall_s=seconds)).splitlines()[0].endswith(f" in {text}")


def test_a_run_without_nodes_has_a_report_too() -> None:
    assert str(run_of(wall_s=0)) == "0 nodes on 2 workers (processes) in 0 s\n\nno nodes\n\n0 edges, 0 items sent"


def test_a_report_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(PIPELINE)) == PIPELINE


def test_a_report_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PIPELINE.wall_s = 0.0  # type: ignore[misc]


def test_to_dict_is_fit_for_json() -> None:
    data = json.loads(json.dumps(PIPELINE.to_dict()))
    assert data["bottleneck"] == "parse_0"
    assert data["nodes"]["find"]["sent"] == 1790
    assert data["edges"][0] == {
        "source": "find.path",
        "target": "parse.path",
        "sent": 1790,
        "delivered": 1790,
        "failed": 0,
        "dropped": 0,
        "undelivered": 0,
        "balanced": True,
    }
