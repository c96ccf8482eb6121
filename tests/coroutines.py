"""Tests that are coroutines: each runs in an event loop of its own.

A conftest says `from tests.coroutines import pytest_pyfunc_call`.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest

__all__ = ["pytest_pyfunc_call", "turn"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine function."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


async def turn(times: int = 1) -> None:
    """Lets the event loop turn: what is ready now has run after one turn."""
    for _ in range(times):
        await asyncio.sleep(0)
