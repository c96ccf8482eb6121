"""What a `send` of a runner in a thread tells its node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascata.runtime.ports.outport import Stopped
from cascata.runtime.threads import BlockingPort, CallThread


def told_by(send: Any, error: type[BaseException]) -> list[str]:
    """What the node is told by a call that sends, and that has a time limit."""
    told: list[str] = []

    async def main() -> None:
        thread = CallThread("calls")
        port = BlockingPort("out", send, thread, lambda: told.append("stopped"))
        try:
            async with asyncio.timeout(0.05):
                await thread.run(lambda: port.send(1))
        finally:
            await thread.close()

    with pytest.raises(error):
        asyncio.run(main())
    return told


async def waits(item: int) -> None:
    await asyncio.Event().wait()


async def refused(item: int) -> None:
    raise Stopped("the run is stopping")


async def refused_beside_others(item: int) -> None:
    await asyncio.gather(refused(item), asyncio.sleep(0))


@pytest.mark.parametrize("send", [refused, refused_beside_others])
def test_a_refused_send_tells_the_node_that_its_runner_knows_of_the_stop(send: Any) -> None:
    assert told_by(send, asyncio.CancelledError) == ["stopped"]


def test_the_time_limit_of_a_call_does_not(  # else the sends of a node that was stopped would be let through
) -> None:
    assert told_by(waits, TimeoutError) == []
