"""What `@component` makes of a function: a class with its name, its ports, and a place in the registry."""

from __future__ import annotations

import gc
import inspect
import pickle
import pydoc
from collections.abc import Callable
from typing import Any

import dill
import pytest

from cascata import Graph, In, Out, State, component, registry
from cascata.dsl import Component
from cascata.dsl.registry import Registry
from cascata.errors import DefinitionError


@component
async def Scale(value: In[float], result: Out[float], factor: In[float] = 2.0, seen: State[int] = State(int)) -> None:
    """Multiplies."""
    await result.send(value * factor)


def define(name: str) -> type[Component]:
    async def runner(value: In[int]) -> None: ...

    runner.__name__ = runner.__qualname__ = name
    return component(runner)


def test_the_class_keeps_name_module_and_documentation() -> None:
    assert isinstance(Scale, type)
    assert issubclass(Scale, Component)
    assert (Scale.__name__, Scale.__qualname__, Scale.__module__) == ("Scale", "Scale", __name__)
    assert Scale.__doc__ == "Multiplies."
    assert Scale.spec.doc == "Multiplies."
    assert (Scale.spec.name, Scale.spec.module, Scale.spec.qualname) == ("Scale", __name__, "Scale")


def test_repr_shows_the_ports_with_types_and_defaults() -> None:
    assert repr(Scale) == (
        "<component Scale(value: float (capacity 100), factor: float = 2.0 (capacity 100)) -> result: float>"
    )


def test_help_shows_the_signature_the_documentation_and_every_port() -> None:
    text = pydoc.plain(pydoc.render_doc(Scale))
    # Python 3.13 breaks the line, and 3.14 shows what is a text without quotes.
    assert "Scale(value:In[float]" in "".join(text.replace("'", "").replace("|", "").split())
    assert "Multiplies." in text
    assert "value = <in-port value: float (capacity 100)>" in text
    assert "result = <out-port result: float>" in text
    assert "seen = <state seen: int>" in text


def test_the_signature_is_that_of_the_runner() -> None:
    assert list(inspect.signature(Scale).parameters) == ["value", "result", "factor", "seen"]


def test_a_class_is_not_called() -> None:
    with pytest.raises(DefinitionError, match=r"Scale\(...\) makes no node: write `graph.name = Scale`.*Scale.test\("):
        Scale()


@pytest.mark.parametrize("size", [0, -1, 2.0, "2", True])
def test_a_group_has_a_whole_number_of_members(size: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Scale \* .*at least 1: write `graph.name = Scale \* 4`"):
        Scale * size


def test_a_group_is_written_from_either_side() -> None:
    assert repr(Scale * 4) == repr(4 * Scale) == "Scale * 4"


def test_a_node_is_an_instance_of_its_class() -> None:
    graph = Graph()
    graph.scale = Scale
    assert isinstance(graph.scale, Scale)
    assert graph.scale.spec is Scale.spec


def test_the_spec_of_an_importable_component_travels_by_reference() -> None:
    assert pickle.loads(pickle.dumps(Scale.spec)) is Scale.spec


def test_a_local_component_travels_by_value() -> None:
    local = dill.loads(dill.dumps(define("local")))
    assert local.spec.name == "local"
    assert [port.name for port in local.spec.inports] == ["value"]


# --- registry ---------------------------------------------------------------------------------------


def test_the_registry_has_every_class_by_module_and_name() -> None:
    assert registry[f"{__name__}.Scale"] is Scale
    assert registry[__name__, "Scale"] is Scale
    assert f"{__name__}.Scale" in list(registry)
    assert f"{__name__}.Scale" in registry
    assert len(registry) == len(list(registry))


def test_the_registry_shows_ports_types_capacities_and_defaults() -> None:
    assert f"{__name__}.Scale(value: float (capacity 100), factor: float = 2.0 (capacity 100))" in repr(registry)


def test_a_definition_replaces_the_one_before() -> None:
    first, second = define("again"), define("again")
    assert first is not second
    assert registry["again"] is second


def test_a_class_that_nothing_refers_to_is_gone() -> None:
    kept = define("kept")
    define("lost")
    gc.collect()
    assert kept.spec.name in registry
    assert "lost" not in registry


def test_an_unknown_component_is_named_with_the_nearest() -> None:
    kept = define("remembered")
    with pytest.raises(KeyError, match=r"no component 'remebered'. Did you mean 'remembered'"):
        registry["remebered"]
    wrong: object = 5
    assert wrong not in registry
    assert kept.spec.name in registry


def test_a_name_in_several_modules_needs_its_module() -> None:
    kept = [define("shared"), define("shared")]
    separate = Registry()
    for index, each in enumerate(kept):
        object.__setattr__(each.spec, "module", f"module_{index}")
        separate.add(each)
    with pytest.raises(KeyError, match=r"'shared' is in several modules: module_0.shared, module_1.shared"):
        separate["shared"]


# --- ports of a class -------------------------------------------------------------------------------


def test_a_port_of_the_class_is_not_wired() -> None:
    declared: Any = vars(Scale)
    with pytest.raises(DefinitionError, match=r"result is what a component declares.*then `graph.name.result`"):
        declared["result"] >> declared["value"]
    with pytest.raises(DefinitionError, match=r"value is what a component declares.*then `graph.name.value`"):
        declared["value"] < 5


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (lambda: vars(Scale)["value"], "<in-port value: float (capacity 100)>"),
        (lambda: vars(Scale)["result"], "<out-port result: float>"),
        (lambda: vars(Scale)["seen"], "<state seen: int>"),
    ],
)
def test_a_port_can_be_looked_at_on_the_class(port: Callable[[], object], text: str) -> None:
    assert repr(port()) == text
