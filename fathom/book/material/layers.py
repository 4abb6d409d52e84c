"""A small network on the tape, with every layer's error term: to hold formulas against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom

Array = NDArray[Any]


class Weights(NamedTuple):
    """Matrices (out, in) and vectors (out,), the first layer first."""

    matrices: list[Array]
    biases: list[Array]

    @property
    def size(self) -> int:
        """How many numbers."""
        return sum(w.size for w in (*self.matrices, *self.biases))


def weights(rng: np.random.Generator, widths: list[int], scale: float = 1.0) -> Weights:
    """Normal weights of deviation scale / sqrt(in), small biases.

    >>> weights(np.random.default_rng(0), [3, 4, 2]).size
    26
    """
    pairs = list(zip(widths[1:], widths[:-1], strict=True))
    return Weights(
        [scale * rng.standard_normal((n, m)) / np.sqrt(m) for n, m in pairs],
        [0.1 * rng.standard_normal(n) for n, _ in pairs],
    )


class Passed(NamedTuple):
    """What one pass there and back left; each list holds an array a layer.

    z : weighted sums (n, out). a : activations, the input first. delta : the loss's gradient by z.
    matrix, bias : its gradients by the weights. input : its gradient by the input. loss : a number.
    """

    z: list[Array]
    a: list[Array]
    delta: list[Array]
    matrix: list[Array]
    bias: list[Array]
    input: Array
    loss: float


def by_tape(
    net: Weights, x: Array, loss: Callable[[Any], Any], activation: Callable[[Any], Any],
    output: Callable[[Any], Any] | None = None,
) -> Passed:  # fmt: skip
    """Run z = a W' + b, a = f(z) through all layers and take every gradient automatically.

    loss : of the last activations, a number. output : the last layer's function, the same as
    `activation` unless given.

    >>> net = weights(np.random.default_rng(0), [3, 4, 2])
    >>> passed = by_tape(net, np.ones((5, 3)), lambda a: (a * a).sum(), fathom.tanh)
    >>> [d.shape for d in passed.delta]
    [(5, 4), (5, 2)]
    """
    matrices = [fathom.tensor(w, requires_grad=True) for w in net.matrices]
    biases = [fathom.tensor(b, requires_grad=True) for b in net.biases]
    given = fathom.tensor(x, requires_grad=True)
    sums, outputs = [], [given]
    for k, (w, b) in enumerate(zip(matrices, biases, strict=True)):
        sums.append(outputs[-1] @ w.T + b)
        last = k == len(matrices) - 1
        outputs.append((output if last and output else activation)(sums[-1]))
    value = loss(outputs[-1])
    found = fathom.autograd.grad(value, [*sums, *matrices, *biases, given])
    parts = [g.value() for g in found]
    n = len(matrices)
    return Passed(
        [z.value() for z in sums], [a.value() for a in outputs],
        parts[:n], parts[n : 2 * n], parts[2 * n : 3 * n], parts[3 * n], value.item(),
    )  # fmt: skip
