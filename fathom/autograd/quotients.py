"""Difference quotients: derivatives from values alone, one-sided and central."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor, to_array
from fathom.ops.checks import one_of

FORMS = ("forward", "central")


def best_step(form: str = "central") -> float:
    """The step at which curvature and rounding cost about as much in float64.

    The error of the forward quotient goes like h + eps / h, that of the central one like
    h^2 + eps / h: least near eps^(1/2) = 1.5e-8 and eps^(1/3) = 6.1e-6.

    >>> f"{best_step('forward'):.1e} {best_step():.1e}"
    '1.5e-08 6.1e-06'
    """
    one_of("best_step", "form", form, FORMS)
    return float(np.finfo(np.float64).eps ** (1 / 2 if form == "forward" else 1 / 3))


def difference_quotient(
    function: Callable[[Tensor], Any], at: Any, step: float | None = None, form: str = "central"
) -> Array:
    """The gradient of a function of one float64 array that gives one number.

    "forward" : (f(x + h e) - f(x)) / h, one evaluation a number and one more; error O(h).
    "central" : (f(x + h e) - f(x - h e)) / 2h, two evaluations a number; error O(h^2).
    step : h, the same for every number; `best_step(form)` unless given.

    `numerical_grad` is the tool for checking gradients (it mistrusts kinks); this is the bare
    quotient, whose error it is instructive to plot.

    >>> difference_quotient(lambda x: (x * x).sum(), [1.0, 2.0]).round(6).tolist()
    [2.0, 4.0]
    """
    one_of("difference_quotient", "form", form, FORMS)
    h = best_step(form) if step is None else float(step)
    if not (h > 0 and np.isfinite(h)):
        raise ArgumentError(f"difference_quotient: step must be > 0; received {step!r}")
    point = np.array(to_array(at), np.float64)

    def value(place: tuple[int, ...], shift: float) -> float:
        moved = point.copy()
        moved[place] += shift
        return float(function(Tensor(moved)))

    found = np.zeros(point.shape)
    with no_grad():
        if form == "forward":
            start = float(function(Tensor(point.copy())))
        for place in np.ndindex(*point.shape):
            if form == "forward":
                found[place] = (value(place, h) - start) / h
            else:
                found[place] = (value(place, h) - value(place, -h)) / (2.0 * h)
    return found
