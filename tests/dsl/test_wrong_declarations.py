"""Every wrong declaration of a component, and what its error says."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from cascata import In, Out, State, component, inport, outport, persist
from cascata.dsl.component import Component
from cascata.dsl.declare import RESERVED_PORT_NAMES
from cascata.dsl.group import Group
from cascata.errors import DefinitionError

# --- wrong declarations -----------------------------------------------------------------------------


def test_a_parameter_without_a_port_is_named_with_the_nearest_port() -> None:
    with pytest.raises(DefinitionError) as raised:

        @component
        @inport("data_in")
        async def keep(dat_in: Any) -> None: ...

    text = str(raised.value)
    assert "@component of keep: parameter 'dat_in' has no port. Did you mean 'data_in'?" in text
    assert "in-port 'data_in' has no parameter. Did you mean 'dat_in'?" in text


def test_a_parameter_without_a_port_is_told_how_to_declare_one() -> None:
    with pytest.raises(DefinitionError, match=r"'x' has no port: declare it, with @inport\('x'\) or `x: In\[...\]`"):

        @component
        async def keep(x: int) -> None: ...


def test_a_parameter_with_a_default_needs_a_port_too() -> None:
    with pytest.raises(DefinitionError, match=r"parameter 'scale' has no port"):

        @component
        @inport("x")
        async def keep(x: int, scale: int = 2) -> None: ...


def test_a_port_without_a_parameter_is_named_with_the_nearest_parameter() -> None:
    with pytest.raises(DefinitionError, match=r"in-port 'valeu' has no parameter. Did you mean 'value'\?"):

        @component
        @inport("value")
        @inport("valeu")
        async def keep(value: Any) -> None: ...


def test_state_without_a_parameter_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"state 'seen' has no parameter"):

        @component
        @inport("value")
        @persist("seen", int)
        async def keep(value: Any) -> None: ...


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, "10", None])
def test_a_capacity_is_a_whole_number_of_at_least_one(capacity: Any) -> None:
    with pytest.raises(DefinitionError, match=r"@inport\('x'\): capacity must be a whole number of at least 1, not "):
        inport("x", capacity=capacity)


@pytest.mark.parametrize("declare", [inport, outport, lambda name: persist(name, int)])
@pytest.mark.parametrize("name", [*RESERVED_PORT_NAMES, "_private"])
def test_a_reserved_name_is_refused_with_the_closed_list(declare: Any, name: str) -> None:
    with pytest.raises(DefinitionError, match=f"'{name}'.*a node uses this name") as raised:
        declare(name)
    assert "clk, errors, ordered, spec, sync, test, test_async" in str(raised.value)


def test_a_reserved_name_is_refused_in_an_annotation_too() -> None:
    with pytest.raises(DefinitionError, match=r"@component of keep.*'sync'.*a node uses this name"):

        @component
        async def keep(sync: In[int]) -> None: ...


def test_the_reserved_names_are_exactly_those_that_nodes_and_groups_use() -> None:
    used = {name for kind in (Component, Group) for name in dir(kind) if not name.startswith("_")}
    assert used | {"spec"} == set(RESERVED_PORT_NAMES)


def test_a_name_declared_twice_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"@component of keep: 'x' is declared twice"):

        @component
        @inport("x")
        @outport("x")
        async def keep(x: Any) -> None: ...


def test_a_decorator_and_an_annotation_that_disagree_are_named() -> None:
    with pytest.raises(DefinitionError, match=r"keep: 'x' is declared as an out-port above.*and as an in-port by its"):

        @component
        @outport("x")
        async def keep(x: In[int]) -> None: ...


def test_two_defaults_are_one_too_many() -> None:
    with pytest.raises(DefinitionError, match=r"in-port 'x' has two defaults, 1 in @inport and 2 in the signature"):

        @component
        @inport("x", default=1)
        async def keep(x: int = 2) -> None: ...


def test_two_initializers_are_one_too_many() -> None:
    with pytest.raises(DefinitionError, match=r"state 'seen' has two initializers"):

        @component
        @persist("seen", int)
        async def keep(seen: State[int] = State(int)) -> None: ...


def test_an_out_port_has_no_default() -> None:
    with pytest.raises(DefinitionError, match=r"out-port 'y' has a default \(None\)"):

        @component
        async def keep(y: Out[int] = None) -> None: ...  # type: ignore[assignment]


def test_state_without_an_initializer_is_told_how_to_write_one() -> None:
    with pytest.raises(DefinitionError, match=r"state 'seen' has nothing that makes.*seen: State\[...\] = State\("):

        @component
        async def keep(seen: State[int]) -> None: ...


def test_a_value_in_place_of_an_initializer_is_told_how_to_write_one() -> None:
    with pytest.raises(DefinitionError, match=r"state 'seen' has the default 0.*State\(initializer\)"):

        @component
        async def keep(seen: State[int] = 0) -> None: ...  # type: ignore[assignment]

    with pytest.raises(DefinitionError, match=r"State\(5\): an initializer is called.*State\(lambda: 5\)"):
        State(5)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"State\(5\).*Write State\(lambda: 5\)"):
        persist("seen", 5)  # type: ignore[arg-type]


def test_a_state_as_the_default_of_an_in_port_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'x' is declared as an in-port above.*and as a state"):

        @component
        @inport("x")
        async def keep(x: Any = State(int)) -> None: ...


@pytest.mark.parametrize("stars", ["*", "**"])
def test_variable_parameters_are_refused(stars: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"async def keep({stars}rest): ...", scope)  # noqa: S102 - both signatures from one text
    with pytest.raises(DefinitionError, match=r"@component of keep: \*\*?rest matches no port"):
        component(scope["keep"])


def test_positional_only_parameters_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"parameter 'x' is positional-only.*Leave out the `/`"):

        @component
        async def keep(x: In[int], /) -> None: ...


def test_an_unknown_option_is_named_with_the_nearest() -> None:
    with pytest.raises(DefinitionError, match=r"@component of keep: unknown option 'concurency'.*'concurrency'"):

        @component(concurency=2)  # type: ignore[call-overload, untyped-decorator]  # that is the question
        async def keep(x: In[int]) -> None: ...


def test_a_wrong_value_of_an_option_is_named_with_what_is_allowed() -> None:
    with pytest.raises(DefinitionError, match=r"option 'retries' must be a whole number of at least 0, not -1"):

        @component(retries=-1)
        async def keep(x: In[int]) -> None: ...


def test_component_stands_on_top() -> None:
    with pytest.raises(DefinitionError, match=r"@inport\('x'\) stands above @component of keep.*must be topmost"):

        @inport("x")
        @component
        async def keep(x: In[int]) -> None: ...


def test_component_stands_on_a_function() -> None:
    with pytest.raises(DefinitionError, match=r"@component stands on a function, not on Thing, a class"):

        @component
        class Thing: ...

    with pytest.raises(DefinitionError, match=r"@component stands on a function, not on 'name'"):
        component("name")  # type: ignore[call-overload]


def test_a_port_stands_on_a_function() -> None:
    with pytest.raises(DefinitionError, match=r"@outport\('y'\) stands on .*, which is not a function"):
        outport("y")(functools.partial(print))


def test_a_decorator_without_its_name_is_told_how_to_write_it() -> None:
    with pytest.raises(DefinitionError, match=r'@inport takes the name of the port: write @inport\("name"\)'):

        @inport  # type: ignore[arg-type]
        async def keep(x: Any) -> None: ...


def test_a_name_that_no_parameter_can_have_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"@inport\('data-in'\): the name of a port is the name of a parameter"):
        inport("data-in")


def test_declared_state_has_no_value_outside_of_a_node() -> None:
    seen = State(int)
    for use in (seen.get, lambda: seen.set(1), lambda: seen.value, lambda: setattr(seen, "value", 1)):
        with pytest.raises(Exception, match=r"State\(int\) only declares state"):
            use()
