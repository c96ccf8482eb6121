"""How a runner's parameters are put in their places, so that a call needs only the items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cascata.model import ComponentSpec
from cascata.runtime.runner_calls import bind


def spec_of(runner: Any, *parameters: str, keyword_only: Sequence[str] = ()) -> ComponentSpec:
    return ComponentSpec(
        name="Runner",
        module=__name__,
        qualname="Runner",
        runner=runner,
        form="plain",
        parameters=parameters,
        keyword_only=frozenset(keyword_only),
    )


def told(a: Any, b: Any = None, c: Any = None, d: Any = None) -> tuple[Any, ...]:
    return a, b, c, d


def test_a_runner_that_takes_items_alone_is_called_as_it_is() -> None:
    assert bind(spec_of(told, "a", "b"), ("a", "b"), {}) is told


@pytest.mark.parametrize("fixed", [{"b": 2}, {"b": 2, "c": 3}, {"b": 2, "c": 3, "d": 4}])
def test_fixed_values_follow_the_item(fixed: dict[str, int]) -> None:
    call = bind(spec_of(told, "a", *fixed), ("a",), fixed)
    assert call("item") == ("item", *fixed.values(), *[None] * (3 - len(fixed)))


def test_fixed_values_stand_where_the_signature_has_them() -> None:
    call = bind(spec_of(told, "a", "b", "c", "d"), ("b", "d"), {"a": 1, "c": 3, "not a parameter": 0})
    assert call("first", "second") == (1, "first", 3, "second")


def test_items_are_matched_by_name_when_they_come_in_another_order() -> None:
    call = bind(spec_of(told, "a", "b", "c"), ("c", "a"), {"b": 2})
    assert call("for c", "for a") == ("for a", 2, "for c", None)


def test_parameters_that_must_be_named_are_named() -> None:
    def runner(a: Any, *, b: Any, c: Any) -> tuple[Any, ...]:
        return a, b, c

    call = bind(spec_of(runner, "a", "b", "c", keyword_only=("b", "c")), ("b",), {"a": 1, "c": 3})
    assert call("item") == (1, "item", 3)


def test_no_items_at_all_are_a_call_too() -> None:
    assert bind(spec_of(told, "a", "b"), (), {"a": 1, "b": 2})() == (1, 2, None, None)
