"""What a channel still held when nobody read it any more."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Unread"]


class Unread(NamedTuple):
    """What nobody has received of an edge: how many items, and how many were sent on it as their frames say."""

    items: int
    sent: int
