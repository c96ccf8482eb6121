"""The house keeps its own rules: who imports whom, what is public, what is loaded, how long a module is."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from configparser import ConfigParser
from dataclasses import dataclass, fields
from pathlib import Path
from types import FunctionType
from typing import Any, Final, get_type_hints

import networkx as nx
import pytest

import cascata
import cascata.components as ready_made
from cascata.dsl.component import ComponentType
from cascata.faces import PUBLIC

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "cascata"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))

LONGEST: Final = 600
"""Lines of a module. What is longer has two reasons to change."""

HEAVY: Final = ("aioitertools", "aioprocessing", "dill", "multiprocess", "networkx", "numpy", "rich")

# Which rooms a room may import. docs/how-it-works.md tells it in words.
WORDS: Final = frozenset({"cycles", "errors", "faces", "interrupts", "marks", "model", "options", "records"})
RULE: Final[dict[str, frozenset[str]]] = {
    "_version": frozenset(),
    "faces": frozenset(),
    "records": frozenset(),
    "interrupts": frozenset({"errors"}),
    "errors": frozenset({"records"}),
    "cycles": frozenset({"model"}),
    "marks": frozenset({"errors", "faces"}),
    "log": frozenset({"records"}),
    "model": frozenset({"errors", "records"}),
    "options": frozenset({"errors", "records"}),
    "dsl": WORDS,
    "check": WORDS,
    "plan": WORDS,
    "draw": WORDS,
    "serial": WORDS,
    "observe": WORDS | {"log"},
    "channel": frozenset({"errors", "records"}),
    "transport": WORDS | {"channel", "observe"},
    "channels": WORDS | {"channel", "transport"},
    "runtime": WORDS | {"channel", "log", "observe", "plan"},
    "components": WORDS | {"dsl", "log"},
    "live": WORDS | {"channel", "dsl", "engine", "log", "observe", "runtime"},
    "engine": WORDS | {"channel", "log", "observe", "plan", "runtime", "transport"},
    "workflow": WORDS | {"dsl", "engine", "live", "plan"},
}

CIRCLES_LEFT: Final = frozenset(
    {
        "cascata.engine.boot",
        "cascata.engine.local.forkserver",
        "cascata.engine.local.linux",
        "cascata.engine.local.portable",
        "cascata.engine.ray.run",
        "cascata.engine.run",
        "cascata.engine.worker.linux",
        "cascata.runtime.deadlines",
        "cascata.runtime.failures",
        "cascata.runtime.idle",
        "cascata.runtime.live_calls.answers",
        "cascata.runtime.live_calls.lineage",
        "cascata.runtime.node",
        "cascata.runtime.order.ordered",
        "cascata.runtime.ports.source_sink",
        "cascata.runtime.ports.stream",
        "cascata.runtime.restart",
        "cascata.runtime.runner_calls",
        "cascata.runtime.triggers",
        "cascata.runtime.worker",
        "cascata.transport.tcp.peer_link",
        "cascata.transport.tcp.ray_calls",
    }
)
"""Modules that are in circles of imports still. What is taken out never comes back."""

# What the verbs of a graph and of a component (`run`, `shard`, `check`, `test`) reach when they are called.
VERBS: Final = {"dsl": frozenset({"channel", "check", "draw", "engine", "live", "plan", "runtime", "serial"})}


@dataclass(frozen=True, slots=True)
class Import:
    """A room that a module imports, and where."""

    room: str
    line: int
    within_a_function: bool


def room_of(module: Path) -> str:
    """`dsl/graph.py` is in the room `dsl`, `model.py` is a room of its own, and `__init__.py` is the front door."""
    parts = module.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts != ("__init__",) else "cascata"


def is_for_checkers(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "_TYPE_CHECKING",
    }


def names_of(node: ast.Import | ast.ImportFrom, package: tuple[str, ...]) -> Iterator[str]:
    """The full names of what an import statement in a package brings in."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    above = package[: len(package) - node.level + 1] if node.level else ()
    start = ".".join([*above, *([node.module] if node.module else [])])
    # `from .. import log` may name a room, `from ..errors import DefinitionError` something in one.
    yield from (f"{start}.{alias.name}" for alias in node.names)


def imports_of(source: str, package: tuple[str, ...]) -> Iterator[Import]:
    """The rooms that a module's source imports when it runs."""

    def walk(node: ast.AST, within: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in names_of(node, package):
                top, _, rest = name.partition(".")
                if top == "cascata":
                    yield Import(rest.partition(".")[0] or "cascata", node.lineno, within)
        elif is_for_checkers(node):
            assert isinstance(node, ast.If)
            for statement in node.orelse:
                yield from walk(statement, within)
        else:
            inside = within or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, inside)

    yield from walk(ast.parse(source), within=False)


def offences(room: str, source: str, package: tuple[str, ...]) -> list[str]:
    """The imports of a module that its room may not make."""
    if room not in RULE:
        return [f"the room {room!r} has no rule: say in tests/test_house.py which rooms it may import"]
    found = []
    for each in imports_of(source, package):
        allowed = RULE[room] | {room} | (VERBS.get(room, frozenset()) if each.within_a_function else frozenset())
        if each.room not in allowed:
            where = " in a function" if each.within_a_function else ""
            found.append(f"line {each.line}: {room} imports {each.room}{where}")
    return found


def package_of(module: Path) -> tuple[str, ...]:
    return ("cascata", *module.relative_to(PACKAGE).parent.parts)


def named(module: Path) -> str:
    return str(module.relative_to(ROOT))


def dotted(module: Path) -> str:
    """The name under which a module is imported."""
    return ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_in(source: str, package: tuple[str, ...], known: AbstractSet[str]) -> set[str]:
    """The modules, of those that are known, that a source names in any import: in functions and for checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in names_of(node, package):
                found.update({name, name.rpartition(".")[0]} & known if name not in known else {name})
    return found


def circles(imports: Mapping[str, AbstractSet[str]]) -> list[set[str]]:
    """Modules that import one another, directly or by way of others."""
    graph = nx.DiGraph([(module, other) for module, others in imports.items() for other in others if other != module])
    return [found for found in nx.strongly_connected_components(graph) if len(found) > 1]


# --- imports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [each for each in MODULES if room_of(each) != "cascata"], ids=named)
def test_no_module_imports_upward(module: Path) -> None:
    assert offences(room_of(module), module.read_text("utf-8"), package_of(module)) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("channel", "from ..model import GraphSpec"),
        ("channel", "import cascata.dsl.graph"),
        ("runtime", "from ..dsl.graph import Graph"),
        ("runtime", "from .. import dsl"),
        ("runtime", "from ..transport.frames import Frame"),
        ("dsl", "from ..engine.processes import run"),
        ("dsl", "class Graph:\n    from ..plan import partition"),
        ("dsl", "def run():\n    from ..transport.frames import Frame"),
        ("engine", "def run():\n    from cascata import Graph"),
        ("plan", "if TYPE_CHECKING:\n    pass\nelse:\n    from ..dsl.graph import Graph"),
        ("attic", ""),
    ],
)
def test_an_import_that_points_upward_is_found(room: str, source: str) -> None:
    assert offences(room, source, ("cascata", room))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("dsl", "from ..errors import DefinitionError\nfrom .ports import Port\nimport inspect"),
        ("dsl", "def run():\n    from ..engine.processes import run"),
        ("check", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..dsl.graph import Graph"),
        ("engine", "from ..transport.frames import Frame\nfrom .. import log"),
    ],
)
def test_an_import_that_points_downward_is_none(room: str, source: str) -> None:
    assert offences(room, source, ("cascata", room)) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    names = {dotted(module) for module in MODULES}
    found = circles({dotted(each): modules_in(each.read_text("utf-8"), package_of(each), names) for each in MODULES})
    assert [sorted(circle) for circle in found if not circle <= CIRCLES_LEFT] == []


@pytest.mark.parametrize(
    "back",
    [
        "from .a import A",
        "from . import a",
        "import cascata.dsl.a",
        "def verb():\n    from .a import A",
        "if TYPE_CHECKING:\n    from ..dsl.a import A",
    ],
)
def test_a_circle_of_imports_is_found(back: str) -> None:
    package, names = ("cascata", "dsl"), {"cascata", "cascata.dsl", "cascata.dsl.a", "cascata.dsl.b"}
    sources = {"cascata.dsl.a": "from .b import B", "cascata.dsl.b": back}
    imports = {name: modules_in(source, package, names) for name, source in sources.items()}
    assert circles(imports) == [{"cascata.dsl.a", "cascata.dsl.b"}]
    assert circles(imports | {"cascata.dsl.b": {"cascata.dsl"}}) == []


def packages_of(module: Path) -> set[str]:
    """The packages that a module imports, wherever it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_every_package_that_comes_with_cascata_is_used_and_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {re.match(r"\w+", each)[0] for each in project["project"]["dependencies"]}  # type: ignore[index]
    assert packages >= {"aioitertools", "aioprocessing", "dill", "multiprocess", "networkx"}
    assert sorted(packages - set().union(*map(packages_of, MODULES))) == []
    page = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")
    assert sorted(each for each in packages if f"| `{each}` |" not in page) == []


def loaded_by(code: str) -> set[str]:
    """What a fresh interpreter has loaded after some code."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stderr.split())


def test_importing_cascata_loads_nothing_heavy() -> None:
    loaded = loaded_by("import cascata")
    assert "cascata" in loaded
    assert sorted(loaded.intersection(HEAVY)) == []


def test_what_a_worker_runs_loads_no_networkx_and_nothing_that_draws() -> None:
    rooms = ("channel", "runtime", "transport")
    modules = [dotted(each) for each in MODULES if room_of(each) in rooms]
    loaded = loaded_by("\n".join(f"import {module}" for module in modules))
    assert "cascata.runtime" in loaded
    assert sorted(loaded & {"networkx", "rich", "cascata.cli", "cascata.draw"}) == []


# --- the front door ---------------------------------------------------------------------------------


def test_all_is_exact() -> None:
    """Every public name is in `__all__`, every name in `__all__` is there, and a star import brings nothing else."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    imported = {
        alias.asname or alias.name
        for branch in tree.body
        if is_for_checkers(branch)
        for node in ast.walk(branch)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    public = {name for name in imported if not name.startswith("_")}
    assert sorted(public) == sorted(set(cascata.__all__) - {"__version__"})
    assert len(cascata.__all__) == len(set(cascata.__all__))
    star: dict[str, object] = {}
    exec("from cascata import *", star)  # noqa: S102 - a star import stands at module level only
    assert set(star) - {"__builtins__"} == set(cascata.__all__)


def test_what_the_contract_names_is_there() -> None:
    quick_start = {"Graph", "In", "Out", "State", "component", "inport", "outport", "persist"}
    assert quick_start | {"Channel", "log"} <= set(cascata.__all__)


def public_names() -> Iterator[tuple[str, str, object]]:
    """The public modules, the names that each offers, and what stands under them."""
    for module in PUBLIC:
        loaded = importlib.import_module(module)
        yield from ((module, name, getattr(loaded, name)) for name in loaded.__all__)


def definitions() -> list[Any]:
    """The classes and functions among them."""
    return [thing for _, _, thing in public_names() if isinstance(thing, type | FunctionType)]


def public_things() -> Iterator[tuple[str, object]]:
    """Every class and function of a public module, and the methods and properties of the classes."""
    for module, name, thing in public_names():
        if inspect.isroutine(thing) or isinstance(thing, type):
            yield f"{module}.{name}", thing
        if isinstance(thing, type):
            ours = [kind for kind in thing.__mro__ if kind.__module__.partition(".")[0] == "cascata"]
            for method, value in {each: value for kind in reversed(ours) for each, value in vars(kind).items()}.items():
                if not method.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                    yield f"{module}.{name}.{method}", value


def test_every_public_thing_says_what_it_does() -> None:
    things = dict(public_things())
    assert {"cascata.Graph.run", "cascata.Graph.copy", "cascata.workflow.Task.do"} <= set(things)
    assert sorted(name for name, thing in things.items() if not (inspect.getdoc(thing) or "").strip()) == []


def test_the_docs_list_the_public_modules_and_their_names() -> None:
    page = (ROOT / "docs" / "public.md").read_text("utf-8")
    rows = re.findall(r"^\| `(cascata[\w.]*)` \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    told = {module: set(re.findall(r"`(\w+)`", names)) for module, names in rows}
    found: dict[str, set[str]] = {module: set() for module in PUBLIC}
    for module, name, _ in public_names():
        found[module].add(name)
    assert told == {module: names - {"__version__"} for module, names in found.items()}


@pytest.mark.parametrize("text", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.py")], ids=named)
def test_docs_and_examples_import_from_public_modules_only(text: Path) -> None:
    named_there = re.findall(r"^\s*(?:from|import) (cascata[\w.]*)", text.read_text("utf-8"), re.MULTILINE)
    assert sorted(set(named_there) - set(PUBLIC)) == []


def test_public_names_show_a_public_module_and_are_found_there() -> None:
    hidden = [f"{thing.__module__}.{thing.__qualname__}" for thing in definitions() if thing.__module__ not in PUBLIC]
    assert hidden == []
    assert "class Channel in module cascata\n" in pydoc.plain(pydoc.render_doc(cascata.Channel))
    for thing in definitions():
        assert getattr(importlib.import_module(thing.__module__), thing.__qualname__) is thing


def test_public_names_can_be_pickled_and_found_in_another_process(tmp_path: Path) -> None:
    things = [*definitions(), *(thing.spec for thing in definitions() if isinstance(thing, ComponentType))]
    assert all(copy is thing for copy, thing in zip(pickle.loads(pickle.dumps(things)), things, strict=True))
    (tmp_path / "things").write_bytes(pickle.dumps(things))
    code = f"import pickle; things = pickle.load(open({str(tmp_path / 'things')!r}, 'rb')); import cascata"
    assert "cascata.workflow.dag" in loaded_by(f"{code}; assert cascata.Channel in things")


def test_a_mark_of_a_port_that_comes_to_a_worker_loads_nothing_that_builds_graphs(tmp_path: Path) -> None:
    (tmp_path / "marks").write_bytes(pickle.dumps((cascata.Out[int], cascata.State, cascata.Stream, cascata.In[int])))
    loaded = loaded_by(f"import pickle; pickle.load(open({str(tmp_path / 'marks')!r}, 'rb'))")
    assert "cascata.marks" in loaded
    assert "cascata.dsl" not in loaded


def test_what_is_public_keeps_the_types_of_its_fields() -> None:
    """They are looked up in the module that a class shows, not in the one that defines it."""
    records = [thing for thing in definitions() if "__dataclass_fields__" in vars(thing)]
    assert cascata.Failure in records
    for record in records:
        assert set(get_type_hints(record)) >= {each.name for each in fields(record)}


def test_the_registry_and_saved_graphs_name_ready_made_components_where_they_are_public() -> None:
    graph = cascata.Graph()
    graph.double = ready_made.Map
    assert cascata.registry["cascata.components.Map"] is ready_made.Map
    saved = graph.to_json()
    assert saved["nodes"][0]["component"] == "cascata.components:Map"
    for name in ("cascata.components:Map", "cascata.components.items:Map"):  # the latter as it was saved before
        saved["nodes"][0]["component"] = name
        assert type(cascata.Graph.from_json(saved).double) is ready_made.Map


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_every_name_that_a_module_offers_is_in_it(module: Path) -> None:
    loaded = importlib.import_module(dotted(module))
    offered = getattr(loaded, "__all__", [])
    assert [each for each in offered if not hasattr(loaded, each)] == []
    assert len(offered) == len(set(offered))


# --- order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_no_module_is_too_long(module: Path) -> None:
    assert len(module.read_text("utf-8").splitlines()) <= LONGEST


def test_every_folder_of_the_package_is_installed() -> None:
    folders = {each.parent for each in MODULES}
    assert [named(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []
    found = {each.name for each in pkgutil.walk_packages([str(PACKAGE)], "cascata.") if each.ispkg}
    assert found == {".".join(folder.relative_to(ROOT).parts) for folder in folders} - {"cascata"}


def test_the_version_stands_once() -> None:
    version = (PACKAGE / "_version.py").read_text("utf-8")
    (number,) = re.findall(r'^__version__ = "(.+)"$', version, re.MULTILINE)
    assert cascata.__version__ == number
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?", number)
    quoted = re.compile(rf"""version.*["']{re.escape(number)}["']""")
    sources = [*MODULES, ROOT / "pyproject.toml", ROOT / "setup.cfg"]
    assert [each.name for each in sources if quoted.search(each.read_text("utf-8"))] == ["_version.py"]


def test_no_fact_of_the_project_stands_twice() -> None:
    """setup.cfg holds what pyproject.toml does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert "metadata" not in setup
    assert not set(setup["options"]) & {"install_requires", "extras_require", "python_requires"}
    assert set(project["tool"]["setuptools"]) == {"dynamic"}
    assert project["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "cascata._version.__version__"}}


def test_the_types_travel_with_the_package() -> None:
    assert (PACKAGE / "py.typed").is_file()
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert setup["options.package_data"]["cascata"] == "py.typed"
