"""A figure's JSON as an SVG element in one language, for a wide page or a narrow one.

From the top: what the y axis shows, the marks, ticks, what the x axis shows, the legend. Nothing
lies on the marks. Text is text in the page's font; colours are safe for colour-blind readers, dash
and marker tell the lines apart as well. The page's script reads exact values through `data-axes`:
the axes' box, their limits and scales.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from fathom.book import shapes
from fathom.book.lettering import LINE, SIZE, raised, width, wrap
from fathom.book.scale import Scale, values_of, words
from fathom.book.shapes import Frame, Told
from fathom.train.pictures import cividis

WIDE, NARROW = 640.0, 340.0  # of the page the figure is drawn for, in pixels
GAP = 14.0  # between entries of the legend; the margin on the right


def svg(told: Told, language: str, page: float = WIDE) -> str:
    """The SVG element of a figure's JSON on a page so many pixels wide."""
    x, y = _scale(told, "x"), _scale(told, "y")
    height = 0.46 * page if page >= WIDE else 0.62 * page
    named = _named_ticks(told["y"], y, language, round(height / 45))
    rows = [(value, wrap(text, 0.36 * page, SIZE)) for value, text in named]
    left = max((width(line, SIZE) for _, lines in rows for line in lines), default=0.0) + 9
    columns, angle, left = _columns(told, x, language, page, left)
    heading = wrap(raised(told["y"]["label"][language]), page, SIZE)
    top = LINE * len(heading) + 9
    frame = Frame(left, top, page - GAP, top + height, x, y)
    parts = [shapes.text(0, LINE * (i + 0.75), line) for i, line in enumerate(heading)]
    parts += _grid(told, frame, rows, [value for value, _ in columns])
    parts += shapes.drawn(told["marks"], frame)
    drawn, below = _under(frame, columns, angle)
    parts += drawn
    for line in wrap(raised(told["x"]["label"][language]), page - left, SIZE):
        below += LINE
        middle = (frame.left + frame.right) / 2
        parts.append(shapes.text(_inside(middle, line, page), below, line, "middle"))
    drawn, below = _legend(told["marks"], language, page, below + 8)
    parts += drawn
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {page:g} {below + 4:g}' "
        f"aria-hidden='true' font-family='system-ui, sans-serif' font-size='{SIZE}' "
        f"fill='currentColor' data-axes='{_box(frame)}'>" + "\n".join(parts) + "</svg>"
    )


def _scale(told: Told, axis: str) -> Scale:
    """Limits from all that is drawn; named ticks have a place of their own each."""
    marks = told["marks"]
    heat = any(mark["mark"] == "heat" for mark in marks)
    bars = any(mark["mark"] == "bars" for mark in marks)
    names = ("x",) if axis == "x" else ("y", "low", "high")
    found = values_of(*(mark.get(name) for mark in marks for name in names))
    log = bool(told[axis]["log"])
    if heat:
        found = found[np.isfinite(found)]
        return Scale(float(found.min()), float(found.max()), log)
    if told[axis]["ticks"]:
        found = np.append(found, np.arange(len(told[axis]["ticks"])))
        if axis == "y" or bars:
            return Scale(-0.5, len(told[axis]["ticks"]) - 0.5)
    return Scale.around(found, log, bars=bars and axis == "y")


def _named_ticks(axis: Told, scale: Scale, language: str, most: int) -> list[tuple[float, str]]:
    if axis["ticks"]:
        return [(float(i), raised(tick[language])) for i, tick in enumerate(axis["ticks"])]
    places = scale.ticks(most)
    return list(zip(places, words(places), strict=True))


Column: TypeAlias = tuple[float, list[str]]


def _columns(
    told: Told, scale: Scale, language: str, page: float, left: float
) -> tuple[list[Column], float, float]:
    """Ticks of the x axis as lines of text, the angle they stand at, and the left margin."""
    room = page - GAP - left
    if told["x"]["ticks"]:
        named = _named_ticks(told["x"], scale, language, 0)
        slot = room / (scale.high - scale.low)
        cells = [(value, wrap(text, slot - 5, SIZE)) for value, text in named]
        if all(width(line, SIZE) <= slot - 5 for _, lines in cells for line in lines):
            return cells, 0.0, left
        angle = 40.0 if slot >= 26 else 70.0
        slant = math.cos(math.radians(angle))
        reach = 8 + max(slant * width(t, SIZE) - float(scale.at(v)) * room for v, t in named)
        return [(value, [text]) for value, text in named], angle, max(left, reach)
    for places in (_measured(told, scale), *(scale.ticks(most) for most in range(8, 1, -1))):
        named = list(zip(places, words(places), strict=True))
        if len(named) > 1 and _fit(named, scale, room):
            break
    return [(value, [text]) for value, text in named], 0.0, left


def _measured(told: Told, scale: Scale) -> list[float]:
    """Where a line has few points at short numbers: better ticks than round ones."""
    lines = [values_of(mark["x"]) for mark in told["marks"] if mark["mark"] == "line"]
    if not lines:
        return []
    found = np.concatenate(lines)
    places: list[float] = np.unique(found[scale.known(found)]).tolist()
    few = len(places) <= min(9, max(map(len, lines)))
    return places if few and all(len(text) <= 5 for text in words(places)) else []


def _fit(named: Sequence[tuple[float, str]], scale: Scale, room: float) -> bool:
    """Whether the words of neighbouring ticks keep apart."""
    wide = np.array([width(text, SIZE) + 12 for _, text in named])
    apart = np.diff(scale.at([value for value, _ in named])) * room
    return bool((apart >= (wide[1:] + wide[:-1]) / 2).all())


def _grid(
    told: Told, frame: Frame, rows: Sequence[Column], columns: Sequence[float]
) -> Iterator[str]:
    for value, lines in rows:
        y = float(frame.down(value))
        middle = y + 0.36 * SIZE - LINE * (len(lines) - 1) / 2
        for i, line in enumerate(lines):
            yield shapes.text(frame.left - 7, middle + LINE * i, line, "end")
    across = [float(frame.down(value)) for value, _ in rows] if not told["y"]["ticks"] else []
    along = [float(frame.across(value)) for value in columns] if not told["x"]["ticks"] else []
    ruled = "".join(f"M{frame.left:.1f} {y:.1f}H{frame.right:.1f}" for y in across)
    ruled += "".join(f"M{x:.1f} {frame.top:.1f}V{frame.bottom:.1f}" for x in along)
    yield f"<path d='{ruled}' stroke='#8a93a0' stroke-opacity='.25' fill='none'/>"
    if frame.y.low < 0 < frame.y.high and any(m["mark"] == "bars" for m in told["marks"]):
        ruled = f"M{frame.left:.1f} {float(frame.down(0.0)):.1f}H{frame.right:.1f}"
        yield f"<path d='{ruled}' stroke='currentColor' stroke-opacity='.6'/>"
    corner = f"M{frame.left:.1f} {frame.top:.1f}V{frame.bottom:.1f}H{frame.right:.1f}"
    yield f"<path d='{corner}' stroke='currentColor' fill='none'/>"


def _under(frame: Frame, columns: Sequence[Column], angle: float) -> tuple[list[str], float]:
    """The ticks' words below the axes, and how far down they reach."""
    parts, floor = [], frame.bottom + LINE
    for value, lines in columns:
        x = float(frame.across(value))
        if angle:
            turn = f" transform='rotate({-angle:g} {x:.1f} {floor - 4:.1f})'"
            parts.append(shapes.text(x, floor, lines[0], "end", turn))
            continue
        for i, line in enumerate(lines):
            place = _inside(x, line, frame.right + GAP)
            parts.append(shapes.text(place, floor + LINE * i, line, "middle"))
    if angle:
        longest = max(width(lines[0], SIZE) for _, lines in columns)
        return parts, floor + math.sin(math.radians(angle)) * longest
    return parts, floor + LINE * (max((len(lines) for _, lines in columns), default=1) - 1) + 4


def _inside(middle: float, line: str, page: float) -> float:
    half = width(line, SIZE) / 2
    return max(half, min(middle, page - half))


def _legend(
    marks: Sequence[Told], language: str, page: float, top: float
) -> tuple[list[str], float]:
    """Entries in rows, as many as fit each; and how far down they reach."""
    parts: list[str] = []
    x, y, bars = 0.0, top, 0
    for mark, (colour, i) in zip(marks, shapes.series(marks), strict=True):
        sample, wide = _sample(mark, colour, i, bars)
        bars += mark["mark"] == "bars"
        name = raised(mark["name"][language])
        if not name:
            continue
        lines = wrap(name, page - wide - 6, SIZE)
        full = wide + 6 + max(width(line, SIZE) for line in lines)
        if x and x + full > page:
            x, y = 0.0, y + LINE + 3
        parts.append(f"<g transform='translate({x:.1f} {y + LINE - 4:.1f})'>{sample}</g>")
        for k, line in enumerate(lines):
            parts.append(shapes.text(x + wide + 6, y + LINE * (k + 1), line))
        x += full + GAP
        if len(lines) > 1:
            x, y = 0.0, y + LINE * len(lines) + 3
    return parts, y + LINE + 3 if x else y


def _sample(mark: Told, colour: str, i: int, bars: int) -> tuple[str, float]:
    """What a mark looks like, around a height of 0, and how wide that is."""
    if mark["mark"] == "heat":
        return _ramp(mark)
    if mark["mark"] == "bars":
        return f"<path d='M0-5h16v10h-16z' {shapes.fill(colour, bars)}/>", 16.0
    if mark["mark"] == "level":
        return f"<path d='M0 0H30' {shapes.rule(shapes.LEVELS[i % len(shapes.LEVELS)])}/>", 30.0
    marker = f"<path d='M15 0{shapes.MARKERS[i]}' fill='{colour}'/>"
    if mark["points"]:
        return marker, 30.0
    line = f"<path d='M0 0H30' {shapes.stroke(colour, i)}/>"
    return line + (marker if len(mark["x"]) <= 24 else ""), 30.0


def _ramp(mark: Told) -> tuple[str, float]:
    values = values_of(mark["values"])
    low, high = shapes.short(np.nanmin(values)), shapes.short(np.nanmax(values))
    at = width(low, SIZE) + 4
    picture = shapes.image(at, -6, 90, 12, cividis(np.linspace(0.0, 1.0, 45)[None]))
    wide = at + 94 + width(high, SIZE)
    return shapes.text(0, 4, low) + picture + shapes.text(at + 94, 4, high), wide


def _box(frame: Frame) -> str:
    """Where the axes lie (pixels from the top left), their limits and scales."""
    return json.dumps(
        {
            "box": [round(v, 2) for v in (frame.left, frame.top, frame.right, frame.bottom)],
            "x": [frame.x.low, frame.x.high],
            "y": [frame.y.low, frame.y.high],
            "log": [frame.x.log, frame.y.log],
        }
    )
