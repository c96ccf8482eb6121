"""Options stand in a table for the program and in typed dicts for type checkers: both say the same."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_overloads, get_type_hints

import pytest

from cascata import Graph
from cascata.options import (
    COMPONENT_OPTIONS,
    RUN_OPTIONS,
    ComponentKwargs,
    MapKwargs,
    Measured,
    Option,
    RunKwargs,
    RunOptions,
)
from cascata.workflow import Task

BOTH = [(RUN_OPTIONS, RunKwargs), (COMPONENT_OPTIONS, ComponentKwargs)]
EACH = [
    pytest.param(option, get_type_hints(typed)[name], id=f"{typed.__name__}.{name}")
    for table, typed in BOTH
    for name, option in table.items()
    if name in get_type_hints(typed)
]
REPORT = types.SimpleNamespace(nodes={}, edges=())
WORDS = ("text", "", "processes", "inline", "ray", "fork", "forkserver", "spawn", "raise", "skip", "fail", "restart")
NUMBERS = (-1, 0, 1, 100, -0.5, 0.5, 3.0)
VALUES: tuple[Any, ...] = (None, True, False, *NUMBERS, *WORDS, b"text", [], (), {}, {"CPU": 2}, set(), REPORT, int)


def fits(value: object, hint: Any) -> bool:
    """Whether a type checker would take a value; True and False count as no numbers."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is Measured:
        return hasattr(value, "nodes") and hasattr(value, "edges")
    if hint in (int, float) and isinstance(value, bool):
        return False
    kinds = {float: (int, float)}.get(hint, origin or hint)
    return isinstance(value, kinds)


def members(hint: Any) -> list[Any]:
    """The types and literals that a type is made of."""
    if get_origin(hint) in (Union, types.UnionType):
        return [member for each in get_args(hint) for member in members(each)]
    if get_origin(hint) is Literal:
        return [Literal[each] for each in get_args(hint)]
    return [hint]


@pytest.mark.parametrize(("table", "typed"), BOTH, ids=["run", "component"])
def test_both_name_the_same_options(table: Mapping[str, Option], typed: Any) -> None:
    assert set(get_type_hints(typed)) == set(table)
    assert typed.__required_keys__ == frozenset()


@pytest.mark.parametrize(("option", "hint"), EACH)
def test_what_is_accepted_is_what_its_type_says(option: Option, hint: Any) -> None:
    accepted = [value for value in VALUES if option.accepts(value)]
    assert [value for value in accepted if not fits(value, hint)] == []
    assert [member for member in members(hint) if not any(fits(value, member) for value in accepted)] == []
    assert fits(option.default, hint)


def test_the_options_of_a_run_that_was_checked_are_the_same() -> None:
    assert {field.name for field in fields(RunOptions)} == set(RUN_OPTIONS)


@pytest.mark.parametrize("verb", [Graph.stream, Graph.astream])
def test_what_may_stand_beside_sources_by_name_is_the_same(verb: Any) -> None:
    _, by_name = get_overloads(verb)
    spelled = {
        name: parameter.annotation
        for name, parameter in inspect.signature(by_name).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    scope = vars(inspect.getmodule(verb))
    assert {name: eval(text, scope) for name, text in spelled.items()} == get_type_hints(RunKwargs)  # noqa: S307  # our own


def test_what_a_map_passes_on_is_what_it_has_no_parameter_for() -> None:
    own = set(inspect.signature(Task.map).parameters)
    assert set(get_type_hints(MapKwargs)) == set(RUN_OPTIONS) - own
    assert set(RUN_OPTIONS) & own == {"num_workers", "engine"}
