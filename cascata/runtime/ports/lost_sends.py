"""Items that a component sends and that are lost by a fault of its own code, which fails the run.

    out.send(item) ── no room ──> awaited ──────────────────────────> sent
                        ├──────── never awaited: forget ────────┐
    a plain `def` calls send, and cannot wait: refuse ──────────┼──> LostSends ── in_words ──> ComponentError
    a task that outlives its node sends: miss ──────────────────┘

A put that is dropped may have been forgotten, or its call may be failing: then it is dropped before this module can
know of the error, and clean-up may take its time before the error comes out. So a drop is noted when it happens, and
judged when it is certain what it was:

    dropped ──┬─ its call fails, or is tried again: excuse ───────────────────────────> not lost
              ├─ its task sends or waits for items, and handles no error: goes_on ────> lost, and told at once
              └─ its call has options and ends: ended; its thread or its node ends ───> lost

A `send` that is never awaited and never dropped, or waits for the garbage collector, is counted when the node ends.
This is no failure of an item: `on_error="skip"` and `node.errors` do not take it.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping

from ...channel.unawaited import Attempt, Unawaited, attempt
from ...model import ComponentSpec

__all__ = ["LostSends", "no_send_in_a_plain_def", "place_of"]


class LostSends:
    """The lost sends of one node.

    Args:
        spec: its component.
        tell: called when something was lost, in any thread; again only when `in_words` was called in between.
    """

    def __init__(self, spec: ComponentSpec, tell: Callable[[], None]) -> None:
        self._spec = spec
        self._tell = tell
        self._told = False  # whether `tell` was called since the last `in_words`
        self._thread = threading.get_ident()  # of the loop
        self._handled = sys.exc_info()[1]  # the error that the program handled where it ran the graph, if it did
        # out-port, the attempt that sent, and the task or thread that dropped it -> items
        self._forgotten: Counter[tuple[str, Attempt | None, Hashable]] = Counter()
        self._late: Counter[tuple[str, int]] = Counter()  # (out-port, edge) -> items sent when the node had ended
        self._refused: Counter[str] = Counter()  # out-port -> items sent by a plain `def`

    @property
    def forgot(self) -> bool:
        """Whether a `send` was never awaited, and its call was not excused."""
        return bool(self._forgotten)

    def forget(self, port: str, those: Unawaited | None = None) -> None:
        """A `send` on the port, one of those, was never awaited. Called in any thread, perhaps by `__del__`."""
        self._forgotten[port, None if those is None else those.attempt, self._running()] += 1

    def _running(self) -> Hashable:
        """The task that is running; the thread's number, if it is not the loop's."""
        thread = threading.get_ident()
        if thread != self._thread:
            return thread
        try:
            return asyncio.current_task()
        except RuntimeError:  # the loop has ended
            return None

    def goes_on(self) -> None:
        """The running task goes on: it sends, or waits for items. What it has forgotten before is lost.

        Unless it handles an error: then it may still be on its way out of its call.
        """
        if self._told or sys.exc_info()[1] not in (None, self._handled):
            return
        running = self._running()
        if any(each[2] == running for each in list(self._forgotten)):
            self._tell_once()

    def look(self) -> None:
        """Looks whether other threads have ended that forgot something. Called now and then."""
        if self._forgotten:
            running = {thread.ident for thread in threading.enumerate()}
            if any(isinstance(each[2], int) and each[2] not in running for each in list(self._forgotten)):
                self._tell_once()

    def ended(self, call: Attempt) -> None:
        """A call has ended and not failed: what it has forgotten is lost."""
        if any(each[1] is call for each in list(self._forgotten)):
            self._tell_once()

    def excuse(self) -> None:
        """The running attempt has failed, and is told as what it is: what it dropped by that was not forgotten."""
        failed = attempt.get()
        if failed is None:
            return
        for each in list(self._forgotten):
            if each[1] is failed:
                del self._forgotten[each]
        failed.excuse()

    def _tell_once(self) -> None:
        if not self._told:
            self._told = True
            self._tell()

    def miss(self, port: str, edge: int) -> None:
        """An item was sent on an edge when the node had ended, although a reader had not."""
        self._late[port, edge] += 1
        self._tell_once()

    def refuse(self, port: str) -> TypeError:
        """A plain `def` has called `send`. Returns what this raises."""
        self._refused[port] += 1
        self._tell_once()
        return TypeError(no_send_in_a_plain_def(self._spec, port))

    def in_words(self, node: str, unawaited: Mapping[str, int]) -> str | None:
        """What was lost, and what to write instead; None when nothing was.

        Args:
            node: name of the node.
            unawaited: out-port -> items whose `send` will never be awaited, although it was not dropped.
        """
        self._told = False
        forgotten: Counter[str] = Counter(unawaited)
        elsewhere: Counter[str] = Counter()
        for (port, _, dropped_by), items in list(self._forgotten.items()):
            if isinstance(dropped_by, int):
                elsewhere[port] += items
            else:
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
            for port, items in elsewhere.items()
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
