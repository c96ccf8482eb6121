"""What the supervisor's process and its workers say to each other: one table, read as it was written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from cascata import Graph
from cascata.engine.local.portable import PortableRun
from cascata.engine.protocol import control_socket, messages
from cascata.engine.protocol.messages import FromWorker, ToWorker, read, write
from cascata.engine.supervision.supervisor import Supervisor
from cascata.engine.worker.obeying import obey
from cascata.engine.worker.stationed import station_handlers
from cascata.errors import ComponentError
from cascata.model import Plan
from cascata.options import RunOptions
from cascata.runtime.idle import IdleReport, Rest
from cascata.transport.ends.unread import Unread
from tests.engine.parts import Count

REST: Final = Rest({0: 3}, {0: 2}, frozenset({0}), turned=True)
REPORT: Final = IdleReport(REST, {"a": frozenset({1})}, {"b": frozenset({2})}, {"a": "sending"}, 7)
ERROR: Final = ComponentError("as asked", node="a", worker=1, item="17")

FIELDS: Final[dict[str, Any]] = {
    "address": ("127.0.0.1", 4711),
    "attempt": 3,
    "balance": {1: 2, 3: -4},
    "channel": 5,
    "counts": b"\x00\x01",
    "cycle": 6,
    "debugged": False,
    "edges": (1, 2, 3),
    "error": ERROR,
    "extra": 100,
    "node": "a",
    "peer": 2,
    "record": {"msg": "x", "levelno": 30},
    "report": REPORT,
    "rest": REST,
    "stack": "File ...\n",
    "stream": 1,
    "tags": [1, 2],
    "text": "a stranger",
    "what": "a: sending",
    "why": "reset by peer",
    "worker": 1,
}


def example(kind: Any) -> Any:
    given = FIELDS | ({"counts": {3: Unread(2, 9)}} if kind is messages.LeftUnread else {})
    return kind(*(given[name] for name in kind.__match_args__))


TO_WORKER: Final = [example(kind) for kind in ToWorker.__args__]
FROM_WORKER: Final = [example(kind) for kind in FromWorker.__args__]


def named(message: Any) -> str:
    return type(message).__name__


class Pair:
    """A control connection: the supervisor's end sends and hears in a loop, the worker's end blocks."""

    def __init__(self, transport: str) -> None:
        if transport == "socket":
            self.near, self.far = control_socket.pair()
        else:
            from multiprocess.connection import Pipe

            self.near, self.far = Pipe(duplex=True)
        self.transport = transport

    async def there(self, message: Any) -> Any:
        if self.transport == "socket":
            control_socket.Outbox(self.near).send(write(message))
        else:
            self.near.send_bytes(write(message))
        return read(await asyncio.to_thread(self.far.recv_bytes))

    async def back(self, message: Any) -> Any:
        self.far.send_bytes(write(message))
        if self.transport == "pipe":
            return read(await asyncio.to_thread(self.near.recv_bytes))
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        ear = control_socket.Ear(self.near, heard.set_result)
        try:
            return read(await heard)
        finally:
            ear.stop()

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture(params=["socket", "pipe"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """The control connection of a worker on this system's own transport, and that on the portable one."""
    made = Pair(request.param)
    yield made
    made.close()


def told(message: Any) -> str:
    """What a message says: an error is equal to no copy of it, but says the same."""
    return f"{message!r} {vars(getattr(message, 'error', None) or ERROR)}"


@pytest.mark.parametrize("message", TO_WORKER, ids=named)
def test_what_a_worker_is_told_arrives_as_it_was(pair: Pair, message: Any) -> None:
    assert told(asyncio.run(pair.there(message))) == told(message)


@pytest.mark.parametrize("message", FROM_WORKER, ids=named)
def test_what_a_worker_tells_arrives_as_it_was(pair: Pair, message: Any) -> None:
    assert told(asyncio.run(pair.back(message))) == told(message)


class Recorder:
    """Stands for a worker, its station and its reporter: notes what is called, and has all attributes."""

    def __init__(self, called: list[str], name: str) -> None:
        self._called, self._name = called, name

    def __getattr__(self, name: str) -> Any:
        return Recorder(self._called, name)

    def __call__(self, *_: Any) -> None:
        self._called.append(self._name)


class AtOnce:
    """Stands for the loop of a worker."""

    @staticmethod
    def call_soon_threadsafe(what: Callable[..., None], *given: Any) -> None:
        what(*given)


@pytest.mark.parametrize("message", TO_WORKER, ids=named)
def test_a_worker_does_something_about_each_message_until_the_connection_ends(message: Any) -> None:
    near, far = control_socket.pair()
    near.send_bytes(write(message))
    near.close()
    called: list[str] = []
    anything: Any = Recorder(called, "anything")
    loop: Any = AtOnce()
    obey(far, loop, anything, anything, station_handlers(anything), anything, threading.get_ident())
    far.close()
    assert called


def test_each_message_of_a_worker_is_seen_to_by_the_engine_or_decided_about_by_the_supervisor() -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 1
    spec = graph.resolve()
    plan = Plan((("count",),), {}, frozenset())
    engine = PortableRun(spec, plan, RunOptions.of({}, "run"))
    by_others = {messages.Printed}  # of an engine that needs Ray
    for message in FROM_WORKER:
        if type(message) in engine._handlers or type(message) in by_others:
            continue
        with suppress(LookupError):  # this graph has no such edge or cycle
            Supervisor(spec, plan, 1.0).handle(message)  # an assertion fails when it is no event
