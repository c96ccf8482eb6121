"""What a component loses of what it sends, by a fault of its own code: a fault of the program, which fails the run.

    out.send(item) ── no room ──> awaited ──────────────────────────> sent
                        ├──────── never awaited ────────────────┐
    a plain `def` calls send, and could not wait for it ────────┼──> Losses ──> ComponentError
    a task that outlives its node sends, when it has ended ─────┘

Whoever drops a put that was never awaited is told at once where CPython counts references; what is kept for ever, or
waits for the garbage collector, is counted when the node ends. It is no matter of an item: `on_error="skip"` and
`node.errors` do not take it.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping

from ..model import ComponentSpec

__all__ = ["Losses", "no_send_in_a_plain_def", "place_of"]


class Losses:
    """Those of one node.

    Args:
        spec: its component.
        mark: changes from call to call of its runner, and does not change during one that does not suspend.
        tell: called, perhaps in any thread, when something was lost.
    """

    def __init__(self, spec: ComponentSpec, mark: Callable[[], Hashable], tell: Callable[[], None]) -> None:
        self._spec = spec
        self._mark = mark
        self._tell = tell
        self._told = False  # and nobody has asked yet
        self._thread = threading.get_ident()
        self._forgotten: Counter[tuple[str, Hashable]] = Counter()  # (out-port, mark) -> items
        self._elsewhere: Counter[str] = Counter()  # of them, those that were sent in another thread
        self._late: Counter[tuple[str, int]] = Counter()  # (out-port, edge) -> items
        self._refused: Counter[str] = Counter()

    def forget(self, port: str) -> None:
        """A `send` on the port was never awaited, and its item is lost. Called in any thread, perhaps by `__del__`."""
        if threading.get_ident() == self._thread:
            self._forgotten[port, self._mark()] += 1
        else:
            self._elsewhere[port] += 1
        self._tell_once()

    def _tell_once(self) -> None:
        if not self._told:
            self._told = True
            self._tell()

    def excuse(self) -> None:
        """The running call has failed, and is told as what it is: what it dropped by that was not forgotten."""
        mark = self._mark()
        for each in [each for each in self._forgotten if each[1] == mark]:
            del self._forgotten[each]

    def miss(self, port: str, edge: int) -> None:
        """An item was sent on an edge when the node had ended, and somebody still read."""
        self._late[port, edge] += 1
        self._tell_once()

    def refuse(self, port: str) -> TypeError:
        """A plain `def` has called `send`. Returns what this raises."""
        self._refused[port] += 1
        self._tell_once()
        return TypeError(no_send_in_a_plain_def(self._spec, port))

    def in_words(self, node: str, held: Mapping[str, int]) -> str | None:
        """What was lost, and what to write instead; None when nothing was.

        Args:
            node: name of the node.
            held: out-port -> items whose `send` nobody will await, although it was not dropped.
        """
        self._told = False
        forgotten: Counter[str] = Counter(held)
        for (port, _), items in self._forgotten.items():
            forgotten[port] += items
        late: dict[str, int] = {}
        for (port, _), items in self._late.items():
            late[port] = max(items, late.get(port, 0))
        send = f"live.{node}.send(...)" if self._spec.at_caller else "{}.send(...)"
        told = [
            f"{_items(items)} sent on {node}.{port} {_are(items)} lost: `{send.format(port)}` had to wait for room, "
            f"and was never awaited. Write `await {send.format(port)}`"
            for port, items in forgotten.items()
            if items
        ]
        told += [
            f"{_items(items)} sent on {node}.{port} in another thread {_are(items)} lost: `{send.format(port)}` had to "
            f"wait for room, and was never awaited. Write "
            f"`asyncio.run_coroutine_threadsafe({send.format(port)}, loop).result()` there"
            + ("" if self._spec.at_caller else ", or a plain `def` under @component(thread=True)")
            for port, items in self._elsewhere.items()
        ]
        told += [
            f"{_items(items)} sent on {node}.{port} {_are(items)} lost: a task that the runner has left behind sent "
            f"{'it' if items == 1 else 'them'} when the node had ended. Await such tasks before the runner returns "
            f"(`await task`, or `async with asyncio.TaskGroup()`), or cancel them"
            for port, items in late.items()
        ]
        told += [
            f"{_items(items)} sent on {node}.{port} {_are(items)} lost: {no_send_in_a_plain_def(self._spec, port)}"
            for port, items in self._refused.items()
        ]
        return ". ".join(told) or None


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def no_send_in_a_plain_def(spec: ComponentSpec, port: str) -> str:
    """Why `send` is refused in a runner that is a plain `def`, and what to write instead."""
    giving = "return the item or yield items, which go to its only out-port; or " if len(spec.outports) == 1 else ""
    return (
        f"{spec.name} is a plain `def`, which cannot wait while `{port}.send(...)` has no room. Instead, {giving}write "
        f"`async def` and `await {port}.send(...)`, or @component(thread=True), where `send` blocks"
    )


def place_of(spec: ComponentSpec) -> str:
    """File and line of a runner; empty where they are not known."""
    code = getattr(inspect.unwrap(spec.runner), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
