"""How a part of a run does what it is told: the handlers of the messages to it, chosen by type.

parent ── ToWorker ──> `obey`, in a thread, calls the handler ──> Worker, in the loop of its nodes
       <── FromWorker ── Reporter ── `by_connection` ────────────────┘
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from ...runtime.idle import IdleReport
from ...runtime.worker import Worker
from ..protocol.messages import (
    CancelWorker,
    ConfirmIdle,
    Describe,
    Doing,
    DrainWorker,
    EndCycle,
    EndSources,
    FromWorker,
    GrowChannel,
    IdleConfirmed,
    Locate,
    Located,
    Reporter,
    Stay,
    StopCycle,
    read,
    write,
)
from ..supervision.watchdog import where_it_stands
from .sigterm import ParentsWord

__all__ = ["Handlers", "Wire", "by_connection", "handlers", "obey"]

ANSWER_S: Final = 0.2
"""A loop that does not turn within this many seconds counts as blocked."""


class Wire(Protocol):
    """What a `Connection` of `multiprocess` is to a worker."""

    def send_bytes(self, data: bytes) -> None:
        """Sends one message."""

    def recv_bytes(self) -> bytes:
        """Waits for one message. Raises `EOFError` or `OSError` at the end."""


def by_connection(connection: Wire) -> Callable[[FromWorker], None]:
    """Sends messages to the parent, from any thread."""
    lock = threading.Lock()

    def send(message: FromWorker) -> None:
        """When the parent is gone there is nobody to tell, and this process ends as well."""
        data = write(message)
        try:
            with lock:
                connection.send_bytes(data)
        except OSError:
            pass

    return send


Handlers = Mapping[type, Callable[[Any], object]]
"""Type of a message to a worker -> what is called with it, in the thread that has received it."""


def handlers(worker: Worker, loop: asyncio.AbstractEventLoop, reporter: Reporter) -> Handlers:
    """What every part of a run does about messages, whatever carries its channels. May be called from any thread.

    Args:
        worker: the part's nodes.
        loop: in which they run. When it is closed, a handler raises `RuntimeError`.
        reporter: by which they answer.
    """
    soon = loop.call_soon_threadsafe

    def confirm_idle(message: ConfirmIdle) -> None:
        def answer(report: IdleReport | None) -> None:
            reporter.send(IdleConfirmed(message.worker, message.attempt, report))

        if worker.watch is not None:
            soon(worker.watch.confirm, answer)

    return {
        DrainWorker: lambda _: soon(worker.drain),
        EndSources: lambda _: soon(worker.end_sources),
        CancelWorker: lambda _: soon(worker.cancel),
        EndCycle: lambda message: soon(worker.end_cycle, message.cycle),
        StopCycle: lambda message: soon(worker.stop_cycle, message.cycle),
        GrowChannel: lambda message: soon(worker.grow, message.channel, message.extra),
        ConfirmIdle: confirm_idle,
    }


def obey(
    connection: Wire,
    loop: asyncio.AbstractEventLoop,
    worker: Worker,
    reporter: Reporter,
    others: Handlers,
    word: ParentsWord | None,
    thread: int,
) -> None:
    """Reads the parent's messages until it closes the connection. In a thread of its own.

    Args:
        connection: to the parent.
        loop: in which the worker runs.
        worker: that obeys.
        reporter: answers.
        others: what is to be done about further messages, or about some in another way.
        word: waits for a message when SIGTERM has come; None: nothing here does.
        thread: that the loop runs in.
    """

    def locate(_: Locate) -> None:
        at = where_it_stands(worker, loop, thread)
        reporter.send(Located(worker.index, at.node, at.stack, at.debugged))

    def describe(_: Describe) -> None:
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        doing = worker.doing()
        if not turned.wait(ANSWER_S):
            doing += f"; its event loop is blocked at\n{where_it_stands(worker, loop, thread).stack}"
        reporter.send(Doing(worker.index, doing))

    known: dict[type, Callable[[Any], object]] = {
        **handlers(worker, loop, reporter),
        Locate: locate,
        Describe: describe,
        Stay: lambda _: None,
        **others,
    }
    while True:
        try:
            message = read(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if word is not None and isinstance(message, DrainWorker | CancelWorker | Stay):
            word.heard()
        try:
            known[type(message)](message)
        except RuntimeError:
            pass  # the loop is closed: the nodes have ended, but the parent's word and its death must still be heard
