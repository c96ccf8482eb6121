"""Where workers run, what reaches them, and what comes back."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cascata import Graph, In, Out, component, log
from cascata.engine.ray.actor import WorkerActor
from tests.engine.parts import Count, Endless, Flag, Notes, count_to, keep
from tests.on_ray.borrowed import ON_RAY
from tests.on_ray.parts import AtLens, Blocks, Says
from tests.processes import below, gone_within

pytestmark = ON_RAY

ROOT = Path(__file__).parents[2]


@component
async def Environment(name: In[str], value: Out[str | None]) -> None:
    await value.send(os.environ.get(name))


def test_a_runtime_environment_reaches_the_workers(notes: Notes) -> None:
    graph = Graph()
    graph.environment = Environment
    graph.environment.name < "CASCATA_WORD"
    keep(graph, graph.environment.value, notes)
    graph.run(engine="ray", num_workers=1, runtime_env={"env_vars": {"CASCATA_WORD": "rain"}})
    assert notes.read() == ["rain"]


def test_an_actor_keeps_the_order_of_its_calls() -> None:
    # One coroutine among its methods, and Ray takes it for an async actor.
    assert inspect.getmembers(WorkerActor, inspect.iscoroutinefunction) == []


def test_two_runs_at_once_in_one_program(notes: Notes, tmp_path: Path) -> None:
    other = Notes(str(tmp_path / "other"))
    first = count_to(100, notes)
    first.start(engine="ray")
    count_to(50, other).run(engine="ray")
    first.join()
    assert (len(notes.read()), len(other.read())) == (100, 50)


def test_a_node_with_resources_has_an_actor_with_them_and_no_other_node_shares_it(notes: Notes) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.lens = AtLens
    graph.lens.place < (notes, "lens")
    graph.count.number >> graph.lens.number
    report = graph.run(engine="ray")
    assert report.num_workers == 2
    assert report.nodes["lens"].received == 3
    assert report.engine == "ray"


def test_what_workers_log_and_print_arrives_here_and_names_them(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.says = Says
    graph.says.what < "drop"
    graph.count.number >> graph.says.number
    with caplog.at_level(logging.INFO, "cascata"):
        report = graph.run(engine="ray", num_workers=2)
    says = [record for record in caplog.records if record.getMessage().startswith("drop")]
    assert [record.getMessage() for record in says] == ["drop 0", "drop 1", "drop 2"]
    assert {record.node for record in says} == {"says"}  # type: ignore[attr-defined]
    assert {record.worker for record in says} == {report.nodes["says"].worker}  # type: ignore[attr-defined]
    assert sum("is actor" in record.getMessage() for record in caplog.records) == 2
    assert capsys.readouterr().out == "drop 0\ndrop 1\ndrop 2\n"


def test_a_worker_that_does_not_answer_is_named_with_its_line(
    caplog: pytest.LogCaptureFixture, flags: list[Flag]
) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.blocks = Blocks
    graph.blocks.flag < flags[0]
    graph.endless.number >> graph.blocks.number

    class SetsTheFlag(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "blocks its event loop" in record.getMessage():
                flags[0].set()
                graph.stop()

    handler = SetsTheFlag()
    log.logger.addHandler(handler)
    try:
        with caplog.at_level(logging.WARNING, "cascata"):
            graph.start(engine="ray", num_workers=2, slow_after=1.0)
            graph.join()
    finally:
        log.logger.removeHandler(handler)
    assert any("node 'blocks' blocks its event loop" in record.getMessage() for record in caplog.records)


def example(*arguments: str, environment: dict[str, str]) -> tuple[list[int], str]:
    """Runs the example: the processes below it when it printed its first line, and all that it printed."""
    command = [sys.executable, str(ROOT / "examples" / "anywhere.py"), "--engine", "ray", "--count", "200", *arguments]
    environment = {**os.environ, **environment}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        first = started.stdout.readline()
        processes = below(started.pid)
        text, errors = first + started.stdout.read(), started.stderr.read()
    assert started.returncode == 0, errors
    return processes, text


def assert_places(text: str) -> None:
    places = [line for line in text.splitlines() if " on " in line and ": process " in line]
    assert len(places) == 4
    assert "on 3 workers (ray)" in text
    assert "prime factor" in text


def test_a_script_whose_classes_travel_joins_the_cluster_and_leaves_it_running(cluster: Any) -> None:
    _, text = example(environment={"RAY_ADDRESS": cluster.address})
    assert_places(text)


def test_a_cluster_that_a_run_has_started_is_gone_with_it() -> None:
    processes, text = example("--address", "local", environment={})
    assert_places(text)
    assert processes
    assert gone_within(processes, 10)
