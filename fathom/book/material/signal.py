"""A signal through many layers and its gradient back: what depth does at the start of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom

Array = NDArray[Any]


@dataclass(frozen=True)
class Signal:
    """One entry a layer, from the first.

    mean, std : of the activations over batch and units. second : their mean square.
    alive : share of activations that are not 0. gradient : Euclidean norm of the gradient with
    respect to the layer's pre-activations, of a random linear functional of the last activations.
    """

    mean: Array
    std: Array
    second: Array
    alive: Array
    gradient: Array

    @property
    def backward_ratio(self) -> float:
        """Gradient at the first layer over that at the last: far below 1, it vanishes."""
        return float(self.gradient[0] / self.gradient[-1])

    @property
    def forward_ratio(self) -> float:
        """Root mean square of the last layer's activations over that of the first."""
        return float(np.sqrt(self.second[-1] / self.second[0]))


def weights(rule: str | float, width: int, rng: np.random.Generator) -> Array:
    """A (width, width) matrix: "he", "xavier", "lecun", "orthogonal", or the standard deviation.

    >>> round(float(weights("he", 400, np.random.default_rng(0)).std()), 2)
    0.07
    """
    draw = rng.standard_normal((width, width))
    if rule == "orthogonal":
        q, r = np.linalg.qr(draw)
        return np.asarray(q * np.sign(np.diag(r)))
    scale = {"he": np.sqrt(2 / width), "xavier": np.sqrt(1 / width), "lecun": np.sqrt(1 / width)}
    return draw * (scale[rule] if isinstance(rule, str) else rule)


def through(
    activation: Callable[[Any], Any], rng: np.random.Generator, *, depth: int = 20,
    width: int = 100, rule: str | float = "he", batch: int = 200, bias: float = 0.0,
    residual: bool = False, normalize: Callable[[Any], Any] | None = None,
) -> Signal:  # fmt: skip
    """Send standard normal rows through `depth` random layers, and a gradient back.

    A layer is h <- f(norm(h W + b)), or h + that with `residual`; float64.

    >>> signal = through(fathom.relu, np.random.default_rng(0), depth=5, width=64)
    >>> signal.std.shape, 0.2 < signal.forward_ratio < 5
    ((5,), True)
    """
    h = fathom.tensor(rng.standard_normal((batch, width)))
    before: list[Any] = []
    after: list[Any] = []
    for _ in range(depth):
        z = h @ fathom.tensor(weights(rule, width, rng)) + bias
        if not before:
            z = fathom.tensor(z.value(), requires_grad=True)
        before.append(z)
        inner = activation(normalize(z) if normalize else z)
        h = h + inner if residual else inner
        after.append(h)
    total = (h * fathom.tensor(rng.standard_normal(h.shape))).sum()
    gradients = fathom.autograd.grad(total, before)
    values = [a.value() for a in after]
    return Signal(
        mean=np.array([v.mean() for v in values]),
        std=np.array([v.std() for v in values]),
        second=np.array([(v**2).mean() for v in values]),
        alive=np.array([(v != 0).mean() for v in values]),
        gradient=np.array([np.linalg.norm(g.value()) for g in gradients]),
    )
