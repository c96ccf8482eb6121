"""A census of Python's standard library: every module is read and parsed, on all cores.

    find ── paths ──>  parse_0, parse_1, ...  ── summaries ──>  tables
    (one walk)         (whichever is free)                      (prints when the stream ends)

Only paths and small summaries cross from process to process; texts and syntax trees stay where they were made.
A file that cannot be read, decoded or parsed is counted and named. The standard library's own test data has some.

    python examples/stdlib_census.py
    python examples/stdlib_census.py --root path/to/any/source/tree --top 20
"""

import argparse
import ast
import os
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cascata import Graph, In, Out, State, component

# --- what travels -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """A function, and how many paths lead through it."""

    name: str
    line: int
    complexity: int


@dataclass(frozen=True, slots=True)
class ModuleSummary:
    """What the census wants to know of one file."""

    path: str
    lines: int
    classes: int
    functions: tuple[Function, ...]
    imports: frozenset[str]


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A file that could not be read, decoded or parsed."""

    path: str
    reason: str


# --- reading a module -------------------------------------------------------------------------------

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.ClassDef)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope; of the scopes inside it, only their heads."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def decisions(node: ast.AST) -> int:
    """How many ways a node adds to those through its function (McCabe 1976; `and` and `or` decide too)."""
    match node:
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.comprehension(ifs=conditions):
            return 1 + len(conditions)
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):  # `case _:` is the way that was there
            return 0
        case ast.match_case():
            return 1
        case _:
            return isinstance(node, BRANCHES)


def imported(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The full names of the modules that a node of a module in `package` imports."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, level=level):
            parts = [*package[: len(package) - level + 1]] if level else []
            name = ".".join([*parts, module] if module else parts)
            if name:  # else a relative import of something that is no package
                yield name


def summary(path: str, source: bytes, tree: ast.Module) -> ModuleSummary:
    """What the census wants to know of a module at `path`, which is relative to the root."""
    package = Path(path).parent.parts
    classes, functions = 0, list[Function]()
    imports = set[str]()
    scopes: list[tuple[str, ast.AST]] = [("", tree)]
    while scopes:  # not by recursion: real code nests deeper than Python's stack
        prefix, scope = scopes.pop()
        complexity = 1
        for node in own_nodes(scope):
            if isinstance(node, SCOPES):
                scopes.append((f"{prefix}{node.name}.", node))
            complexity += decisions(node)
            imports.update(imported(node, package))
        if isinstance(scope, FUNCTIONS):
            functions.append(Function(prefix[:-1], scope.lineno, complexity))
        classes += isinstance(scope, ast.ClassDef)
    return ModuleSummary(path, len(source.splitlines()), classes, tuple(functions), frozenset(imports))


# --- counting ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Census:
    """Collects summaries, and prints them as tables."""

    parsed: list[ModuleSummary] = field(default_factory=list)
    unparsed: list[Unparsed] = field(default_factory=list)

    def add(self, finding: ModuleSummary | Unparsed) -> None:
        """Counts one file."""
        if isinstance(finding, Unparsed):
            self.unparsed.append(finding)
        else:
            self.parsed.append(finding)

    def __str__(self) -> str:
        """One paragraph of totals."""
        functions = [function for module in self.parsed for function in module.functions]
        mean = sum(function.complexity for function in functions) / (len(functions) or 1)
        return (
            f"{len(self.parsed):,} files parsed, {len(self.unparsed):,} could not be\n"
            f"lines: {sum(module.lines for module in self.parsed):,}, "
            f"classes: {sum(module.classes for module in self.parsed):,}, "
            f"functions: {len(functions):,} (mean complexity {mean:.1f})"
        )

    def tables(self, top: int) -> Iterator[str]:
        """The largest, the most complex, the most imported: `top` of each. And every file that was not parsed."""
        lines = [(module.lines, module.path) for module in self.parsed]
        yield table("Largest modules", "lines", lines, top)
        complexities = [
            (function.complexity, f"{function.name} ({module.path}:{function.line})")
            for module in self.parsed
            for function in module.functions
        ]
        yield table("Most complex functions", "complexity", complexities, top)
        importers = Counter(name for module in self.parsed for name in module.imports)
        yield table("Most imported modules", "importers", [(count, name) for name, count in importers.items()], top)
        if self.unparsed:
            yield "\n".join(["Could not be parsed", *sorted(f"  {each.path}: {each.reason}" for each in self.unparsed)])


def table(title: str, unit: str, rows: list[tuple[int, str]], top: int) -> str:
    """The `top` rows with the greatest numbers, under a title; equal ones by name, whatever order they came in."""
    greatest = sorted(rows, key=lambda row: (-row[0], row[1]))[:top]
    width = max([len(unit), *(len(f"{number:,}") for number, _ in greatest)])
    return "\n".join([title, f"  {unit:>{width}}", *(f"  {number:>{width},}  {name}" for number, name in greatest)])


def printed_census(top: int) -> Iterator[Census]:
    """Makes the census of an instance before its first item; prints it after the last, unless the run failed."""
    census = Census()
    yield census
    text = "\n\n".join([str(census), *census.tables(top)])
    encoding = sys.stdout.encoding  # which may lack a letter of a file's name
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


# --- the graph --------------------------------------------------------------------------------------


@component
def FindModules(root: In[str], limit: In[int | None], path: Out[str]) -> Iterator[str]:
    """Sends the path of every Python file under `root`, relative to it. What a component yields, it sends."""
    yield from islice(python_files(root), limit)


def python_files(root: str) -> Iterator[str]:
    """Python files in a fixed order, without installed packages and hidden folders."""
    for folder, folders, files in os.walk(root):
        hidden = {"site-packages", "dist-packages", "__pycache__", *(each for each in folders if each.startswith("."))}
        folders[:] = sorted(set(folders) - hidden)
        yield from (os.path.relpath(Path(folder, each), root) for each in sorted(files) if each.endswith(".py"))


@component
def ParseModule(root: In[str], path: In[str], finding: Out[ModuleSummary | Unparsed]) -> ModuleSummary | Unparsed:
    """Sends the summary of a file, or the reason why there is none. What a component returns, it sends."""
    try:
        source = Path(root, path).read_bytes()
        with warnings.catch_warnings(action="ignore"):  # about the style of what is parsed
            tree = ast.parse(source, path)
    except SyntaxError as error:
        return Unparsed(path, f"{error.msg} (line {error.lineno})" if error.lineno else error.msg)
    except (OSError, ValueError, RecursionError, MemoryError) as error:  # unreadable, null bytes, nested too deeply
        return Unparsed(path, f"{type(error).__name__}: {error}")
    return summary(path, source, tree)


@component
async def PrintTables(finding: In[ModuleSummary | Unparsed], census: State[Census] = State(printed_census)) -> None:
    """Counts what arrives; its state prints the tables when the stream has ended."""
    census.value.add(finding)


def main() -> None:
    """Reads the command line, runs the graph, prints its report."""
    parser = argparse.ArgumentParser(description="A census of Python source files, on all cores.")
    parser.add_argument("--root", default=sysconfig.get_path("stdlib"), help="source tree (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--engine", default="processes", choices=("processes", "inline"))
    parser.add_argument("--top", type=int, default=10, help="rows of each table (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="files to read at most (default: all)")
    options = parser.parse_args()
    if not Path(options.root).is_dir():
        parser.error(f"--root: {options.root} is no folder")

    graph = Graph()
    graph.find = FindModules
    graph.parse = ParseModule * options.workers
    graph.tables = PrintTables

    graph.find.root < options.root
    graph.find.limit < options.limit
    graph.parse.root < options.root
    graph.tables.census < options.top

    graph.find.path >> graph.parse.path
    graph.parse.finding >> graph.tables.finding

    report = graph.run(num_workers=options.workers, engine=options.engine)
    print(f"\n{report.nodes['find'].sent:,} files found, {report.nodes['tables'].received:,} counted\n\n{report}")


main()
