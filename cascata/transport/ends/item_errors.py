"""The errors for items that cannot cross the border of a process."""

from __future__ import annotations

import errno
from typing import Any, Final

from ...channel.tagged_item import TaggedItem
from ...errors import SerializationError, in_words
from ...model import ChannelSpec, EdgeSpec

__all__ = ["is_shortage", "unreadable", "unsendable"]

_SHORTAGES: Final = frozenset({errno.ENOMEM, errno.ENOSPC, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EDQUOT})


def is_shortage(problem: BaseException) -> bool:
    """Whether the system is short of memory or of fds."""
    return isinstance(problem, MemoryError) or (isinstance(problem, OSError) and problem.errno in _SHORTAGES)


def unsendable(edge: EdgeSpec, channel: ChannelSpec, item: Any, problem: BaseException) -> SerializationError:
    """For an item that can be pickled in no way, or for which there is no memory."""
    item = item.item if type(item) is TaggedItem else item
    kind = type(item).__name__
    from ..codec.locating import bound_in

    found = None if is_shortage(problem) else bound_in(item, "item", problem)
    if found is not None:
        error = SerializationError(
            f"an item of type {kind} sent by {edge.source} cannot cross to another worker ({channel.name}): "
            f"{found.text}. Or keep both nodes on one worker with graph.pin",
            node=edge.source.node,
            port=edge.source.port,
            type=found.type,
        )
        error.__cause__ = problem
        return error
    advice = (
        "The system is short of memory or of fds: send smaller items, or fewer at a time (capacity=)"
        if is_shortage(problem)
        else "Send what can be pickled (a path instead of an open file, an id instead of a connection)"
    )
    error = SerializationError(
        f"an item of type {kind} sent by {edge.source} cannot cross to another worker ({channel.name}): "
        f"{in_words(problem)}. {advice}, or keep both nodes on one worker with graph.pin",
        node=edge.source.node,
        port=edge.source.port,
        type=kind,
    )
    error.__cause__ = problem
    return error


def unreadable(
    edge: EdgeSpec, channel: ChannelSpec, worker: int, count: int, problem: BaseException
) -> SerializationError:
    """For items that were pickled, and cannot be unpickled."""
    source = edge.source
    error = SerializationError(
        f"{count} item(s) sent by {source} could not be unpickled for {channel.name} on worker {worker}: "
        f"{in_words(problem)}. The class of an item must be importable in the worker, and its "
        f"`__setstate__` or constructor must not raise there",
        node=source.node,
        port=source.port,
    )
    error.__cause__ = problem
    return error
