"""When to look for what will come, instead of waiting to be woken: that takes longer than most answers.

Where a look finds something, the next wait looks as well. After a look in vain, there is none for a while, then for
twice as long, and so on: on a machine that others keep busy, looking takes time from those who are looked for.

Two who answer each other find nothing when one looks and the other has to be woken first: both must look in the same
moment to find out that looking is worth it. So the moments come by the clock, which all processes of a machine share.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LOOKING_S", "Looks"]

LOOKING_S: Final = 0.0002
"""Who has a core of its own looks for so long before it waits: more than it takes to be woken."""

MOMENT_S: Final = 0.0005
"""How long one looks at every wait, when looks were in vain."""

LONGEST_S: Final = 0.064
"""From one such moment to the next, at most."""


class Looks:
    """Of one end of a channel."""

    __slots__ = ("_every",)

    def __init__(self) -> None:
        self._every = 0.0

    def due(self, now: float) -> bool:
        """Whether a wait that begins now, by `perf_counter`, is to look first."""
        return not self._every or now % self._every < MOMENT_S

    def found(self) -> None:
        """A look has found something."""
        self._every = 0.0

    def in_vain(self) -> None:
        """A look has found nothing."""
        self._every = min(2 * (self._every or MOMENT_S), LONGEST_S)
