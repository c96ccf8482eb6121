"""Pi by throwing darts: each batch of seeds is a task on some core, and the sum goes on by itself.

python examples/monte_carlo_pi.py [--seeds 200] [--darts 20000] [--workers 2]
"""

from __future__ import annotations

import argparse
import os
import random
from math import pi, sqrt

from cascata.workflow import OnlineMean, Task


class ThrowTask(Task):
    """How many of the darts hit the quarter circle, as a share, for each seed."""

    def do(self, batch: list[int], darts: int) -> list[float]:
        return [self.share(random.Random(seed), darts) for seed in batch]

    def share(self, numbers: random.Random, darts: int) -> float:
        hits = sum(numbers.random() ** 2 + numbers.random() ** 2 <= 1 for _ in range(darts))
        return hits / darts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--darts", type=int, default=20_000, help="for each seed")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()

    share = OnlineMean()
    batches = 0
    # How many seeds make a batch is found out on the way: about 75 ms of work.
    for shares in ThrowTask().map(range(given.seeds), num_workers=given.workers, task_kwargs={"darts": given.darts}):
        share.add(shares)
        batches += 1
    estimate = 4 * share.get()
    deviation = 4 * sqrt(pi / 4 * (1 - pi / 4) / (share.count * given.darts))
    print(f"{share.count * given.darts:,} darts in {batches} batches on {given.workers} workers")
    print(f"pi is about {estimate:.6f}, which is {abs(estimate - pi) / deviation:.1f} standard deviations off")


main()
