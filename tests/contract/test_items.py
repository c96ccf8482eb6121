"""What may be an item, and how it arrives."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from cascata.errors import SerializationError
from tests.contract.kinds import Kind


async def test_inside_one_process_the_object_itself_is_handed_over(inner_kind: Kind) -> None:
    item = threading.Lock()  # nothing that could be pickled
    async with inner_kind.made(2) as channel:
        await channel.writer.do("put", item)
        assert await channel.reader.do("take") is item


async def test_functions_that_have_no_name_cross_a_border(quick_kind: Kind) -> None:
    async with quick_kind.made(10) as channel:
        await channel.writer.do("put_function")
        assert await channel.reader.do("take_and_call", 1) == 21


@pytest.mark.parametrize(
    "item",
    [b"x" * 1_000_000, "é" * 300_000, list(range(100_000)), {index: str(index) for index in range(20_000)}],
    ids=["bytes", "text", "a long list", "a large dict"],
)
async def test_large_items_arrive_whole(quick_kind: Kind, item: Any) -> None:
    async with quick_kind.made(3) as channel:
        await channel.writer.do("put_all", [item, item, item])
        assert await channel.reader.do("take_all", 3) == [item, item, item]


async def test_arrays_arrive_whole(quick_kind: Kind) -> None:
    small = np.arange(10)
    medium = np.arange(20_000, dtype="f4").reshape(100, 200)
    large = np.arange(1 << 20).reshape(2, 1 << 19)
    backwards = large[:, ::-1]
    record = {"image": medium, "mask": large > 5, "name": "x"}
    items: list[Any] = [small, medium, large, backwards, record, np.asfortranarray(large)]
    async with quick_kind.made(10) as channel:
        await channel.writer.do("put_all", items)
        taken = await channel.reader.do("take_all", len(items))
    for sent, came in zip(items, taken, strict=True):
        if isinstance(sent, dict):
            assert isinstance(came, dict)
            for name in ("image", "mask"):
                np.testing.assert_array_equal(came[name], sent[name])
        else:
            np.testing.assert_array_equal(came, sent)
            assert came.dtype == sent.dtype


async def test_a_hundred_thousand_items_arrive_in_order(quick_kind: Kind) -> None:
    count = 100_000
    async with quick_kind.made(1_000) as channel:
        taking = channel.reader.start("take_and_sum", count)
        await channel.writer.do("put_range", count)
        assert await taking == (count, count * (count - 1) // 2, True)


async def test_what_cannot_cross_is_told_to_who_puts_it(public_kind: Kind) -> None:
    async with public_kind.made(2) as channel:
        if not public_kind.crosses:
            await channel.writer.do("put_generator")
            return
        with pytest.raises(SerializationError, match="put into a channel that processes share") as caught:
            await channel.writer.do("put_generator")
        assert caught.value.type == "generator"
        assert await channel.writer.do("put_until_full") == 2
