"""Run as a script: tries to send each thing that belongs to its process from each place, and prints what came of it.

No worker is started: what is refused is refused before. Prints a JSON object: kind -> place -> [type of the error, its
`type`, its text], or the word "sent".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cascata import Graph
from cascata.engine.worker import definitions
from cascata.errors import SerializationError
from cascata.model import ChannelSpec, EdgeSpec
from cascata.transport.codec.encode import Encoder
from cascata.transport.ends.item_errors import unsendable
from cascata.transport.linux.large_items import IN_FILES, Messages
from cascata.transport.linux.messages import INLINE_LIMIT
from cascata.transport.tcp.stream_frames import FramesOfItems

MAKE = {
    "text file": 'open("kept.txt", "w")',
    "text file that is read": 'open("read.txt")',
    "binary file": 'open("kept.txt", "wb")',
    "file for appending": 'open("kept.txt", "a")',
    "file for both": 'open("read.txt", "r+")',
    "raw file": 'open("read.txt", "rb", buffering=0)',
    "temporary file": "tempfile.TemporaryFile()",
    "named temporary file": "tempfile.NamedTemporaryFile()",
    "gzip": 'gzip.open("kept.gz", "w")',
    "gzip text": 'gzip.open("kept.gz", "wt")',
    "bz2": 'bz2.open("kept.bz2", "w")',
    "lzma": 'lzma.open("kept.xz", "w")',
    "zip": 'zipfile.ZipFile("kept.zip", "w")',
    "tar": 'tarfile.open("kept.tar", "w")',
    "csv writer": 'csv.writer(open("kept.csv", "w"))',
    "csv dict writer": 'csv.DictWriter(open("kept.csv", "w"), ["a"])',
    "file handler": 'logging.FileHandler("kept.log")',
    "shelf": 'shelve.open("shelf")',
    "lock": "threading.Lock()",
    "rlock": "threading.RLock()",
    "condition": "threading.Condition()",
    "event": "threading.Event()",
    "semaphore": "threading.Semaphore()",
    "barrier": "threading.Barrier(2)",
    "local": "threading.local()",
    "thread": "threading.Thread(target=print)",
    "timer": "threading.Timer(1, print)",
    "queue": "queue.Queue()",
    "simple queue": "queue.SimpleQueue()",
    "priority queue": "queue.PriorityQueue()",
    "asyncio lock": "asyncio.Lock()",
    "asyncio event": "asyncio.Event()",
    "asyncio condition": "asyncio.Condition()",
    "asyncio semaphore": "asyncio.BoundedSemaphore()",
    "asyncio queue": "asyncio.Queue()",
    "asyncio future": "LOOP.create_future()",
    "event loop": "LOOP",
    "process": 'multiprocessing.get_context("spawn").Process(target=print)',
    "process of multiprocess": 'multiprocess.get_context("spawn").Process(target=print)',
    "process lock": 'multiprocessing.get_context("spawn").Lock()',
    "process queue": 'multiprocess.get_context("spawn").Queue()',
    "connection": "multiprocessing.Pipe()[0]",
    "connection of multiprocess": "multiprocess.Pipe()[0]",
    "thread pool": "concurrent.futures.ThreadPoolExecutor(1)",
    "future": "concurrent.futures.Future()",
    "subprocess": "SUBPROCESS",
    "socket": "socket.socket()",
    "tls context": "ssl.create_default_context()",
    "selector": "selectors.DefaultSelector()",
    "database": 'sqlite3.connect(":memory:")',
    "cursor": 'sqlite3.connect(":memory:").cursor()',
    "mapped memory": "mmap.mmap(-1, 10)",
}

GENERATORS = {"generator": "(each for each in ())", "context variable": 'contextvars.ContextVar("name")'}

PLACES = {
    "global": """
THING = {make}
@component
async def Uses():
    print(THING)
graph.uses = Uses
""",
    "attribute of a global": """
class Log:
    def __init__(self):
        self.parts = [1, {{"thing": {make}}}]
class Settings:
    def __init__(self):
        self.log = Log()
SETTINGS = Settings()
def helper():
    return SETTINGS.log
@component
async def Uses():
    print(helper())
graph.uses = Uses
""",
    "closure": """
def made():
    thing = {make}
    @component
    async def Uses():
        print(thing)
    return Uses
graph.uses = made()
""",
    "default": """
@component
async def Uses(item: In = {make}):
    print(item)
graph.uses = Uses
""",
    "constant": """
@component
async def Uses(item: In):
    print(item)
graph.uses = Uses
graph.uses.item < [1, {make}]
""",
    "argument of a state": """
@component
async def Uses(kept: State = State(dict)):
    print(kept.value)
graph.uses = Uses
graph.uses.kept < {{"thing": {make}}}
""",
    "attribute of a class": """
class Kept:
    thing = {make}
@component
async def Uses():
    print(Kept.thing)
graph.uses = Uses
""",
    "not used": """
THING = {make}
def uses_it():
    print(THING)
class Kept:
    def keep(self):
        print(THING)
@component
async def Uses():
    print(Kept)
graph.uses = Uses
""",
    "left out of its state": """
class Kept:
    def __init__(self):
        self.thing = {make}
    def __getstate__(self):
        return {{"number": 1}}
KEPT = Kept()
@component
async def Uses():
    print(KEPT)
graph.uses = Uses
""",
}

IMPORTS = """
import asyncio, bz2, concurrent.futures, contextvars, csv, gzip, io, logging, lzma, mmap, multiprocessing, multiprocess
import queue, selectors, shelve, socket, sqlite3, ssl, subprocess, sys, tarfile, tempfile, threading, zipfile
from cascata import *
"""


def outcome(error: BaseException | None) -> object:
    """What to tell of it."""
    if error is None:
        return "sent"
    assert isinstance(error, SerializationError), error
    return [type(error).__name__, error.type, str(error)]


def from_place(text: str) -> object:
    """Dumps the definitions of a graph that the text makes in `__main__`."""
    names = vars(sys.modules["__main__"])
    names["graph"] = Graph()
    exec(text, names)  # noqa: S102  # texts of this file
    try:
        definitions.dump(names["graph"].resolve())
    except SerializationError as error:
        return outcome(error)
    return outcome(None)


def as_item(make: str, wrap: str, tcp: bool) -> object:
    """Makes a frame of an item."""
    thing = eval(make, vars(sys.modules["__main__"]))  # noqa: S307  # as above
    item = {"rows": [thing]} if wrap else thing
    graph = Graph()
    exec(  # noqa: S102
        "@component\nasync def A(o: Out):\n    pass\n@component\nasync def B(i: In):\n    pass\n"
        "graph.a, graph.b = A, B\ngraph.a.o >> graph.b.i\n",
        vars(sys.modules["__main__"]) | {"graph": graph},
    )
    spec = graph.resolve()
    edge: EdgeSpec = spec.edges[0]
    channel: ChannelSpec = spec.channels[0]
    errors: list[BaseException] = []

    def bad(item: object, problem: BaseException) -> None:
        errors.append(unsendable(edge, channel, item, problem))

    framing: Any = FramesOfItems(0, shared=False) if tcp else Messages(0, INLINE_LIMIT, IN_FILES)
    made = Encoder(framing).encode(3, [1, item, 2], bad)
    if not isinstance(made, bytes):
        for _ in made:
            pass
    return outcome(errors[0] if errors else None)


def main() -> None:
    """Tries all."""
    Path("kept.txt").write_text("kept", "utf-8")
    Path("read.txt").write_text("kept", "utf-8")
    names = vars(sys.modules["__main__"])
    exec(IMPORTS, names)  # noqa: S102
    names["LOOP"] = names["asyncio"].new_event_loop()
    names["SUBPROCESS"] = names["subprocess"].Popen(["true"], stdin=-1, stdout=-1)
    told: dict[str, dict[str, object]] = {}
    for kind, make in (MAKE | GENERATORS).items():
        told[kind] = {place: from_place(text.format(make=make)) for place, text in PLACES.items()}
        for tcp in (False, True):
            told[kind][f"item{' of TCP' * tcp}"] = as_item(make, "", tcp)
            told[kind][f"in an item{' of TCP' * tcp}"] = as_item(make, "rows", tcp)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
