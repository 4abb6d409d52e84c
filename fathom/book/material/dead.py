"""Units that are silent on every row: counted in trained networks, and planted on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.book.material.data import digits
from fathom.book.material.stacks import stack
from fathom.doctor import dead_units

Array = NDArray[Any]


def rows_of(name: str) -> tuple[Array, Array]:
    """The training rows of "digits", or 600 of two interleaved moons.

    >>> rows_of("moons")[0].shape
    (600, 2)
    """
    if name == "digits":
        return digits().x, digits().y
    data = fathom.data.load(name, n=600, seed=0)
    return np.asarray(data.x, np.float32), np.asarray(data.y, np.int64)


def dead_share(model: Any, x: Array) -> float:
    """Share of the hidden units that put out 0 on every row, over all layers.

    >>> net = stack(2, 2, 4, 1)
    >>> net[0].bias.data[...] = [-99.0, 99.0, 99.0, -99.0]
    >>> dead_share(net, np.eye(2, dtype=np.float32))
    0.5
    """
    rows = dead_units(model, x).rows
    return sum(row.dead for row in rows) / sum(row.units for row in rows)


def dead_shares(
    seeds: Sequence[int], depth: int, rate: float, *, activation: str = "relu", norm: bool = False,
    data: str = "digits", width: int = 32, epochs: int = 10,
) -> Array:  # fmt: skip
    """One share a seed: stacks of that depth, He's initial weights, plain SGD, batches of 64.

    epochs : 0 counts before training. A network that diverged has no share: nan.

    >>> dead_shares([0, 1], 2, 0.1, data="moons", epochs=1).shape
    (2,)
    """
    x, y = rows_of(data)

    def start() -> Any:
        classes = int(y.max()) + 1
        return stack(x.shape[1], classes, width, depth, activation=activation, norm=norm)

    if epochs == 0:
        return np.array([dead_share(_seeded(start, seed), x) for seed in seeds])
    spec = {
        "model": start, "optimizer": "sgd", "lr": rate, "epochs": epochs, "batch_size": 64,
    }  # fmt: skip
    runs = fathom.train_many(spec, x, y, seeds=seeds).runs
    return np.array([np.nan if r.diverged else dead_share(r.model, x) for r in runs])


def _seeded(start: Callable[[], Any], seed: int) -> Any:
    with fathom.seed(seed):
        return start()


def silenced(layer: int, x: Array, outputs: int, *, activation: str = "relu", depth: int = 2,
             width: int = 32, bias: float | None = None) -> Any:  # fmt: skip
    """A fresh stack whose hidden layer of that number (from 0) has its first half dead.

    bias : of those units. None makes each as large as leaves it just silent (by 0.01) on all rows.

    >>> x = np.eye(4, dtype=np.float32)
    >>> dead_share(silenced(0, x, 2, depth=1), x) >= 0.5
    True
    """
    net = stack(x.shape[1], outputs, width, depth, activation=activation)
    h = x
    with fathom.no_grad():
        for part in list(net)[: 2 * layer]:
            h = part(h)
    weight = net[2 * layer].weight.value()
    highest = (np.asarray(fathom.tensor(h).value()) @ weight.T).max(axis=0)[: width // 2]
    new = net[2 * layer].bias.value().copy()
    new[: width // 2] = -highest - 0.01 if bias is None else bias
    net[2 * layer].bias.data[...] = new
    return net


def revived(net: Any, layer: int, x: Array) -> float:
    """Share of the first half of that hidden layer's units whose input exceeds 0 on some row.

    >>> x = np.eye(4, dtype=np.float32)
    >>> revived(silenced(0, x, 2, depth=1), 0, x)
    0.0
    """
    h: Any = fathom.tensor(x)
    with fathom.no_grad():
        for part in list(net)[: 2 * layer + 1]:
            h = part(h)
    z = h.value()
    return float((z[:, : z.shape[1] // 2].max(axis=0) > 0).mean())
