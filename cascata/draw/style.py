"""Colours and the style sheet: one for light pages, the same for dark ones."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final

from .metrics import FONTS, MARK_SIZE, NAME_SIZE, PIN_SIZE

__all__ = ["LIGHT", "style_sheet", "worker_colour"]

LIGHT: Final[Mapping[str, str]] = {
    "page": "#fafbfd",
    "card": "#ffffff",
    "edge": "#c5cedb",
    "frame": "#f0f3f8",
    "text": "#1c2733",
    "soft": "#66758a",
    "wire": "#8b98aa",
    "live": "#0c7fb3",
    "warn": "#d1433f",
}
_DARK: Final[Mapping[str, str]] = {
    "page": "#141a22",
    "card": "#1e2631",
    "edge": "#465468",
    "frame": "#19212b",
    "text": "#e7ecf3",
    "soft": "#9aa9bc",
    "wire": "#76869b",
    "live": "#4db4e6",
    "warn": "#ff7a75",
}

# Each can be told from the others by most people, and read on both pages.
_WORKERS: Final = (
    "#4e79a7",
    "#e8852b",
    "#4f9a4a",
    "#d9544f",
    "#a574a0",
    "#4fa8a2",
    "#c9a227",
    "#e5768a",
    "#94694f",
    "#7d8a99",
)


def worker_colour(worker: int) -> str:
    """The colour of a worker, the same in every picture."""
    if worker < len(_WORKERS):
        return _WORKERS[worker]
    hue = (worker * 0.618033988749895) % 1.0  # the golden angle: the next hue is far from the ones before
    red, green, blue = (round(255 * each) for each in colorsys.hls_to_rgb(hue, 0.5, 0.5))
    return f"#{red:02x}{green:02x}{blue:02x}"


def style_sheet() -> str:
    """What the classes of a picture look like. All names begin with `cascata`, since pages have names of their own."""
    always = (
        f".cascata text{{font-family:{FONTS};dominant-baseline:auto}}"
        f".cascata .cascata-name{{font-size:{NAME_SIZE:g}px;font-weight:600}}"
        f".cascata .cascata-small{{font-size:{PIN_SIZE:g}px}}"
        f".cascata .cascata-mark{{font-size:{MARK_SIZE:g}px}}"
        ".cascata .cascata-strong{font-weight:600}"
        ".cascata .cascata-wire{fill:none;stroke-width:1.6}"
        ".cascata .cascata-sampled{stroke-dasharray:5 4}"
        ".cascata .cascata-near{fill:none;stroke:transparent;stroke-width:12}"
        ".cascata .cascata-link:hover .cascata-wire{stroke-width:3}"
    )
    return f"{always}{_colours(LIGHT)}@media (prefers-color-scheme:dark){{{_colours(_DARK)}}}"


def _colours(of: Mapping[str, str]) -> str:
    rules = {
        "page": f"fill:{of['page']}",
        "card": f"fill:{of['card']};stroke:{of['edge']}",
        "frame": f"fill:{of['frame']};stroke:{of['edge']}",
        "rule": f"stroke:{of['edge']}",
        "text": f"fill:{of['text']}",
        "soft": f"fill:{of['soft']}",
        "warning": f"fill:{of['warn']}",
        "wire": f"stroke:{of['wire']}",
        "tip": f"fill:{of['wire']}",
        "label": f"fill:{of['page']};stroke:{of['wire']}",
        "count": f"fill:{of['live']}",
        "pin": f"fill:{of['live']};stroke:{of['card']}",
        "ring": f"fill:{of['card']};stroke:{of['live']}",
        "idle": f"fill:{of['card']};stroke:{of['wire']}",
        "unfed": f"fill:{of['card']};stroke:{of['warn']}",
        "sign": f"fill:none;stroke:{of['live']}",
    }
    return "".join(f".cascata .cascata-{name}{{{rule}}}" for name, rule in rules.items())
