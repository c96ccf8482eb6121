"""cascata's engine for Ray, and Ray's own means, on one local cluster: each node is an actor.

items        source ══ TCP ══> sink                a task ── ray.util.queue.Queue, an item each ──> this process
round trip   ask ══> echo ══> hear                 an actor that calls another one, and waits for what it returns
arrays       source ══ TCP ══> sink                an actor that calls another one with an array as argument
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from bench.items import delays, marks, rate

__all__ = ["IN_FLIGHT", "OPTIONS", "argument", "call", "queue", "queue_round_trip", "with_cluster"]

OPTIONS: Final[dict[str, Any]] = {"engine": "ray"}

IN_FLIGHT: Final = 8
"""Calls with an array that are on their way at once: with fewer Ray is slower."""

_ROOT: Final = str(Path(__file__).resolve().parent.parent)


def _ray() -> Any:
    """Ray, connected to a cluster that is started the first time. Ray stops it when this process ends."""
    import ray

    if not ray.is_initialized():
        # What its workers import is this tree.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    return ray


def with_cluster(take: Callable[..., dict[str, float]], *args: Any) -> dict[str, float]:
    """Measures a graph on the cluster: its start is in no figure."""
    _ray()
    return take(*args, **OPTIONS)


def queue(capacity: int, count: int) -> dict[str, float]:
    """Ints through a `ray.util.queue.Queue`. Returns "rate": items a second between the two marks."""
    ray = _ray()
    from ray.util.queue import Queue

    @ray.remote(num_cpus=0)  # type: ignore[untyped-decorator, unused-ignore]
    def put(queue: Any, count: int) -> None:
        for number in range(count):
            queue.put(number)

    waiting = Queue(capacity)
    putting = put.remote(waiting, count)
    awaited = marks(count)
    times = []
    for number in range(count):
        waiting.get()
        if number in awaited:
            times.append(perf_counter())
    ray.get(putting)
    waiting.shutdown()
    return {"rate": rate(count, times)}


def queue_round_trip(count: int) -> dict[str, float]:
    """A question through a `ray.util.queue.Queue` to a task, and its answer through another one. Returns as `call`."""
    ray = _ray()
    from ray.util.queue import Queue

    @ray.remote(num_cpus=0)  # type: ignore[untyped-decorator, unused-ignore]
    def echo(questions: Any, answers: Any, count: int) -> None:
        for _ in range(count):
            answers.put(questions.get())

    questions, answers = Queue(), Queue()
    echoing = echo.remote(questions, answers, count)
    times = []
    for _ in range(count):
        began = perf_counter()
        questions.put(began)
        answers.get()
        times.append(perf_counter() - began)
    ray.get(echoing)
    for each in (questions, answers):
        each.shutdown()
    return delays(times[1:])  # the first one waits for the task to start


class _Echo:
    def echo(self, item: Any) -> Any:
        return item

    def take(self, array: Any) -> float:
        assert array[0] == 1
        return perf_counter()


class _Asks:
    """Calls another actor."""

    def ask(self, other: Any, count: int) -> list[float]:
        import ray

        times = []
        for _ in range(count):
            began = perf_counter()
            ray.get(other.echo.remote(began))
            times.append(perf_counter() - began)
        return times

    def send(self, other: Any, size: int, count: int) -> list[float]:
        import numpy as np
        import ray

        def arrived() -> Iterator[float]:
            waiting: list[Any] = []
            for _ in range(count):
                waiting.append(other.take.remote(np.ones(size, "u1")))
                if len(waiting) == IN_FLIGHT:
                    yield ray.get(waiting.pop(0))
            yield from ray.get(waiting)

        return list(arrived())


def _between_actors(what: str, *args: Any) -> list[float]:
    ray = _ray()
    asks, echo = (ray.remote(num_cpus=0)(kind).remote() for kind in (_Asks, _Echo))
    times: list[float] = ray.get(getattr(asks, what).remote(echo, *args))
    ray.kill(asks)
    ray.kill(echo)
    return times


def call(count: int) -> dict[str, float]:
    """An actor calls another one, and waits for its answer. Returns "median" and "p99", in seconds."""
    return delays(_between_actors("ask", count))


def argument(size: int, count: int) -> dict[str, float]:
    """An actor sends arrays to another one. Returns "speed": bytes a second between the two marks."""
    times = _between_actors("send", size, count)
    first, last = marks(count)
    return {"speed": size * rate(count, [times[first], times[last]])}
