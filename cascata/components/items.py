"""Nodes that look at one item after the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterable, Awaitable, Callable, Hashable, Iterable
from typing import Any, TypeVar

from ..dsl import In, Out, State, Stream, component
from .checks import function, whole

__all__ = ["Distinct", "Filter", "FlatMap", "Map", "Print", "Take"]

T = TypeVar("T")
R = TypeVar("R")


@component
async def Map(inp: In[T], fn: In[Callable[[T], R | Awaitable[R]]], out: Out[R]) -> None:
    """Sends what a function makes of each item.

        graph.negate = Map
        graph.negate.fn < operator.neg

    `Map * 4` computes on four items at once, on several cores; use `thread=True` on a component of your own for a
    function that blocks.

    Args:
        inp: the items.
        fn: a function of one item. It may be an `async` one, which is awaited.
        out: `fn(item)` for each, None included.

    Raises:
        TypeError: `fn` cannot be called.
        Exception: what `fn` raises.
    """
    value: Any = function("fn", fn)(inp)
    if hasattr(value, "__await__"):
        value = await value
    await out.send(value)


@component
async def Filter(inp: In[T], out: Out[T], fn: In[Callable[[T], Any] | None] = None) -> None:
    """Sends the items for which a function says yes.

        graph.short = Filter
        graph.short.fn < (lambda word: len(word) < 5)

    Args:
        inp: the items.
        fn: a function of one item, or an `async` one. Without it, items that are true pass, as with Python's `filter`.
        out: those for which it returns something true, in their order.

    Raises:
        TypeError: `fn` cannot be called.
        Exception: what `fn` raises.
    """
    verdict: Any = inp if fn is None else function("fn", fn)(inp)
    if fn is not None and hasattr(verdict, "__await__"):
        verdict = await verdict
    if verdict:
        await out.send(inp)


@component
async def FlatMap(
    inp: In[Any],
    out: Out[R],
    fn: In[Callable[[Any], Iterable[R] | AsyncIterable[R] | Awaitable[Iterable[R]]] | None] = None,
) -> None:
    """Sends each of the things that a function makes of an item.

        graph.words = FlatMap
        graph.words.fn < str.split

    Args:
        inp: the items.
        fn: a function of one item that gives an iterable: a list, a generator, an asynchronous generator, or an `async`
            function that returns one. Without it, the items are such iterables themselves: what a `Batch` has put
            together comes apart.
        out: what is in the iterables, in order.

    Raises:
        TypeError: `fn` cannot be called, or gives no iterable.
        Exception: what `fn` raises.
    """
    values: Any = inp if fn is None else function("fn", fn)(inp)
    if hasattr(values, "__await__"):
        values = await values
    if hasattr(values, "__aiter__"):
        async for each in values:
            await out.send(each)
    elif hasattr(values, "__iter__"):
        for each in values:
            await out.send(each)
    else:
        what = "the item" if fn is None else "what 'fn' gave"
        raise TypeError(f"{what} is no iterable, but {values!r}, so that there is nothing in it to send one by one")


@component(keeps=False)
async def Take(inp: Stream[T], out: Out[T], n: In[int]) -> None:
    """Sends the first items, then ends. What feeds it is stopped.

        graph.first = Take
        graph.first.n < 10

    In a group each member takes `n` items.

    Args:
        inp: the items.
        n: how many; 0: none is read.
        out: the first `n` of them, or all that there are.

    Raises:
        ValueError: `n` is not a whole number of at least 0.
    """
    left = whole("n", n, 0)
    if not left:
        return
    async for item in inp:
        await out.send(item)
        left -= 1
        if not left:
            return


@component(keeps=False)
async def Distinct(
    inp: In[T],
    out: Out[T],
    key: In[Callable[[T], Hashable] | None] = None,
    memory: In[int | None] = None,
    seen: State[OrderedDict[Hashable, None]] = State(OrderedDict),
) -> None:
    """Sends the items that have not come before.

        graph.once = Distinct
        graph.once.key < operator.attrgetter("path")
        graph.once.memory < 100_000

    In a group each member knows the items that it has seen itself.

    Args:
        inp: the items.
        key: a function of one item; items with the same key are the same. Without it, equal items are.
        memory: how many keys are remembered, those that came last; an item whose key has been forgotten is new again.
            None: all of them, for ever.
        out: the first item of each key.
        seen: the keys, in the order in which they came last.

    Raises:
        TypeError: `key` cannot be called, or the key is not hashable.
        ValueError: `memory` is not a whole number of at least 1.
        Exception: what `key` raises.
    """
    known = seen.value
    mark: Any = inp if key is None else function("key", key)(inp)
    try:
        is_new = mark not in known
    except TypeError as error:
        raise TypeError(
            f"{error}, so that nobody can tell whether it came before: write `node.key < function`, where the function "
            "gives something hashable for an item"
        ) from error
    known[mark] = None
    if not is_new:
        known.move_to_end(mark)
    elif memory is not None and len(known) > whole("memory", memory, 1):
        known.popitem(last=False)
    if is_new:
        await out.send(inp)


@component
async def Print(inp: In[T], out: Out[T], text: In[str] = "{}") -> None:
    """Prints each item on a line, and sends it on to whoever is connected.

        graph.show = Print
        graph.show.text < "{0.name}: {0.size:,} bytes"

    Args:
        inp: the items.
        text: a format string, as for `str.format`, with the item as its only argument.
        out: the same items.

    Raises:
        Exception: the text does not fit the item: see `str.format`.
    """
    print(text.format(inp), flush=True)  # noqa: T201  # what it is for
    await out.send(inp)
