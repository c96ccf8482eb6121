"""An item that belongs to calls: `live.call(value)`."""

from __future__ import annotations

from typing import Any

__all__ = ["Tagged"]


class Tagged:
    """An item on its way, and the calls that it belongs to.

    Args:
        item: what is sent.
        tags: the numbers of the calls.
        id: of this very item, by which its way is followed; 0: it is not.
        oldest: the number of the oldest call that still waited for its answer when this was sent, as far as the sender
            knew: nobody wants what belongs to earlier ones.
    """

    __slots__ = ("id", "item", "oldest", "tags")

    def __init__(self, item: Any, tags: tuple[int, ...], id: int, oldest: int = 0) -> None:
        self.item: Any = item
        self.tags: tuple[int, ...] = tags
        self.id: int = id
        self.oldest: int = oldest

    def __reduce__(self) -> tuple[Any, ...]:
        return Tagged, (self.item, self.tags, self.id, self.oldest)

    def __repr__(self) -> str:
        return repr(self.item)
