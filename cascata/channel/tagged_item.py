"""What travels in place of an item that belongs to calls: `live.call(value)`."""

from __future__ import annotations

from typing import Any

__all__ = ["TaggedItem"]


class TaggedItem:
    """An item on its way, with the calls that it belongs to.

    Args:
        item: what the component sent.
        tags: the numbers of the calls.
        id: a number of this very item, by which the caller knows when nothing of a call is left (see
            `runtime.live_calls.lineage`); 0: no caller waits for what becomes of it.
        oldest: the number of the oldest call that still waited for its answer when this was sent, as far as the sender
            knew: what belongs to earlier ones may be dropped.
    """

    __slots__ = ("id", "item", "oldest", "tags")

    def __init__(self, item: Any, tags: tuple[int, ...], id: int, oldest: int = 0) -> None:
        self.item: Any = item
        self.tags: tuple[int, ...] = tags
        self.id: int = id
        self.oldest: int = oldest

    def __reduce__(self) -> tuple[Any, ...]:
        return TaggedItem, (self.item, self.tags, self.id, self.oldest)

    def __repr__(self) -> str:
        return repr(self.item)
