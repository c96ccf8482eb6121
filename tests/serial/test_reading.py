"""What is wrong in a saved graph is named, with its place and the nearest name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cascata import Graph
from cascata.errors import DefinitionError


def saved(**changes: Any) -> dict[str, Any]:
    return {
        "cascata": 1,
        "nodes": [
            {"name": "numbers", "component": "tests.serial.graphs:Numbers", "constants": {"count": 3}},
            {"name": "pool", "component": "tests.serial.graphs:Scale", "size": 2},
        ],
        "connections": [{"from": "numbers.number", "to": "pool.value"}],
        **changes,
    }


def node(**changes: Any) -> dict[str, Any]:
    return saved(nodes=[{"name": "tally", "component": "tests.serial.graphs:Tally", **changes}], connections=[])


def group(**changes: Any) -> dict[str, Any]:
    head = {"name": "pool", "component": "tests.serial.graphs:Scale", "size": 2}
    return saved(nodes=[head | changes], connections=[])


def connection(**changes: Any) -> dict[str, Any]:
    return saved(connections=[{"from": "numbers.number", "to": "pool.value", **changes}])


def subgraph(**changes: Any) -> dict[str, Any]:
    return saved(subgraphs=[{"name": "sub", "nodes": ["numbers"], **changes}])


def test_what_these_tests_change_is_right() -> None:
    assert Graph.from_json(saved()).to_json() == saved()
    for each in (node(), group(), connection(), subgraph()):
        Graph.from_json(each)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        # the form
        ([], "a saved graph is a JSON object"),
        (None, "a saved graph is a JSON object"),
        ("{", "a saved graph is JSON, and this text is not"),
        (b"\xff\xfe\x00", "a saved graph is JSON, and this text is not"),
        ("graph.json", r"read_text\(\)"),
        ({}, '"cascata".*is missing'),
        ({"cascada": 1, "nodes": []}, "Did you mean 'cascada'"),
        ({"cascata": 1}, "has no 'nodes', which must be a list"),
        (saved(cascata=2), "version 2 of the schema.*reads version 1.*newer cascata"),
        (saved(cascata=0), "version 0 of the schema.*Save it again"),
        (saved(cascata="1"), "version '1' of the schema"),
        (saved(cascata=True), "version True of the schema"),
        (saved(edges=[]), "has a key 'edges', which means nothing"),
        (saved(conections=[]), "'conections'.*Did you mean 'connections'"),
        (saved(nodes={}), "'nodes' must be a list, not {}"),
        (saved(nodes=["numbers"]), r"'nodes'\[0\] must be an object, not 'numbers'"),
        (saved(pins={"numbers": "0"}), "'pins': 'numbers' must be a whole number"),
        (saved(pins={"numbers": True}), "'pins': 'numbers' must be a whole number"),
        (saved(exports=[]), "'exports' must be an object"),
        (node(name=None), "'name' must be a text"),
        (node(component="Tally"), r"\(tally\).*'module:Name'"),
        (node(constant={}), r"'nodes'\[0\] \(tally\) has a key 'constant'.*Did you mean 'constants'"),
        (node(ordered=True), "'ordered', which means nothing"),
        (node(triggers=["item"]), r"'triggers'\[0\] must be a list"),
        (node(triggers=[[1]]), r"'triggers'\[0\]\[0\] must be a text"),
        (node(states={"count": [1]}), "'states': 'count' must be an object"),
        (group(size=0), "a group has at least 1 member"),
        (group(size=2.0), "'size' must be a whole number"),
        (group(ordered=1), "'ordered' must be true or false"),
        (group(members=[{}]), "'members' has 1 entries, and 'size' is 2"),
        (group(members=[{}, {}], constants={}), "has both 'members' and 'constants'"),
        (connection(batch="some"), "'batch' must be a whole number"),
        (connection(broadcast="yes"), "'broadcast' must be true or false"),
        (connection(to="pool"), "'to' must name a port as 'node.port', not 'pool'"),
        (connection(to="a.b.c"), "'to' must name a port as 'node.port'"),
        (saved(connections=[{"from": "numbers.number"}]), r"'connections'\[0\] has no 'to'"),
        # what it says
        (node(component="tests.serial.grafs:Tally"), "'tests.serial.grafs'.*cannot be imported.*'tests.serial.graphs'"),
        (node(component="tests.serial.graphs:Taly"), "has no component 'Taly'. Did you mean 'Tally'"),
        (node(component="tests.serial.graphs:tally"), "has no component 'tally'"),
        (node(component="tests.other:Tally"), "the saved node 'tally'"),
        (node(component="json:Tally"), "tests.serial.graphs:Tally"),
        (node(name="run"), "'run' cannot be the name of a node"),
        (node(name="a b"), "'a b' cannot be the name of a node"),
        (node(constants={"items": 1}), "the saved node 'tally': tally has no in-port 'items'. Did you mean 'item'"),
        (node(constants={"counted": 1}), "tally has no in-port 'counted'"),
        (node(states={"item": {}}), "tally has no state 'item'"),
        (node(states={"count": {"kwargs": {"begin": 1}}}), "makes this state, and not so"),
        (node(triggers=[["nothing"]]), "'nothing'.*not an in-port"),
        (node(triggers=[["item"], ["item"]]), "triggers the runner already"),
        (saved(nodes=saved()["nodes"] * 2), "graph.numbers is there already"),
        (connection(to="pol.value"), "there is no node 'pol'. Did you mean 'pool'"),
        (connection(to="pool.valu"), "pool has no in-port 'valu'. Did you mean 'value'"),
        (connection(**{"from": "numbers.count"}), "numbers has no out-port 'count'"),
        (connection(batch=0), "a batch is a whole number of at least 1"),
        (connection(batch=2, broadcast=True), "cannot be a broadcast and batched"),
        (saved(connections=saved()["connections"] * 2), "would deliver every item twice"),
        (saved(pins={"numbr": 0}), "no such node.*'numbers'"),
        (saved(pins={"numbers": -1}), "at least 0"),
        (saved(exports={"out": "numbers.numbr"}), "export 'out'.*Did you mean 'number'"),
        (saved(exports={"clk": "numbers.number"}), "a node uses this name itself"),
        (subgraph(nodes=["numbr"]), "the saved subgraph 'sub': there is no node 'numbr'. Did you mean 'numbers'"),
        (subgraph(name="pool"), "graph.pool is there already"),
        (subgraph(exports={"out": "pool.reslt"}), "'sub', export 'out'.*Did you mean 'result'"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_wrong_is_said_with_its_place(data: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        Graph.from_json(data)


def test_what_cannot_be_held_by_json_cannot_be_loaded_either() -> None:
    with pytest.raises(DefinitionError, match=r"'constants': 'item'.*JSON has no such number"):
        Graph.from_json('{"cascata": 1, "nodes": [{"name": "a", "component": "m:A", "constants": {"item": NaN}}]}')


def test_a_text_or_bytes_will_do() -> None:
    text = json.dumps(saved())
    assert Graph.from_json(text).to_json() == Graph.from_json(text.encode()).to_json() == saved()


def test_a_module_that_fails_to_import_is_named_with_its_error(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_parts.py").write_text("1 / 0", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DefinitionError, match=r"'broken_parts'.*ZeroDivisionError") as raised:
        Graph.from_json(node(component="broken_parts:Tally"))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
