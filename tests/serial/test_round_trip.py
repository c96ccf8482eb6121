"""A graph that was saved and loaded is the same graph."""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from cascata import Graph, In, component
from cascata.dsl import Component
from cascata.errors import DefinitionError
from tests.serial.graphs import SEEN, Collect, Numbers, Scale, everything, graphs


def through_text(graph: Graph) -> Graph:
    return Graph.from_json(json.dumps(graph.to_json(), allow_nan=False))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_any_graph_comes_back_as_it_was(graph: Graph) -> None:
    saved = graph.to_json()
    again = through_text(graph)
    assert again.resolve() == graph.resolve()
    assert repr(again) == repr(graph)  # constants of equal value and different type look different
    assert again.to_json() == saved
    assert again.edges == graph.edges


def test_tools_that_sort_keys_do_no_harm() -> None:
    text = json.dumps(everything().to_json(), sort_keys=True)
    assert Graph.from_json(text).resolve() == everything().resolve()


def test_saving_changes_nothing_and_gives_the_same_each_time() -> None:
    graph = everything()
    before = graph.resolve()
    assert graph.to_json() == graph.to_json()
    assert graph.resolve() == before
    assert json.loads(json.dumps(graph.to_json())) == graph.to_json()


def test_a_loaded_graph_runs_to_the_same_output() -> None:
    def output(graph: Graph) -> list[str]:
        SEEN.clear()
        graph.run(engine="inline")
        # which member of the pool takes an item, and so whether 3 or 3.0 multiplies it, is chance
        return sorted(repr(json.loads(json.dumps(each), parse_int=float)) for each in SEEN)

    expected = output(everything())
    assert len(expected) > 15
    assert output(through_text(everything())) == expected


def test_groups_and_subgraphs_are_kept_as_such() -> None:
    again = through_text(everything())
    assert repr(again.pool) == repr(everything().pool)
    assert [str(member) for member in again.pool] == ["pool_0", "pool_1"]
    assert repr(again.two) == repr(everything().two)
    assert repr(again.two_part) == repr(everything().two_part)
    again.extra = Numbers
    again.extra.number >> again.two.value  # its exported ports work
    outer = Graph()
    outer.inner = again
    assert str(outer.inner.rest) == "inner_meet.rest"


def test_what_is_in_a_subgraph_is_told_from_what_is_named_alike() -> None:
    inside = through_text(everything()).resolve().subgraphs["two"].nodes
    assert inside == ("two_before", "two_part_scale_0", "two_part_scale_1", "two_part_scale_2", "two_part_tally")


def test_a_graph_can_be_loaded_into_another_one_as_a_copy() -> None:
    outer = Graph()
    outer.first = through_text(everything())
    outer.second = through_text(everything())
    assert len(outer.nodes) == 2 * len(everything().nodes)
    assert through_text(outer).resolve() == outer.resolve()


def test_members_that_were_told_different_things_keep_them() -> None:
    pool = through_text(everything()).resolve().nodes
    values = [pool[name].inputs["factor"].constant for name in ("pool_0", "pool_1")]
    assert values == [3, 3.0]
    assert [type(value) for value in values] == [int, float]


def test_what_all_members_were_told_is_saved_once() -> None:
    graph = Graph()
    graph.pool = Scale * 3
    graph.pool.factor < [1]
    (node,) = graph.to_json()["nodes"]
    assert node == {
        "name": "pool",
        "component": "tests.serial.graphs:Scale",
        "size": 3,
        "constants": {"factor": [1]},
    }


def test_nothing_is_shared_with_what_was_saved_or_loaded() -> None:
    values = [1]
    graph = Graph()
    graph.numbers = Numbers
    graph.numbers.count < values
    saved = graph.to_json()
    again = Graph.from_json(saved)
    values.append(2)
    saved["nodes"][0]["constants"]["count"].append(3)
    assert again.resolve().nodes["numbers"].inputs["count"].constant == [1]


def test_an_empty_graph_can_be_saved() -> None:
    assert Graph().to_json() == {"cascata": 1, "nodes": []}
    assert len(Graph.from_json(Graph().to_json()).nodes) == 0


def test_a_line_that_was_never_finished_cannot_be_saved() -> None:
    graph = Graph()
    graph.numbers = Numbers
    graph.numbers.number >> 3
    with pytest.raises(DefinitionError, match=r"numbers.number >> 3.*connects nothing"):
        graph.to_json()


# --- values -----------------------------------------------------------------------------------------


class Text(str):
    """A text of its own kind."""

    __slots__ = ()


NESTED: list[Any] = []
NESTED.append(NESTED)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ((1, 2), r"\(tuple\).*come back as a list"),
        ({1: 2}, "its key 1 would come back as a text"),
        ({"a": [0, {3}]}, r"at \['a'\]\[1\].*JSON has no set"),
        (b"bytes", "JSON has no bytes"),
        (1j, "JSON has no complex"),
        (float("nan"), "JSON has no such number"),
        (float("inf"), "JSON has no such number"),
        (Text("x"), "JSON has no Text"),
        (object, "JSON has no type"),
        (NESTED, "nested more than 100 deep"),
        (1 << 20_000, "too large"),
    ],
    ids=lambda each: "" if isinstance(each, str) else type(each).__name__,
)
def test_a_value_that_would_not_come_back_is_refused_by_node_and_port(value: object, why: str) -> None:
    graph = Graph()
    graph.pool = Scale * 2
    graph.pool.factor.set(value)
    with pytest.raises(DefinitionError, match=rf"^pool_0\.factor.*{why}"):
        graph.to_json()


def test_an_argument_of_a_state_is_refused_likewise() -> None:
    graph = everything()
    graph.two_tally.count < (1, (2, 3))
    with pytest.raises(DefinitionError, match=r"^two_tally\.count, at \[1\].*tuple"):
        graph.to_json()


# --- components -------------------------------------------------------------------------------------


def test_a_class_that_its_name_no_longer_gives_is_refused() -> None:
    def made() -> type[Component]:
        @component
        async def Local(x: In[int]) -> None:
            """Made anew by each call."""

        return Local

    first, second = made(), made()
    graph = Graph()
    graph.old = first
    with pytest.raises(DefinitionError, match=r"^old: .*made.<locals>.Local of .* is another class by now"):
        graph.to_json()
    graph = Graph()
    graph.new = second
    assert Graph.from_json(graph.to_json()).resolve() == graph.resolve()


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def of_main() -> type[Component]:
    async def Scripted(x: In[int]) -> None:
        """As if a script defined it."""

    Scripted.__module__, Scripted.__qualname__ = "__main__", "Scripted"
    return component(Scripted)


def test_a_class_of_a_script_is_found_in_the_script(main_module: types.ModuleType) -> None:
    main_module.Scripted = made = of_main()  # type: ignore[attr-defined]  # it stands for a script
    graph = Graph.from_json({"cascata": 1, "nodes": [{"name": "a", "component": "__main__:Scripted"}]})
    assert type(graph.a) is made


def test_a_class_of_a_script_is_found_where_it_was_defined_since(main_module: types.ModuleType) -> None:
    graph = Graph.from_json({"cascata": 1, "nodes": [{"name": "a", "component": "__main__:Collect"}]})
    assert type(graph.a) is Collect
