"""Declaring components: both styles, and what they resolve to."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from cascata import BlockingOut, In, Out, State, Stopping, component, inport, outport, persist
from cascata.dsl.component import Component
from cascata.errors import DefinitionError
from cascata.model import MISSING, InPortSpec, OutPortSpec, StateSpec

if TYPE_CHECKING:
    from somewhere_else import NeverImported  # type: ignore[import-not-found]

# --- both styles ------------------------------------------------------------------------------------


def test_decorators_declare_ports_in_any_order_below_component() -> None:
    @component
    @outport("data_out")
    @inport("constant_in", default=1)
    @persist("seen", dict)
    @inport("data_in", capacity=10)
    async def incrementer(data_in: Any, constant_in: Any, data_out: Any, seen: Any) -> None: ...

    spec = incrementer.spec
    assert spec.inports == (InPortSpec("data_in", capacity=10), InPortSpec("constant_in", default=1))
    assert spec.outports == (OutPortSpec("data_out"),)
    assert spec.states == (StateSpec("seen", dict),)
    assert spec.parameters == ("data_in", "constant_in", "data_out", "seen")


def test_annotations_declare_the_same_as_decorators() -> None:
    @component
    async def scale(
        value: In[float], result: Out[float], factor: In[float] = 2.0, seen: State[int] = State(int)
    ) -> None: ...

    spec = scale.spec
    assert spec.inports == (InPortSpec("value", float), InPortSpec("factor", float, default=2.0))
    assert spec.outports == (OutPortSpec("result", float),)
    assert spec.states == (StateSpec("seen", int, int),)


def test_a_decorator_on_top_of_an_annotation_sets_its_options() -> None:
    @component
    @inport("value", capacity=32)
    async def keep(value: In[float]) -> None: ...

    assert keep.spec.inports == (InPortSpec("value", float, capacity=32),)


def test_a_blocking_out_port_is_an_out_port_of_a_runner_in_a_thread() -> None:
    @component(thread=True)
    def double(value: In[int], result: BlockingOut[int], rest: BlockingOut[Any]) -> None:
        result.send(2 * value)

    assert double.spec.outports == (OutPortSpec("result", int), OutPortSpec("rest"))
    assert double.test(value=4) == {"result": [8], "rest": []}


def test_a_blocking_out_port_elsewhere_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'result' is a BlockingOut.*Write `result: Out\[\.\.\.\]`, or @comp"):

        @component
        async def double(value: In[int], result: BlockingOut[int]) -> None: ...


def test_the_default_capacity_is_a_hundred() -> None:
    @component
    async def keep(value: In[int]) -> None: ...

    assert keep.spec.inports[0].capacity == 100


def test_a_parameters_default_is_the_ports_default_in_the_decorator_style_too() -> None:
    @component
    @inport("value")
    async def keep(value: Any = None) -> None: ...

    assert keep.spec.inports[0].default is None


def test_a_port_without_default_has_none_not_even_none() -> None:
    @component
    async def keep(value: In[int]) -> None: ...

    assert keep.spec.inports[0].default is MISSING


def test_types_come_from_the_decorator_or_a_plain_annotation() -> None:
    @component
    @inport("given", type=int)
    @inport("annotated")
    @inport("unknown")
    @outport("sent", type=str)
    async def typed(given: Any, annotated: list[int], unknown: Any, sent: Any) -> None: ...

    assert [port.type for port in typed.spec.inports] == [int, list[int], Any]
    assert typed.spec.outports[0].type is str


def test_a_plain_annotation_of_an_out_port_is_not_the_type_of_its_items() -> None:
    @component
    @outport("sent")
    async def typed(sent: Component) -> None: ...

    assert typed.spec.outports[0].type is Any


def test_keyword_only_parameters_are_noted() -> None:
    @component
    async def keyed(value: In[int], *, result: Out[int]) -> None: ...

    assert keyed.spec.keyword_only == {"result"}


def test_state_may_be_declared_by_its_default_alone() -> None:
    @component
    @inport("value")
    async def counting(value: Any, seen: Any = State(int)) -> None: ...

    assert counting.spec.states == (StateSpec("seen", int),)


def test_options_are_kept_with_the_defaults_of_the_others() -> None:
    @component(concurrency=4, timeout=1.5)
    async def worker(value: In[int]) -> None: ...

    assert worker.spec.options["concurrency"] == 4
    assert worker.spec.options["timeout"] == 1.5
    assert worker.spec.options["ordered"] is True


# --- annotations as texts ---------------------------------------------------------------------------


def test_texts_that_name_local_classes_are_found() -> None:
    class Local: ...

    @component
    async def local(value: In[Local], several: In[list[Local]]) -> None: ...

    assert [port.type for port in local.spec.inports] == [Local, list[Local]]


def test_texts_that_name_local_classes_are_found_with_options_too() -> None:
    class Local: ...

    @component(concurrency=2)
    async def local(value: In[Local]) -> None: ...

    assert local.spec.inports[0].type is Local


def test_texts_that_name_classes_of_functions_further_out_are_found() -> None:
    class Local: ...

    def inner() -> type[Component]:
        @component
        async def local(value: In[Local], out: Out[list[Local]]) -> None: ...

        return local

    spec = inner().spec
    assert [spec.inports[0].type, spec.outports[0].type] == [Local, list[Local]]


def test_texts_in_a_class_body_name_what_is_defined_there_and_around_it() -> None:
    class Local: ...

    class Parts:
        class Nested: ...

        @component
        async def local(value: In[Nested], other: In[Local]) -> None: ...  # noqa: N805  # a component, not a method

    assert [port.type for port in Parts.local.spec.inports] == [Parts.Nested, Local]


def test_texts_that_name_local_classes_are_found_wherever_the_decorator_is_called() -> None:
    class Local: ...

    def declared(function: Any) -> type[Component]:
        return component(function)

    async def local(value: In[Local]) -> None: ...

    assert declared(local).spec.inports[0].type is Local
    assert declare_elsewhere(local).spec.inports[0].type is Local


def declare_elsewhere(function: Any) -> type[Component]:
    return component(function)


def made_by_a_function_that_has_returned() -> Any:
    class Local: ...

    async def local(value: In[Local], out: Out[Local]) -> None:
        await out.send(Local())

    return Local, local


def test_what_a_runner_uses_itself_is_found_when_the_function_around_it_has_returned() -> None:
    its_class, function = made_by_a_function_that_has_returned()
    assert component(function).spec.inports[0].type is its_class


def test_a_name_that_is_defined_later_takes_anything_and_the_others_are_found() -> None:
    class Local: ...

    @component
    async def local(value: In[Local], later: In[Later], several: In[dict[Local, Later]]) -> None: ...

    class Later: ...

    assert [port.type for port in local.spec.inports] == [Local, Any, Any]


def test_an_annotation_that_cannot_be_resolved_keeps_its_kind_and_takes_anything() -> None:
    @component
    async def unresolved(
        value: In[NeverImported],
        deep: In[NeverImported.Inner[int] | None],
        result: Out[list[NeverImported]],
        seen: State[NeverImported] = State(int),
    ) -> None: ...

    spec = unresolved.spec
    assert [port.type for port in spec.inports] == [Any, Any]
    assert spec.outports == (OutPortSpec("result"),)
    assert spec.states == (StateSpec("seen", int),)


@pytest.mark.parametrize("text", ["In['int' | None]", "cascata . In[1 +]", "In[1/0]"])
def test_an_annotation_that_raises_keeps_its_kind_and_takes_anything(text: str) -> None:
    async def odd(value: int) -> None: ...

    odd.__annotations__["value"] = text
    assert component(odd).spec.inports == (InPortSpec("value"),)


def test_a_text_inside_of_an_annotation_is_resolved() -> None:
    async def inner(value: Any) -> None: ...

    inner.__annotations__["value"] = In["list[Component]"]
    assert component(inner).spec.inports[0].type == list[Component]


def test_an_in_port_inside_of_annotated_is_one() -> None:
    @component
    async def noted(value: Annotated[In[int], "in metres"]) -> None: ...

    assert noted.spec.inports[0].name == "value"


def test_bare_annotations_take_anything() -> None:
    @component
    async def bare(value: In, result: Out, seen: State = State(int)) -> None: ...  # type: ignore[type-arg]

    spec = bare.spec
    assert [*spec.inports, *spec.outports, *spec.states] == [
        InPortSpec("value"),
        OutPortSpec("result"),
        StateSpec("seen", int),
    ]


# --- runner forms -----------------------------------------------------------------------------------


def test_the_form_of_the_runner_is_found() -> None:
    @component
    async def one(x: In[int]) -> None: ...

    @component
    async def two(x: In[int], y: Out[int]) -> AsyncIterator[int]:
        yield x

    @component
    def three(x: In[int]) -> None: ...

    @component
    def four(x: In[int], y: Out[int]) -> Iterator[int]:
        yield x

    assert [each.spec.form for each in (one, two, three, four)] == ["async", "async_generator", "plain", "generator"]


def test_a_plain_wrapper_has_the_form_and_the_parameters_of_what_it_wraps() -> None:
    def twice(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @component
    @twice
    @inport("x")
    async def wrapped(x: Any) -> None: ...

    assert wrapped.spec.form == "async"
    assert wrapped.spec.parameters == ("x",)


def test_a_runner_that_yields_needs_no_parameter_for_its_out_port() -> None:
    @component
    @inport("x")
    @outport("y", type=int)
    def numbers(x: int) -> Iterator[int]:
        yield x

    assert numbers.spec.outports == (OutPortSpec("y", int),)
    assert numbers.spec.parameters == ("x",)


def test_a_runner_that_returns_a_value_needs_no_parameter_for_its_out_port() -> None:
    @component
    @inport("x")
    @outport("y")
    async def double(x: int) -> int:
        return 2 * x

    assert double.test(x=2) == {"y": [4]}


def test_a_runner_that_returns_nothing_needs_one() -> None:
    with pytest.raises(DefinitionError, match=r"@component of sender: out-port 'y' has no parameter"):

        @component
        @inport("x")
        @outport("y")
        async def sender(x: int) -> None:
            if x:
                return
            print(x)


@pytest.mark.parametrize("ports", [[], ["a", "b"]])
def test_a_runner_that_yields_needs_exactly_one_out_port(ports: list[str]) -> None:
    async def numbers(a: Any, b: Any) -> AsyncIterator[int]:
        yield 1

    declared: Any = numbers
    for name in ("a", "b"):
        declared = outport(name)(declared) if name in ports else inport(name)(declared)
    with pytest.raises(DefinitionError, match=r"numbers: it yields.*only out-port.*(has none|2 \(a, b\))") as raised:
        component(declared)
    assert "exactly one out-port" in str(raised.value)
    assert isinstance(raised.value, TypeError)


def test_a_thread_takes_plain_functions() -> None:
    @component(thread=True)
    def blocking(x: In[int], y: Out[int]) -> None: ...

    assert blocking.spec.options["thread"] is True


def test_a_thread_takes_no_coroutine() -> None:
    with pytest.raises(DefinitionError, match=r"@component of busy: thread=True runs a plain `def`.*Write `def`"):

        @component(thread=True)
        async def busy(x: In[int]) -> None: ...


# --- stopping ------------------------------------------------------------------------------------------


def test_a_parameter_that_awaits_the_stop_is_no_port() -> None:
    @component
    @inport("item")
    @outport("out")
    async def Decorated(item: Any, out: Any, halt: Stopping) -> None: ...

    @component
    async def Annotated(item: In[int], out: Out[int], *, stopping: Stopping) -> None: ...

    for each, name in ((Decorated, "halt"), (Annotated, "stopping")):
        assert each.spec.stopping == (name,)
        assert [port.name for port in each.spec.inports] == ["item"]
        assert [port.name for port in each.spec.outports] == ["out"]
        assert not hasattr(each, name)


def test_what_awaits_the_stop_has_no_default_and_is_not_declared_as_a_port() -> None:
    with pytest.raises(DefinitionError, match=r"the run gives it its value\. Write `stopping: Stopping`"):

        @component
        async def HasDefault(stopping: Stopping = None) -> None:  # type: ignore[assignment]
            ...

    with pytest.raises(DefinitionError, match="declared as an in-port above the function and as what tells of a stop"):

        @component
        @inport("stopping")
        async def IsPort(stopping: Stopping) -> None: ...
