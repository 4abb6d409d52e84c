"""The marks of a figure as SVG: lines, bars, heat and levels within a frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

import numpy as np

from fathom.book.lettering import LINE, SIZE, width
from fathom.book.scale import Array, Scale, values_of
from fathom.train.pictures import cividis, png

COLOURS = ("#2f7fc1", "#d1660a", "#2e9e6b", "#b04a9c", "#8a6d1f", "#5b5bd6", "#c23b4a", "#4a9aa8")
DASHES = ("", "8 4", "9 3 2 3", "2 3", "14 3", "5 2 1 2 1 2", "1 4", "18 5")
LEVELS = ("5 4", "1 3", "9 3 1 3", "14 4")
SOLID = (0.9, 0.5, 0.72, 0.35)  # how solid bars of one tick are, one after the other
MARKERS = (
    "m-3,0a3,3 0 1 0 6,0a3,3 0 1 0 -6,0", "m-2.7,-2.7h5.4v5.4h-5.4z", "m0,-3.6l3.3,6h-6.6z",
    "m0,-3.8l3.8,3.8l-3.8,3.8l-3.8,-3.8z", "m0,3.6l3.3,-6h-6.6z",
    "m-3.4,-1.1h2.3v-2.3h2.2v2.3h2.3v2.2h-2.3v2.3h-2.2v-2.3h-2.3z",
    "m-3.2,-3.2l6.4,0l-6.4,6.4l6.4,0z", "m0,-4l1.3,2.7h2.7l-2.3,1.8l1,3l-2.7,-1.9l-2.7,1.9l1,-3z",
)  # fmt: skip

Told: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Frame:
    """Where the axes lie on the page, and what they measure."""

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale

    def across(self, values: Any) -> Array:
        """Places from the left."""
        return self.left + self.x.at(values) * (self.right - self.left)

    def down(self, values: Any) -> Array:
        """Places from the top."""
        return self.bottom - self.y.at(values) * (self.bottom - self.top)


def drawn(marks: Sequence[Told], frame: Frame) -> Iterator[str]:
    """Heat below everything, levels and lines above bars."""
    bars = [mark for mark in marks if mark["mark"] == "bars"]
    halo = any(mark["mark"] == "heat" for mark in marks)
    layers = []
    for mark, (colour, i) in zip(marks, series(marks), strict=True):
        if mark["mark"] == "line":
            layers.append((3, _line(mark, frame, colour, i, halo)))
        elif mark["mark"] == "bars":
            layers.append((1, _bars(mark, frame, colour, bars.index(mark), len(bars))))
        elif mark["mark"] == "heat":
            layers.append((0, _heat(mark, frame)))
        else:
            layers.append((2, _level(mark, frame, LEVELS[i % len(LEVELS)])))
    for _, layer in sorted(layers, key=lambda pair: pair[0]):
        yield layer


def series(marks: Sequence[Told]) -> Iterator[tuple[str, int]]:
    """A colour and a number for each mark: levels are counted apart, heat is not counted."""
    counts = {True: 0, False: 0}
    for mark in marks:
        level = mark["mark"] == "level"
        yield COLOURS[counts[level] % len(COLOURS)], counts[level] % len(COLOURS)
        counts[level] += mark["mark"] != "heat"


def _line(mark: Told, frame: Frame, colour: str, i: int, halo: bool) -> str:
    x, y = frame.across(values_of(mark["x"])), frame.down(values_of(mark["y"]))
    found = ""
    if mark["low"] is not None:
        found = _band(x, frame, mark, colour)
    runs = _runs(np.isfinite(x) & np.isfinite(y))
    if not mark["points"]:
        d = "".join("M" + "L".join(_pair(x[k], y[k]) for k in run) for run in runs)
        if halo:
            found += f"<path d='{d}' stroke='#fff' stroke-width='5' fill='none'/>"
        found += f"<path d='{d}' {stroke(colour, i)}/>"
    if mark["points"] or len(x) <= 24:
        d = "".join(f"M{_pair(x[k], y[k])}{MARKERS[i]}" for run in runs for k in run)
        large = f" stroke='{colour}' stroke-width='3'" if mark["points"] and len(x) <= 24 else ""
        faint = " fill-opacity='.7'" if mark["points"] and not large else ""
        found += f"<path d='{d}' fill='{colour}'{large}{faint}/>"
    return found


def _band(x: Array, frame: Frame, mark: Told, colour: str) -> str:
    low, high = (frame.down(values_of(mark[name])) for name in ("low", "high"))
    low = np.where(np.isnan(low) & np.isfinite(high), frame.bottom, low)  # below a log axis
    runs = _runs(np.isfinite(x) & np.isfinite(low) & np.isfinite(high))
    d = ""
    for run in runs:
        there = [_pair(x[k], high[k]) for k in run]
        d += "M" + "L".join(there + [_pair(x[k], low[k]) for k in reversed(run)]) + "Z"
    return f"<path d='{d}' fill='{colour}' fill-opacity='.16'/>"


def _runs(known: Any) -> list[range]:
    """Stretches of neighbours that are there.

    >>> _runs([True, True, False, True])
    [range(0, 2), range(3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(known, int), [0]])))
    return [range(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _bars(mark: Told, frame: Frame, colour: str, at: int, many: int) -> str:
    y = values_of(mark["y"])
    half = 0.4 / many
    middles = np.arange(len(y)) + (2 * at - (many - 1)) * half
    left, right = frame.across(middles - 0.94 * half), frame.across(middles + 0.94 * half)
    ends = frame.down(y)
    foot = frame.bottom if frame.y.log else float(frame.down(0.0))
    d = "".join(
        f"M{_pair(left[k], foot)}V{ends[k]:.1f}H{right[k]:.1f}V{foot:.1f}Z"
        for k in np.flatnonzero(np.isfinite(ends))
    )
    found = f"<path d='{d}' {fill(colour, at)}/>"
    if mark["low"] is not None:
        found += _whiskers(frame, mark, frame.across(middles))
    return found


def _whiskers(frame: Frame, mark: Told, x: Array) -> str:
    low, high = (frame.down(values_of(mark[name])) for name in ("low", "high"))
    low = np.where(np.isnan(low), frame.bottom, low)
    d = "".join(
        f"M{x[k] - 3:.1f} {high[k]:.1f}h6m-3 0V{low[k]:.1f}m-3 0h6"
        for k in np.flatnonzero(np.isfinite(high))
    )
    return f"<path d='{d}' stroke='currentColor' stroke-width='1.2' fill='none'/>"


def _heat(mark: Told, frame: Frame) -> str:
    values = np.array([values_of(row) for row in mark["values"]])
    share = _share(values)
    left, right = frame.across(mark["x"])
    bottom, top = frame.down(mark["y"])
    high, wide = (bottom - top) / len(values), (right - left) / values.shape[1]
    found = image(left, top, right - left, bottom - top, cividis(share[::-1]))
    said = {(i, j): short(values[i, j]) for i, j in np.argwhere(np.isfinite(values)).tolist()}
    if high < LINE or max(width(words, SIZE) for words in said.values()) > wide - 4:
        return found
    for (i, j), words in said.items():
        ink = "#000" if share[i, j] > 0.5 else "#fff"
        place = left + (j + 0.5) * wide, bottom - (i + 0.5) * high + 4
        found += text(*place, words, "middle", f" fill='{ink}'")
    return found


def _share(values: Array) -> Array:
    """Values as shares of the way from the smallest to the largest."""
    low, high = np.nanmin(values), np.nanmax(values)
    share: Array = (values - low) / ((high - low) or 1.0)
    return share


def _level(mark: Told, frame: Frame, dash: str) -> str:
    if mark["y"] is not None:
        d = f"M{frame.left:.1f} {float(frame.down(mark['y'])):.1f}H{frame.right:.1f}"
    else:
        d = f"M{float(frame.across(mark['x'])):.1f} {frame.top:.1f}V{frame.bottom:.1f}"
    return f"<path d='{d}' {rule(dash)}/>"


def image(x: float, y: float, wide: float, high: float, pixels: Any) -> str:
    """Pixels (rows, columns, 3) stretched over a rectangle."""
    return (
        f"<image x='{x:.1f}' y='{y:.1f}' width='{wide:.1f}' height='{high:.1f}' "
        f"preserveAspectRatio='none' style='image-rendering:pixelated' href='{png(pixels)}'/>"
    )


def stroke(colour: str, i: int) -> str:
    """The strokes of a series of lines."""
    dash = f" stroke-dasharray='{DASHES[i]}'" if DASHES[i] else ""
    return f"stroke='{colour}' stroke-width='2' stroke-linejoin='round' fill='none'{dash}"


def rule(dash: str) -> str:
    """The strokes of a level."""
    return f"stroke='currentColor' stroke-width='1.3' stroke-dasharray='{dash}' fill='none'"


def fill(colour: str, i: int) -> str:
    """What fills the bars of a series."""
    return f"fill='{colour}' fill-opacity='{SOLID[i % len(SOLID)]}' stroke='{colour}'"


def text(x: float, y: float, words: str, anchor: str = "", more: str = "") -> str:
    """Words at a place; `more` holds further attributes."""
    held = f" text-anchor='{anchor}'" if anchor else ""
    return f"<text x='{x:.1f}' y='{y:.1f}'{held}{more}>{escape(words)}</text>"


def _pair(x: float, y: float) -> str:
    return f"{x:.1f} {y:.1f}"


def short(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}".replace("-", "−")
