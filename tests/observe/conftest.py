"""Puts the logger "cascata" and its children back as they were: what these tests change is global."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class _Before:
    handlers: list[logging.Handler]
    filters: list[object]
    level: int
    propagate: bool
    disabled: bool


def _family() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict
    names = [name for name in known if name.split(".")[0] == "cascata"]
    return [logging.root, *(each for name in names if isinstance(each := known[name], logging.Logger))]


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    before = {
        each: _Before(each.handlers[:], [*each.filters], each.level, each.propagate, each.disabled)
        for each in _family()
    }
    yield
    for each in _family():
        was = before.get(each, _Before([], [], logging.NOTSET, propagate=True, disabled=False))
        each.handlers[:] = was.handlers
        each.filters[:] = was.filters  # type: ignore[assignment]  # whatever logging's own type for them is
        each.setLevel(was.level)
        each.propagate = was.propagate
        each.disabled = was.disabled
    logging.disable(logging.NOTSET)
