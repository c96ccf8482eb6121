"""What is measured: the cases of each suite, and the ratios that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bench import baselines, batches, channels, components, costs, live, on_ray, peers, sharing, startup, topologies
from bench.items import KINDS
from bench.measure import Case, Key

__all__ = ["ALL_SIZES", "ALONE", "CAPACITIES", "SLOW", "SUITES", "TARGETS", "Scope", "Target", "cases"]

CAPACITIES: Final = (1, 10, 100, 1000)

PAUSE_S: Final = 0.005
"""Between two items whose delay is measured: 200 items a second, on an edge that is idle otherwise."""

DELAY_CAPACITY: Final = 100

SHAPED_CAPACITY: Final = 100
"""Of every in-port where the shape of the graph is what is compared."""


ALL_SIZES: Final = ("16 KiB", "64 KiB", "256 KiB", "1 MiB", "8 MiB", "32 MiB")

SHARED_ITEMS: Final = 420
"""Two seconds of work for a group with a slow member: its last item, a tenth of a second, is not much of that."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How far the suites go.

    Attributes:
        dicts: the capacities at which dicts are measured; ints are measured at all of `CAPACITIES`.
        delays: items whose delay is measured in a round.
        round_trips: questions in a round.
        files: files that the census reads in a round.
        sizes: of arrays, as `arrays.SIZES` names them; none where numpy is not installed.
        copied: bytes of arrays that are sent in a round.
        chains: of 20 crossing channels, in the graphs with many.
    """

    dicts: tuple[int, ...]
    delays: int
    round_trips: int
    files: int
    sizes: tuple[str, ...]
    copied: int
    chains: tuple[int, ...] = ()

    def kinds(self, capacity: int) -> Sequence[str]:
        return [kind for kind in KINDS if kind == "ints" or capacity in self.dicts]


def _probe(capacity: int) -> int:
    """Items of a warm-up: a short moment at each capacity."""
    return 2_000 if capacity == 1 else 10_000


def _by_capacity(suite: str, what: str, take: Callable[..., Any], scope: Scope, **options: Any) -> Iterator[Case]:
    for capacity in CAPACITIES:
        for kind in scope.kinds(capacity):
            run = partial(take, kind, capacity, **options)
            yield Case(Key(suite, what, kind, capacity), run, _probe(capacity))


def _graph(scope: Scope) -> Iterator[Case]:
    yield from _by_capacity("graph", "inline", components.chain, scope, engine="inline")
    yield from _by_capacity("graph", "1 worker", components.chain, scope, num_workers=1)
    yield from _by_capacity("graph", "2 workers", components.chain, scope, num_workers=2)
    # Which of the two edges crosses is the plan's choice, and not the same: both are measured.
    yield from _by_capacity("graph", "map with sink", components.chain, scope, num_workers=2, pins=(0, 1, 1))
    yield from _by_capacity("graph", "map with source", components.chain, scope, num_workers=2, pins=(0, 0, 1))
    yield from _by_capacity("graph", "asyncio.Queue", baselines.asyncio_queue, scope)
    for kind in KINDS:
        yield Case(Key("graph", "floor", kind), partial(baselines.floor, kind), _probe(0))


def _edge(scope: Scope) -> Iterator[Case]:
    yield from _by_capacity("edge", "cascata", components.edge, scope)
    yield from _by_capacity("edge", "multiprocessing.Queue", baselines.process_queue, scope)


def _latency(scope: Scope) -> Iterator[Case]:
    def delay(count: int) -> dict[str, float]:
        return components.delay(count, PAUSE_S)

    def queue_delay(count: int) -> dict[str, float]:
        return baselines.process_delay(DELAY_CAPACITY, count, PAUSE_S)

    queue_round_trip = partial(baselines.process_round_trip, DELAY_CAPACITY)
    yield Case(Key("delay", "cascata"), delay, scope.delays)
    yield Case(Key("delay", "multiprocessing.Queue"), queue_delay, scope.delays)
    yield Case(Key("round trip", "cascata"), components.round_trip, scope.round_trips)
    yield Case(Key("round trip", "live.call"), live.call, scope.round_trips)
    yield Case(Key("round trip", "live, send and read"), live.send_and_read, scope.round_trips)
    yield Case(Key("round trip", "multiprocessing.Queue"), queue_round_trip, scope.round_trips)


def _startup(_: Scope) -> Iterator[Case]:
    yield Case(Key("start", "two nodes on two workers"), startup.two_nodes, 0)
    yield Case(Key("start", "two bare processes"), startup.bare_processes, 0)
    yield Case(Key("import", "cascata"), startup.importing, 0)


def _topology(_: Scope) -> Iterator[Case]:
    for name, (producers, consumers) in topologies.TOPOLOGIES.items():
        mine = partial(topologies.topology, name, "ints", SHAPED_CAPACITY)
        queue = partial(channels.queue_between, producers, consumers, "ints", SHAPED_CAPACITY)
        yield Case(Key("topology", name, "ints", SHAPED_CAPACITY), mine, _probe(SHAPED_CAPACITY))
        yield Case(
            Key("topology", f"{name}, multiprocessing.Queue", "ints", SHAPED_CAPACITY), queue, _probe(SHAPED_CAPACITY)
        )
    for name in topologies.NODES:
        mine = partial(topologies.topology, name, "ints", SHAPED_CAPACITY)
        yield Case(Key("topology", name, "ints", SHAPED_CAPACITY), mine, _probe(SHAPED_CAPACITY))
    yield Case(Key("topology", "1 to 1, multiprocessing.Pipe", "ints"), partial(channels.pipe, "ints"), _probe(0))
    aio = partial(channels.aio_queue, "ints", SHAPED_CAPACITY)
    yield Case(Key("topology", "1 to 1, aioprocessing.AioQueue", "ints", SHAPED_CAPACITY), aio, _probe(1))


def _sharing(_: Scope) -> Iterator[Case]:
    yield Case(Key("sharing", "one of three members ten times slower"), sharing.one_slow_member, SHARED_ITEMS)
    yield Case(Key("sharing", "ideal"), sharing.ideal, SHARED_ITEMS)


def _arrays(scope: Scope) -> Iterator[Case]:
    if not peers.installed("numpy"):
        return
    from bench import arrays

    for name in scope.sizes:
        size = arrays.SIZES[name]
        count = max(20, min(5_000, scope.copied // size))
        yield Case(Key("arrays", "memcpy", name), partial(arrays.memcpy, size), count)
        for kind in arrays.KINDS:
            yield Case(Key("arrays", f"cascata, {kind}", name), partial(arrays.edge, kind, size), count)
        yield Case(Key("arrays", "multiprocessing.Pipe", name), partial(arrays.pipe, size, raw=False), count)
        yield Case(Key("arrays", "multiprocessing.Pipe, raw bytes", name), partial(arrays.pipe, size, raw=True), count)


def _costs(scope: Scope) -> Iterator[Case]:
    yield Case(Key("memory", "worker"), costs.worker_memory, 0)
    yield Case(Key("memory", "bare process"), costs.bare_memory, 0)
    yield Case(Key("another component", "in a chain of one worker"), costs.component_per_item, 20_000)
    yield Case(Key("another component", "at the start"), costs.component_start, 0)
    for chains in scope.chains:
        many = partial(costs.many_channels, chains, 20)
        # So many that they take a second: the start is taken off, and what is left must be more than its spread.
        yield Case(Key("many channels", f"{chains * 20} that cross"), many, 200_000 // (chains * 20))
    yield Case(Key("census", "one worker"), partial(costs.census, 1), scope.files)
    yield Case(Key("census", "two workers"), partial(costs.census, 2), scope.files)
    yield Case(Key("census", "one bare process"), partial(costs.bare_census, 1), scope.files)
    yield Case(Key("census", "two bare processes"), partial(costs.bare_census, 2), scope.files)


def _peers(_: Scope) -> Iterator[Case]:
    for capacity in (10, 100):  # at capacity 1 the earlier package hangs
        what = f"cascata {peers.EARLIER}"
        yield Case(Key("peers", what, "ints", capacity), partial(peers.earlier, capacity), _probe(1))
        mine = partial(components.chain, "ints", capacity, num_workers=2)
        yield Case(Key("peers", "cascata", "ints", capacity), mine, _probe(capacity))
    if peers.installed("pypeln"):
        yield Case(Key("peers", "pypeln", "ints", 100), partial(peers.pypeln_map, 100), _probe(1))
    if peers.installed("mpire"):
        yield Case(Key("peers", "mpire", "ints"), peers.mpire_imap, _probe(1))
    if peers.installed("ray"):
        yield Case(Key("peers", "ray.util.queue", "ints", 100), partial(peers.ray_queue, 100), 200)
    yield Case(Key("peers", "dag.stream", "ints"), batches.dag_stream, 100_000)


def _ray(scope: Scope) -> Iterator[Case]:
    if not peers.installed("ray"):
        return
    small = partial(on_ray.with_cluster, components.edge, "ints", SHAPED_CAPACITY)
    yield Case(Key("ray", "cascata", "ints", SHAPED_CAPACITY), small, _probe(SHAPED_CAPACITY))
    slow = partial(on_ray.queue, SHAPED_CAPACITY)
    yield Case(Key("ray", "ray.util.queue", "ints", SHAPED_CAPACITY), slow, 200)
    there = partial(on_ray.with_cluster, components.round_trip)
    yield Case(Key("ray", "cascata, round trip"), there, scope.round_trips)
    yield Case(Key("ray", "ray.util.queue, round trip"), on_ray.queue_round_trip, min(scope.round_trips, 100))
    yield Case(Key("ray", "call of an actor, round trip"), on_ray.call, scope.round_trips)
    if peers.installed("numpy"):
        from bench import arrays

        size, count = arrays.SIZES["1 MiB"], 300
        yield Case(
            Key("ray", "cascata, array", "1 MiB"), partial(on_ray.with_cluster, arrays.edge, "new array", size), count
        )
        yield Case(Key("ray", "argument of an actor, array", "1 MiB"), partial(on_ray.argument, size), count)


SUITES: Final[dict[str, Callable[[Scope], Iterator[Case]]]] = {
    "graph": _graph,
    "edge": _edge,
    "latency": _latency,
    "startup": _startup,
    "topology": _topology,
    "sharing": _sharing,
    "arrays": _arrays,
    "costs": _costs,
    "peers": _peers,
    "ray": _ray,
}


SLOW: Final = ("peers",)
"""What the quick form leaves out: it installs packages, and starts others' machinery."""

ALONE: Final = ("ray",)
"""What is measured only when it is asked for: a cluster stays beside it, and would take part in everything else."""


def cases(names: Sequence[str], scope: Scope) -> list[Case]:
    """The cases of some suites, in the order in which the suites stand here."""
    return [case for name, suite in SUITES.items() if name in names for case in suite(scope)]


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for.

    Attributes:
        text: what it is about.
        metric: of both cases.
        key: what is measured.
        other: what it is divided by; None: the value itself is asked for.
        least: the ratio or value to reach, or None.
        most: the ratio or value to stay within, or None.
    """

    text: str
    metric: str
    key: Key
    other: Key | None
    least: float | None = None
    most: float | None = None


def _queue(kind: str, capacity: int) -> Key:
    return Key("edge", "multiprocessing.Queue", kind, capacity)


def _targets() -> Iterator[Target]:
    for kind, capacity, least in (
        ("ints", 1, 1.0),
        ("ints", 10, 4.0),
        ("ints", 100, 10.0),
        ("ints", 1000, 12.0),
        ("dicts", 100, 7.0),
        ("dicts", 1000, 7.0),
    ):
        text = f"crossing edge, {kind}, capacity {capacity}, against multiprocessing.Queue"
        yield Target(text, "rate", Key("edge", "cascata", kind, capacity), _queue(kind, capacity), least=least)
    for kind in KINDS:
        for what in ("2 workers", "map with sink"):
            text = f"whole graph, {what}, {kind}, capacity 100, against one multiprocessing.Queue"
            yield Target(text, "rate", Key("graph", what, kind, 100), _queue(kind, 100), least=4.0)
    for capacity, asked in ((1, None), (10, None), (100, 2.0), (1000, 2.0)):
        text = f"whole graph, 1 worker, ints, capacity {capacity}, against asyncio.Queue"
        other = Key("graph", "asyncio.Queue", "ints", capacity)
        yield Target(text, "rate", Key("graph", "1 worker", "ints", capacity), other, least=asked)
    for capacity, least in ((10, 15.0), (100, 40.0)):
        text = f"whole graph, 2 workers, ints, capacity {capacity}, against cascata {peers.EARLIER}"
        other = Key("peers", f"cascata {peers.EARLIER}", "ints", capacity)
        yield Target(text, "rate", Key("peers", "cascata", "ints", capacity), other, least=least)
    text = f"dag.stream, batches of {batches.BATCH} ints, against one ray.util.queue.Queue"
    stream, queue = Key("peers", "dag.stream", "ints"), Key("peers", "ray.util.queue", "ints", 100)
    yield Target(text, "rate", stream, queue, least=50.0)
    for suite, most in (("round trip", 1.0), ("delay", None)):
        text = f"{suite}, median, against multiprocessing.Queue"
        yield Target(text, "median", Key(suite, "cascata"), Key(suite, "multiprocessing.Queue"), most=most)
    text = "round trip, median, live.call against a bare crossing edge there and back"
    yield Target(text, "median", Key("round trip", "live.call"), Key("round trip", "cascata"), most=3.0)
    text = "a stream shared by three, one of them ten times slower, against the ideal"
    slow = Key("sharing", "one of three members ten times slower")
    yield Target(text, "span", slow, Key("sharing", "ideal"), most=1.2)
    for size in ("1 MiB", "8 MiB"):
        mine = Key("arrays", "cascata, array", size)
        yield Target(f"arrays of {size}, against memcpy", "speed", mine, Key("arrays", "memcpy", size), least=0.5)
        pipe = Key("arrays", "multiprocessing.Pipe", size)
        yield Target(f"arrays of {size}, against a pipe", "speed", mine, pipe, least=4.0)
    text = "census, one worker against two"
    yield Target(text, "process", Key("census", "one worker"), Key("census", "two workers"), least=1.8)
    text = "files parsed, one bare process against two with half of them each"
    yield Target(text, "process", Key("census", "one bare process"), Key("census", "two bare processes"))
    nodes = Key("start", "two nodes on two workers")
    yield Target("two nodes on two workers, start to exit, in seconds", "process", nodes, None, most=0.5)
    text = "two nodes on two workers, start to exit, against two bare processes"
    yield Target(text, "process", nodes, Key("start", "two bare processes"), most=2.0)
    text = "on Ray, ints, against one ray.util.queue.Queue"
    small, queue = (Key("ray", what, "ints", SHAPED_CAPACITY) for what in ("cascata", "ray.util.queue"))
    yield Target(text, "rate", small, queue, least=100.0)
    for what, most in (("ray.util.queue", 0.1), ("call of an actor", None)):
        text, other = f"on Ray, round trip, median, against {what}", Key("ray", f"{what}, round trip")
        yield Target(text, "median", Key("ray", "cascata, round trip"), other, most=most)
    text, argument = "on Ray, arrays of 1 MiB, against arguments", Key("ray", "argument of an actor, array", "1 MiB")
    yield Target(text, "speed", Key("ray", "cascata, array", "1 MiB"), argument, least=1.5)
    yield Target("import over bare Python, in seconds", "added", Key("import", "cascata"), None, most=0.06)


TARGETS: Final = tuple(_targets())
