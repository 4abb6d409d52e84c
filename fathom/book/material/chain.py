"""The chain rule in a chain of single units, where every factor is one number."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom

Array = NDArray[Any]


class Gaps(NamedTuple):
    """Mean relative distance of a formula from the gradient of a weight: the gradient by the
    tape, by central differences; and what is left once the formula has all its factors."""

    autodiff: float
    differences: float
    restored: float


def run(w: Array, x: Array) -> tuple[Array, Array]:
    """Pre-activations and activations of a_k = tanh(w_k a_(k-1)); w (depth, n), x (n,)."""
    before, after = [], [x]
    for row in w:
        before.append(row * after[-1])
        after.append(np.tanh(before[-1]))
    return np.array(before), np.array(after)


def chain_gaps(rng: np.random.Generator, depth: int, layer: int, chains: int = 200) -> Gaps:
    """The loss is a_L squared. The formula: dL/da_L times the factors w_k tanh'(z_k) of the layers
    after `layer` (from 1), which is dL/da_layer; the gradient of w_layer has tanh'(z) a besides.

    >>> gaps = chain_gaps(np.random.default_rng(0), 3, 1)
    >>> gaps.autodiff > 0.1, gaps.restored < 1e-12
    (True, True)
    """
    w = rng.uniform(0.5, 1.5, (depth, chains)) * rng.choice((-1.0, 1.0), (depth, chains))
    x = rng.uniform(0.5, 1.5, chains)
    before, after = run(w, x)
    slopes = 1.0 - np.tanh(before) ** 2
    formula = 2.0 * after[-1] * np.prod((w * slopes)[layer:], axis=0)
    tape = fathom.tensor(w, requires_grad=True)
    h = fathom.tensor(x)
    for k in range(depth):
        h = fathom.tanh(tape[k] * h)
    (h * h).sum().backward()
    grad = np.asarray(tape.grad.value())[layer - 1] if tape.grad is not None else np.zeros(chains)
    step = np.zeros_like(w)
    step[layer - 1] = 1e-5
    by_steps = (run(w + step, x)[1][-1] ** 2 - run(w - step, x)[1][-1] ** 2) / 2e-5
    whole = formula * slopes[layer - 1] * after[layer - 1]
    return Gaps(*(
        float(np.mean(np.abs(a - b) / np.abs(b)))
        for a, b in ((formula, grad), (formula, by_steps), (whole, grad))
    ))  # fmt: skip
