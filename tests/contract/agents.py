"""What the ends of a channel do, wherever they live: the same for the edges of a graph and for the public channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from cascata import Channel
from cascata.errors import ChannelClosed
from cascata.transport.linux.fd_hub import Hub
from tests.contract.actors import Agent
from tests.transport.ends import generator

__all__ = ["END", "EdgeReader", "EdgeWriter", "PublicReader", "PublicWriter", "SyncReader", "SyncWriter"]

END: Final = "the end of the stream"


class _Writing(Agent):
    """Puts by `self.put`."""

    put: Callable[[Any], Any]

    async def put_all(self, items: Iterable[Any]) -> None:
        for item in items:
            await self.put(item)

    async def put_range(self, count: int) -> None:
        await self.put_all(range(count))

    async def put_generator(self) -> None:
        """Puts what neither pickle nor dill can take."""
        await self.put(generator())

    async def put_function(self) -> None:
        """Puts functions that have no name of their own."""
        captured = 20
        await self.put(lambda x: x + captured)

    async def put_until_full(self, first: int = 0) -> int:
        """Puts first, first + 1, ... until a put waits; that one is cancelled. Returns how many were put."""
        count = 0

        async def put_on() -> None:
            nonlocal count
            while True:
                await self.put(first + count)
                count += 1

        putting = asyncio.ensure_future(put_on())
        seen = -1
        while count != seen:
            seen = count
            await self.settle()
        putting.cancel()
        await asyncio.wait([putting])
        return count


class _Taking(Agent):
    """Takes by `self.take`."""

    take: Callable[[], Any]

    async def take_all(self, most: int | None = None) -> list[Any]:
        """Takes until the end, or until there are so many."""
        taken: list[Any] = []
        while len(taken) != most and (item := await self.take()) is not END:
            taken.append(item)
        return taken

    async def take_and_sum(self, count: int) -> tuple[int, int, bool]:
        """Takes so many numbers. Returns how many came, their sum, and whether they came in order."""
        taken = await self.take_all(count)
        return len(taken), sum(taken), taken == sorted(taken)

    async def take_and_call(self, argument: Any) -> Any:
        return (await self.take())(argument)


class EdgeWriter(_Writing):
    """Around a writer of an edge."""

    def __init__(self, writer: Any, hub: Hub | None = None) -> None:
        self.writer = writer
        self.hub = hub

    async def put(self, item: Any) -> None:
        await self.writer.put(item)

    async def close(self) -> None:
        await self.writer.aclose()

    async def stop(self) -> None:
        self.writer.stop()

    async def stop_and_resume(self) -> None:
        self.writer.stop()
        self.writer.resume()

    async def sent_and_lost(self) -> tuple[int, int]:
        return self.writer.sent, self.writer.lost

    async def end(self) -> None:
        self.writer.close()
        if self.hub is not None:
            self.hub.close()


class EdgeReader(_Taking):
    """Around a reader: takes as a component's loop does, one item at a time."""

    def __init__(self, reader: Any, hub: Hub | None = None) -> None:
        self.reader = reader
        self.hub = hub
        self.is_open = True

    async def take(self) -> Any:
        if not self.reader.items and not await self.reader.wait():
            return END
        item = self.reader.items.popleft()
        self.reader.release()
        return item

    async def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.reader.close()

    async def close_and_wait(self) -> bool:
        waiting = asyncio.ensure_future(self.reader.wait())
        await asyncio.sleep(0)
        await self.close()
        return bool(await waiting or await self.reader.wait())

    async def end(self) -> None:
        await self.close()
        if self.hub is not None:
            self.hub.close()


class PublicWriter(_Writing):
    """Around a public channel: a publisher that is open from the beginning."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel
        self.publisher = channel.open()

    async def put(self, item: Any) -> None:
        await self.publisher.put(item)

    async def close(self) -> None:
        self.publisher.close()

    async def leave(self, error: BaseException) -> None:
        """Leaves the publisher's block by an exception."""
        with suppress(type(error)):
            async with self.publisher:
                raise error

    async def end(self) -> None:
        self.publisher.close()


class PublicReader(_Taking):
    """Around a public channel."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel

    async def take(self) -> Any:
        try:
            return await self.channel.get()
        except ChannelClosed:
            return END


class SyncWriter(_Writing):
    """Around a public channel: puts in a plain thread."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.publisher = channel.open()
        self.threads = ThreadPoolExecutor(4)

    async def put(self, item: Any) -> None:
        await asyncio.wrap_future(self.threads.submit(self.publisher.put_sync, item))

    async def put_all(self, items: Iterable[Any]) -> None:
        def put_all() -> None:
            for item in items:
                self.publisher.put_sync(item)

        await asyncio.wrap_future(self.threads.submit(put_all))

    async def put_until_full(self, first: int = 0) -> int:
        count = 0
        while True:
            try:
                self.publisher.put_sync(first + count, timeout=0)
            except TimeoutError:
                return count
            count += 1

    async def close(self) -> None:
        self.publisher.close()

    async def leave(self, error: BaseException) -> None:
        def leave() -> None:
            with self.publisher:
                raise error

        with suppress(type(error)):
            await asyncio.wrap_future(self.threads.submit(leave))

    async def end(self) -> None:
        self.publisher.close()
        self.threads.shutdown()


class SyncReader(_Taking):
    """Around a public channel: takes in a plain thread."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel
        self.threads = ThreadPoolExecutor(4)

    def take_sync(self) -> Any:
        try:
            return self.channel.get_sync()
        except ChannelClosed:
            return END

    async def take(self) -> Any:
        return await asyncio.wrap_future(self.threads.submit(self.take_sync))

    async def take_all(self, most: int | None = None) -> list[Any]:
        def take_all() -> list[Any]:
            taken: list[Any] = []
            while len(taken) != most and (item := self.take_sync()) is not END:
                taken.append(item)
            return taken

        return await asyncio.wrap_future(self.threads.submit(take_all))

    async def end(self) -> None:
        self.threads.shutdown()
