"""Operators that Python lets a user write but that mean nothing here raise with the right form in the text."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import DefinitionError, short_repr

__all__ = ["Operand", "Statement", "is_whole", "show"]


def show(value: object) -> str:
    """A short text for a value in an error: `node.port`, a class's name, or a bounded `repr`."""
    if isinstance(value, Operand):
        return str(value)
    if isinstance(value, type):
        return value.__name__
    return short_repr(value)


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of at least so many; True and False are no numbers here."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class Statement:
    """What `port < value` and `out >> n >= inp` give back: nothing to work with, since they stand alone."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> NoReturn:
        # Python evaluates `x < 1 < y` as `(x < 1) and (1 < y)`: this is the only place that sees the chain.
        raise DefinitionError(
            f"`{self._text}` is a statement: it cannot be chained (`x < 1 < y`) or used as a condition. "
            "Write each one on a line of its own."
        )

    def __repr__(self) -> str:
        return self._text


class Operand:
    """Base of what operators are written on. All of them raise, until a subclass gives one a meaning."""

    __slots__ = ()

    def _right_form(self, symbol: str, other: object) -> str:
        """What to write instead of `self symbol other`, as a sentence."""
        raise NotImplementedError

    def _misuse(self, symbol: str, other: object, *, reflected: bool = False) -> DefinitionError:
        left, right = (show(other), show(self)) if reflected else (show(self), show(other))
        return DefinitionError(f"`{left} {symbol} {right}` means nothing. {self._right_form(symbol, other)}")

    def __lt__(self, other: object) -> Any:
        raise self._misuse("<", other)

    def __le__(self, other: object) -> Any:
        raise self._misuse("<=", other)

    def __gt__(self, other: object) -> Any:
        raise self._misuse(">", other)

    def __ge__(self, other: object) -> Any:
        raise self._misuse(">=", other)

    def __rshift__(self, other: object) -> Any:
        raise self._misuse(">>", other)

    def __rrshift__(self, other: object) -> Any:
        raise self._misuse(">>", other, reflected=True)

    def __irshift__(self, other: object) -> Any:
        raise self._misuse(">>=", other)

    def __lshift__(self, other: object) -> Any:
        raise self._misuse("<<", other)

    def __rlshift__(self, other: object) -> Any:
        raise self._misuse("<<", other, reflected=True)

    def __ilshift__(self, other: object) -> Any:
        raise self._misuse("<<=", other)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        # numpy asks this for `array > port`. With `__array_ufunc__ = None` it would step aside, Python would
        # turn the expression into `port < array`, and a comparison would silently set a value.
        array = next((each for each in inputs if each is not self), None)
        symbol = {"greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<=", "right_shift": ">>"}.get(
            ufunc.__name__, ufunc.__name__
        )
        raise self._misuse(symbol, array, reflected=True)
