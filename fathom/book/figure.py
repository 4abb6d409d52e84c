"""`Figure`: what a figure shows, as data. `draw.py` makes SVG of it.

>>> figure = Figure(Axis(T("depth", "深度")), Axis(T("gradient", "梯度"), log=True),
...                 [Line(T("sigmoid", "sigmoid"), [1, 2, 3], [1.0, 0.2, 0.05])],
...                 T("The gradient falls with depth.", "梯度随深度下降。"))
>>> figure.as_json()["marks"][0]["mark"]
'line'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.book.evidence import Sample
from fathom.book.text import T
from fathom.engine.errors import ArgumentError, ShapeError


@dataclass(frozen=True)
class Axis:
    """A label and a scale. `ticks` name positions (categories of bars)."""

    label: T
    log: bool = False
    ticks: Sequence[T] = ()


@dataclass(frozen=True)
class Line:
    """y over x, with a band from low to high where given. `points`: markers and no line."""

    name: T
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    points: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar for each tick of the x axis; several `Bars` stand side by side."""

    name: T
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


@dataclass(frozen=True)
class Heat:
    """Values (rows, columns) as colours over the rectangle x[0]..x[1], y[0]..y[1]."""

    name: T
    values: ArrayLike
    x: tuple[float, float]
    y: tuple[float, float]


@dataclass(frozen=True)
class Level:
    """A straight line across, at a height (`y`) or a place (`x`)."""

    name: T
    y: float | None = None
    x: float | None = None


def band(samples: Iterable[Sample]) -> NDArray[Any]:
    """(3, n): the means of n samples and the ends of their intervals, for `Line` and `Bars`.

    >>> Bars(T("loss", "损失"), *band([Sample([1.0, 3.0]), Sample([4.0, 4.0])])).y
    array([2., 4.])
    """
    return np.array([(s.mean, s.low, s.high) for s in samples]).T


Mark: TypeAlias = Line | Bars | Heat | Level


@dataclass(frozen=True)
class Figure:
    """Axes, marks, and what one should see in a sentence (the alternative text too)."""

    x: Axis
    y: Axis
    marks: Sequence[Mark]
    caption: T
    numbers: dict[str, float] = field(default_factory=dict)  # shown in a table below

    def __post_init__(self) -> None:
        if not self.marks:
            raise ArgumentError("a figure needs at least one mark")
        for mark in self.marks:
            if isinstance(mark, Line) and np.shape(mark.x) != np.shape(mark.y):
                raise ShapeError(
                    f"line {mark.name.en!r}: x has shape {np.shape(mark.x)}, y {np.shape(mark.y)}"
                )
            if isinstance(mark, Bars) and len(np.asarray(mark.y)) != len(self.x.ticks):
                raise ShapeError(
                    f"bars {mark.name.en!r}: {len(np.asarray(mark.y))} for "
                    f"{len(self.x.ticks)} ticks of the x axis"
                )

    def as_json(self) -> dict[str, Any]:
        """The figure as plain JSON values."""
        return {
            "x": _axis(self.x),
            "y": _axis(self.y),
            "marks": [_mark(mark) for mark in self.marks],
            "caption": self.caption._asdict(),
            "numbers": {name: _plain(value) for name, value in self.numbers.items()},
        }


def _axis(axis: Axis) -> dict[str, Any]:
    ticks = [tick._asdict() for tick in axis.ticks]
    return {"label": axis.label._asdict(), "log": axis.log, "ticks": ticks}


def _mark(mark: Mark) -> dict[str, Any]:
    told: dict[str, Any] = {"mark": type(mark).__name__.lower()}
    for name, value in vars(mark).items():
        if isinstance(value, T):
            told[name] = value._asdict()
        elif value is None or isinstance(value, bool):
            told[name] = value
        else:
            told[name] = _plain(value)
    return told


def _plain(values: Any) -> Any:
    """Six digits are more than a picture shows; what is not finite is left out (null)."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [_plain(v) for v in array]
    return float(f"{float(array):.6g}") if np.isfinite(array) else None
