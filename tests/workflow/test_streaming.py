"""Streams through a DAG: what is inside, failures, and streams that are left early. Nothing is left behind by any."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cascata.errors import CascataError, ComponentError, SerializationError, StreamLengthError, WorkerDied
from cascata.workflow import DAG, SinkQueue, SourceQueue, Task
from tests.workflow.tasks import Ask, Die, Note, Prefactor, Refuse, Same, Square, Unclosed, Wait, contract_dag


def line_of(*tasks: Task, **options: Any) -> tuple[DAG, SourceQueue, SinkQueue]:
    """A DAG of tasks, one behind the other."""
    dag = DAG()
    node, source = dag.add_source()
    for task in tasks:
        node = dag.add(task, inputs=node, **options)
    return dag, source, dag.add_sink(node)


# --- what is inside ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 2}], ids=["inline", "2 workers"])
@pytest.mark.parametrize("ordered", [False, True])
def test_no_more_than_max_inflight_batches_are_inside_and_20000_items_come_to_their_end(
    options: dict[str, Any], *, ordered: bool
) -> None:
    dag, _, _ = line_of(Square(), n_workers=2)
    entered = left = most = 0

    def numbers() -> Iterator[int]:
        nonlocal entered, most
        for number in range(20_000):
            if number % 10 == 0:
                entered += 1
                most = max(most, entered - left)
            yield number

    total = 0
    with dag:
        dag.start(**options)
        for _, message in dag.stream(numbers(), batch_size=10, max_inflight=8, ordered=ordered):
            if ordered:
                assert message.index == left
            left += 1
            total += sum(message.payload)
    assert total == sum(n**2 for n in range(20_000))
    assert entered == left == 2_000
    assert most == 8


def test_what_is_ready_comes_out_before_more_is_read() -> None:
    dag, _, _ = line_of(Square())
    found: list[Any] = []

    def numbers() -> Iterator[int]:
        assert dag._session is not None
        yield 1
        (stream,) = dag._session._streams.values()
        while stream.inbox.empty():  # until the first batch is ready
            time.sleep(0.001)
        yield 2
        assert found == [[1]]
        yield 3

    with dag:
        dag.start(engine="inline")
        for _, message in dag.stream(numbers(), batch_size=1):
            found.append(message.payload)
    assert found == [[1], [4], [9]]


def test_streams_in_several_threads_do_not_mix(engine: dict[str, Any]) -> None:
    dag, _, _ = line_of(Wait(), n_workers=2)
    found: dict[int, list[Any]] = {}

    def stream(first: int) -> None:
        messages = dag.stream(range(first, first + 20), batch_size=1, max_inflight=3, ordered=True)
        found[first] = [message.payload[0] for _, message in messages]

    with dag:
        dag.start(**engine)
        threads = [threading.Thread(target=stream, args=(first,)) for first in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {first: list(range(first, first + 20)) for first in (0, 100, 200)}


def test_a_dag_streams_where_a_loop_runs_already(engine: dict[str, Any]) -> None:
    async def cell() -> int:
        dag, _, _ = line_of(Square())
        with dag:
            dag.start(**engine)
            return sum(sum(message.payload) for _, message in dag.stream(range(20)))

    assert asyncio.run(cell()) == sum(n**2 for n in range(20))


# --- lengths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_data_of_different_lengths_are_refused_by_the_name_of_their_source_and_the_dag_goes_on(
    engine: dict[str, Any], *, lazy: bool
) -> None:
    dag, _, _ = contract_dag()
    long, short = list(range(9)), list(range(7))
    with dag:
        dag.start(**engine)
        with pytest.raises(StreamLengthError, match=r"data stream 2 \(for source_2\) gave 7 items"):
            list(dag.stream(iter(long) if lazy else long, iter(short) if lazy else short, batch_size=2))
        found = list(dag.stream(long, iter(short), batch_size=2, strict=False))
        assert sum(len(message.payload) for queue, message in found if queue == 0) == 7


# --- failures ---------------------------------------------------------------------------------------


def test_a_task_that_raises_ends_the_stream_with_its_error(engine: dict[str, Any]) -> None:
    dag, _, _ = line_of(Square(), Ask(49))
    with dag:
        dag.start(**engine)
        with pytest.raises(ComponentError, match="49 is bad") as caught:
            list(dag.stream(range(100), batch_size=2))
        assert caught.value.node == "ask"
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.item == "BatchMessage(index=3, payload=[36, 49])"
        with pytest.raises(CascataError, match=r"the DAG has failed.*dag.start\(\) to begin anew"):
            dag.stream([1])
        dag.stop()
        dag.start(**engine)
        assert [message.payload for _, message in dag.stream([1])] == [[1]]


def test_a_failure_that_no_stream_has_told_is_raised_by_stop_once(engine: dict[str, Any]) -> None:
    dag, _, _ = line_of(Unclosed())
    dag.start(**engine)
    assert len(list(dag.stream(range(4)))) == 1
    with pytest.raises(ComponentError, match="cannot be closed"):
        dag.stop()
    assert dag.stop() is None


def test_a_task_that_cannot_be_set_up_ends_the_stream_with_its_error(engine: dict[str, Any]) -> None:
    dag, _, _ = line_of(Refuse())
    with pytest.raises(ComponentError, match="no such model"), dag:
        dag.start(**engine)
        list(dag.stream(range(10)))


def test_a_task_that_cannot_travel_is_refused_at_the_start() -> None:
    task = Ask(1)
    vars(task)["bad"] = (number for number in [1])
    dag, _, _ = line_of(task)
    with pytest.raises(SerializationError, match="ask"):
        dag.start(num_workers=1)
    assert "not running" in repr(dag)
    assert dag.stop() is None


def test_a_killed_worker_ends_the_stream() -> None:
    dag, _, _ = line_of(Prefactor(), Die(), Square())
    with dag:
        dag.start(num_workers=2)
        with pytest.raises(WorkerDied) as caught:
            list(dag.stream(range(20), batch_size=1))
        assert caught.value.signal == "SIGKILL"


def test_data_that_raise_end_the_stream_and_the_dag_goes_on(engine: dict[str, Any]) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    dag, _, _ = line_of(Wait())
    with dag:
        dag.start(**engine)
        with pytest.raises(LookupError, match="no more"):
            list(dag.stream(numbers(), batch_size=1))
        assert [message.payload for _, message in dag.stream([3, 6], batch_size=1)] == [[3], [6]]


# --- streams that are left early --------------------------------------------------------------------


def test_a_stream_that_is_left_drops_what_is_inside_and_the_next_one_sees_nothing_of_it(
    engine: dict[str, Any],
) -> None:
    dag, _, _ = line_of(Wait(), n_workers=2)
    with dag:
        dag.start(**engine)
        for _ in range(3):
            for _, message in dag.stream(range(1_000), batch_size=1, max_inflight=10):
                if message.payload[0] >= 3:
                    break
        found = list(dag.stream(range(500, 510), batch_size=1, ordered=True))
        assert [message.payload for _, message in found] == [[n] for n in range(500, 510)]
        report = dag.stop()
    assert report is not None
    assert sum(report.nodes[f"wait_{n}"].received for n in range(2)) < 3 * 20 + 10


def test_nothing_enters_before_what_a_stream_left_inside_has_gone(engine: dict[str, Any], tmp_path: Path) -> None:
    dag, _, _ = line_of(Note(tmp_path))
    entered = 0

    def numbers() -> Iterator[int]:
        nonlocal entered
        for entered in range(1, 1_000):  # noqa: UP028  # it is read below
            yield entered

    def after() -> Iterator[int]:
        assert len(list(tmp_path.iterdir())) == entered
        yield 0

    with dag:
        dag.start(**engine)
        for _ in dag.stream(numbers(), batch_size=1, max_inflight=20):
            break
        assert entered > 1
        assert len(list(dag.stream(after()))) == 1


def test_ctrl_c_in_the_body_leaves_nothing_behind(engine: dict[str, Any]) -> None:
    dag, _, _ = line_of(Wait())
    with pytest.raises(KeyboardInterrupt), dag:
        dag.start(**engine)
        for _ in dag.stream(range(1_000), batch_size=1):
            raise KeyboardInterrupt
    assert "not running" in repr(dag)


def test_a_stream_ends_when_the_dag_is_stopped_meanwhile(engine: dict[str, Any]) -> None:
    dag, _, _ = line_of(Square())
    dag.start(**engine)
    stream = dag.stream(range(100), batch_size=1, max_inflight=2)
    next(stream)
    dag.stop()
    with pytest.raises(CascataError, match="stopped"):
        list(stream)


@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 1}], ids=["inline", "1 worker"])
def test_a_dag_that_is_forgotten_warns_and_ends(options: dict[str, Any]) -> None:
    held = [line_of(Square())[0]]
    held[0].start(**options)
    session = held[0]._session
    assert session is not None

    def forget() -> None:
        held.clear()
        gc.collect()  # the queues of a DAG know it, and it knows them

    with pytest.warns(ResourceWarning, match="was not stopped"):
        forget()
    session._thread.join()


SCRIPT = """
import os, signal, sys, threading
from cascata.workflow import DAG, Task

class Slow(Task):
    def do(self, batch):
        import time
        time.sleep(0.01)
        return batch

dag = DAG()
source, numbers = dag.add_source()
out = dag.add_sink(dag.add(Slow(), inputs=source))
{body}
"""

CTRL_C = """
dag.start(num_workers=1)
try:
    for q_idx, msg in dag.stream(iter(int, 1), batch_size=1):
        if msg.index == 3:
            print("ready", flush=True)
except KeyboardInterrupt:
    print("interrupted")
    {then}
"""


@pytest.mark.parametrize("then", ["dag.stop()", "raise"])
def test_ctrl_c_while_a_stream_waits_ends_a_program_in_order(tmp_path: Path, then: str) -> None:
    path = tmp_path / "main.py"
    path.write_text(SCRIPT.format(body=textwrap.dedent(CTRL_C).format(then=then)), "utf-8")
    with subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: the workers get it as well
        out, errors = program.communicate(timeout=20)
    assert out == "interrupted\n"
    assert program.returncode == (0 if then == "dag.stop()" else -signal.SIGINT)
    assert ("KeyboardInterrupt" in errors) is (then == "raise")


def test_tasks_of_a_script_need_no_guard(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    body = """
    dag.start(num_workers=1)
    print(sum(sum(msg.payload) for _, msg in dag.stream(range(10), batch_size=4)))
    dag.stop()
    """
    path.write_text(SCRIPT.format(body=textwrap.dedent(body)), "utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("45\n", "")


class Breaking:
    """Gives three items, then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.given = 0

    def __iter__(self) -> Iterator[list[int]]:
        return self

    def __next__(self) -> list[int]:
        if self.given == 3:
            raise self.error
        self.given += 1
        return [self.given]  # an item, and a batch


class Hard(BaseException):
    """No `Exception`."""


@pytest.mark.parametrize("options", [{"engine": "inline"}, {"num_workers": 1}], ids=["inline", "1 worker"])
@pytest.mark.parametrize("prebatched", [False, True])
def test_whatever_an_iterable_raises_is_raised_by_the_stream_and_by_map(
    options: dict[str, Any], *, prebatched: bool
) -> None:
    """Neither ends as if the data were complete. `StopIteration` is how an iterable ends."""
    errors = (
        ValueError,
        GeneratorExit,
        StopAsyncIteration,
        KeyboardInterrupt,
        SystemExit,
        asyncio.CancelledError,
        Hard,
    )
    dag, _, _ = line_of(Same())
    with dag:
        dag.start(**options)
        for error in errors:
            for strict in (True, False):
                with pytest.raises(error):
                    list(dag.stream(Breaking(error()), batch_size=2, prebatched=prebatched, strict=strict))
        assert len(list(dag.stream(range(4), batch_size=2))) == 2  # it goes on
    for error in errors if options == {"engine": "inline"} else (GeneratorExit,):
        for batch_size in (None,) if prebatched else (None, 2):
            with pytest.raises(error):
                list(Same().map(Breaking(error()), batch_size, prebatched=prebatched, **options))
