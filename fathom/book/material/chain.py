"""The chain rule in a chain of single units, where every factor is one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.book.evidence import All, Check, Routes
from fathom.book.region import at_most

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


def weight_gradient(
    f: Callable[[float], float], library: Callable[[Any], Any], w: Array, x: float,
    goal: float, place: int = 0,
) -> dict[str, float]:  # fmt: skip
    """dL/dw of one weight where a_k = f(w_k a_(k-1)) and L = (a_L - goal)^2: by the tape of the
    library's f, and by central differences.

    >>> found = weight_gradient(abs, fathom.abs, np.array([2.0, 3.0]), 1.0, 0.0)
    >>> found["autodiff"], round(float(found["differences"]), 6)
    (36.0, 36.0)
    """

    def loss(weight: float) -> float:
        a = x
        for v in (*w[:place], weight, *w[place + 1 :]):
            a = f(v * a)
        return (a - goal) ** 2

    weights = [fathom.tensor(np.array(v), requires_grad=True) for v in w]
    a: Any = fathom.tensor(np.array(x))
    for weight in weights:
        a = library(weight * a)
    ((a - goal) ** 2).backward()
    gradient: Any = weights[place].grad
    step = 1e-5
    return {
        "autodiff": float(gradient.value()),
        "differences": (loss(w[place] + step) - loss(w[place] - step)) / (2 * step),
    }


def missing_factors(found: Sequence[Mapping[str, float]]) -> All:
    """Median relative error of the "product" a claim states for a weight's gradient, by two routes;
    and of that product "completed" by the factors it leaves out, which must be next to none.

    >>> chain = {"autodiff": 2.0, "differences": 2.0, "product": 1.0, "completed": 2.0}
    >>> dict(missing_factors([chain])["as stated"])
    {'autodiff': 0.5, 'differences': 0.5}
    """

    def error(said: str, truth: str) -> float:
        return float(np.median([abs(f[said] / f[truth] - 1) for f in found]))

    return All({
        "as stated": Routes({r: error("product", r) for r in ("autodiff", "differences")}),
        "completed": Check(error("completed", "autodiff"), at_most(1e-9)),
    })  # fmt: skip
