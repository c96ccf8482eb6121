"""Programs of all kinds run graphs: executed by others, forked, as daemons, without streams, reaped by others."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest

from cascata.engine.choice import is_portable
from tests.cells import matrix, other
from tests.programs import Script

NODES: Final = """
from cascata import *

@component
async def Numbers(upto: In[int], number: Out[int]) -> None:
    for each in range(upto):
        await number.send(each)

@component
async def Prints(item: In[object]) -> None:
    print(item)
"""


@pytest.mark.parametrize("start_method", other(["forkserver", "spawn"], "fork"))
def test_a_program_without_stdin_and_stdout_runs(script: Script, start_method: str) -> None:
    if is_portable() and start_method == "forkserver":
        pytest.skip("there the fork server is for tests, and its workers have its streams")
    script.write(
        "main.py",
        NODES
        + textwrap.dedent(f"""
        import os, sys
        assert sys.stdout is sys.stdin is None
        graph = Graph()
        graph.numbers = Numbers
        graph.prints = Prints
        graph.numbers.upto < 3
        graph.numbers >> graph.prints
        report = graph.run(num_workers=2, start_method={start_method!r})
        os.write(2, str(report.nodes["prints"].received).encode())
        """),
    )
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} main.py >&- <&-"],
        cwd=script.folder,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"3")


def test_a_script_that_is_executed_by_another_one_runs(script: Script) -> None:
    script.write("job.py", NODES + "graph = Graph()\ngraph.prints = Prints\nprints.item < 'done'\ngraph.run()\n")
    assert script.prints("import runpy\nrunpy.run_path('job.py', run_name='__main__')\n") == ["done"]
    assert script.prints("exec(open('job.py').read())\n") == ["done"]


def test_the_warnings_and_flags_of_the_interpreter_are_those_of_the_workers(script: Script) -> None:
    script.write(
        "flags.py",
        """
        import sys
        from cascata import *

        @component
        async def Looks():
            print(sys.flags.optimize, sys.flags.utf8_mode, sys.flags.dont_write_bytecode, __debug__)

        graph = Graph()
        graph.looks = Looks
        for start_method in ("fork", "forkserver", "spawn"):
            graph.run(start_method=start_method)
        """,
    )
    done = script(None, "-O", "-B", "-X", "utf8", "flags.py")
    assert done.stdout.splitlines() == ["1 1 1 False"] * 3


def test_lines_of_several_workers_do_not_mix_where_python_writes_at_once(script: Script) -> None:
    done = script(
        NODES
        + textwrap.dedent("""
        graph = Graph()
        graph.numbers = Numbers
        graph.prints = Prints * 3
        graph.numbers.upto < 3000
        graph.numbers >> graph.prints
        graph.run(num_workers=4)
        """),
        environment={"PYTHONUNBUFFERED": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == sorted(str(number) for number in range(3000))


def test_a_failure_in_a_script_shows_the_remote_traceback_and_leaves_with_1(script: Script) -> None:
    done = script(
        """
        from cascata import *

        @component
        async def Fails(number: In[int]):
            print(1 / number)

        graph = Graph()
        graph.fails = Fails
        fails.number < 0
        graph.run()
        """
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "print(1 / number)" in done.stderr
    assert "cascata.errors.ComponentError: node 'fails'" in done.stderr


def test_a_run_that_nobody_joins_ends_with_the_program(script: Script) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent("""
        def state():
            yield 1
            print("torn down")

        @component
        async def Endless(began: In[str], out: Out[int], seen: State[int] = State(state)):
            print("running")
            open(began, "w").close()
            while True:
                await out.send(1)

        import os, tempfile, time
        graph = Graph()
        graph.endless = Endless
        with tempfile.TemporaryDirectory() as folder:
            began = os.path.join(folder, "began")
            graph.endless.began < began
            graph.start(num_workers=1)
            while not os.path.exists(began):
                time.sleep(0.01)
        """)
    )
    assert lines in (["running"], ["running", "torn down"])


def test_a_manager_of_multiprocessing_is_at_hand_in_workers(script: Script) -> None:
    for package in ("multiprocessing", "multiprocess"):
        lines = script.prints(
            f"""
            import {package} as mp
            from cascata import *

            @component
            async def Puts(number: In[int], results: In[object]):
                results.append(number + 1)

            if __name__ == "__main__":
                with mp.Manager() as manager:
                    results = manager.list()
                    graph = Graph()
                    graph.puts = Puts
                    puts.results < results
                    puts.number < 4
                    graph.run()
                    print(list(results))
            """
        )
        assert lines == ["[5]"]


def test_a_forked_program_can_run_graphs_of_its_own(script: Script) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent("""
        import os, sys
        graph = Graph()
        graph.prints = Prints
        prints.item < "run"
        graph.run()
        pid = os.fork()
        graph.run()
        if pid:
            os.waitpid(pid, 0)
            graph.run()
        """)
    )
    assert lines == ["run"] * 4


def test_a_daemon_of_multiprocessing_can_run_graphs(script: Script) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent("""
        import multiprocessing

        def job():
            graph = Graph()
            graph.prints = Prints
            graph.prints.item < "run"
            graph.run(num_workers=1)

        process = multiprocessing.get_context("fork").Process(target=job, daemon=True)
        process.start()
        process.join()
        print(process.exitcode)
        """)
    )
    assert lines == ["run", "0"]


def test_numeric_libraries_use_as_many_threads_as_there_are_cores_in_all(script: Script) -> None:
    text = """
        import os
        from cascata import *

        @component
        async def Looks():
            print(os.environ["OMP_NUM_THREADS"])

        graph = Graph()
        graph.looks = Looks
        graph.again = Looks
        graph.run(num_workers=2)
        """
    plain = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    assert "OMP_NUM_THREADS" not in plain
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    os.environ.pop("OMP_NUM_THREADS", None)
    assert script.prints(text) == [share, share]
    assert script.prints(text, environment={"OMP_NUM_THREADS": "17"}) == ["17", "17"]


def test_scripts_run_where_the_folder_of_the_program_cannot_be_imported_from(script: Script, tmp_path: Path) -> None:
    """`-I` and `-P` keep the folder of the script off the path."""
    path = script.write("main.py", NODES + "graph = Graph()\ngraph.prints = Prints\nprints.item < 1\ngraph.run()\n")
    for flag in ("-P", "-s"):
        done = script(None, flag, str(path))
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert sys.version_info >= (3, 11)


@pytest.mark.parametrize("start_method", other(["forkserver"], "fork", "spawn"))
def test_a_component_may_run_a_graph_of_its_own(script: Script, start_method: str) -> None:
    lines = script.prints(
        NODES
        + textwrap.dedent(f"""
        @component
        async def Nests(upto: In[int], received: Out[int]) -> None:
            inner = Graph()
            inner.numbers = Numbers
            inner.numbers.upto < upto
            inner.drops = Drops
            inner.numbers >> inner.drops
            report = await inner.run_async(num_workers=2)
            await received.send(report.nodes["drops"].received)
            await received.send(len(Numbers.test(upto=upto)["number"]))

        @component
        async def Drops(number: In[int]) -> None:
            pass

        graph = Graph()
        graph.nests = Nests
        graph.nests.upto < 10
        graph.prints = Prints
        graph.nests >> graph.prints
        graph.run(num_workers=2, start_method={start_method!r})
        """)
    )
    assert lines == ["10", "10"]


REAPERS: Final = {
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "thread": """
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)

threading.Thread(target=reap, daemon=True).start()
""",
}


@pytest.mark.parametrize(
    ("reaper", "start_method"),
    [
        (reaper, method)
        if (number, method) in {(0, "forkserver"), (1, "fork"), (1, "spawn")}
        else matrix(reaper, method)
        for number, reaper in enumerate(REAPERS)
        for method in ("fork", "forkserver", "spawn")
    ],
)
def test_a_program_in_which_others_reap_its_children_runs(script: Script, reaper: str, start_method: str) -> None:
    lines = script.prints(
        NODES
        + "import os, signal, threading, time\nfrom cascata.errors import WorkerDied\n"
        + REAPERS[reaper]
        + textwrap.dedent(f"""
        @component
        async def Dies(item: In[object]) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        graph = Graph()
        graph.prints = Prints
        prints.item < "run"
        for _ in range(2):
            graph.run(num_workers=1, start_method={start_method!r})
        graph = Graph()
        graph.dies = Dies
        dies.item < 1
        try:
            graph.run(num_workers=1, start_method={start_method!r})
        except WorkerDied as error:
            print("died", error.nodes)
        """)
    )
    assert lines == ["run", "run", "died ('dies',)"]
