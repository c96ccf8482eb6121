"""What a worker logs arrives in the parent's handlers, as if it had been logged there."""

from __future__ import annotations

import enum
import io
import json
import logging
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from cascata import log
from cascata.observe.log import install_forwarding, replay, worker_level

Wire = list[dict[str, Any]]


def as_worker(level: int = logging.DEBUG) -> Wire:
    """Makes this process log as a worker does, and collects what it would send."""
    wire: Wire = []
    install_forwarding(wire.append, level)
    return wire


def parent_again() -> None:
    for name in ("cascata", "cascata.mine"):
        each = logging.getLogger(name)
        each.handlers.clear()
        each.setLevel(logging.NOTSET)
        each.propagate = True


def arrived(wire: Wire, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records that the parent's handlers see, after a trip through pickle."""
    parent_again()
    caplog.clear()
    for data in pickle.loads(pickle.dumps(wire)):
        replay(data)
    return caplog.records[:]


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


class Stubborn:
    """Can neither be pickled nor shown."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("stays here")

    def __repr__(self) -> NoReturn:
        raise ValueError("no words")


def unpicklable_here() -> NoReturn:
    raise ImportError("made in a module that only the worker has")


class OneWay:
    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return unpicklable_here, ()

    def __repr__(self) -> str:
        return "OneWay()"


def test_a_record_arrives_with_message_level_tags_and_the_callers_line(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.INFO)
    token = log.current.set(log.Where("double", "Doubler", 2))
    log.warning("took %d ms at 100%%", 5)
    log.current.reset(token)
    (record,) = arrived(wire, caplog)
    assert record.getMessage() == "took 5 ms at 100%"
    assert (record.levelname, record.name, record.pathname) == ("WARNING", "cascata", __file__)
    assert [record.__dict__[name] for name in ("node", "component", "worker")] == ["double", "Doubler", 2]


def test_a_childs_record_arrives_at_the_logger_of_its_name_with_its_tags(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.INFO)
    token = log.current.set(log.Where("double", "Doubler", 2))
    logging.getLogger("cascata.mine").warning("hello")
    log.current.reset(token)
    (record,) = arrived(wire, caplog)
    assert (record.name, record.__dict__["node"]) == ("cascata.mine", "double")


def test_a_traceback_arrives_as_text(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.INFO)
    try:
        raise LookupError("gone")
    except LookupError:
        log.exception("while looking")
    (record,) = arrived(wire, caplog)
    assert record.exc_info is None
    assert "LookupError: gone" in (record.exc_text or "")
    assert "LookupError: gone" in caplog.text


def test_what_travels_is_plain_values_only() -> None:
    wire = as_worker(logging.INFO)
    log.warning("%s", Point(1), extra={"number": 3})
    assert json.loads(json.dumps(wire)) == wire
    assert wire[0]["args"] is None
    assert wire[0]["exc_info"] is None


def test_extras_arrive_and_those_that_cannot_travel_arrive_as_their_repr(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.INFO)
    lock = threading.Lock()
    log.warning("hello", extra={"number": 3, "point": Point(1), "lock": lock, "far": OneWay(), "odd": Stubborn()})
    (record,) = arrived(wire, caplog)
    extras = record.__dict__
    assert (extras["number"], extras["point"]) == (3, Point(1))
    assert extras["lock"] == repr(lock)
    assert extras["far"] == "OneWay()"
    assert extras["odd"] == "<Stubborn, whose repr raised ValueError>"


def test_a_message_whose_arguments_do_not_fit_arrives_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.INFO)
    log.warning("%d items", "many")
    (record,) = arrived(wire, caplog)
    assert record.getMessage().startswith("'%d items' with arguments ('many',) (TypeError")


def test_a_level_of_an_enum_travels(caplog: pytest.LogCaptureFixture) -> None:
    class Level(enum.IntEnum):
        LOUD = 45

    wire = as_worker(logging.INFO)
    log.log(Level.LOUD, "hello")
    (record,) = arrived(wire, caplog)
    assert type(record.levelno) is int
    assert record.levelno == 45


def test_levels_below_the_workers_are_not_even_formatted() -> None:
    wire = as_worker(logging.WARNING)
    log.info("%s", Stubborn())
    logging.getLogger("cascata.mine").info("hello")
    assert wire == []


def test_what_a_forked_worker_inherits_prints_nothing() -> None:
    stream = io.StringIO()
    child = logging.getLogger("cascata.mine")
    for each in (logging.root, log.logger, child):
        each.addHandler(logging.StreamHandler(stream))
    child.setLevel(logging.ERROR)
    child.propagate = False
    wire = as_worker(logging.INFO)
    log.info("hello")
    child.info("hello")
    assert stream.getvalue() == ""
    assert [each["name"] for each in wire] == ["cascata", "cascata.mine"]


def test_installing_twice_sends_once() -> None:
    as_worker(logging.INFO)
    wire = as_worker(logging.INFO)
    log.info("hello")
    assert len(wire) == 1


def test_a_send_that_logs_does_not_recurse() -> None:
    sent: Wire = []

    def send(data: dict[str, Any]) -> None:
        log.error("sending")
        sent.append(data)

    install_forwarding(send, logging.INFO)
    log.info("first")
    log.info("second")
    assert [each["msg"] for each in sent] == ["first", "second"]


@pytest.mark.parametrize(("error", "told"), [(RuntimeError("no room"), True), (BrokenPipeError("parent gone"), False)])
def test_a_send_that_fails_never_raises_into_the_code_that_logs(
    error: Exception, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def send(_: dict[str, Any]) -> None:
        raise error

    install_forwarding(send, logging.INFO)
    log.info("hello")
    assert ("no room" in capsys.readouterr().err) is told


def test_the_parents_levels_decide_again(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.DEBUG)
    log.debug("from the logger")
    logging.getLogger("cascata.mine").debug("from the child")
    parent_again()
    logging.getLogger("cascata.mine").setLevel(logging.DEBUG)
    for data in wire:
        replay(data)
    assert [each.getMessage() for each in caplog.records] == ["from the child"]


def test_the_parents_filters_decide(caplog: pytest.LogCaptureFixture) -> None:
    wire = as_worker(logging.INFO)
    log.warning("public")
    log.warning("secret")
    parent_again()
    log.logger.addFilter(lambda record: record.getMessage() != "secret")
    for data in wire:
        replay(data)
    assert [each.getMessage() for each in caplog.records] == ["public"]


def test_a_filter_of_the_program_that_raises_does_not_reach_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: logging.LogRecord) -> bool:
        raise RuntimeError("broken filter")

    wire = as_worker(logging.INFO)
    log.warning("hello")
    parent_again()
    log.logger.addFilter(broken)
    replay(wire[0])
    assert "broken filter" in capsys.readouterr().err


def test_replaying_leaves_the_data_as_it_was() -> None:
    wire = as_worker(logging.INFO)
    log.warning("hello", extra={"point": Point(1)})
    before = pickle.dumps(wire)
    parent_again()
    replay(wire[0])
    assert pickle.dumps(wire) == before


def test_the_workers_level_is_the_least_that_any_logger_lets_through() -> None:
    assert worker_level() == logging.WARNING
    log.logger.setLevel(logging.ERROR)
    assert worker_level() == logging.ERROR
    logging.getLogger("cascata.mine").setLevel(logging.DEBUG)
    assert worker_level() == logging.DEBUG
    logging.getLogger("cascata.mine").disabled = True
    assert worker_level() == logging.ERROR


def test_the_workers_level_follows_the_root_when_nothing_nearer_is_set(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert worker_level() == logging.INFO


def test_the_workers_level_keeps_to_logging_disable() -> None:
    logging.disable(logging.ERROR)
    assert worker_level() == logging.ERROR + 1


def test_nothing_is_sent_when_the_logger_is_disabled() -> None:
    for name in ("cascata", *(each for each in logging.root.manager.loggerDict if each.startswith("cascata."))):
        logging.getLogger(name).disabled = True
    wire = as_worker(worker_level())
    log.critical("hello")
    assert wire == []


def test_show_in_the_parent_prints_what_a_worker_logged() -> None:
    wire = as_worker(logging.INFO)
    token = log.current.set(log.Where("double", "Doubler", 2))
    log.info("hello")
    log.current.reset(token)
    parent_again()
    stream = io.StringIO()
    log.show(stream=stream)
    replay(wire[0])
    assert stream.getvalue() == "INFO - double@Doubler : hello\n"


def in_a_worker(connection: Any, level: int) -> None:
    install_forwarding(connection.send, level)
    log.current.set(log.Where("double", "Doubler", 1))
    log.info("hello from %s", "afar")
    connection.close()


def test_a_record_crosses_a_real_process_border(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=in_a_worker, args=(there, worker_level()))
    worker.start()
    there.close()
    with here:
        replay(here.recv())
    worker.join()
    worker.close()
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["node"]) == ("hello from afar", "double")
    assert record.process != multiprocessing.current_process().pid
