"""What README.md and the pages of docs/ show is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Example, commands, examples, headings, links

EXAMPLES = [example for page in PAGES for example in examples(page)]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_block_runs_and_prints_what_the_page_shows(example: Example, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example.code, "utf-8")
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if example.output is not None:
        assert done.stdout == example.output


def test_every_python_block_is_an_example() -> None:
    fences = sum(page.read_text("utf-8").count("```python") for page in PAGES)
    assert len(EXAMPLES) == fences > 0


def test_every_output_stands_under_the_block_that_prints_it() -> None:
    fences = sum(page.read_text("utf-8").count("```text") for page in PAGES)
    assert sum(example.output is not None for example in EXAMPLES) == fences


def test_there_are_two_commands_to_begin_with() -> None:
    first, second = commands(ROOT / "README.md")
    install, job = first.split(" && ")
    assert install == "pip install ."
    script = re.fullmatch(r"python (\S+)", job)
    assert script
    assert (ROOT / script[1]).is_file()
    install, tests = second.split(" && ")
    assert re.fullmatch(r'pip install (-e )?"\.\[test\]"', install)
    assert tests == "python -m pytest -n 3 --dist loadgroup"


def test_the_script_of_the_continuous_integration_takes_its_commands_from_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "README.md" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for command in commands(ROOT / "README.md"):
        assert all(part not in script for part in command.split(" && "))


def test_what_is_left_out_by_day_is_run_at_night() -> None:
    script = ROOT / ".ci" / "nightly"
    assert os.access(script, os.X_OK)
    _, tests = commands(ROOT / "README.md")[1].split(" && ")
    assert f"{tests} -m matrix\n" in script.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), link
        assert not anchor or anchor in headings(found), link


def test_the_quick_start_of_the_readme_is_the_example() -> None:
    def statements(code: str) -> list[str]:
        stripped = (re.sub(r'\s*#.*$|^\s*""".*"""$', "", line).rstrip() for line in code.splitlines())
        return [line for line in stripped if line]

    quick_start = next(examples(ROOT / "README.md"))
    example = (ROOT / "examples" / "quickstart.py").read_text("utf-8")
    assert statements(quick_start.code) == statements(example)
