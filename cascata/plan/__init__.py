"""Who runs where: a `GraphSpec` and a number of workers give a `Plan`, with a reason for each placement."""

from .partition import available_cpus, measured, partition

__all__ = ["available_cpus", "measured", "partition"]
