"""What may be connected to what: the rules of type checkers, read from tables."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import io
import numbers
import pathlib
import sys
import typing
from collections import abc
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
    Sized,
)
from dataclasses import dataclass
from os import PathLike
from typing import (
    Annotated,
    Any,
    ClassVar,
    ForwardRef,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NewType,
    Optional,
    ParamSpec,
    Protocol,
    SupportsFloat,
    SupportsInt,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import numpy as np
import numpy.typing as npt
import pytest

from cascata.check import assignable, describe
from cascata.model import MISSING

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
P = ParamSpec("P")

UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)


class Animal: ...


class Dog(Animal): ...


class Anything(Any): ...  # type: ignore[misc] # what mocks do


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Meta(type): ...


class Made(metaclass=Meta): ...


class Box(Generic[T]): ...


class IntBox(Box[int]): ...


class Outer(Box[list[T]]): ...


class Source(Generic[T_co]): ...


class Taker(Generic[T_contra]): ...


class Numbers(list[int]): ...


class ByName(dict[str, T]): ...


class Point(NamedTuple):
    x: int
    y: float


class Named(TypedDict):
    name: str


class Person(TypedDict):
    name: str
    age: int


class Partial(TypedDict, total=False):
    name: str


class Runs(Protocol):
    def run(self, times: int) -> None: ...


class HasName(Protocol):
    name: str


@runtime_checkable
class Closes(Protocol):
    def close(self) -> None: ...


class ClosesAndRuns(Closes, Runs, Protocol): ...


class Calls(Protocol):
    def __call__(self, item: int) -> int: ...


class Runner:
    def __init__(self) -> None:
        self.name = "set here, where no class shows it"

    def run(self, times: int) -> None: ...


class RunnerAndCloser(Runner):
    def close(self) -> None: ...


class Proxy:
    def __getattr__(self, name: str) -> Any: ...


class Called:
    def __call__(self, item: int) -> int:
        return item


class Unhashable:
    __hash__: ClassVar[None]  # type: ignore[assignment]


@dataclass
class Record:
    name: str


FITS: list[tuple[Any, Any]] = [
    # Any, and what is not known
    (Any, int),
    (int, Any),
    (MISSING, int),
    (int, MISSING),
    (T, int),
    (str, T),
    ("Unresolved", int),
    (int, "Unresolved"),
    (ForwardRef("Unresolved"), int),
    (list[ForwardRef("Unresolved")], list[int]),  # type: ignore[misc] # as `get_type_hints` may leave it
    (list[Any], list[int]),
    (dict[str, int], dict[str, Any]),
    (3, int),
    (int, 3),
    (Anything, int),
    (lambda: None, int),
    # classes
    (int, int),
    (bool, int),
    (Dog, Animal),
    (Dog, object),
    (None, object),
    (None, None),
    (type(None), None),
    (int, numbers.Number),
    (Never, int),
    (typing.NoReturn, int),
    # promotions
    (int, float),
    (bool, float),
    (Level, float),
    (int, complex),
    (float, complex),
    # unions
    (int, int | str),
    (int, Union[int, str]),  # noqa: UP007 - both spellings
    (int, Optional[int]),  # noqa: UP045
    (None, int | None),
    (int | str, str | int | None),
    (Union[int, str], str | int),  # noqa: UP007
    (bool | Dog, int | Animal),
    (int, float | str),
    (list[int] | None, Sequence[float] | None),
    # literals
    (Literal[1], int),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a", 1], str | int),
    (Literal[1, 2], Literal[1] | Literal[2]),  # noqa: PYI030 - as aliases make them
    (Literal[1], float),
    (Literal["a"], Sequence[str]),
    (bool, Literal[True, False]),
    (bool, Literal[True] | Literal[False] | str),  # noqa: PYI030
    (Color, Literal[Color.RED, Color.BLUE]),
    (Literal[Color.RED], Color),
    (None, Literal[None, 1]),  # noqa: PYI061 - both spellings
    (Literal[None], None),  # noqa: PYI061
    # what wraps
    (Annotated[int, "seconds"], int),
    (int, Annotated[float, "seconds"]),
    (list[Annotated[int, "seconds"]], list[int]),
    (typing.LiteralString, str),
    # NewType
    (UserId, int),
    (UserId, float),
    (AdminId, UserId),
    (AdminId, int),
    (UserId, UserId | None),
    # generics
    (list, list[int]),
    (list[int], list),
    (typing.List, list[int]),  # noqa: UP006
    (typing.List[int], list[int]),  # noqa: UP006
    (list[int], list[int]),
    (list[int], Sequence[int]),
    (list[int], Sequence[float]),
    (list[Dog], Iterable[Animal]),
    (list[int], Collection[int]),
    (list[int], MutableSequence[int]),
    (list[int | str], list[str | int]),
    (set[int], abc.Set[float]),
    (frozenset[Dog], frozenset[Animal]),
    (dict[str, int], Mapping[str, float]),
    (dict[str, int], MutableMapping[str, int]),
    (dict[str, int], Iterable[str]),
    (dict[str, int], Collection[str]),
    (collections.defaultdict[str, int], dict[str, int]),
    (collections.OrderedDict[str, int], Mapping[str, int]),
    (collections.Counter[str], Mapping[str, int]),
    (collections.deque[int], Sequence[float]),
    (abc.KeysView[str], Iterable[str]),
    (abc.ItemsView[str, int], Iterable[tuple[str, int]]),
    (Generator[int, None, str], Iterator[int]),
    (Generator[int, None, str], Iterable[float]),
    (AsyncGenerator[int, None], AsyncIterator[float]),
    (Coroutine[Any, Any, int], abc.Awaitable[float]),
    (str, Sequence[str]),
    (str, Iterable[str]),
    (bytes, Sequence[int]),
    (range, Sequence[int]),
    (list[list[int]], Sequence[Sequence[float]]),
    (list[int], Sized),
    (int, Hashable),
    (pathlib.Path, PathLike[str]),
    # generic classes of the user
    (Box[int], Box[int]),
    (Box, Box[int]),
    (IntBox, Box[int]),
    (Outer[int], Box[list[int]]),
    (Source[Dog], Source[Animal]),
    (Taker[Animal], Taker[Dog]),
    (Numbers, list[int]),
    (Numbers, Sequence[float]),
    (ByName[int], dict[str, int]),
    (ByName[int], Mapping[str, float]),
    # tuples
    (tuple[int, str], tuple[int, str]),
    (tuple[int, str], tuple[float, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, ...], tuple[float, ...]),
    (tuple[Any, ...], tuple[int, int]),
    (tuple, tuple[int, int]),
    (tuple[int, int], tuple),
    (tuple[()], tuple[()]),
    (tuple[()], tuple[int, ...]),
    (tuple[int, bool], Sequence[int]),
    (tuple[int, str], Iterable[int | str]),
    (tuple[int, str], Hashable),
    (tuple[int, *tuple[str, ...]], tuple[int, str]),
    (Point, tuple[int, float]),
    (Point, tuple[float, ...]),
    (Point, Sequence[float]),
    (Point, tuple),
    (Point, Point),
    # classes as values
    (type[Dog], type[Animal]),
    (type[Dog], type),
    (type, type[Dog]),
    (type[Any], type[Dog]),
    (type[Dog], type[Animal | int]),
    (type[Dog], Callable[..., Animal]),
    (type[Made], Meta),
    (type[Dog], Hashable),
    (Meta, type),
    (typing.Type[Dog], type[Animal]),  # noqa: UP006
    # callables
    (Callable[[int], str], Callable[[int], str]),
    (Callable[[float], bool], Callable[[int], int]),
    (Callable[..., int], Callable[[str], int]),
    (Callable[[str], int], Callable[..., int]),
    (Callable[P, int], Callable[[str], int]),
    (Callable[[int], str], Callable),
    (Callable, Callable[[int], str]),
    (typing.Callable[[int], str], Callable[[int], str]),
    (Called, Callable[[int], int]),
    (Callable[[int], str], object),
    # protocols
    (Runner, Runs),
    (RunnerAndCloser, ClosesAndRuns),
    (io.StringIO, Closes),
    (Runner, HasName),
    (Record, HasName),
    (Proxy, Runs),
    (Called, Calls),
    (Callable[[int], int], Calls),
    (int, SupportsFloat),
    (bool, SupportsInt),
    (Runner | None, Runs | None),
    # TypedDict
    (Person, Named),
    (Person, Mapping[str, object]),
    (Person, dict[str, Any]),
    (Person, Sized),
    (dict, Person),
    # files
    (io.StringIO, typing.TextIO),
    (typing.TextIO, typing.IO[str]),
    # numpy
    (npt.NDArray[np.float64], npt.NDArray[np.float64]),
    (npt.NDArray[np.float64], np.ndarray),
    (np.ndarray, npt.NDArray[np.int64]),
    (npt.NDArray[np.float64], npt.NDArray[Any]),
    (npt.NDArray[np.float64], npt.NDArray[np.floating[Any]]),
    (np.float64, float),
    (npt.NDArray[np.float64], npt.ArrayLike),
    (float, npt.ArrayLike),
    (np.dtype[np.float64], npt.DTypeLike),
]

DOES_NOT_FIT: list[tuple[Any, Any]] = [
    # classes
    (int, str),
    (str, int),
    (Animal, Dog),
    (object, int),
    (None, int),
    (int, None),
    (dt.date, dt.datetime),
    (int, Never),
    # promotions go one way, and bytes is bytes
    (float, int),
    (complex, float),
    (bytearray, bytes),
    (memoryview, bytes),
    # unions
    (int | str, int),
    (int | None, int),
    (Optional[int], int),  # noqa: UP045
    (Union[int, str], int | None),  # noqa: UP007
    (float, int | str),
    # literals
    (str, Literal["a"]),
    (int, Literal[1]),
    (Literal["a", "c"], Literal["a", "b"]),
    (Literal[1], Literal[True]),
    (Literal["a"], int),
    (bool, Literal[True]),
    (Color, Literal[Color.RED]),
    (Literal[Color.RED], int),
    (bool, Literal[True] | str),
    # what wraps
    (Annotated[int, "seconds"], Annotated[str, "seconds"]),
    # NewType
    (int, UserId),
    (UserId, AdminId),
    (UserId, str),
    # generics
    (list[int], list[float]),
    (list[bool], list[int]),
    (list[int], list[str]),
    (list[Dog], list[Animal]),
    (list[int], MutableSequence[float]),
    (Sequence[int], list[int]),
    (list[int], Sequence[str]),
    (list[int], set[int]),
    (list[int], int),
    (set[int], abc.Set[str]),
    (dict[str, int], dict[str, float]),
    (dict[str, int], MutableMapping[str, float]),
    (dict[str, int], Mapping[str, str]),
    (dict[str, int], Mapping[int, int]),
    (dict[str, int], Iterable[int]),
    (collections.Counter[str], Mapping[str, str]),
    (Generator[int, None, str], Iterator[str]),
    (Generator[int, None, str], Sequence[int]),
    (Coroutine[Any, Any, int], abc.Awaitable[str]),
    (str, Sequence[int]),
    (str, list[str]),
    (bytes, Sequence[str]),
    (list[list[int]], Sequence[list[float]]),
    (list[int], Hashable),
    (int, Sized),
    (str, PathLike[str]),
    # generic classes of the user
    (Box[int], Box[str]),
    (Box[Dog], Box[Animal]),
    (IntBox, Box[str]),
    (Outer[int], Box[int]),
    (Source[Animal], Source[Dog]),
    (Taker[Dog], Taker[Animal]),
    (Numbers, list[str]),
    (ByName[int], dict[str, str]),
    (ByName[int], Mapping[int, int]),
    # tuples
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, int], tuple[int]),
    (tuple[int, str], tuple[str, int]),
    (tuple[int, str], tuple[int, ...]),
    (tuple[int, str], Sequence[int]),
    (tuple[int], list[int]),
    (tuple[int, int], tuple[()]),
    (Point, tuple[int, int]),
    (Point, Sequence[int]),
    (tuple[int, float], Point),
    # classes as values
    (type[Animal], type[Dog]),
    (Dog, type[Dog]),
    (type[Dog], Dog),
    (type[Dog], Meta),
    (type[Dog], int),
    # callables
    (Callable[[int], str], Callable[[float], str]),
    (Callable[[int], str], Callable[[int], int]),
    (Callable[[int], str], Callable[[int, int], str]),
    (Callable[..., str], Callable[[int], int]),
    (int, Callable[[int], str]),
    (Animal, Callable),
    (Callable[[int], str], int),
    # protocols
    (Animal, Runs),
    (Runner, ClosesAndRuns),
    (int, Runs),
    (int, HasName),
    (Runner, Calls),
    (str, SupportsFloat),
    (Runs, Runner),
    # TypedDict
    (Named, Person),
    (Partial, Named),
    (dict[str, str], Named),
    (Person, dict[str, int]),
    (Person, list),
    (int, Person),
    # files
    (str, typing.TextIO),
    # numpy
    (npt.NDArray[np.float64], npt.NDArray[np.int64]),
    (npt.NDArray[np.float64], list[float]),
    (np.float32, float),
    (list[float], np.ndarray),
]


@pytest.mark.parametrize(("source", "target"), FITS, ids=describe)
def test_what_a_type_checker_accepts_is_accepted(source: Any, target: Any) -> None:
    assert assignable(source, target)


@pytest.mark.parametrize(("source", "target"), DOES_NOT_FIT, ids=describe)
def test_what_a_type_checker_rejects_is_rejected(source: Any, target: Any) -> None:
    assert not assignable(source, target)


def test_every_type_fits_itself_and_object() -> None:
    for annotation in {id(each): each for pair in FITS + DOES_NOT_FIT for each in pair}.values():
        assert assignable(annotation, annotation), annotation
        assert assignable(annotation, object), annotation


def test_a_class_that_cannot_be_asked_never_stops_a_graph() -> None:
    class Strange(type):
        def __subclasscheck__(cls, other: type) -> bool:
            raise RuntimeError("ask me nothing")

    class Odd(metaclass=Strange): ...

    assert assignable(int, Odd)


@pytest.mark.parametrize(
    "odd",
    [np.zeros(3), [], {}, 3.5, ..., Literal, Union, ClassVar, Generic, Protocol, typing.Self, NamedTuple, object()],
    ids=lambda odd: getattr(odd, "__name__", type(odd).__name__),
)
def test_what_is_no_type_never_stops_a_graph(odd: Any) -> None:
    for annotation in (int, list[int], int | None, Literal["a"], Callable[[int], str], tuple[int, ...]):
        assert assignable(annotation, odd) in {True, False}
        assert isinstance(describe(odd), str)
    if not isinstance(odd, type):
        assert assignable(int, odd)
        assert assignable(odd, int)


def test_a_typed_dict_whose_keys_are_optional_elsewhere_does_not_fit() -> None:
    assert not assignable(Named, Partial)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements came with Python 3.12")
def test_a_recursive_alias_is_compared_by_what_it_stands_for() -> None:
    made: dict[str, Any] = {}
    exec(  # noqa: S102 - other versions cannot even read this
        "type Json = str | list[Json]; type Text = str | list[Text]; type Count = int | list[Count]\n"
        "type Row[T] = list[T]",
        made,
    )
    assert assignable(str, made["Json"])
    assert not assignable(int, made["Json"])
    assert assignable(made["Json"], made["Text"])
    assert not assignable(made["Json"], made["Count"])
    assert assignable(made["Row"][int], Sequence[float])
    assert not assignable(made["Row"][int], list[str])


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (Any, "Any"),
        (MISSING, "Any"),
        (T, "T"),
        ("Later", "Later"),
        (ForwardRef("Later"), "Later"),
        (int | None, "int | None"),
        (Optional[list[int]], "list[int] | None"),  # noqa: UP045
        (typing.List[int], "list[int]"),  # noqa: UP006
        (Mapping[str, Dog], "Mapping[str, Dog]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "seconds"], "int"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[()], "tuple[()]"),
        (Callable[[int, str], bool], "Callable[[int, str], bool]"),
        (Callable[..., bool], "Callable[..., bool]"),
        (Box[int], "Box[int]"),
        (type[Dog], "type[Dog]"),
        (UserId, "UserId"),
        (typing.Self, "Self"),
        (typing.NoReturn, "NoReturn"),
    ],
    ids=str,
)
def test_a_type_is_described_as_a_user_would_write_it(annotation: Any, text: str) -> None:
    assert describe(annotation) == text


def test_the_name_of_a_local_class_is_short() -> None:
    class Local: ...

    assert describe(Local) == "Local"


def test_a_description_is_never_long() -> None:
    text = describe(Literal[tuple(range(100))])
    assert len(text) == 120
    assert text.endswith("…")
