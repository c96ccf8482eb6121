"""`cascata.log` is the standard library's logger, tagged with the node, and silent until it is asked."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.logging import RichHandler

import cascata.log as module
from cascata import log

NODE = log.Where("double", "Doubler", 2)


@contextmanager
def inside(where: log.Where) -> Iterator[None]:
    token = log.current.set(where)
    try:
        yield
    finally:
        log.current.reset(token)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_both_imports_are_the_same_module() -> None:
    assert log is module
    assert log.logger is logging.getLogger("cascata")


def test_every_function_logs_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log.debug("a %s", 1)
    log.info("b")
    log.warning("c")
    log.error("d")
    log.critical("e")
    log.log(35, "f")
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (10, "a 1"),
        (20, "b"),
        (30, "c"),
        (40, "d"),
        (50, "e"),
        (35, "f"),
    ]


def test_exception_carries_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise LookupError("gone")
    except LookupError:
        log.exception("while looking")
    assert "LookupError: gone" in caplog.text


def test_a_record_names_the_file_and_function_of_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("here")
    (record,) = caplog.records
    assert record.pathname == __file__
    assert record.funcName == "test_a_record_names_the_file_and_function_of_its_caller"


@pytest.mark.parametrize("name", ["cascata", "cascata.mine", "cascata.mine.deeper"])
def test_a_record_is_tagged_with_what_is_running(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with inside(NODE):
        logging.getLogger(name).warning("hello")
    (record,) = caplog.records
    assert [record.__dict__[name] for name in ("node", "component", "worker")] == ["double", "Doubler", 2]


def test_outside_a_runner_the_tags_are_none_so_that_a_format_may_name_them() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(node)s/%(component)s/%(worker)s %(message)s"))
    logging.root.addHandler(handler)
    log.warning("hello")
    logging.getLogger("cascata.mine").warning("hello")
    assert stream.getvalue() == "None/None/None hello\n" * 2


def test_a_record_of_another_library_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with inside(NODE):
        logging.getLogger("cascatable").warning("hello")
        logging.getLogger("other").warning("hello")
    assert not any("node" in each.__dict__ for each in caplog.records)


def test_tags_that_a_caller_gives_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    with inside(NODE):
        log.warning("hello", extra={"node": "mine"})
    assert caplog.records[0].__dict__["node"] == "mine"


def test_tasks_and_threads_of_a_runner_are_tagged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def runner() -> None:
        log.current.set(NODE)
        await asyncio.gather(asyncio.create_task(subtask()), asyncio.to_thread(log.warning, "from a thread"))

    async def subtask() -> None:
        log.warning("from a task")

    contextvars.copy_context().run(asyncio.run, runner())
    assert {each.getMessage(): each.__dict__["node"] for each in caplog.records} == {
        "from a task": "double",
        "from a thread": "double",
    }


@pytest.mark.parametrize("import_line", ["from cascata import log", "import cascata.log as log"])
def test_nothing_is_printed_in_a_program_that_did_not_ask(import_line: str) -> None:
    script = f"{import_line}\nimport logging\nlog.critical('loud')\nlogging.getLogger('cascata.x').critical('loud')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_show_prints_level_node_class_and_message() -> None:
    stream = io.StringIO()
    log.show(stream=stream)
    with inside(NODE):
        log.info("took %d ms", 5)
    log.warning("outside")
    with inside(log.Where(worker=1)):
        log.error("of the worker itself")
    log.debug("below the level")
    assert stream.getvalue() == ("INFO - double@Doubler : took 5 ms\nWARNING : outside\nERROR : of the worker itself\n")


def test_show_prints_the_traceback_below_the_message() -> None:
    stream = io.StringIO()
    log.show(stream=stream)
    try:
        raise LookupError("gone")
    except LookupError:
        log.exception("while looking")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["ERROR : while looking", "Traceback (most recent call last):"]
    assert lines[-1] == "LookupError: gone"


def test_show_uses_colours_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")
    terminal = Terminal()
    log.show(stream=terminal)
    with inside(NODE):
        log.info("hello")
    assert terminal.getvalue() == "\x1b[32mINFO\x1b[0m - \x1b[36mdouble@Doubler\x1b[0m : hello\n"
    monkeypatch.setenv("NO_COLOR", "1")
    log.info("plain")
    assert terminal.getvalue().endswith("\nINFO : plain\n")


def test_show_writes_to_stderr_as_it_is_when_a_record_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    log.show()
    log.info("hello")
    assert capsys.readouterr() == ("", "INFO : hello\n")


def test_a_second_show_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    log.show("DEBUG", first)
    log.show("WARNING", second)
    log.info("quiet")
    log.warning("loud")
    assert (first.getvalue(), second.getvalue()) == ("", "WARNING : loud\n")


def test_hide_undoes_show() -> None:
    handlers, level = log.logger.handlers[:], log.logger.level
    stream = io.StringIO()
    log.show("DEBUG", stream)
    assert log.logger.isEnabledFor(logging.DEBUG)
    log.hide()
    log.error("hello")
    assert stream.getvalue() == ""
    assert (log.logger.handlers, log.logger.level) == (handlers, level)


def test_hide_keeps_a_level_that_the_user_set_since() -> None:
    log.show("INFO")
    log.logger.setLevel(logging.ERROR)
    log.hide()
    assert log.logger.level == logging.ERROR


def test_show_never_raises_the_level_that_another_handler_wants(caplog: pytest.LogCaptureFixture) -> None:
    log.logger.setLevel(logging.DEBUG)
    stream = io.StringIO()
    log.show("INFO", stream)
    log.debug("for the file")
    assert [each.getMessage() for each in caplog.records] == ["for the file"]
    assert stream.getvalue() == ""


@pytest.mark.parametrize("order", ["basicConfig first", "show first"])
def test_a_record_is_printed_once_when_the_root_logger_prints_too(order: str) -> None:
    steps = ["logging.basicConfig(level='INFO')", "log.show()"]
    if order == "show first":
        steps.reverse()
    script = "\n".join(
        [
            "import logging",
            "from cascata import log",
            *steps,
            "log.info('one')",
            "logging.getLogger('cascata.x').info('two')",
            "logging.getLogger('other').info('three')",
            "log.hide()",
            "log.info('four')",
        ]
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["INFO : one", "INFO : two", "INFO:other:three", "INFO:cascata:four"]


def test_handlers_of_the_root_that_print_elsewhere_still_get_every_record(caplog: pytest.LogCaptureFixture) -> None:
    file = io.StringIO()
    logging.root.addHandler(logging.StreamHandler(file))
    log.show()
    log.info("hello")
    assert file.getvalue() == "hello\n"
    assert [each.getMessage() for each in caplog.records] == ["hello"]


class Reporter(io.StringIO):
    """As pytest's own, for its live log."""

    isatty = True  # type: ignore[assignment]


def test_a_handler_of_the_root_with_an_odd_stream_still_gets_every_record() -> None:
    reporter = Reporter()
    logging.root.addHandler(logging.StreamHandler(reporter))
    log.show()
    log.info("hello")
    assert reporter.getvalue() == "hello\n"


def test_a_record_is_printed_once_when_rich_prints_for_the_root(capsys: pytest.CaptureFixture[str]) -> None:
    logging.root.addHandler(RichHandler())
    log.show()
    log.info("once")
    logging.getLogger("other").warning("twice")
    printed = capsys.readouterr()
    assert printed.err == "INFO : once\n"
    assert "once" not in printed.out
    assert "twice" in printed.out


@pytest.mark.parametrize(("level", "number"), [("debug", 10), ("INFO", 20), (15, 15), (logging.ERROR, 40)])
def test_show_takes_a_level_by_name_or_number(level: int | str, number: int) -> None:
    stream = io.StringIO()
    log.show(level, stream)
    log.log(number - 1, "below")
    log.log(number, "at it")
    assert stream.getvalue().endswith(": at it\n")
    assert "below" not in stream.getvalue()


def test_an_unknown_level_is_refused_with_the_known_ones_and_changes_nothing() -> None:
    stream = io.StringIO()
    log.show("INFO", stream)
    with pytest.raises(ValueError, match=r"'LOUD' is no logging level.*WARNING") as caught:
        log.show("LOUD")
    assert "NOTSET" not in str(caught.value)
    log.info("still shown")
    assert stream.getvalue() == "INFO : still shown\n"


def test_a_stream_that_cannot_be_written_to_never_raises_into_the_code_that_logs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    log.show(stream=stream)
    stream.close()
    log.info("hello")
    assert "I/O operation on closed file" in capsys.readouterr().err


def test_where_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(NODE)) == NODE
