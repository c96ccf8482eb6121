"""A user's module that fails when a worker imports it, if the crash matrix asks for that."""

from __future__ import annotations

from cascata import In, Out, component
from tests.fault import matrix

matrix.at_import()


@component
async def Victim(item: In[int], out: Out[int]) -> None:
    await out.send(item)
