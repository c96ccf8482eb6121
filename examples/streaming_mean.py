"""The mean of many images that do not fit in memory, saved as it grows. Run it again, and it goes on where it stopped.

    python examples/streaming_mean.py mean.npy [--images 400] [--workers 2]

Needs NumPy: pip install "cascata[npy]"
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from cascata.workflow import DAG, MeanResult, NumpySaver, OnlineMean, Task

SIZE = 128
BATCH = 10


class MeanTask(Task):
    """The mean of a batch of images, each made from its number as if it were read from a disk."""

    def do(self, batch: list[int]) -> MeanResult:
        images = np.stack([self.read(number) for number in batch])
        return MeanResult(images.mean(axis=0), len(batch))

    def read(self, number: int) -> np.ndarray:
        noise = np.random.default_rng(number).normal(0, 50, (SIZE, SIZE))
        return np.add.outer(np.arange(SIZE), np.arange(SIZE)) + noise  # a gradient, under noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", help="where the mean is saved")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()

    dag = DAG()
    numbers, source = dag.add_source()
    means = dag.add_sink(dag.add(MeanTask(), inputs=numbers, n_workers=given.workers))
    saver = NumpySaver(given.file, approach="overwrite")
    with dag, OnlineMean(saver, save_interval=5, resume=True) as mean:
        first = mean.next_index
        print(f"{mean.count} images are in the mean already")
        dag.start(num_workers=given.workers)
        for _, batch in dag.stream(
            range(first * BATCH, given.images),
            source_queues=source,
            sink_queues=means,
            batch_size=BATCH,
            first_index=first,
        ):
            mean.add(batch)
    expected = np.add.outer(np.arange(SIZE), np.arange(SIZE))
    error = np.abs(np.load(given.file) - expected).mean()
    print(f"{mean.count} images are in it now; what is left of the noise: {error:.2f}")


main()
