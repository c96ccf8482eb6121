"""What the tests of calls that hold only so much share. Workers import this module: no pytest here."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["ENOUGH", "LIMIT_S", "Made"]

ENOUGH: Final = 3
"""Items after which the reader ends."""

LIMIT_S: Final = 20
"""A run that takes longer than this hangs."""


class Made:
    """What the calls of a node have made and how often a timer has ticked, for the calls beside."""

    def __init__(self) -> None:
        self.items = 0
        self.ticks = 0

    async def tick(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0)

    async def stands_still(self) -> int:
        """How many items there are when no more are made."""
        ticking = asyncio.ensure_future(self.tick())
        before = -1
        while self.items != before or self.items < 1:
            before = self.items
            await asyncio.sleep(0.05)
        ticking.cancel()
        return self.items
