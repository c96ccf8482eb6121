"""How wide a text is, without asking a font: viewers have their own, and DejaVu Sans is the widest of the usual ones.

Texts are measured in it, so that they fit whatever font shows them.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["FONTS", "MARK_SIZE", "NAME_SIZE", "PIN_SIZE", "text_width"]

NAME_SIZE: Final = 13.0
PIN_SIZE: Final = 11.0
MARK_SIZE: Final = 10.0
"""Sizes of text, in pixels: of names of units, of ports and components, of what is written on links."""

FONTS: Final = (
    "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', 'Noto Sans', Ubuntu, Verdana, "
    "'DejaVu Sans', FreeSans, sans-serif"
)

# Hundredths of the font's size, from space to tilde.
_PLAIN: Final = (
    "32 40 46 84 64 95 78 27 39 39 50 84 32 36 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 53 "
    "100 68 69 70 77 63 58 77 75 29 29 66 56 86 75 79 60 79 69 63 61 73 68 99 69 61 69 39 34 39 84 50 "
    "50 61 63 55 63 62 35 63 63 28 28 58 28 97 63 61 63 63 41 52 39 63 59 82 59 59 52 64 34 64 84"
)
_WIDTHS: Final = {chr(32 + index): int(width) / 100 for index, width in enumerate(_PLAIN.split())}
_BOLDER: Final = 1.12
_OTHER: Final = 0.7
_FULL: Final = 1.0


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The width of a text in pixels, rather too wide than too narrow.

    Args:
        text: one line.
        size: of the font, in pixels.
        bold: whether it is set in bold.
    """
    width = sum(map(_width, text)) * size
    return width * _BOLDER if bold else width


def _width(character: str) -> float:
    known = _WIDTHS.get(character)
    if known is not None:
        return known
    if unicodedata.combining(character):
        return 0.0
    return _FULL if unicodedata.east_asian_width(character) in "WF" else _OTHER
