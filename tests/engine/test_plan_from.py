"""A run that is planned from the report of an earlier one puts what was busy on different workers."""

from __future__ import annotations

import time

import pytest

from cascata import Graph, In, Out, component
from cascata.errors import DefinitionError


@component
async def Ten(number: Out[int]) -> None:
    for each in range(10):
        await number.send(each)


@component
async def Light(x: In[int], y: Out[int]) -> None:
    await y.send(x)


@component
async def Heavy(x: In[int], y: Out[int]) -> None:
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end:
        pass
    await y.send(x)


@component
async def End(x: In[int]) -> None:
    pass


def skewed() -> Graph:
    graph = Graph()
    graph.ten = Ten
    graph.heavy = Heavy
    graph.heavier = Heavy
    for name in ("light", "lighter", "lightest"):
        graph.add(Light, name)
    graph.end = End
    graph.ten >> graph.heavy >> graph.heavier >> graph.light >> graph.lighter >> graph.lightest >> graph.end
    return graph


def test_what_was_busy_before_goes_to_different_workers() -> None:
    graph = skewed()
    guessed = graph.run(num_workers=2)
    assert guessed.nodes["heavy"].worker == guessed.nodes["heavier"].worker
    measured = graph.run(num_workers=2, plan_from=guessed)
    assert measured.nodes["heavy"].worker != measured.nodes["heavier"].worker
    assert [edge.delivered for edge in measured.edges] == [10] * 6


def test_the_report_of_an_inline_run_shows_a_plan_too() -> None:
    graph = skewed()
    report = graph.run(engine="inline")
    plan = graph.shard(2, plan_from=report)
    assert plan.workers == (("ten", "heavy"), ("heavier", "light", "lighter", "lightest", "end"))


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(DefinitionError, match="plan_from"):
        skewed().run(plan_from=3)  # type: ignore[arg-type]  # that is the question
