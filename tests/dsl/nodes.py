"""Components that the tests of graphs wire up."""

from __future__ import annotations

from typing import Any

from cascata import In, Out, State, component, inport, outport


@component
async def Source(n: In[int], out: Out[int]) -> None:
    """Sends the numbers up to n."""
    for number in range(n):
        await out.send(number)


@component
async def Double(x: In[int], y: Out[int]) -> None:
    """Sends twice of what comes in."""
    await y.send(2 * x)


@component
@inport("data", capacity=10)
async def Show(data: Any) -> None:
    """Prints."""
    print(data)


@component
@inport("a")
@inport("b")
@inport("c", default=3)
@outport("out")
@outport("rest")
async def Three(a: Any, b: Any, c: Any, out: Any, rest: Any, seen: State[dict[str, int]] = State(dict)) -> None:
    """Three in-ports, one of them with a default, two out-ports and state."""


@component
async def Words(word: In[str], text: Out[str]) -> None:
    """Takes texts only."""
    await text.send(word)
