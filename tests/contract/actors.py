"""Where an end of a channel lives, and how a test has it do something there.

    test ── start("put", 1) ──> actor ── its own loop: this one, a thread's, a process's ──> agent.put(1)
         <── Doing: done, result, error, cancel ──┘

An agent is an object with coroutine methods around one end of a channel. It lives in the loop of its actor; only
what it is asked and what it answers crosses the border.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["Actor", "Doing", "Here", "InProcess", "InThread"]

Make = Callable[..., Any]
"""Makes an agent, in the loop that it will live in."""

TURNS = 40
"""Turns of a loop after which nothing more happens by itself."""


def void(_: object) -> None:
    """Whether there was something to cancel is not asked."""


class Doing:
    """Something that an agent was asked to do."""

    def __init__(self, outcome: asyncio.Future[Any], cancel: Callable[[], None]) -> None:
        self.outcome = outcome
        self.cancel = cancel

    def done(self) -> bool:
        return self.outcome.done()

    def __await__(self) -> Any:
        return self.outcome.__await__()


class Actor(ABC):
    """Has an agent do things."""

    @abstractmethod
    def start(self, name: str, *arguments: Any) -> Doing:
        """Begins something, and does not wait for it."""

    @abstractmethod
    async def close(self) -> None:
        """Ends the agent (its `end()`), and the loop that was made for it."""

    async def do(self, name: str, *arguments: Any) -> Any:
        """Does something, and returns its result."""
        return await self.start(name, *arguments)

    async def settle(self) -> None:
        """When this returns, everything has happened there that happens by itself."""
        await self.do("settle")
        await asyncio.sleep(0)


class Agent:
    """What every agent can do."""

    async def settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def turns(self, name: str, *arguments: Any) -> int:
        """Does something, and returns how often the loop turned meanwhile."""
        task = asyncio.ensure_future(getattr(self, name)(*arguments))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        await task
        return turns

    async def end(self) -> None:
        """Lets go of what the agent holds."""


class Here(Actor):
    """An agent in the loop of the test itself."""

    def __init__(self, make: Make, *arguments: Any) -> None:
        self.agent = make(*arguments)

    def start(self, name: str, *arguments: Any) -> Doing:
        task = asyncio.ensure_future(getattr(self.agent, name)(*arguments))
        return Doing(task, lambda: void(task.cancel()))

    async def close(self) -> None:
        await self.agent.end()


class InThread(Actor):
    """An agent in a thread that runs an event loop."""

    def __init__(self, make: Make, *arguments: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._agent = asyncio.run_coroutine_threadsafe(_make(make, arguments), self._loop).result()

    def start(self, name: str, *arguments: Any) -> Doing:
        future = asyncio.run_coroutine_threadsafe(getattr(self._agent, name)(*arguments), self._loop)
        return Doing(asyncio.wrap_future(future), lambda: void(future.cancel()))

    async def close(self) -> None:
        await self.start("end")
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()


async def _make(make: Make, arguments: tuple[Any, ...]) -> Any:
    return make(*arguments)


class InProcess(Actor):
    """An agent in a process of its own.

    Args:
        context: of `multiprocess` or `multiprocessing`.
        make, arguments: how the agent is made there; arguments travel as those of a process do.
    """

    def __init__(self, context: Any, make: Make, *arguments: Any) -> None:
        self._control, far = context.Pipe()
        self.process = context.Process(target=_serve, args=(far, self._control, make, arguments))
        self.process.start()
        far.close()
        self._doings: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._control.fileno(), self._heard)

    def start(self, name: str, *arguments: Any) -> Doing:
        self._count += 1
        number = self._count
        outcome = self._doings[number] = self._loop.create_future()
        self._control.send((number, name, arguments))
        return Doing(outcome, lambda: self._control.send((number, "cancel", ())))

    def _heard(self) -> None:
        try:
            while self._control.poll():
                number, result, error = self._control.recv()
                outcome = self._doings.pop(number)
                if outcome.cancelled():
                    continue
                if error is None:
                    outcome.set_result(result)
                elif isinstance(error, asyncio.CancelledError):
                    outcome.cancel()
                else:
                    outcome.set_exception(error)
        except (EOFError, OSError):  # it was killed, or has ended
            self._loop.remove_reader(self._control.fileno())
            for outcome in self._doings.values():
                if not outcome.done():
                    outcome.cancel()

    async def close(self) -> None:
        if self.process.is_alive():
            self._control.send((0, "end", ()))
        await asyncio.to_thread(self.process.join)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self.process.close()


def _serve(control: Any, others_end: Any, make: Make, arguments: tuple[Any, ...]) -> None:
    others_end.close()
    asyncio.run(_Server(control).run(make, arguments))


class _Server:
    """The process's side of `InProcess`."""

    def __init__(self, control: Any) -> None:
        self._control = control
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    async def run(self, make: Make, arguments: tuple[Any, ...]) -> None:
        loop = asyncio.get_running_loop()
        self._agent = make(*arguments)
        self._over = loop.create_future()
        loop.add_reader(self._control.fileno(), self._heard)
        await self._over
        loop.remove_reader(self._control.fileno())
        await self._agent.end()

    def _heard(self) -> None:
        try:
            while not self._over.done() and self._control.poll():
                number, name, arguments = self._control.recv()
                if name == "end":
                    self._over.set_result(None)
                elif name == "cancel":
                    if number in self._tasks:
                        self._tasks[number].cancel()
                else:
                    task = self._tasks[number] = asyncio.ensure_future(getattr(self._agent, name)(*arguments))
                    task.add_done_callback(partial(self._answer, number))
        except EOFError:  # the test is gone
            self._over.cancel()

    def _answer(self, number: int, task: asyncio.Task[Any]) -> None:
        del self._tasks[number]
        if task.cancelled():
            self._control.send((number, None, asyncio.CancelledError()))
        else:
            error = task.exception()
            self._control.send((number, None if error else task.result(), error))
