"""Ray calls as the way for frames, where actors cannot connect to each other: see `transport.tcp.ray_calls`.

actor ── frames(sender, number, pieces) ──> actor        put into a queue there, and answered
driver ── frames ──> actor
       <── fetch ─── actor                               again and again: a driver cannot be called
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from ... import log
from ...transport.tcp.ray_calls import AGAIN_S, APART, DOUBT_S, Load, UnsureError
from ...transport.tcp.station import Station
from ...transport.tcp.stream_frames import Chunk

__all__ = ["FETCHERS", "Detours", "RayReach", "fetch", "first_line", "packed", "reaches"]

FETCHERS: Final = 2
"""Calls of `fetch` that are on their way at once: one waits for what comes while the other one carries what came."""

NAMED: Final = 5
"""Pairs of workers that one warning names, at most."""


def packed(pieces: Sequence[Chunk]) -> list[Any]:
    """Pieces as Ray should see them: what is large goes from where it is to the object store, beside the pickle."""
    return [pickle.PickleBuffer(piece) if len(piece) >= APART else bytes(piece) for piece in pieces]


class RayReach:
    """Another actor, whose methods can be called. Implements `transport.calls.Reach`.

    Args:
        me: index of this worker.
        handle: of the actor.
    """

    def __init__(self, me: int, handle: Any) -> None:
        self._me = me
        self._frames = handle.frames.options(concurrency_group="frames")
        self._is_open = handle.is_open.options(concurrency_group="frames")

    def frames(self, number: int, pieces: Sequence[Chunk]) -> Future[None]:
        return _answer(self._frames.remote(self._me, number, packed(pieces)))

    def is_open(self) -> Future[bool]:
        return _answer(self._is_open.remote())


def reaches(me: int, handles: Mapping[int, Any]) -> dict[int, RayReach]:
    """How this worker calls the others."""
    return {peer: RayReach(me, handle) for peer, handle in handles.items() if peer != me}


def _answer(ref: Any) -> Future[Any]:
    """What a call returns, with the exceptions that `Reach` speaks of. The future keeps Ray's reference."""
    from ray.exceptions import ActorUnavailableError

    answer: Future[Any] = Future()
    answer.set_running_or_notify_cancel()  # who does not wait any more cannot cancel it

    def done(found: Future[Any]) -> None:
        problem = found.exception()
        if problem is None:
            answer.set_result(found.result())
        elif isinstance(problem, ActorUnavailableError):
            answer.set_exception(UnsureError(first_line(problem)))
        else:
            answer.set_exception(ConnectionError(first_line(problem)))

    ref.future().add_done_callback(done)
    return answer


def first_line(problem: BaseException) -> str:
    """An error of Ray's in one line."""
    text = str(problem).strip()
    return f"{type(problem).__name__}: {text.splitlines()[0] if text else ''}"


async def fetch(handle: Any, peer: int, station: Station, who: int) -> None:
    """Fetches from an actor what it sends to this program, until there is no more.

    Args:
        handle: of the actor.
        peer: its worker.
        station: of this program.
        who: a number of its own for each that fetches from this actor.
    """
    from ray.exceptions import ActorUnavailableError, RayError

    call = handle.fetch.options(concurrency_group="fetch")
    had: int | None = None
    doubt: float | None = None
    while True:
        try:
            loads: list[Load] | None = await call.remote(station.me, who, had)
        except RayError as problem:
            doubt = doubt or time.monotonic()
            if isinstance(problem, ActorUnavailableError) and time.monotonic() - doubt < DOUBT_S:
                await asyncio.sleep(AGAIN_S)  # whoever asks again is given the same again
                continue
            station.fetch_failed(peer, ConnectionError(first_line(problem)))
            return
        doubt = None
        if loads is None:
            return
        for number, pieces in loads:
            station.called(peer, number, pieces)
            had = number


class Detours:
    """The pairs of workers whose frames go by calls, for the log: told together, since there may be many.

    Args:
        named: a worker, or this program, in words.
        wanted: whether nothing else was wanted: that is no reason to warn.
    """

    def __init__(self, named: Callable[[int], str], *, wanted: bool) -> None:
        self._named = named
        self._tell = log.info if wanted else log.warning
        self._found: list[tuple[int, int, str]] = []

    def add(self, worker: int, peer: int, why: str) -> None:
        """A worker cannot connect to another one."""
        self._found.append((worker, peer, why))

    def __bool__(self) -> bool:
        """Whether there are some to tell of."""
        return bool(self._found)

    def tell(self) -> None:
        """Writes about those that have come since the last time."""
        found, self._found = self._found, []
        if not found:
            return
        pairs = "; ".join(f"{self._named(here)} to {self._named(there)}: {why}" for here, there, why in found[:NAMED])
        more = f"; and {len(found) - NAMED} more pairs" if len(found) > NAMED else ""
        self._tell(
            "ray: no direct connection from %s%s. What they send to each other goes by Ray calls: fewer items a "
            "second, and milliseconds for a question and its answer. Let the machines reach each other at these ports, "
            "which the system chooses, to have them direct",
            pairs,
            more,
        )
