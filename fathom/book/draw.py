"""A figure's JSON as an SVG element in one language, and where its axes lie.

Colours are safe for colour-blind readers; dash and marker tell the lines apart as well. The
page's script reads exact values through `data-axes`: pixel box, limits and scale of both axes.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np

from fathom.train._figures import INK, STYLE, inline

COLOURS = ("#2f7fc1", "#d1660a", "#2e9e6b", "#b04a9c", "#8a6d1f", "#5b5bd6", "#c23b4a", "#4a9aa8")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 2)), (0, (7, 2)))
MARKERS = "os^DvPX*"


def svg(told: dict[str, Any], language: str, prefix: str) -> str:
    """The SVG element of a figure's JSON. `prefix` makes its ids the only ones on a page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"axes.unicode_minus": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(6.4, 3.9), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.subplots()
        axes.patch.set_alpha(0.0)
        _draw(axes, told, language)
        drawn = str(inline(figure, prefix))  # lays the axes out, too
        return drawn.replace("<svg ", f"<svg data-axes='{_box(figure, axes, told)}' ", 1)


def _draw(axes: Any, told: dict[str, Any], language: str) -> None:
    marks = told["marks"]
    bars = [mark for mark in marks if mark["mark"] == "bars"]
    colour = 0
    for mark in marks:
        name = mark["name"][language]
        if mark["mark"] == "line":
            _line(axes, mark, name, colour)
        elif mark["mark"] == "bars":
            _bars(axes, mark, name, colour, bars.index(mark), len(bars))
        elif mark["mark"] == "heat":
            _heat(axes, mark, name)
        elif mark["y"] is not None:
            axes.axhline(mark["y"], color=INK, ls=":", lw=1.2, label=name)
        else:
            axes.axvline(mark["x"], color=INK, ls=":", lw=1.2, label=name)
        colour += mark["mark"] in ("line", "bars")
    axes.set_xlabel(told["x"]["label"][language])
    axes.set_ylabel(told["y"]["label"][language])
    for axis, which in (("x", axes.set_xscale), ("y", axes.set_yscale)):
        if told[axis]["log"]:
            which("log")
    ticks = [tick[language] for tick in told["x"]["ticks"]]
    if ticks:
        wide = max(map(len, ticks)) * len(ticks) > 60
        axes.set_xticks(range(len(ticks)), ticks, **_tilt(wide))
    if told["y"]["ticks"]:
        axes.set_yticks(range(len(told["y"]["ticks"])), [t[language] for t in told["y"]["ticks"]])
    if any(mark["name"][language] and mark["mark"] != "heat" for mark in marks):
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            axes.legend(handles, labels, fontsize=9.5)


def _tilt(wide: bool) -> dict[str, Any]:
    return {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if wide else {}


def _values(values: Any) -> Any:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _line(axes: Any, mark: dict[str, Any], name: str, i: int) -> None:
    x, y = _values(mark["x"]), _values(mark["y"])
    colour = COLOURS[i % len(COLOURS)]
    if mark["points"]:
        axes.plot(x, y, MARKERS[i % 8], color=colour, label=name, ms=4.5, mew=0, alpha=0.75)
    else:
        marker = MARKERS[i % 8] if len(x) <= 24 else ""
        axes.plot(x, y, color=colour, ls=DASHES[i % 8], lw=2, label=name, marker=marker, ms=4)
    if mark["low"] is not None:
        axes.fill_between(x, _values(mark["low"]), _values(mark["high"]), color=colour, alpha=0.15)


def _bars(axes: Any, mark: dict[str, Any], name: str, i: int, at: int, many: int) -> None:
    y = _values(mark["y"])
    width = 0.8 / many
    x = np.arange(len(y)) + (at - (many - 1) / 2) * width
    error = None
    if mark["low"] is not None:
        error = np.abs(np.stack([y - _values(mark["low"]), _values(mark["high"]) - y]))
    hatch = (None, "//", "..", "xx", "\\\\")[at % 5]
    axes.bar(
        x, y, width * 0.94, yerr=error, color=COLOURS[i % 8], label=name, alpha=0.85,
        hatch=hatch, edgecolor="white", linewidth=0.5, ecolor=INK, capsize=2,
    )  # fmt: skip


def _heat(axes: Any, mark: dict[str, Any], name: str) -> None:
    values = np.array([_values(row) for row in mark["values"]])
    extent = (*mark["x"], *mark["y"])
    image = axes.imshow(
        values, origin="lower", extent=extent, aspect="auto", cmap="cividis", interpolation="none"
    )
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, label=name)


def _box(figure: Any, axes: Any, told: dict[str, Any]) -> str:
    """Where the axes lie in the SVG (points, from the top), their limits and scales."""
    width, height = figure.get_size_inches() * 72
    box = axes.get_position()
    place = [box.x0 * width, (1 - box.y1) * height, box.x1 * width, (1 - box.y0) * height]
    return json.dumps(
        {
            "box": [round(float(v), 2) for v in place],
            "x": [float(f"{v:.6g}") for v in axes.get_xlim()],
            "y": [float(f"{v:.6g}") for v in axes.get_ylim()],
            "log": [told["x"]["log"], told["y"]["log"]],
        }
    )
