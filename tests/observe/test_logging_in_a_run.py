"""What a runner logs arrives in the program's own handlers, tagged, whichever engine runs it."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator

import pytest

from cascata import Graph, In, Out, component, log
from cascata.dsl import Component
from cascata.observe.log import worker_level
from cascata.options import Engine

pytestmark = pytest.mark.parametrize("engine", ["processes", "inline"])


@component
def Count(upto: In[int], number: Out[int]) -> Iterator[int]:
    """Sends 0, 1, ... up to a number."""
    yield from range(upto)


@component
async def Report(number: In[int]) -> None:
    """Logs each number: by the package's logger, by a child of it, and below the level that anyone wants."""
    log.info("got %d", number)
    logging.getLogger("cascata.mine").warning("again %d", number)
    log.debug("not wanted")


@component
async def Fail(number: In[int]) -> None:
    """Logs an error with its traceback."""
    try:
        raise LookupError(f"no {number}")
    except LookupError:
        log.exception("while looking", extra={"lock": threading.Lock()})


def graph_of(last: type[Component], upto: int = 2) -> Graph:
    graph = Graph()
    count = graph.add(Count, "count")
    count.upto < upto
    count.number >> graph.add(last, "last").number
    return graph


def test_records_arrive_tagged_and_in_order(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cascata")
    report = graph_of(Report).run(num_workers=2, engine=engine)
    found = [
        (each.name, each.getMessage(), each.__dict__["node"], each.__dict__["component"], each.__dict__["worker"])
        for each in caplog.records
    ]
    where = ("last", "Report", report.nodes["last"].worker)
    assert found == [
        ("cascata", "got 0", *where),
        ("cascata.mine", "again 0", *where),
        ("cascata", "got 1", *where),
        ("cascata.mine", "again 1", *where),
    ]
    assert {each.pathname for each in caplog.records} == {__file__}


def test_a_traceback_arrives(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    graph_of(Fail, 1).run(num_workers=2, engine=engine)
    assert "LookupError: no 0" in caplog.text
    assert "lock" in caplog.records[0].__dict__


def test_show_prints_node_and_class_once(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    log.show(stream=stream)
    graph_of(Report, 1).run(num_workers=2, engine=engine)
    assert stream.getvalue() == "INFO - last@Report : got 0\nWARNING - last@Report : again 0\n"
    assert capfd.readouterr() == ("", "")


def test_a_run_changes_nothing_about_the_programs_own_logging(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    before = log.logger.handlers[:], log.logger.filters[:], log.logger.level, log.logger.propagate, worker_level()
    graph_of(Report, 1).run(num_workers=2, engine=engine)
    assert before == (
        log.logger.handlers,
        log.logger.filters,
        log.logger.level,
        log.logger.propagate,
        worker_level(),
    )
    caplog.clear()
    log.warning("after the run")
    assert caplog.records[0].__dict__["node"] is None
