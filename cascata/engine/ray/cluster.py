"""A Ray cluster: joining it, or starting one and stopping it again; and what its nodes have to give."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, Final

from ... import log
from ...errors import CascataError, in_words
from ...model import GraphSpec, Plan

__all__ = [
    "Demand",
    "check_demands",
    "default_workers",
    "demands",
    "import_ray",
    "joined",
    "options_of",
    "pins_by_resources",
    "short_of",
    "words",
]

Demand = Mapping[str, float]
"""Resource name, as Ray spells it ("CPU", "GPU", "memory", or a name of the user's), to amount."""

_SPELLED: Final = {"num_cpus": "CPU", "num_gpus": "GPU"}

KNOCK_S: Final = 5.0
"""Seconds that the head of a cluster has to answer."""

_lock: Final = threading.Lock()
_users = 0
"""Runs that use a connection which the first of them made: the last one ends it."""


def import_ray() -> Any:
    """The package.

    Raises:
        CascataError: it is not installed.
    """
    try:
        import ray
        import ray.util
    except ImportError as problem:
        raise CascataError(
            "engine='ray' needs the package ray, which is not installed: pip install \"cascata[ray]\". "
            "engine='processes' needs nothing"
        ) from problem
    return ray


@contextmanager
def joined(ray: Any, address: str | None, runtime_env: Mapping[str, Any] | None) -> Iterator[None]:
    """A connection to a cluster, for the time of the block. Takes seconds to begin.

    A connection that the program has made already is used, and left alone. Otherwise `address`, or the environment
    variable RAY_ADDRESS, names a cluster to join; it goes on when the block ends. With neither, or with "local", a
    cluster is started on this machine, and stopped when the last block that uses it ends.

    Raises:
        CascataError: there is no cluster at the address, it could not be started, or the program uses another.
    """
    global _users  # noqa: PLW0603  # a process has one connection
    with _lock:
        if ray.is_initialized():
            if not _users and address not in (None, "auto", ray.get_runtime_context().gcs_address):
                raise CascataError(
                    f"address={address!r}: this program is connected to the Ray cluster at "
                    f"{ray.get_runtime_context().gcs_address} already. Leave address= out, or call ray.shutdown() first"
                )
            ours = bool(_users)
        else:
            wanted = address or os.environ.get("RAY_ADDRESS") or "local"
            _connect(ray, wanted, runtime_env)
            ours = True
        _users += ours
    try:
        yield
    finally:
        with _lock:
            _users -= ours
            if ours and not _users:
                ray.shutdown()


def _connect(ray: Any, address: str, runtime_env: Mapping[str, Any] | None) -> None:
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        if not local and address != "auto":
            _knock(address)
        ray.init(address=address, runtime_env=runtime_env, logging_level=logging.WARNING, **local)
    except Exception as problem:
        what = "a local Ray cluster could not be started" if local else f"there is no Ray cluster at {address!r}"
        hint = "" if local else "; `ray start --head` starts one, address='local' starts one for this run alone"
        raise CascataError(f"{what}: {in_words(problem)}{hint}") from problem
    log.info("ray: %s", "started a cluster on this machine" if local else f"joined the cluster at {address}")


def _knock(address: str) -> None:
    """Raises when nobody listens at an address: Ray itself would go on trying for minutes."""
    if "://" in address:
        raise ValueError(
            "Ray Client is no member of its cluster, which workers could connect to: give host:port, on a "
            "machine of the cluster"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address is host:port, 'auto' or 'local'")
    socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def _nodes(ray: Any) -> list[Demand]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def default_workers(ray: Any, spec: GraphSpec) -> int:
    """One worker for each CPU of the cluster, and enough for the nodes that ask for different things."""
    cpus = int(sum(node.get("CPU", 0) for node in _nodes(ray)))
    return max(1, min(len(spec.nodes), max(cpus, len(_kinds(spec)))))


def _demand_of(spec: GraphSpec, node: str) -> dict[str, float]:
    asked = spec.nodes[node].component.options.get("resources") or {}
    return {_SPELLED.get(name, name): float(amount) for name, amount in asked.items() if amount}


def _kinds(spec: GraphSpec) -> dict[tuple[tuple[str, float], ...], list[str]]:
    """What nodes ask for -> those nodes, without those that ask for nothing."""
    kinds: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for node in spec.nodes:
        asked = _demand_of(spec, node)
        if asked:
            kinds.setdefault(tuple(sorted(asked.items())), []).append(node)
    return kinds


def pins_by_resources(spec: GraphSpec, num_workers: int, alone: AbstractSet[str] = frozenset()) -> dict[str, int]:
    """Pins that keep nodes which ask for different things apart: no machine may have both.

    Each kind gets workers of its own, in turn, as long as there are any; nodes of one kind are spread over its workers.
    Nodes that the user has pinned, those that ask for nothing, and those that have a worker of their own anyhow
    (`alone`), are left to the plan.
    """
    settled = spec.pins.keys() | alone
    kinds = {kind: [node for node in nodes if node not in settled] for kind, nodes in _kinds(spec).items()}
    kinds = {kind: nodes for kind, nodes in kinds.items() if nodes}
    free = [worker for worker in range(num_workers) if worker not in set(spec.pins.values())]
    free = free[: max(1, len(free) - len(alone - spec.pins.keys()))]
    others = sum(not _demand_of(spec, node) for node in spec.nodes if node not in alone) > 0
    if not kinds or not free or (len(kinds) == 1 and not others and not spec.pins):
        return {}  # nothing to keep apart
    share = max(1, (len(free) - others) // len(kinds))
    pins = {}
    for number, nodes in enumerate(kinds.values()):
        own = free[number * share : (number + 1) * share] or free[-1:]
        for place, node in enumerate(nodes):
            pins[node] = own[place % len(own)]
    return pins


def demands(ray: Any, spec: GraphSpec, plan: Plan) -> tuple[list[dict[str, float]], set[int]]:
    """What each worker asks for: the sum of its nodes. One that asks for no CPU gets one, if there are enough.

    Returns:
        The demands, and the workers that can do without the CPU of theirs.
    """
    asked: list[dict[str, float]] = []
    for nodes in plan.workers:
        total: dict[str, float] = {}
        for node in nodes:
            for name, amount in _demand_of(spec, node).items():
                total[name] = total.get(name, 0.0) + amount
        asked.append(total)
    idle = ray.available_resources().get("CPU", 0) - sum(each.get("CPU", 0) for each in asked)
    modest = {worker for worker, each in enumerate(asked) if "CPU" not in each}
    if len(modest) <= idle:
        for worker in modest:
            asked[worker]["CPU"] = 1.0
    return asked, modest


def check_demands(ray: Any, plan: Plan, asked: Mapping[int, Demand]) -> None:
    """Raises `CascataError` when a worker asks for what no node of the cluster has, whoever uses it now."""
    nodes = _nodes(ray)
    for worker, demand in asked.items():
        if not any(all(node.get(name, 0) >= amount for name, amount in demand.items()) for node in nodes):
            most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in demand}
            raise CascataError(
                f"worker {worker} ({', '.join(plan.workers[worker])}) asks for {words(demand)}, which no single node "
                f"of the Ray cluster has: the most is {words(most)}. Ask for less with @component(resources=...), use "
                f"more workers, or add a node that has it"
            )


def words(amounts: Demand) -> str:
    """Amounts, in words."""
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items()) or "nothing"


def options_of(demand: Demand) -> dict[str, Any]:
    """What a worker asks for, as options of a Ray actor."""
    own = {name: amount for name, amount in demand.items() if name not in ("CPU", "GPU", "memory")}
    options: dict[str, Any] = {"num_cpus": demand.get("CPU", 0), "num_gpus": demand.get("GPU", 0)}
    if "memory" in demand:
        options["memory"] = demand["memory"]
    if own:
        options["resources"] = own
    return options


def short_of(ray: Any, demand: Demand) -> Demand:
    """What of a demand is not there now, because others use it.

    Nothing, when the cluster has given it to the worker that asks, whose process is yet to start.
    """
    available = ray.available_resources()
    lacking = {name: amount for name, amount in demand.items() if available.get(name, 0) < amount}
    return lacking if lacking and _is_waited_for(ray, demand) else {}


def _is_waited_for(ray: Any, demand: Demand) -> bool:
    """Whether the cluster has yet to find a place for somebody who asks for that."""
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status

        waiting = get_cluster_status(ray.get_runtime_context().gcs_address).resource_demands.ray_task_actor_demand
        asked = [each.bundle for demand in waiting for each in demand.bundles_by_count]
    except Exception:  # not every version of Ray tells: what others use is all that is known
        return True
    return any(all(bundle.get(name, 0) == amount for name, amount in demand.items()) for bundle in asked)
