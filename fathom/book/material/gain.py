"""Gradients through random layers in plain NumPy, beside what mean-field theory foretells.

A layer multiplies the mean square of a gradient by n Var(W) E[f'^2] on average (Poole et al.,
2016; Schoenholz et al., 2017). Nothing here uses Fathom's tape, so it is a route of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.engine.errors import ArgumentError

Array = NDArray[Any]


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


# each activation with its slope
SHAPES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0).astype(z.dtype)),
    "tanh": (np.tanh, lambda z: 1.0 - np.tanh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1.0 - sigmoid(z))),
}


@dataclass(frozen=True)
class Passage:
    """One entry a layer, from the first.

    size : root mean square of the activations. spread : of their deviation from the mean over
    the rows, which is what tells the rows apart. gradient : norm of the gradient with respect to
    the pre-activations, of a random linear functional of the last activations. factor :
    n Var(W) E[f'^2], what a step down through the layer should do to the squared gradient.
    """

    size: Array
    spread: Array
    gradient: Array
    factor: Array

    @property
    def backward(self) -> float:
        """Gradient at the first layer over that at the last."""
        return float(self.gradient[0] / self.gradient[-1])

    @property
    def foretold(self) -> float:
        """What theory says `backward` is."""
        return float(np.sqrt(np.prod(self.factor[:-1])))

    @property
    def forward(self) -> float:
        """Size of the last activations over that of the first."""
        return float(self.size[-1] / self.size[0])


def passage(
    name: str, rng: np.random.Generator, *, std: float, depth: int = 20, width: int = 100,
    rows: int = 100, slopes: bool = True,
) -> Passage:  # fmt: skip
    """Standard normal rows through `depth` layers with weights N(0, std^2), and a gradient back.

    slopes : without them the way back leaves f' out, as if it were 1 everywhere.

    >>> found = passage("relu", np.random.default_rng(0), std=(2 / 100) ** 0.5)
    >>> 0.2 < found.backward < 5, round(found.foretold, 1)
    (True, 1.0)
    """
    if name not in SHAPES:
        raise ArgumentError(f"no activation {name!r} here", fix=f"one of {', '.join(SHAPES)}")
    f, slope = SHAPES[name]
    h = rng.standard_normal((rows, width))
    weights = [rng.standard_normal((width, width)) * std for _ in range(depth)]
    before, after = [], []
    for w in weights:
        before.append(h @ w)
        h = f(before[-1])
        after.append(h)
    upstream = rng.standard_normal(h.shape)
    gradient, factor = [], []
    for w, z in zip(reversed(weights), reversed(before), strict=True):
        d = slope(z) if slopes else np.ones_like(z)
        delta = upstream * d
        gradient.append(float(np.linalg.norm(delta)))
        factor.append(width * std**2 * float((d**2).mean()))
        upstream = delta @ w.T
    return Passage(
        size=np.array([np.sqrt((a**2).mean()) for a in after]),
        spread=np.array([np.sqrt(((a - a.mean(axis=0)) ** 2).mean()) for a in after]),
        gradient=np.array(gradient[::-1]),
        factor=np.array(factor[::-1]),
    )


def chain(slope: float, weight: float, layers: int) -> float:
    """The gradient through so many one-unit layers of that slope and weight, by multiplying.

    >>> chain(0.25, 1.0, 2)
    0.0625
    """
    product = 1.0
    for _ in range(layers):
        product *= slope * weight
    return product
