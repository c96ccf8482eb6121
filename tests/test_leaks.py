"""The checker of `conftest.py` sees each kind of thing that a test can leave behind."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks

WAITS = "import sys; sys.stdin.read()"


def test_a_test_that_leaves_nothing_passes() -> None:
    before = leaks.take()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert leaks.left_since(before) == []


def test_a_thread_is_seen() -> None:
    before = leaks.take()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="left-over")
    thread.start()
    (left,) = leaks.left_since(before)
    go_on.set()
    thread.join()
    assert "left-over" in left
    assert leaks.left_since(before) == []


def test_an_open_file_and_a_socket_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = leaks.take()
    with (tmp_path / "open").open("w"), socket.socket(), monkeypatch.context() as patched:
        patched.setattr(leaks, "_ray_runs", lambda: False)  # beside Ray's own sockets ours are not looked for
        left = leaks.left_since(before)
    assert any("open" in line for line in left)
    assert any("socket:" in line for line in left)
    assert leaks.left_since(before) == []


def test_a_second_descriptor_of_an_open_file_is_seen() -> None:
    before = leaks.take()
    copy = os.dup(2)
    (left,) = leaks.left_since(before)
    os.close(copy)
    assert "1 ×" in left


def test_a_child_is_seen() -> None:
    before = leaks.take()
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE) as child:
        left = leaks.left_since(before, settle=0.0)
        child.kill()
    assert any(line.startswith(f"process {child.pid}: ") for line in left)
    assert leaks.left_since(before) == []


def test_an_orphan_of_a_killed_child_is_seen() -> None:
    before = leaks.take()
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITS!r}]); print(flush=True); input()"
    alive_r, alive_w = os.pipe()
    with subprocess.Popen([sys.executable, "-c", parent], stdin=alive_r, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
        child.wait()
    os.close(alive_r)
    left = leaks.left_since(before, settle=0.0)
    os.close(alive_w)  # the end of the orphan's input, and so of the orphan
    assert any(line.startswith("process ") for line in left)
    assert leaks.left_since(before) == []


@pytest.fixture
def block() -> Iterator[Path]:
    """A file in shared memory that is not there yet."""
    path = leaks.SHARED_MEMORY / f"cascata-left-over-{os.getpid()}"
    yield path
    path.unlink()


def test_memory_with_a_name_that_this_process_maps_is_seen(block: Path) -> None:
    before = leaks.take()
    block.write_bytes(bytes(100))
    with block.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        file.close()
        left = leaks.left_since(before, settle=0.0)
    assert left == [f"descriptor: 1 × {block}", f"shared memory: {block.name}"]  # a mapping has a descriptor of its own
    assert leaks.left_since(before) == []


def test_memory_with_a_name_that_a_process_below_maps_or_has_open_is_seen(block: Path) -> None:
    before = leaks.take()
    block.write_bytes(bytes(100))
    for held in ("file", "mmap.mmap(file.fileno(), 0); file.close()"):
        holds = f"import mmap; file = open({str(block)!r}, 'r+b'); kept = {held}; print(flush=True);"
        with _waiting(holds) as child:
            left = leaks.left_since(before, settle=0.0)
            child.kill()
        assert left[-1] == f"shared memory: {block.name}"
        assert leaks.left_since(before) == []


def test_what_another_program_puts_into_shared_memory_is_no_matter_of_this_test(block: Path) -> None:
    """It is held by whoever put it there, or by nobody any more."""
    before = leaks.take()
    block.write_bytes(bytes(100))
    assert leaks.left_since(before) == []


def test_a_process_that_was_never_joined_is_seen() -> None:
    before = leaks.take()
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    os.waitid(os.P_PID, process.pid or 0, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    left = leaks.left_since(before, settle=0.0)
    process.join()
    process.close()
    assert any(line.startswith("never joined: ") for line in left)
    assert leaks.left_since(before) == []


def test_the_forkserver_is_tolerated_and_what_it_starts_is_not() -> None:
    before = leaks.take()
    context = multiprocessing.get_context("forkserver")
    go_on = context.Event()
    process = context.Process(target=go_on.wait)
    process.start()
    left = leaks.left_since(before, settle=0.0)
    go_on.set()
    process.join()
    process.close()
    del process, go_on
    assert any(line.startswith("process ") for line in left)
    assert leaks.left_since(before) == []


def test_what_is_left_shows_its_stacks_and_is_ended(capfd: pytest.CaptureFixture[str]) -> None:
    before = leaks.take()
    ready = "print(flush=True);"
    deaf = "import signal; signal.signal(signal.SIGABRT, signal.SIG_IGN); print(flush=True);"
    with _waiting(ready) as child, _waiting(deaf) as deaf_child:
        leaks.end(before, settle=0.5)
        assert child.wait() == -signal.SIGABRT
        assert deaf_child.wait() == -signal.SIGKILL
    assert "Fatal Python error: Aborted" in capfd.readouterr().err
    assert leaks.left_since(before) == []


def _waiting(first: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", first + WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child
