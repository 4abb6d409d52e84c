"""`examine_weights`: what stored weights alone tell: not finite, dead, equal, or of odd scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import numpy as np

from fathom.doctor.case import Case, Parameter
from fathom.doctor.finding import SEVERITIES, Evidence, Finding, Fix
from fathom.doctor.reasoning import MOST, Opinion
from fathom.doctor.schedule import Schedule
from fathom.doctor.watching import Watch
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array

UNITS = 512  # of a layer that are compared with each other
ALIKE = 0.999  # cosine from which two units are the same
SHARE = 0.2  # of a layer's units from which on it counts
SMALL, LARGE = 1e-4, 10.0  # root mean square of a matrix of weights


class Inspection(Watch):
    """What `examine_weights` found: findings, coverage, text and JSON, as a `Watch` has them."""

    how = "in the stored weights"

    def __init__(self, case: Case, findings: tuple[Finding, ...]) -> None:
        super().__init__(SimpleNamespace(case=case), Schedule())
        self.opinion = Opinion(findings)


def examine_weights(weights: Mapping[str, Array]) -> Inspection:
    """Look for faults in weights by name, as a checkpoint holds them.

    Names are PyTorch's and Fathom's: "fc1.weight" of shape (out, in, ...). Found are values that
    are not finite (error), units whose weights are all 0 or are the same as another's (warning),
    and matrices whose root mean square is below 0.0001 or above 10 (advice).

    >>> good = np.linspace(-1, 1, 24).reshape(4, 6) ** 3
    >>> print(examine_weights({"fc.weight": np.where(good > 0.9, np.nan, good)}).findings[0].kind)
    non_finite
    """
    arrays = {n: np.asarray(a) for n, a in weights.items()}
    arrays = {n: a for n, a in arrays.items() if a.dtype.kind == "f" and a.size}
    if not arrays:
        raise ArgumentError("there are no weights in it: no array of floats")
    case = Case(engine="weights")
    for name, array in arrays.items():
        layer, _, own = name.rpartition(".")
        role = "weight" if own == "weight" and array.ndim > 1 else "other"
        case.parameters[name] = Parameter(name, array.shape, layer, role, True, True,
                                          lambda array=array: array)  # type: ignore[misc]  # fmt: skip
        case.coverage.watched.append(name)
    found = [finding for name, array in arrays.items() for finding in _look(name, array)]
    found.sort(key=lambda f: (SEVERITIES.index(f.severity), -f.probability))
    return Inspection(case, tuple(found[:MOST]))


def _look(name: str, array: Array) -> Iterator[Finding]:
    values = array.astype(np.float64)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        evidence = (Evidence("values that are not finite", bad, "none"),)
        fix = Fix("go back to the last checkpoint without them, with a smaller learning rate or "
                  "clipped gradients")  # fmt: skip
        yield _finding("non_finite", "error", 1.0, name, evidence, fix,
                       "Every answer that depends on these weights is nan.")  # fmt: skip
        return
    if values.ndim < 2 or "embed" in name.lower():
        return
    rows = values.reshape(len(values), -1)
    yield from _units(name, rows)
    size = math.sqrt(float((rows**2).mean()))
    if 0 < size < SMALL or size > LARGE:
        evidence = (Evidence("root mean square", size, f"{SMALL:g} to {LARGE:g}"),)
        yield _finding("initialization_scale", "advice", 0.6, name, evidence,
                       Fix("look at the initialization, weight decay and learning rate"),
                       "Weights of this size make outputs vanish or explode.")  # fmt: skip


def _units(name: str, rows: Array) -> Iterator[Finding]:
    """Units that are nothing, and units that are the same."""
    norms = np.sqrt((rows**2).sum(axis=1))
    dead = float((norms == 0).mean())
    if dead > SHARE or dead == 1.0:
        evidence = (Evidence("share of units whose weights are all 0", dead, "0"),)
        yield _finding("dead_units", "error" if dead == 1.0 else "warning", 0.9, name, evidence,
                       Fix("initialize the layer anew"),
                       "Such a unit says the same whatever it is given.")  # fmt: skip
    alive = rows[norms > 0][:UNITS] / norms[norms > 0][:UNITS, None]
    if len(alive) < 4 or rows.shape[1] < 2:
        return
    cosines = np.abs(alive @ alive.T)
    np.fill_diagonal(cosines, 0.0)
    share = float((cosines.max(axis=1) > ALIKE).mean())
    if share > SHARE:
        evidence = (Evidence("share of units with a double", share, f"below {SHARE:g}"),)
        yield _finding("duplicate_units", "warning", 0.9, name, evidence,
                       Fix("initialize with random numbers, not with a constant"),
                       "Units with the same weights learn the same: the layer is as narrow as the "
                       "number of different ones.")  # fmt: skip


def _finding(
    kind: str, severity: str, sure: float, where: str, evidence: tuple[Evidence, ...], fix: Fix,
    why: str,
) -> Finding:  # fmt: skip
    return Finding(kind, severity, sure, where, 0, evidence, why, fix)


__all__ = ["Inspection", "examine_weights"]
