"""Layer-by-step heat maps of the sampled statistics: numbers with their shades."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.case import Case
from fathom.train import pictures

COLUMNS = 28  # sampled steps shown, at most
ROWS = 60
BAD = ("#b3261e", "#ffffff")  # a value that is not finite
NOTHING = ("#8a93a0", "#000000")  # 0 where the scale is logarithmic
SMALLEST = 1e-12  # from which on a log scale begins


@dataclass(frozen=True)
class Statistic:
    """What a map shows. scale : "share" (0 to 1), "log", or "signed" (0 in the middle)."""

    name: str
    title: str
    scale: str
    words: str


LAYERS = (
    Statistic("mean", "activation mean", "signed", "of what a layer puts out"),
    Statistic("std", "activation standard deviation", "log", "of what a layer puts out"),
    Statistic("largest", "largest absolute activation", "log", "of what a layer puts out"),
    Statistic("zero", "share of zeros", "share", "values that the rectifier behind makes 0"),
    Statistic("dead", "share of dead units", "share", "units that were 0 on every row so far"),
    Statistic("flat", "share where the activation is flat", "share", "saturated values"),
    Statistic("off", "share of units off centre", "share", "|mean| above 3 standard deviations"),
    Statistic("spread", "spread over examples", "log", "std over examples, over mean size"),
    Statistic("delta", "gradient at the layer's output", "log", "root mean square, times rows"),
)
PARAMETERS = (
    Statistic("weight", "weight norm", "log", "Euclidean"),
    Statistic("gradient", "gradient norm", "log", "Euclidean, before the step"),
    Statistic("ratio", "update / weight", "log", "length of a step's change over the weight's"),
    Statistic("alike", "gradient alike the last one", "signed", "cosine with the step before"),
)


@dataclass(frozen=True)
class Cell:
    """value : in words. colour, ink : "" where it was not measured."""

    value: str
    colour: str = ""
    ink: str = ""


@dataclass(frozen=True)
class Map:
    """A statistic for layers (rows) over sampled steps (columns)."""

    statistic: Statistic
    steps: tuple[int, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    low: str
    high: str
    left_out: int = 0  # rows beyond ROWS


def maps(case: Case) -> list[Map]:
    """A map for every statistic that was measured at least once.

    >>> maps(Case())
    []
    """
    chosen = _thinned(case.steps, COLUMNS)
    made = [_map(case.steps, chosen, "layers", list(case.layers), one) for one in LAYERS]
    made += [_map(case.steps, chosen, "parameters", list(case.parameters), one)
             for one in PARAMETERS]  # fmt: skip
    return [found for found in made if found is not None]


def _thinned(steps: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the steps: the early ones are close, the last is kept."""
    if len(steps) <= most:
        return list(steps)
    places = np.unique(np.round(np.linspace(0, len(steps) - 1, most)).astype(int))
    return [steps[i] for i in places]


def _map(
    steps: Sequence[Any], chosen: Sequence[Any], part: str, names: list[str], one: Statistic
) -> Map | None:
    known = {n for step in steps for n in getattr(step, part)}
    values = {n: [_value(getattr(step, part), n, one.name) for step in chosen]
              for n in names if n in known}  # fmt: skip
    values = {n: row for n, row in values.items() if any(v is not None for v in row)}
    if not values:
        return None
    numbers = [v for row in values.values() for v in row if v is not None and math.isfinite(v)]
    low, high, shade = _scale(one.scale, numbers)
    shown = list(values.items())[:ROWS]
    rows = tuple((name, tuple(_cell(one, v, shade) for v in row)) for name, row in shown)
    left_out = len(values) - len(shown)
    return Map(one, tuple(s.number for s in chosen), rows, _short(low), _short(high), left_out)


def _value(stats: Mapping[str, Any], name: str, statistic: str) -> float | None:
    """The number, None where it was not measured, nan or inf where it is not finite."""
    found = stats.get(name)
    if found is None:
        return None
    value = float(getattr(found, statistic))
    if math.isnan(value):
        broken = not found.finite and statistic in ("mean", "std", "largest", "weight", "gradient")
        return math.nan if broken else None
    return value


def _scale(kind: str, numbers: list[float]) -> tuple[float, float, Any]:
    """Lowest and highest value, and the function from a value to its share of the way."""
    if kind == "share":
        return 0.0, 1.0, lambda v: v
    if not numbers:
        return 0.0, 0.0, lambda v: 0.5
    low, high = min(numbers), max(numbers)
    if kind == "signed":
        most = max(abs(low), abs(high)) or 1.0
        return -most, most, lambda v: 0.5 + 0.5 * v / most
    floor = min((v for v in numbers if v > SMALLEST), default=SMALLEST)
    first, last = math.log(floor), math.log(max(high, floor))
    width = last - first or 1.0
    return floor, max(high, floor), lambda v: (math.log(max(v, floor)) - first) / width


def _cell(one: Statistic, value: float | None, shade: Any) -> Cell:
    if value is None:
        return Cell("not measured")
    if not math.isfinite(value):
        return Cell("not finite", *BAD)
    if value == 0.0 and one.scale == "log":
        return Cell("0", *NOTHING)
    colour = pictures.cividis(np.array([min(max(shade(value), 0.0), 1.0)]))[0]
    light = float(colour @ np.array([0.2126, 0.7152, 0.0722])) > 115
    return Cell(_short(value), "#{:02x}{:02x}{:02x}".format(*colour), "#000" if light else "#fff")


def _short(value: float) -> str:
    return f"{value:.3g}"


__all__ = ["LAYERS", "PARAMETERS", "Cell", "Map", "Statistic", "maps"]
