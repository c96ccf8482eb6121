"""Classes of a script that are told by their annotations: what a worker gets is the class as the script wrote it."""

from __future__ import annotations

import sys
from typing import Final

import pytest

from tests.programs import Script

# A probe is called where the script runs and in a worker, and must give the same in both.
PROBED: Final = """
@component
async def Give(what: In[object], out: Out[object]) -> None:
    await out.send(what)

@component
async def Show(what: In[object]) -> None:
    print(probe(what))

print(probe(GIVEN))
graph = Graph()
graph.give, graph.show = Give, Show
graph.give.what < GIVEN
graph.give >> graph.show
graph.run(num_workers=2, timeout=20)
"""

TYPED_DICTS: Final = """
from typing import Generic, NotRequired, Required, TypedDict, TypeVar, get_type_hints
from cascata import *

T = TypeVar("T")

class Row(TypedDict):
    name: str
    size: NotRequired[int]

class Named(Row, total=False):
    '''Some more.'''
    others: "list[Named]"
    note: Required[str]

class Holding(TypedDict, Generic[T]):
    it: T

Odd = TypedDict("Odd", {"no-name": int})
get_type_hints(Named)  # which remembers what it has found

def probe(named):
    return [
        (sorted(kind.__required_keys__), sorted(kind.__optional_keys__), kind.__total__, kind.__name__, kind.__doc__)
        for kind in (Row, Named, Holding, Odd)
    ] + [sorted(get_type_hints(Named)), Holding[int], Holding.__parameters__, Odd.__annotations__, named]

GIVEN = Named(name="a", others=[], note="b")
"""

NAMED_TUPLES: Final = """
import collections
from typing import NamedTuple
from cascata import *

class Point(NamedTuple):
    '''A place.'''
    x: int
    y: "int | None" = None

    @property
    def doubled(self):
        return self._replace(x=2 * self.x)

    @classmethod
    def origin(cls):
        return cls(0, 0)

    def __repr__(self):
        return f"<{self.x} {self.y}>"

Plain = collections.namedtuple("Plain", "a b", defaults=[3])

def probe(point):
    shown = point, point.doubled, Point.origin(), isinstance(point, Point), Point.__doc__, list(Point.__annotations__)
    return *shown, Point._field_defaults, Plain(1), Plain.__name__

GIVEN = Point(3)
"""

OTHERS: Final = """
import enum
from dataclasses import dataclass, field, fields
from typing import Generic, Protocol, TypeVar, runtime_checkable
from cascata import *

T = TypeVar("T")

@runtime_checkable
class HasValue(Protocol):
    value: int

    def other(self) -> "HasValue": ...

@dataclass
class Tree:
    value: int
    kids: "list[Tree]" = field(default_factory=list)
    more: "NotThere | None" = None

@dataclass(frozen=True, slots=True)
class Slim:
    value: int = 1
    next: "Slim | None" = None

class Colour(enum.Enum):
    note: str
    RED = 1

class Box(Generic[T]):
    what: T

    def __init__(self, what: T) -> None:
        self.what = what

def probe(tree):
    has = isinstance(tree, HasValue), isinstance(Slim(), HasValue)
    return tree, [each.name for each in fields(Tree)], Slim(2) == Slim(2), Colour(1), Box[int], Box(2).what, has

GIVEN = Tree(1, [Tree(2)])
"""

LAZY: Final = """
from typing import get_type_hints
from cascata import *

class Box:
    class Inner:
        it: int

    inside: Inner
    both: Later | Box | None

    def me(self, other: NotThere) -> Later:
        return self

class Later:
    pass

def helper(box: NotThere, later: Later = None) -> NotThere:
    return type(box).__name__

def probe(box):
    return helper(box), get_type_hints(Box), Box.__annotations__["inside"] is Box.Inner, box.me(1) is box

GIVEN = Box()
"""


@pytest.mark.parametrize("text", [TYPED_DICTS, NAMED_TUPLES, OTHERS], ids=["typed dicts", "named tuples", "others"])
def test_a_class_that_its_annotations_make_is_the_same_in_a_worker(script: Script, text: str) -> None:
    here, there = script.prints(text + PROBED)
    assert there == here


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at once before")
def test_a_class_whose_annotations_are_evaluated_late_is_the_same_in_a_worker(script: Script) -> None:
    here, there = script.prints(LAZY + PROBED)
    assert there == here
