"""Axes of a figure: where values lie, which ticks are drawn and what they say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fathom.book.lettering import RAISED

Array = NDArray[np.float64]

STRIDES = (1, 2, 3, 5, 10, 20, 50, 100)  # of powers of ten


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: ArrayLike, log: bool, *, bars: bool = False) -> Scale:
        """The axis that shows all values with a margin; linear bars stand on 0.

        >>> Scale.around([1.0, 3.0], log=False, bars=True)
        Scale(low=0.0, high=3.15, log=False)
        """
        found = np.asarray(values, np.float64).ravel()
        found = found[np.isfinite(found) & ((found > 0) | (not log))]
        if log:
            found = np.log10(found)
        elif bars:
            found = np.append(found, 0.0)
        low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
        span = high - low
        if span == 0:
            span = 0.5 if log or low == 0 else abs(low) / 2
        margin = 0.05 * span if high > low else span
        ends = [low - margin, high + margin]
        if bars and log:
            ends[0] = low - max(0.3, 0.08 * span)
        elif bars:
            ends = [low and ends[0], high and ends[1]]
        if log:
            ends = [10.0**end for end in ends]
        low, high = (float(f"{end:.6g}") for end in ends)
        return cls(low, high, log)

    def at(self, values: ArrayLike) -> Array:
        """0 at the low end, 1 at the high end; NaN where the axis has no place for a value."""
        found = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            found = np.log10(np.where(found > 0, found, np.nan))
            low, high = math.log10(low), math.log10(high)
        place: Array = (found - low) / (high - low)
        return place

    def known(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which values have a place on the axis."""
        return np.isfinite(self.at(values))

    def ticks(self, most: int) -> list[float]:
        """At most so many round values within the axis (at least two on any sensible axis).

        >>> Scale(0.0, 1.04).ticks(6), Scale(0.5, 2000.0, log=True).ticks(5)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [1.0, 10.0, 100.0, 1000.0])
        """
        if not self.log:
            return self._even(most)
        low, high = math.log10(self.low), math.log10(self.high)
        powers = range(math.floor(low), math.ceil(high) + 1)
        tens = self._within([float(f"1e{p}") for p in powers])
        for digits in ((1, 2, 5), (1, 3)):
            found = self._within([float(f"{d}e{p}") for p in powers for d in digits])
            if 2 <= len(found) <= most:
                return found
        if len(tens) < 2:
            return self._even(most)
        for step in STRIDES:
            found = [ten for ten in tens if round(math.log10(ten)) % step == 0]
            if 2 <= len(found) <= most:
                return found
        return [tens[0], tens[-1]]

    def _within(self, values: Sequence[float]) -> list[float]:
        return [v for v in values if self.low <= v <= self.high]

    def _even(self, most: int) -> list[float]:
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                break
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def words(values: Sequence[float]) -> list[str]:
    """What ticks say: plain numbers, or powers of ten where some are far from 1.

    >>> words([0.0, 0.5, 1.0]), words([1e-06, 1e-03, 1.0]), words([-20000.0, 0.0])
    (['0', '0.5', '1'], ['10⁻⁶', '10⁻³', '1'], ['−20,000', '0'])
    """
    sizes = [abs(v) for v in values if v]
    if not sizes or (min(sizes) >= 1e-3 and max(sizes) < 1e6):
        return [f"{v:,.10g}".replace("-", "−") for v in values]
    return [_power(v) for v in values]


def _power(value: float) -> str:
    if value in (0.0, 1.0):
        return f"{value:g}"
    digits, _, exponent = f"{value:.10e}".partition("e")
    number = f"{float(digits):g}".replace("-", "−")
    raised = f"10{str(int(exponent)).translate(RAISED)}"
    return raised if number == "1" else f"{number}×{raised}"


def values_of(*parts: Any) -> Array:
    """All numbers in lists of numbers and None, which become NaN."""
    return np.array([np.nan if v is None else v for v in _flat(parts)], np.float64)


def _flat(parts: Iterable[Any]) -> Iterable[Any]:
    for part in parts:
        if isinstance(part, list | tuple):
            yield from _flat(part)
        else:
            yield part
