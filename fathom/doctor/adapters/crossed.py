"""Losses by hand in which each output meets each target: a column against a row, by oversight."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.doctor.adapters.terms import CHAIN, NEAR, Term, Terms, Written
from fathom.engine.tensor import Array


class Crossed(Terms):
    """Finds output and target, of n numbers each, in a loss made of n times n."""

    def call(self) -> Written | None:
        """The loss, as one that is known by its shapes alone; None where it is another."""
        return self._compared() or self._multiplied()

    def _compared(self) -> Written | None:
        """A column and a row, output and target, of which each number was compared with each,
        whatever was made of that."""
        for term in self.near:
            found = self.difference(term)
            if found is None:
                continue
            output, apart, less = found
            values = np.asarray(self.numbers(output))
            if max(values.shape, default=0) != values.size:
                continue
            both = spread_out(values, apart, less)
            if both is not None:
                output = output if output.shape == both[0].shape else output.reshape(both[0].shape)
                return "custom", output, both[1], {"reduction": "mean"}
        return None

    def _multiplied(self) -> Written | None:
        """Errors by example, multiplied by a column of as many numbers, of which nothing but the
        mean or sum is taken: each number meets each, and none its own."""
        terms = [self.near[0]]
        for term in terms:
            if term.name == "mul" and (found := self._spread_product(term)) is not None:
                return "custom", *found, {"reduction": "mean"}
            if term.name in (*CHAIN, "add", "sub", "rsub") and len(terms) < 2 * NEAR:
                terms += [parent for parent in term.before if parent is not None]
        return None

    def _spread_product(self, term: Term) -> tuple[Any, Array] | None:
        """(output, target) of a product of n errors and a column of n constants, or the other way
        round."""
        target = self.constant(term)
        inner = next((parent for parent in term.before if parent is not None), None)
        if target is None or inner is None or term.shape != (target.size,) * 2 or target.size < 3:
            return None
        n = target.size
        if {target.shape, inner.shape} != {(n,), (n, 1)} or not np.ptp(target):
            return None
        output = next((t for t in self.outputs if tuple(t.shape) in ((n,), (n, 1))), None)
        if output is None:
            return None
        return output.reshape(inner.shape), target


def spread_out(output: Array, apart: Array, less: bool) -> tuple[Array, Array] | None:
    """Output, as a column or a row, and target, where each was compared with each."""
    n = output.size
    if n < 2 or apart.shape != (n, n):
        return None
    slack = 1e-5 * float(np.abs(apart).max())
    for given, shape, axis in ((output.reshape(n, 1), (n,), 0), (output.reshape(n), (n, 1), 1)):
        target = given + apart if less else given - apart
        if float(target.std(axis).max()) <= slack:  # the same for every output
            return given, np.take(target, 0, axis).reshape(shape)
    return None


__all__ = ["Crossed", "spread_out"]
