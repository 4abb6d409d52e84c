"""Recurrent cells in plain NumPy, written from their formulas, and simple nets trained by BPTT.

Nothing here uses Fathom's tape or layers, so it is a route of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fathom.book.material.gain import SHAPES, sigmoid

Array = NDArray[Any]


class LSTMWeights(NamedTuple):
    """The parts i, f, g, o stacked: (4 hidden, inputs), (4 hidden, hidden), (4 hidden,) twice."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


def lstm_weights(rng: np.random.Generator, inputs: int, hidden: int) -> LSTMWeights:
    """Normal weights of deviation 0.5.

    >>> lstm_weights(np.random.default_rng(0), 2, 3).weight_hh.shape
    (12, 3)
    """
    shapes = ((4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
    return LSTMWeights(*(0.5 * rng.standard_normal(shape) for shape in shapes))


def lstm_step(x: Array, h: Array, c: Array, w: LSTMWeights) -> tuple[Array, Array]:
    """The next (h, c): i, f, o = sigma(affine map of [h, x]), c = f c + i tanh(.), h = o tanh(c).

    >>> w = lstm_weights(np.random.default_rng(0), 2, 3)
    >>> lstm_step(np.ones((4, 2)), np.zeros((4, 3)), np.zeros((4, 3)), w)[0].shape
    (4, 3)
    """
    z = np.concatenate([h, x], axis=1) @ np.concatenate([w.weight_hh, w.weight_ih], axis=1).T
    i, f, g, o = np.split(z + w.bias_ih + w.bias_hh, 4, axis=1)
    kept = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(kept), kept


class Task(NamedTuple):
    """Sequences of one number a step, (rows, steps), and what is to be said at the end: 0 or 1."""

    x: Array
    y: Array


def sign_of_sum(rng: np.random.Generator, rows: int, steps: int) -> Task:
    """Steps of -1 or 1, an odd number of them; is their sum above 0?

    >>> sign_of_sum(np.random.default_rng(0), 4, 5).x.shape
    (4, 5)
    """
    x = np.where(rng.random((rows, steps)) < 0.5, -1.0, 1.0)
    return Task(x, (x.sum(axis=1) > 0).astype(np.float64))


def recurrent_accuracy(
    name: str, task: Task, test: Task, rng: np.random.Generator, *, radius: float = 1.0,
    hidden: int = 16, updates: int = 200, batch: int = 64, rate: float = 0.005,
) -> float:  # fmt: skip
    """Share of test rows right after training h <- f(U h + v x + b), read at the end, by Adam.

    radius : the spectral radius of U at the start. Gradients are clipped at norm 1.

    >>> rng = np.random.default_rng(0)
    >>> rows = sign_of_sum(rng, 64, 3)
    >>> recurrent_accuracy("tanh", rows, rows, rng, updates=60) > 0.7
    True
    """
    u = rng.standard_normal((hidden, hidden))
    u *= radius / np.abs(np.linalg.eigvals(u)).max()
    p = [u, rng.standard_normal(hidden), np.zeros(hidden),
         rng.standard_normal(hidden) / np.sqrt(hidden), np.zeros(1)]  # fmt: skip
    first, second = [np.zeros_like(a) for a in p], [np.zeros_like(a) for a in p]
    for t in range(1, updates + 1):
        rows = rng.integers(0, len(task.x), batch)
        slopes = _gradient(name, p, task.x[rows], task.y[rows])
        size = np.sqrt(sum(float((g**2).sum()) for g in slopes))
        for a, g, m, s in zip(p, slopes, first, second, strict=True):
            g = g / max(1.0, size)
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            a -= rate * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    return float(((_states(name, p, test.x)[-1] @ p[3] + p[4] > 0) == (test.y > 0.5)).mean())


def _states(name: str, p: list[Array], x: Array, before: list[Array] | None = None) -> list[Array]:
    """h at each step, from the one before the first; `before` gathers the pre-activations."""
    h = [np.zeros((len(x), len(p[1])))]
    for column in x.T:
        z = h[-1] @ p[0].T + column[:, None] * p[1] + p[2]
        if before is not None:
            before.append(z)
        h.append(SHAPES[name][0](z))
    return h


def _gradient(name: str, p: list[Array], x: Array, y: Array) -> list[Array]:
    """Of the mean cross-entropy, by backpropagation through time."""
    before: list[Array] = []
    h = _states(name, p, x, before)
    error = (sigmoid(h[-1] @ p[3] + p[4]) - y) / len(y)
    found = [np.zeros_like(a) for a in p]
    found[3], found[4] = h[-1].T @ error, error.sum(keepdims=True)
    upstream = error[:, None] * p[3]
    for t in range(x.shape[1] - 1, -1, -1):
        delta = upstream * SHAPES[name][1](before[t])
        found[0] += delta.T @ h[t]
        found[1] += delta.T @ x[:, t]
        found[2] += delta.sum(axis=0)
        upstream = delta @ p[0]
    return found
