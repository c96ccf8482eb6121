"""Pictures in files, and in notebooks."""

from __future__ import annotations

import functools
import re
from os import PathLike
from pathlib import Path
from typing import Final

from ..errors import CascataError, DefinitionError
from ..model import GraphSpec, Plan
from .metrics import FONTS
from .svg import svg

__all__ = ["Drawing", "draw"]

_ZOOM: Final = 2
"""Pixels of a PNG for one of the SVG: sharp on today's screens and in print."""

_PROBE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8">'
    f'<text y="8" font-size="9" font-family="{FONTS}">{{}}</text></svg>'
)


class Drawing(str):
    """A picture: the text of an SVG, which notebooks show as a picture."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        size = re.search(r'width="([\d.]+)" height="([\d.]+)"', self)
        return f"<drawing of {f'{size[1]} x {size[2]}' if size else 'unknown size'}: print it, or give draw() a file>"


def draw(spec: GraphSpec, plan: Plan | None = None, file: str | PathLike[str] | None = None) -> Drawing:
    """Draws a graph, into a file if there is one.

    Args:
        spec: the resolved graph.
        plan: of this graph; nodes are coloured by worker.
        file: ends in .svg or .png; None: no file.

    Returns:
        The SVG, whatever the file holds.

    Raises:
        DefinitionError: the file's name ends otherwise, or the plan is of another graph.
        CascataError: a PNG is asked for, and the package for it or a font is missing.
        OSError: the file cannot be written.
    """
    path = None if file is None else Path(file)
    kind = "" if path is None else path.suffix.lower()
    if path is not None and kind not in {".svg", ".png"}:
        raise DefinitionError(
            f"graph.draw({str(path)!r}): a picture is written as .svg or .png. For Graphviz there is graph.to_dot(), "
            "for Mermaid graph.to_mermaid()."
        )
    picture = Drawing(svg(spec, plan))
    if path is not None and kind == ".svg":
        path.write_text(picture, "utf-8")
    elif path is not None:
        path.write_bytes(_png(picture, path))
    return picture


def _png(picture: str, path: Path) -> bytes:
    try:
        import resvg_py
    except ImportError as error:
        raise CascataError(
            f"graph.draw({str(path)!r}): a PNG needs the package resvg-py: pip install 'cascata[draw]'. "
            "An SVG needs nothing: write to a file that ends in .svg."
        ) from error
    if not _has_fonts():
        raise CascataError(
            f"graph.draw({str(path)!r}): none of the usual fonts is on this machine, so that a PNG would have no text. "
            "Install one (Debian: fonts-dejavu-core), or write an SVG, whose text is drawn by its viewer."
        )
    return bytes(resvg_py.svg_to_bytes(svg_string=str(picture), zoom=_ZOOM))


@functools.cache
def _has_fonts() -> bool:
    """Whether a text leaves a trace. Without fonts, the renderer draws everything else and says nothing."""
    import resvg_py

    one, other = (resvg_py.svg_to_bytes(svg_string=_PROBE.format(text)) for text in ("", "M"))
    return bytes(one) != bytes(other)
