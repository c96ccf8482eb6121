"""Reads pictures."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

__all__ = ["hints", "parsed", "size", "texts"]

_SVG: Final = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    """An XML text. Raises an error when it is none."""
    return ET.fromstring(text)  # noqa: S314  # a text of our own


def texts(picture: str) -> list[str]:
    """What stands in an SVG."""
    return ["".join(each.itertext()) for each in parsed(picture).iter(f"{_SVG}text")]


def hints(picture: str) -> list[str]:
    """What an SVG shows when the pointer rests on something."""
    return ["".join(each.itertext()) for each in parsed(picture).iter(f"{_SVG}title")]


def size(picture: str) -> tuple[float, float]:
    """Width and height of an SVG, in pixels."""
    root = parsed(picture)
    assert root.tag == f"{_SVG}svg"
    return float(root.attrib["width"]), float(root.attrib["height"])
