"""`Region`: the numbers a claim allows, stated before anything is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fathom.book.text import T
from fathom.engine.errors import ArgumentError


@dataclass(frozen=True)
class Region:
    """The closed interval [low, high] in which the measured number must lie.

    >>> at_least(0.02).words.en
    'at least 0.02'
    """

    low: float
    high: float

    @property
    def in_words(self) -> bool:
        """Whether no number is stated: the claim is one of phrases (`stated`)."""
        return math.isnan(self.low)

    @property
    def words(self) -> T:
        """The rule, to print."""
        if self.in_words:
            return T("the sources state what the claim says", "来源所述与论断一致")
        low, high = f"{self.low:g}", f"{self.high:g}"
        if self.low == self.high:
            return T(f"exactly {low}", f"恰为 {low}")
        if self.low == -math.inf:
            return T(f"at most {high}", f"不大于 {high}")
        if self.high == math.inf:
            return T(f"at least {low}", f"不小于 {low}")
        return T(f"between {low} and {high}", f"介于 {low} 与 {high} 之间")

    def judge(self, low: float, high: float) -> bool | None:
        """True where all of [low, high] lies inside, False where all lies outside, else None.

        A number that is not finite on both sides lies outside unless the region reaches there.

        Raises
        ------
        ArgumentError
            The region is one of phrases, so that nothing says which numbers the claim allows.
        """
        if self.in_words:
            raise ArgumentError(
                f"no region says whether the claim allows {low:g}",
                fix="give the claim a region, or the part one of its own: Check(part, region)",
            )
        if math.isnan(low) or math.isnan(high):
            return False
        if self.low <= low and high <= self.high:
            return True
        if high < self.low or low > self.high:
            return False
        return None


def within(low: float, high: float) -> Region:
    """From `low` to `high`, both included."""
    return Region(low, high)


def at_most(bound: float) -> Region:
    """`bound` or less: errors of identities, effects said to be small."""
    return Region(-math.inf, bound)


def at_least(bound: float) -> Region:
    """`bound` or more: effects said to be there, with the size that counts."""
    return Region(bound, math.inf)


def equals(value: float, tolerance: float = 0.0) -> Region:
    """`value`, give or take `tolerance` (half a unit of the last digit the book prints)."""
    return Region(value - tolerance, value + tolerance)


def stated() -> Region:
    """No number: published phrases are compared with the claim's own."""
    return Region(math.nan, math.nan)


def true() -> Region:
    """The measured statement is true (1), not false (0)."""
    return Region(1.0, 1.0)
