"""What a worker takes over of the program: where it is, and what it has of `multiprocess` and `multiprocessing`.

A worker that the fork server forks is no process object of theirs. What such an object would bring along it is told
instead, as far as the program has loaded them: who has not has nothing that could be brought along.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

__all__ = ["authkeys", "join_trackers", "loaded", "settle_in", "surroundings", "take_authkeys", "trackers"]

_PACKAGES: Final = ("multiprocess", "multiprocessing")


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  # pathlib is not loaded yet
    except OSError:  # it was removed
        return ""


ORIGINAL_DIRECTORY: Final = _directory()
"""What "" in `sys.path` stands for: where the program was when it ran its first graph."""


def loaded(name: str) -> ModuleType | None:
    """A module that this program has imported to its end.

    `sys.modules` shows a module from the first line of its import on: while another thread imports it, it is there, and
    lacks what its later lines define. What the program has not imported to the end it has not used either.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is None or getattr(spec, "_initializing", False):  # private, in CPython 3.3 to 3.14
        return None
    return module


def authkeys() -> dict[str, bytes]:
    """Package -> the key that this process's managers were started with; proxies need it in workers."""
    found = {package: loaded(f"{package}.process") for package in _PACKAGES}
    return {package: bytes(module.current_process().authkey) for package, module in found.items() if module is not None}


def take_authkeys(keys: dict[str, bytes]) -> None:
    """Takes them over, in the worker."""
    for package, key in keys.items():
        importlib.import_module(package).current_process().authkey = key


def trackers() -> dict[str, int]:
    """Package -> an fd of the resource tracker that this program runs; workers share it.

    A worker that had one of its own would have it remove, at the worker's end, the shared memory that the program
    has made and the worker looked at. So a program that uses `multiprocessing.shared_memory` gets its tracker now, as
    it does when it starts a process of `multiprocessing`. Else none is started, since it would outlive the run.
    """
    found: dict[str, int] = {}
    for package in _PACKAGES:
        module = loaded(f"{package}.resource_tracker")
        if module is None:
            continue
        if package == "multiprocessing" and loaded(f"{package}.shared_memory") is not None:
            module.ensure_running()
        fd: int | None = module._resource_tracker._fd
        if fd is not None:
            found[package] = fd
    return found


def join_trackers(shared: dict[str, int]) -> None:
    """Has this worker use the trackers of the program, and none that it may have inherited.

    Args:
        shared: package -> an fd of its tracker.
    """
    for package in _PACKAGES:
        if package in shared or f"{package}.resource_tracker" in sys.modules:
            module = importlib.import_module(f"{package}.resource_tracker")
            module._resource_tracker._fd = shared.get(package)  # None: who needs one starts it


def surroundings(worker: str) -> dict[str, Any]:
    """What a worker of that name is told, in the words of `multiprocess.spawn`; `__main__` it never runs."""
    path = [each or ORIGINAL_DIRECTORY for each in sys.path]
    told: dict[str, Any] = {"sys_path": path, "sys_argv": sys.argv, "dir": None}
    with suppress(OSError):  # it may have been removed
        told["dir"] = os.getcwd()  # noqa: PTH109  # a text, as in `sys.path`
    context, process, util = (loaded(f"multiprocess.{name}") for name in ("context", "process", "util"))
    if context is not None and process is not None:
        told["name"] = worker
        if util is not None:
            told["log_to_stderr"] = util._log_to_stderr
            if util._logger is not None:
                told["log_level"] = util._logger.getEffectiveLevel()
        told["orig_dir"] = process.ORIGINAL_DIR
        told["start_method"] = context._default_context.get_start_method()
    return told


def settle_in(told: dict[str, Any]) -> None:
    """Makes this process stand where the program does."""
    if "start_method" in told:
        from multiprocess import spawn

        spawn.prepare({name: value for name, value in told.items() if value is not None})
        return
    sys.path[:] = told["sys_path"]
    sys.argv = told["sys_argv"]
    if told["dir"] is not None:
        os.chdir(told["dir"])
