"""What the mean of a layer's inputs adds to its gradient, with a batch norm behind it or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import nn
from fathom.book.material.data import digits
from fathom.nn import functional as F

Array = NDArray[Any]


def mean_share(layer: Any, head: Any, a: Array, y: Array) -> float:
    """Length of the part of a layer's weight gradient that the mean of its inputs makes, over the
    whole gradient's, by the tape: the gradient less that for inputs whose mean (of each feature or
    channel) was taken off while the outputs were kept.

    layer : Linear or Conv2d. head : from its outputs to the logits. a : inputs (n, features, ...).
    y : classes (n,).

    >>> x = np.random.default_rng(0).random((50, 3))
    >>> layer, y = nn.Linear(3, 2).double(), np.arange(50) % 2
    >>> mean_share(layer, nn.Identity(), x, y) > 0
    True
    >>> mean_share(layer, nn.Identity(), x - x.mean(axis=0), y) < 1e-9
    True
    """
    axes = (0, *range(2, a.ndim))
    whole, rest = (layer(fathom.tensor(v)) for v in (a, a - a.mean(axis=axes, keepdims=True)))
    found = []
    for out in (whole, rest + (whole - rest).detach()):
        loss = F.cross_entropy(head(out), fathom.tensor(y))
        (slope,) = fathom.autograd.grad(loss, [layer.weight], retain_graph=True)
        found.append(np.asarray(slope.value(), np.float64))
    return float(np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[0]))


def mean_share_by_hand(w: Array, b: Array, out: Array, a: Array, y: Array, norm: bool) -> float:
    """The same for a dense layer of weights w and biases b, a batch norm if `norm`, ReLU and a last
    layer of weights `out`, in plain NumPy: the errors' sum times the inputs' mean, over the
    gradient.

    >>> rng = np.random.default_rng(0)
    >>> w, out, a = rng.normal(size=(5, 3)), rng.normal(size=(2, 5)), rng.random((40, 3))
    >>> mean_share_by_hand(w, np.zeros(5), out, a, np.arange(40) % 2, True) < 1e-9
    True
    """
    z = a @ w.T + b
    spread = np.sqrt(z.var(axis=0) + 1e-5)
    u = (z - z.mean(axis=0)) / spread if norm else z
    logits = np.maximum(u, 0.0) @ out.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1.0
    error = (p @ out) * (u > 0) / len(y)
    if norm:
        error = (error - error.mean(axis=0) - u * (error * u).mean(axis=0)) / spread
    part = np.outer(error.sum(axis=0), a.mean(axis=0))
    return float(np.linalg.norm(part) / np.linalg.norm(error.T @ a))


def dense_shares(seed: int, norm: bool) -> tuple[float, float]:
    """(by the tape, by hand) for the second of two dense layers of 32 on digits; between the two
    stand a batch norm and a ReLU.

    norm : whether a batch norm stands behind the second as well.

    >>> tape, hand = dense_shares(0, norm=False)
    >>> bool(np.isclose(tape, hand)), dense_shares(0, norm=True)[0] < 1e-6
    (True, True)
    """
    data = digits()
    with fathom.seed(seed):
        first = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU()).double()
        layer, last = nn.Linear(32, 32).double(), nn.Linear(32, 10, bias=False).double()
    behind = [nn.BatchNorm1d(32).double()] if norm else []
    with fathom.no_grad():
        a = first(fathom.tensor(data.x.astype(np.float64))).value()
    head = nn.Sequential(*behind, nn.ReLU(), last)
    w, b, out = (np.asarray(p.value()) for p in (layer.weight, layer.bias, last.weight))
    return mean_share(layer, head, a, data.y), mean_share_by_hand(w, b, out, a, data.y, norm)


def conv_share(seed: int, norm: bool) -> float:
    """The same, by the tape, for the second of two convolutions of 16 channels on 256 digits.

    >>> conv_share(0, norm=True) < 1e-6
    True
    """
    data = digits()
    images, y = data.x[:256].reshape(-1, 1, 8, 8).astype(np.float64), data.y[:256]
    with fathom.seed(seed):
        first = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU()).double()
        layer, last = nn.Conv2d(16, 16, 3).double(), nn.Linear(256, 10).double()
    behind = [nn.BatchNorm2d(16).double()] if norm else []
    with fathom.no_grad():
        a = first(fathom.tensor(images)).value()
    return mean_share(layer, nn.Sequential(*behind, nn.ReLU(), nn.Flatten(), last), a, y)
