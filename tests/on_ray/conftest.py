"""One cluster for all tests of this room, and what they may not leave on it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests import leaks
from tests.engine.test_call_options import kept
from tests.processes import lives

__all__ = ["kept"]

GONE_S: Final = 2.0


@pytest.fixture(scope="session")
def sigterm() -> Any:
    """What SIGTERM does before Ray is here: each node that Ray starts in this process sets a handler of its own."""
    return signal.getsignal(signal.SIGTERM)


@pytest.fixture(scope="session", autouse=True)
def cluster(sigterm: Any) -> Iterator[Any]:  # which looks before
    """A head node on this machine, to which tests may add others."""
    # Before Ray is imported: it reads them then. Without, it would make a token in the home of whoever runs the tests.
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16))
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "cascata[ray]"')
    from ray.cluster_utils import Cluster

    made: Any = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 8, "resources": {"left": 4, "lens": 1}, "include_dashboard": False},
    )
    ray.init(address=made.address, logging_level=logging.WARNING)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(params=[{"engine": "ray", "num_workers": 2}], ids=["ray"])
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a run, for tests of other rooms."""
    options: dict[str, Any] = request.param
    return options


@pytest.fixture
def workers(engine: dict[str, Any]) -> dict[str, Any]:
    """As `engine`."""
    return engine


@pytest.fixture(autouse=True)
def no_actor_is_left(cluster: Any, sigterm: Any) -> Iterator[None]:
    """After a run its actors are gone, and the cluster is there."""
    signal.signal(signal.SIGTERM, sigterm)
    yield
    signal.signal(signal.SIGTERM, sigterm)  # else Ray's would count as the program's own for all tests after these
    deadline = time.monotonic() + GONE_S
    while actors := leaks.named("ray::WorkerActor"):
        if time.monotonic() > deadline:
            pytest.fail(f"actors are left: {[each.describe() for each in actors]}", pytrace=False)
        time.sleep(0.01)
    assert lives(cluster.head_node.all_processes["raylet"][0].process.pid)
