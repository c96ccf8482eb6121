"""DAGs of tasks: how they are built, and what comes out of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cascata.errors import CascataError, DefinitionError
from cascata.workflow import DAG, BatchMessage, Task
from tests.workflow.tasks import Gather, Keep, Prefactor, Square, SquareLater, Wait, contract_dag


def payloads(messages: Any, sink: int = 0) -> list[Any]:
    """What came out of one sink, by index."""
    return [each.payload for each in sorted((m for q, m in messages if q == sink), key=lambda m: m.index)]


def test_the_dag_of_the_contract_gives_the_payloads_that_stand_there(engine: dict[str, Any]) -> None:
    dag, sources, sinks = contract_dag()
    dag.start(**engine)
    found = list(
        dag.stream(
            [1, 2, 3, 4],
            [5, 6, 7, 8],
            source_queues=sources,
            sink_queues=sinks,
            batch_size=2,
            max_inflight=100,
            sink_wait=0.01,
        )
    )
    report = dag.stop()
    assert len(found) == 4
    assert all(type(message) is BatchMessage for _, message in found)
    assert payloads(found, 0) == [[29, 52], [85, 128]]
    assert payloads(found, 1) == [[25, 36], [49, 64]]
    assert report is not None
    assert report.nodes["sum"].received == 2


def test_a_dag_can_be_streamed_again_and_started_again(engine: dict[str, Any]) -> None:
    dag, _, _ = contract_dag()
    for _ in range(2):
        with dag:
            dag.start(**engine)
            for size in (1, 3):
                found = list(dag.stream(range(6), range(6), batch_size=size, ordered=True))
                assert [(q, m.index) for q, m in found] == [(q, n) for n in range(6 // size) for q in (0, 1)]
                assert [x for each in payloads(found, 0) for x in each] == [5 * n**2 for n in range(6)]


def test_batches_of_several_inputs_meet_by_their_index_whoever_overtakes_whom(engine: dict[str, Any]) -> None:
    dag = DAG()
    source, _ = dag.add_source()
    other, _ = dag.add_source()
    slow = dag.add(Wait(), inputs=source, n_workers=3)
    squares = dag.add(Square(), inputs=other, n_workers=2)
    alone = dag.add(Gather(), inputs=(slow, squares, source, slow))
    shared = dag.add(Gather(), inputs=(squares, slow), n_workers=2)
    dag.add_sink(alone)
    dag.add_sink(shared)
    numbers = [random.Random(5).randrange(100) for _ in range(40)]
    with dag:
        dag.start(**engine)
        found = list(dag.stream(numbers, numbers, batch_size=1, max_inflight=10))
    assert payloads(found, 0) == [([n], [n**2], [n], [n]) for n in numbers]
    assert payloads(found, 1) == [([n**2], [n]) for n in numbers]
    assert [node for node in dag.graph.nodes if "join" in node] == ["gather_2_join"]


def test_members_of_a_node_share_its_batches(engine: dict[str, Any]) -> None:
    dag = DAG()
    source, _ = dag.add_source()
    dag.add_sink(dag.add(Wait(), inputs=source, n_workers=3, name="wait"))
    with dag:
        dag.start(**engine)
        found = list(dag.stream(range(30), batch_size=1))
        report = dag.stop()
    assert payloads(found) == [[n] for n in range(30)]
    assert report is not None
    assert sum(report.nodes[f"wait_{n}"].received for n in range(3)) == 30


def test_payloads_go_through_the_transform_before_the_task_gets_them(engine: dict[str, Any]) -> None:
    dag = DAG()
    source, _ = dag.add_source()
    dag.add_sink(dag.add(Gather(), inputs=(source, dag.add(Square(), inputs=source)), transform=sum))
    with dag:
        dag.start(**engine)
        assert payloads(dag.stream(range(4), batch_size=2)) == [(1, 1), (5, 13)]


def test_do_may_be_a_coroutine_function(engine: dict[str, Any]) -> None:
    dag = DAG()
    source, _ = dag.add_source()
    dag.add_sink(dag.add(SquareLater(), inputs=source))
    with dag:
        dag.start(**engine)
        assert payloads(dag.stream(range(4), batch_size=2)) == [[0, 1], [4, 9]]


def test_each_member_is_set_up_and_torn_down_in_its_worker_once(engine: dict[str, Any], tmp_path: Path) -> None:
    dag = DAG()
    source, _ = dag.add_source()
    task = Keep(tmp_path)
    dag.add_sink(dag.add(task, inputs=source, n_workers=2))
    with dag:
        dag.start(**engine)
        assert payloads(dag.stream(range(4), batch_size=2)) == [[100, 101], [102, 103]]
        assert payloads(dag.stream(range(2), batch_size=2)) == [[100, 101]]
    assert task.made == 0
    notes = [each.name.partition("_")[2] for each in tmp_path.iterdir()]
    assert (notes.count("setup"), notes.count("teardown")) == (2, 2)


def test_a_task_that_nothing_reads_is_done_when_the_stream_ends(engine: dict[str, Any], tmp_path: Path) -> None:
    dag = DAG()
    source, _ = dag.add_source()
    dag.add(Keep(tmp_path), inputs=source, name="keep")
    with dag:
        dag.start(**engine)
        assert list(dag.stream(range(25), batch_size=2)) == []
        report = dag.stop()
    assert report is not None
    assert report.nodes["keep"].received == 13


def test_a_sink_that_is_not_named_is_discarded_and_counted(engine: dict[str, Any]) -> None:
    dag, sources, sinks = contract_dag()
    with dag:
        dag.start(**engine)
        found = list(dag.stream(range(6), range(6), source_queues=sources, sink_queues=sinks[0], batch_size=2))
        assert {queue for queue, _ in found} == {0}
        assert len(found) == 3
        assert dag.discarded == {"sink_1": 0, "sink_2": 3}
        assert list(dag.stream(range(6), range(6), source_queues=sources, sink_queues=(), batch_size=6)) == []
        assert dag.discarded == {"sink_1": 1, "sink_2": 4}


def test_a_stream_may_go_through_a_part_of_the_dag(engine: dict[str, Any]) -> None:
    dag = DAG()
    (left, left_queue), (right, right_queue) = dag.add_source(), dag.add_source()
    squared = dag.add_sink(dag.add(Square(), inputs=left))
    doubled = dag.add_sink(dag.add(Prefactor(), inputs=right, task_kwargs={"factor": 2}))
    with dag:
        dag.start(**engine)
        assert payloads(dag.stream([2], source_queues=left_queue, sink_queues=squared)) == [[4]]
        assert payloads(dag.stream([2], source_queues=[right_queue])) == [[4]]
        found = list(dag.stream([3], source_queues=[right_queue], sink_queues=[doubled]))
        assert found == [(0, BatchMessage(0, [6]))]


# --- the graph underneath ---------------------------------------------------------------------------


def test_the_graph_of_a_dag_checks_draws_and_plans_like_any_other() -> None:
    dag, _, _ = contract_dag()
    dag.graph.check()
    nodes = ["source_1", "source_2", "prefactor", "square", "square_2", "combine", "sum", "sink_1", "sink_2"]
    assert [*dag.graph.nodes] == nodes
    assert all(node in dag.graph.to_mermaid() for node in nodes)
    assert "square_2" in str(dag.graph.draw())
    assert dag.graph.shard(2).workers


def test_sizes_of_queues_are_capacities_and_cores_are_resources() -> None:
    dag = DAG(queue_size=7)
    source, _ = dag.add_source("numbers")
    first = dag.add(Square(), inputs=source)
    dag.add_sink(dag.add(Square(), inputs=first, queue_size=3, n_workers=2, n_cpu_per_worker=4, name="second"))
    spec = dag.graph.resolve()
    assert {channel.name: channel.capacity for channel in spec.channels} == {
        "square.batches": 7,
        "second.batches": 3,
        "sink_1.inp": 7,
    }
    assert spec.nodes["second_1"].component.options["resources"] == {"CPU": 4}
    assert spec.nodes["square"].component.options["resources"] is None


def test_nodes_are_named_after_their_tasks_as_far_as_python_goes() -> None:
    dag = DAG()
    source, _ = dag.add_source()
    for name in ("HTTPGet", "Pass", "Run", "_Hidden", "Pass"):
        dag.add(type(name, (Square,), {})(), inputs=source)
    assert [*dag.graph.nodes][1:] == ["httpget", "pass_2", "run_2", "hidden", "pass_3"]


def test_no_more_workers_run_than_max_cores() -> None:
    dag = DAG(max_cores=1)
    source, _ = dag.add_source()
    dag.add_sink(dag.add(Square(), inputs=dag.add(Square(), inputs=source)))
    with dag:
        with pytest.raises(DefinitionError, match="num_workers=2 is more than the max_cores=1"):
            dag.start(num_workers=2)
        dag.start()
        list(dag.stream([1]))
        report = dag.stop()
    assert report is not None
    assert {report.nodes[name].worker for name in ("square", "square_2")} == {0}


# --- what is wrong is said --------------------------------------------------------------------------


def test_what_cannot_be_built_is_refused() -> None:
    dag, (queue, _), (sink, _) = contract_dag()
    other, _ = DAG().add_source()
    handle, _ = dag.add_source()
    wrong: dict[str, Any] = {
        "write `Square()`": lambda: dag.add(Square, inputs=handle),  # type: ignore[arg-type]
        "derive its class from Task": lambda: dag.add(len, inputs=handle),  # type: ignore[arg-type]
        "inputs name the handle": lambda: dag.add(Square(), inputs=queue),  # type: ignore[arg-type]
        "belongs to another DAG": lambda: dag.add(Square(), inputs=other),
        "at least one input": lambda: dag.add(Square(), inputs=()),
        "is there already": lambda: dag.add(Square(), inputs=handle, name="square"),
        "n_workers must be a whole number": lambda: dag.add(Square(), inputs=handle, n_workers=0),
        "queue_size must be a whole number": lambda: DAG(queue_size=0),
        "max_cores must be": lambda: DAG(max_cores=0),
        "transform must be a function": lambda: dag.add(Square(), inputs=handle, transform=3),  # type: ignore[arg-type]
        "a sink has one input": lambda: dag.add_sink((handle, handle)),  # type: ignore[arg-type]
        "no source": lambda: DAG().start(),
        "unknown option 'workers'": lambda: dag.start(workers=3),  # type: ignore[call-arg]
        "on_error='skip' would lose batches": lambda: dag.start(on_error="skip"),
    }
    before = [*dag.graph.nodes]
    for says, do in wrong.items():
        with pytest.raises(DefinitionError, match=says.replace("(", r"\(").replace(")", r"\)")):
            do()
    assert [*dag.graph.nodes] == before
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Task,), {})()
    assert sink.name == "sink_1"


def test_what_cannot_be_streamed_is_refused() -> None:
    dag, sources, sinks = contract_dag()
    with pytest.raises(CascataError, match=r"not running. Call dag.start\(\) first"):
        dag.stream([1], [2])
    with dag:
        dag.start(engine="inline")
        with pytest.raises(DefinitionError, match="running already"):
            dag.start()
        with pytest.raises(DefinitionError, match="stop it before you add"):
            dag.add_source()
        other = contract_dag()
        handle = dag.graph.source_1
        wrong: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
            "1 data streams for 2 sources": (([1],), {}),
            "sink_queues takes what dag.add_sink returned": (([1], [2]), {"sink_queues": sources}),
            "source_queues takes what dag.add_source returned": (([1],), {"source_queues": handle}),
            "belongs to another DAG": (([1], [2]), {"source_queues": other[1]}),
            "names sink_1 twice": (([1], [2]), {"sink_queues": (sinks[0], sinks[0])}),
            "combine would wait for ever for square_2": (([1],), {"source_queues": sources[0]}),
            "max_inflight must be a whole number": (([1], [2]), {"max_inflight": 0}),
            "batch_size must be a whole number": (([1], [2]), {"batch_size": 0}),
            "sink_wait must be a number": (([1], [2]), {"sink_wait": -1}),
            r"data stream 2 \(for source_2\) is 5": (([1], 5), {}),
        }
        for says, (data, options) in wrong.items():
            with pytest.raises(DefinitionError, match=says):
                dag.stream(*data, **options)
        assert len(list(dag.stream([1], [2]))) == 2
    with pytest.raises(CascataError, match="not running"):
        dag.stream([1], [2])
    assert dag.stop() is dag.stop()


def test_a_sink_that_a_stream_cannot_reach_is_refused() -> None:
    dag = DAG()
    (left, left_queue), (right, _) = dag.add_source(), dag.add_source()
    dag.add_sink(left)
    far = dag.add_sink(right)
    with dag:
        dag.start(engine="inline")
        with pytest.raises(DefinitionError, match="nothing that goes into source_1 comes to sink_2"):
            dag.stream([1], source_queues=left_queue, sink_queues=far)
