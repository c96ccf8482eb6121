"""What fails on Ray is told as on local processes, within seconds, and nothing is left."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import pytest

from cascata import Graph, Sink, Source
from cascata.engine.ray import run as engine_ray
from cascata.errors import CascataError, RunTimeout, WorkerDied
from tests.engine.parts import Count, Endless, Flag, Notes, keep
from tests.on_ray.borrowed import ON_RAY
from tests.on_ray.parts import SOON_S, At, AtLens, AtNowhere, Blocks, Dies, until
from tests.processes import gone_within

pytestmark = ON_RAY


@pytest.mark.parametrize("number", [signal.SIGKILL, 0], ids=["SIGKILL", "_exit"])
def test_a_dead_actor_is_named_and_the_state_of_the_others_is_torn_down(notes: Notes, number: int) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.dies = Dies
    graph.holds = At
    graph.dies.signal < number
    graph.dies.told < notes
    graph.holds.place < (notes, "holds")
    graph.endless.number >> graph.dies.number
    graph.dies.same >> graph.holds.number
    graph.pin(graph.endless, 0)
    graph.pin(graph.dies, 1)
    graph.pin(graph.holds, 0)
    with pytest.raises(WorkerDied) as caught:
        graph.run(engine="ray", num_workers=2)
    assert (caught.value.worker, caught.value.nodes) == (1, ("dies",))
    (note,) = caught.value.__notes__
    assert "it was actor " in note
    assert " on node " in note
    assert notes.read()[-1] == ("holds", "torn down")


def test_a_dead_actor_that_answers_the_program_ends_the_stream() -> None:
    graph = Graph()
    graph.numbers = Source()
    graph.dies = Dies
    graph.dies.signal < signal.SIGKILL
    graph.results = Sink()
    graph.numbers.out >> graph.dies.number
    graph.dies.same >> graph.results.inp
    with pytest.raises(WorkerDied):
        list(graph.stream(range(100), engine="ray", num_workers=1))


def test_a_run_that_is_stopped_drains(notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    keep(graph, graph.endless.number, notes)
    graph.start(engine="ray", num_workers=2)
    until(notes, 300)
    graph.stop()
    report = graph.join()
    assert notes.read() == list(range(report.nodes["endless"].sent))


def test_what_no_node_has_is_told_at_once() -> None:
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.there = AtNowhere
    graph.count.number >> graph.there.number
    with pytest.raises(CascataError, match=r"\(there\) asks for 2 nowhere, .* the most is 0 nowhere"):
        graph.run(engine="ray", num_workers=2)


def test_what_others_use_is_told_after_seconds(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_ray, "WISH_S", 0.5)
    monkeypatch.setattr(engine_ray, "SHORT_S", 1.0)
    graph = Graph()
    graph.endless = Endless
    graph.lens = AtLens
    graph.lens.place < (notes, "lens")
    graph.endless.number >> graph.lens.number
    graph.start(engine="ray", num_workers=2)
    until(notes, 1)
    with pytest.raises(CascataError, match=r"\(lens\) has no place after \d s: others use 1 lens"):
        graph.copy().run(engine="ray", num_workers=2)
    graph.stop()
    graph.join()


def test_who_has_what_it_asks_for_may_take_its_time_to_start(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_ray, "WISH_S", 0.5)
    monkeypatch.setattr(engine_ray, "SHORT_S", 1.0)
    graph = Graph()
    graph.count = Count
    graph.count.upto < 3
    graph.lens = AtLens
    graph.lens.place < (notes, "lens")
    graph.count.number >> graph.lens.number
    slow = {"worker_process_setup_hook": "tests.on_ray.parts.dawdle"}
    report = graph.run(engine="ray", num_workers=2, runtime_env=slow)
    assert report.nodes["lens"].received == 3


def test_a_timeout_tells_what_each_worker_was_doing(flags: list[Flag]) -> None:
    graph = Graph()
    graph.endless = Endless
    graph.blocks = Blocks
    graph.blocks.flag < flags[0]
    graph.endless.number >> graph.blocks.number
    for timeout in (5.0, 15.0, 45.0):  # until a busy machine has started its actors within it
        with pytest.raises(RunTimeout) as caught:
            graph.copy().run(engine="ray", num_workers=2, timeout=timeout, grace=0.5)
        if "starting" not in "".join(caught.value.doing.values()):
            break
    assert "time.sleep" in caught.value.doing[1]
    assert "endless" in caught.value.doing[0]


def test_a_run_that_is_cancelled_while_it_starts_leaves_nothing(notes: Notes) -> None:
    graph = Graph()
    graph.endless = Endless
    keep(graph, graph.endless.number, notes)
    run = threading.Timer(0.1, graph.stop)
    run.start()
    graph.start(engine="ray", num_workers=2)
    run.join()
    graph.join()


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    graph = Graph()
    graph.endless = Endless
    with pytest.raises(CascataError, match=r'pip install "cascata\[ray\]"'):
        graph.run(engine="ray")


def test_another_address_than_that_of_the_connection_is_refused() -> None:
    graph = Graph()
    graph.endless = Endless
    with pytest.raises(CascataError, match=r"is connected to the Ray cluster at .* already"):
        graph.run(engine="ray", address="192.0.2.1:6379")


PROGRAM = """
    import sys
    from cascata import Graph
    from tests.engine.parts import Endless, Notes
    from tests.on_ray.parts import At

    notes = Notes({path!r})
    graph = Graph()
    graph.endless = Endless
    graph.holds = At
    graph.holds.place < (notes, "holds")
    graph.endless.number >> graph.holds.number
    try:
        graph.run(engine="ray", num_workers=2)
    except KeyboardInterrupt:
        print("interrupted", notes.read()[-1])
        sys.exit(7)
"""


def test_ctrl_c_cancels_in_order(cluster: Any, notes: Notes, program: Any) -> None:
    started = program(PROGRAM.format(path=notes.path), RAY_ADDRESS=cluster.address)
    until(notes, 1)
    started.signal_group(signal.SIGINT)
    assert started.end(10) == (7, "interrupted ('holds', 'torn down')\n")


def test_the_actors_of_a_killed_program_end(cluster: Any, notes: Notes, program: Any) -> None:
    started = program(PROGRAM.format(path=notes.path), RAY_ADDRESS=cluster.address)
    ((_, _, actor, _),) = until(notes, 1)
    started.signal(signal.SIGKILL)
    started.end()
    assert gone_within([actor], SOON_S)


def test_a_program_is_told_that_nobody_is_at_an_address(script: Any) -> None:
    lines = script.prints(
        """
        import time
        from cascata import Graph
        from cascata.errors import CascataError
        from tests.engine.parts import Endless

        for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"):
            graph = Graph()
            graph.endless = Endless
            try:
                graph.run(engine="ray", address=address)
            except CascataError as error:
                print(error)
        """
    )
    assert [line.split(":")[0] for line in lines] == [
        "there is no Ray cluster at '127.0.0.1",
        "there is no Ray cluster at 'ray",
        "there is no Ray cluster at 'nonsense'",
    ]
    assert "Ray Client" in lines[1]
