"""What a script, a module run with -m or a prompt defines is the same in its workers: classes, functions, items."""

from __future__ import annotations

import ast
import textwrap
from typing import Final

import pytest

from tests.cells import other
from tests.programs import Script

METHODS: Final = ["fork", "forkserver", "spawn"]

under_every_start_method = pytest.mark.parametrize("start_method", METHODS)
under_start_methods = pytest.mark.parametrize("start_method", other(["forkserver"], "fork", "spawn"))

TAIL: Final = """
graph = Graph()
graph.makes = Makes
graph.checks = Checks
makes.out >> checks.item
graph.pin(makes, 0)
graph.pin(checks, 1)
graph.run(num_workers=2, start_method={start_method!r})
"""


def program(text: str, start_method: str = "forkserver") -> str:
    return "from cascata import *\n" + textwrap.dedent(text) + TAIL.format(start_method=start_method)


@under_every_start_method
def test_a_class_of_the_script_keeps_its_identity_across_two_workers(script: Script, start_method: str) -> None:
    lines = script.prints(
        program(
            """
            class Item:
                made = 0
                def __init__(self, value):
                    self.value = value

            @component
            async def Makes(out: Out[Item]):
                for number in range(3):
                    await out.send(Item(number))

            @component
            async def Checks(item: In[Item]):
                print(type(item) is Item, isinstance(item, Item), item.value, Item.__module__)
            """,
            start_method,
        )
    )
    assert lines == [f"True True {number} __main__" for number in range(3)]


@under_every_start_method
def test_every_kind_of_class_keeps_its_identity(script: Script, start_method: str) -> None:
    lines = script.prints(
        program(
            """
            import abc, enum
            from collections import namedtuple
            from dataclasses import dataclass, field
            from typing import Generic, NamedTuple, Protocol, TypedDict, TypeVar

            T = TypeVar("T")

            class Base(abc.ABC):
                @abc.abstractmethod
                def area(self): ...

            class Square(Base):
                __slots__ = ("side",)
                def __init__(self, side):
                    self.side = side
                def area(self):
                    return self.side ** 2

            class Cube(Square):
                def area(self):
                    return super().area() * 6

            class Colour(enum.Enum):
                RED = 1
                BLUE = "blue"
                def shout(self):
                    return self.name + "!"

            class Bits(enum.IntFlag):
                A = 1
                B = 2

            @dataclass(frozen=True, slots=True)
            class Point:
                x: int
                y: "Point | None" = None
                tags: list = field(default_factory=list)

            @dataclass
            class Sub(Generic[T]):
                value: T

            class Pair(NamedTuple):
                left: int
                right: str = "r"

            Old = namedtuple("Old", "a b")

            class Nested:
                class Inner:
                    class Innermost:
                        pass
                    def make(self):
                        return Nested.Inner.Innermost()

            class Meta(type):
                def __call__(cls, *args):
                    return super().__call__(*args)

            class Made(metaclass=Meta):
                pass

            class Error(Exception):
                def __init__(self, code):
                    super().__init__(code)
                    self.code = code

            class Own(dict):
                def __missing__(self, key):
                    return key

            class Row(TypedDict):
                a: int

            def factory():
                class Local:
                    value = 5
                return Local

            Dynamic = type("Dynamic", (Square,), {"area": lambda self: 1, "__module__": __name__})
            Local = factory()
            Local.__qualname__ = "Local"

            @component
            async def Makes(out: Out[object]):
                for item in (
                    Square(2), Cube(2), Colour.RED, Colour("blue"), Bits.A | Bits.B, Point(1, Point(2)), Sub(3),
                    Sub[int](4), Pair(1), Old(1, 2), Nested(), Nested.Inner(), Nested.Inner().make(), Made(),
                    Error(7), Own(a=1), Row(a=1), Dynamic(1), Local(),
                ):
                    await out.send(item)

            KINDS = [
                Square, Cube, Colour, Colour, Bits, Point, Sub, Sub, Pair, Old, Nested, Nested.Inner,
                Nested.Inner.Innermost, Made, Error, Own, dict, Dynamic, Local,
            ]

            @component
            async def Checks(item: In[object], seen: State[list] = State(list)):
                kind = KINDS[len(seen.value)]
                seen.value.append(item)
                good = type(item) is kind
                if isinstance(item, Base):
                    good = good and item.area() in (1, 4, 24)
                if isinstance(item, Colour):
                    good = good and item is Colour(item.value) and item in (Colour.RED, Colour.BLUE)
                    good = good and item.shout() in ("RED!", "BLUE!")
                if isinstance(item, Bits):
                    good = good and item == Bits(3) and Bits.A in item
                if isinstance(item, Point):
                    good = good and item == Point(1, Point(2)) and type(item.y) is Point
                if isinstance(item, Own):
                    good = good and item["x"] == "x"
                if isinstance(item, Error):
                    good = good and item.code == 7
                if not good:
                    print("not the same:", kind, type(item), item)
                if len(seen.value) == len(KINDS):
                    print("all")
            """,
            start_method,
        )
    )
    assert lines == ["all"]


@under_start_methods
def test_a_class_that_only_another_function_reaches_keeps_its_identity(script: Script, start_method: str) -> None:
    lines = script.prints(
        program(
            """
            import functools

            class Hidden:
                pass

            def make():
                return deeper()

            deeper = lambda: Deeper.make()

            class Deeper:
                @staticmethod
                def make():
                    return TABLE["hidden"]()
                @property
                def prop(self):
                    return Property()

            class Property:
                pass

            TABLE = {"hidden": Hidden}

            class Decorated:
                pass

            def decorate(function):
                @functools.wraps(function)
                def wrapped(*args):
                    return function(*args), Decorated()
                return wrapped

            @decorate
            def pair():
                return Hidden()

            def default(cls=Hidden):
                return cls()

            @component
            async def Makes(out: Out[object]):
                await out.send([make(), *pair(), default(), Deeper().prop])

            @component
            async def Checks(item: In[object]):
                kinds = [Hidden, Hidden, Decorated, Hidden, Property]
                print([isinstance(each, kind) for each, kind in zip(item, kinds, strict=True)])
            """,
            start_method,
        )
    )
    assert lines == ["[True, True, True, True, True]"]


@under_start_methods
def test_constants_and_initial_values_are_of_the_same_classes(script: Script, start_method: str) -> None:
    lines = script.prints(
        program(
            """
            import enum

            class Setting:
                def __init__(self, value):
                    self.value = value

            class Held:
                pass

            class Mode(enum.Enum):
                FAST = 1

            @component
            async def Makes(out: Out[object], setting: In[object] = None):
                await out.send(setting)

            @component
            @inport("item")
            @inport("mode")
            @persist("state", lambda first, second: (first, second))
            async def Checks(item, mode, state):
                first, second = state.value
                print(isinstance(item, Setting), isinstance(item.value[0], Held), mode is Mode.FAST)
                print(isinstance(first, Held), type(second) is Setting)
            """
        )
        .replace(
            "makes.out >> checks.item",
            "makes.setting < Setting([Held()])\n"
            "checks.mode < Mode.FAST\n"
            "checks.state < (Held(), Setting(1))\n"
            "makes.out >> checks.item",
        )
        .replace("'forkserver'", repr(start_method))
    )
    assert lines == ["True True True", "True True"]


@under_start_methods
def test_functions_lambdas_and_closures_travel_as_items(script: Script, start_method: str) -> None:
    lines = script.prints(
        program(
            """
            import functools

            def double(x):
                return x * FACTOR

            FACTOR = 2

            class Item:
                def method(self):
                    return "method"

            @component
            async def Makes(out: Out[object]):
                local = Item()
                await out.send([
                    double, lambda x: double(x) + 1, functools.partial(double, 5), local.method,
                    lambda: isinstance(local, Item), Item,
                ])

            @component
            async def Checks(item: In[object]):
                named, anonymous, partial, method, closure, cls = item
                print(named is double, named(2), anonymous(2), partial(), method(), closure(), cls is Item)
            """,
            start_method,
        )
    )
    assert lines == ["True 4 5 10 method True True"]


def test_items_that_hold_classes_of_the_script_nest(script: Script) -> None:
    """Also those that only dill can take: an object beside a lambda is no copy of another class."""
    lines = script.prints(
        program(
            """
            class Item:
                pass

            @component
            async def Makes(out: Out[object]):
                item = Item()
                await out.send({"function": lambda: item, "items": [item, (item,)]})

            @component
            async def Checks(item: In[object]):
                inner = item["function"]()
                first, (second,) = item["items"]
                print(type(inner) is Item, type(first) is Item, first is second, inner is first)
            """
        )
    )
    assert lines == ["True True True True"]


def test_a_class_that_was_defined_twice_is_the_one_at_hand(script: Script) -> None:
    """As in a notebook, where a cell runs again."""
    lines = script.prints(
        program(
            """
            def cell():
                exec('class Item:\\n    pass\\n\\ndef make():\\n    return Item()', globals())

            cell()
            cell()

            @component
            async def Makes(out: Out[object]):
                await out.send(make())

            @component
            async def Checks(item: In[object]):
                print(isinstance(item, Item))
            """
        )
    )
    assert lines == ["True"]


@under_start_methods
def test_names_that_a_script_shares_with_a_module_are_its_own(script: Script, start_method: str) -> None:
    """A class `Item` of the script and one of a module do not mix."""
    script.write("other.py", "class Item:\n    kind = 'module'\n\ndef make():\n    return Item()\n")
    lines = script.prints(
        program(
            """
            import other

            class Item:
                kind = "script"

            @component
            async def Makes(out: Out[object]):
                await out.send((Item(), other.make()))

            @component
            async def Checks(item: In[object]):
                mine, others = item
                print(mine.kind, others.kind, isinstance(mine, Item), isinstance(others, other.Item))
            """,
            start_method,
        )
    )
    assert lines == ["script module True True"]


def test_recursion_and_mutual_references_travel(script: Script) -> None:
    lines = script.prints(
        program(
            """
            from __future__ import annotations

            class Tree:
                def __init__(self, children=()):
                    self.children = list(children)
                    self.parent = None
                    for child in self.children:
                        child.parent = self
                def walk(self):
                    yield self
                    for child in self.children:
                        yield from child.walk()

            def even(n): return n == 0 or odd(n - 1)
            def odd(n): return n != 0 and even(n - 1)

            @component
            async def Makes(out: Out[Tree]):
                await out.send(Tree([Tree(), Tree([Tree()])]))

            @component
            async def Checks(item: In[Tree]):
                print(len(list(item.walk())), all(type(each) is Tree for each in item.walk()))
                print(item.children[0].parent is item, even(10))
            """
        )
        .replace("from cascata import *\n", "", 1)
        .replace("from __future__ import annotations\n", "from __future__ import annotations\nfrom cascata import *\n")
    )
    assert lines == ["4 True", "True True"]


@under_start_methods
def test_whatever_else_a_script_may_have_at_its_top_level_works_in_a_worker(script: Script, start_method: str) -> None:
    lines = script.prints(
        program(
            """
            import asyncio, functools, logging, operator, pathlib, re, types, typing

            UserId = typing.NewType("UserId", int)
            T = typing.TypeVar("T")
            P = typing.ParamSpec("P")
            Json = dict[str, "Json"] | None

            @functools.singledispatch
            def show(x):
                return "any"

            @show.register
            def _(x: int):
                return "int"

            class Missing:
                pass

            MISSING = Missing()
            pattern = re.compile("a+")
            first = operator.itemgetter(0)
            logger = logging.getLogger("of the script")
            counter = iter(range(3))  # not `itertools.count()`: since Python 3.14 nothing of itertools is pickled
            proxy = types.MappingProxyType({"a": 1})
            here = pathlib.Path(__file__)
            method = MISSING.__class__

            class Descriptor:
                def __set_name__(self, owner, name):
                    self.name = name
                def __get__(self, instance, owner):
                    return self.name

            class Class:
                described = Descriptor()
                cached = functools.cached_property(lambda self: "cached")
                @functools.lru_cache
                def remembered(self):
                    return "remembered"
                @classmethod
                def of_class(cls):
                    return cls.__name__
                @staticmethod
                def static():
                    return "static"

            @component
            async def Makes(out: Out[object]):
                c = Class()
                await out.send([
                    UserId(3), show(1), show(""), isinstance(MISSING, Missing), pattern.match("aa")[0],
                    first([1]), logger.name, next(counter), proxy["a"], here.name, __name__,
                    pathlib.Path(__file__).name, c.described, c.cached, c.remembered(), c.of_class(), c.static(),
                ])

            @component
            async def Checks(item: In[object]):
                print(item)
            """,
            start_method,
        )
    )
    told = ast.literal_eval(lines[0])
    assert told[:11] == [3, "int", "any", True, "aa", 1, "of the script", 0, 1, "main.py", "__main__"]
    assert told[11:] == ["main.py", "described", "cached", "remembered", "Class", "static"]
