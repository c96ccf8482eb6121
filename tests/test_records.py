"""What `cascata.records` makes is a dataclass, whichever way it is looked at."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import field
from typing import Any

import pytest

from cascata.records import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Frozen."""

    x: int
    y: int = 2
    names: list[str] = field(default_factory=list, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Empty:
    pass


@dataclass(frozen=True, slots=True)
class Other:
    x: int
    y: int = 2


@dataclass(slots=True)
class Open:
    """Not frozen."""

    x: float
    more: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Wider(Open):
    """Has fields of its own."""

    z: int = 3


@dataclass(slots=True, eq=False, repr=False)
class Plain:
    x: float

    def __repr__(self) -> str:
        return "plain"


def test_its_init_takes_what_that_of_a_dataclass_takes() -> None:
    assert (Point(1).x, Point(1).y, Point(1).names) == (1, 2, [])
    assert (Point(y=5, x=4).x, Point(4, 5, ["a"]).names) == (4, ["a"])
    assert Point(1).names is not Point(1).names
    assert (Wider(1, [2]).z, Wider(1, z=4).more) == (3, [])
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        Point(1, z=2)  # type: ignore[call-arg]


def test_equal_are_those_of_one_class_whose_compared_fields_are_equal() -> None:
    nan = float("nan")
    assert Point(1, 2, ["a"]) == Point(1, 2, ["b"])
    assert Point(1) != Point(2)
    assert Empty() == Empty()
    assert Open(1) == Open(1)
    assert Plain(1) != Plain(1)
    assert Plain(nan).x is nan
    different: object = Other(1)
    assert Point(1) != different
    assert Open(nan) == Open(nan)  # what is the same object is equal, as in a tuple
    assert len({Point(1), Point(1), Point(2), Empty(), Empty()}) == 3
    assert len({Plain(1), Plain(1)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Open(1))


def test_frozen_is_frozen() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    for each in (point, Open(1)):
        assert not hasattr(each, "__dict__")
    opened = Open(1)
    opened.x = 2
    assert opened == Open(2)


def test_it_is_shown_with_its_fields() -> None:
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert repr(Empty()) == "Empty()"
    assert repr(Wider(1)) == "Wider(x=1, more=[], z=3)"
    assert repr(Plain(1)) == "plain"
    itself = Open(1)
    itself.more.append(itself)
    assert repr(itself) == "Open(x=1, more=[...])"


def test_what_works_on_dataclasses_works_on_it() -> None:
    assert [each.name for each in dataclasses.fields(Wider)] == ["x", "more", "z"]
    kind: object = Point
    assert dataclasses.is_dataclass(kind)
    assert dataclasses.replace(Point(1), y=7) == Point(1, 7)
    assert dataclasses.asdict(Open(1, [Point(2)])) == {"x": 1, "more": [{"x": 2, "y": 2, "names": []}]}
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)


@pytest.mark.parametrize("value", [Point(1, 2, ["a"]), Empty(), Open(1, [2]), Wider(1, [2], 4)], ids=repr)
def test_it_is_pickled_and_copied(value: Any) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert (again, type(again)) == (value, type(value))
    assert copy.copy(value) == copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(Point(1, 2, ["a"]))).names == ["a"]
