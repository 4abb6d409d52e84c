"""Softmax in plain NumPy as one would write it, the stable form, and exact decimals to judge by."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fathom
from fathom import activations

Array = NDArray[Any]


def naive(z: ArrayLike) -> Array:
    """e^z over its sum along the last axis, in z's own precision; overflow gives nan.

    >>> naive([1000.0, 0.0]).tolist()
    [nan, 0.0]
    """
    with np.errstate(all="ignore"):
        grown = np.exp(np.asarray(z))
        return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def shifted(z: ArrayLike, temperature: float = 1.0) -> Array:
    """The same of z less its largest element: no exponent is positive.

    >>> shifted([1000.0, 1000.0]).tolist()
    [0.5, 0.5]
    """
    with np.errstate(all="ignore"):
        scores = np.asarray(z) / np.asarray(temperature, np.asarray(z).dtype)
        return naive(scores - scores.max(axis=-1, keepdims=True))


def log_shifted(z: ArrayLike) -> Array:
    """log softmax without leaving the logarithms: z - max - log sum e^(z - max).

    >>> log_shifted([0.0, -800.0]).tolist()
    [0.0, -800.0]
    """
    with np.errstate(all="ignore"):
        low = np.asarray(z) - np.max(z, axis=-1, keepdims=True)
        return np.asarray(low - np.log(np.exp(low).sum(axis=-1, keepdims=True)))


def exactly(z: ArrayLike, digits: int = 60) -> list[Decimal]:
    """Softmax of a few numbers in decimal arithmetic, which reaches down to 10^-999999.

    >>> exactly([0.0, -800.0])[1] > 0
    True
    """
    with localcontext() as context:
        context.prec = digits
        grown = [Decimal(float(v)).exp() for v in np.ravel(z)]
        total = sum(grown, Decimal(0))
        return [g / total for g in grown]


def library(z: ArrayLike, temperature: float = 1.0) -> Array:
    """What `fathom.activations.softmax` gives for an array, in its precision.

    >>> library(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    return np.asarray(activations.softmax(fathom.tensor(np.asarray(z)), -1, temperature).value())


def entropy(p: ArrayLike) -> Array:
    """-sum p log p along the last axis, in nats; 0 log 0 is 0.

    >>> entropy([0.5, 0.5, 0.0]).round(6).item()
    0.693147
    """
    shares = np.asarray(p, np.float64)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return np.asarray(-(shares * logs).sum(axis=-1) + 0.0)
