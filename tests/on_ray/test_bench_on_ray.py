"""What the benchmark measures on Ray runs, and gives figures."""

from __future__ import annotations

import importlib.util
import math

import pytest

from bench import components, on_ray
from tests.on_ray.borrowed import ON_RAY

pytestmark = ON_RAY


def test_each_case_on_ray_gives_its_figure() -> None:
    found = [
        on_ray.with_cluster(components.edge, "ints", 100, 200)["rate"],
        on_ray.queue(100, 20)["rate"],
        on_ray.with_cluster(components.round_trip, 20)["median"],
        on_ray.queue_round_trip(20)["median"],
        on_ray.call(20)["median"],
        on_ray.argument(1 << 20, 20)["speed"],
    ]
    assert all(math.isfinite(each) and each > 0 for each in found)


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="numpy is not installed")
def test_arrays_on_ray_give_their_figure() -> None:
    from bench import arrays

    assert on_ray.with_cluster(arrays.edge, "new array", 1 << 20, 20)["speed"] > 0
