"""Small nets on a few digits, with one normalization or another, trained at any batch size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import nn
from fathom.book.material.data import digits
from fathom.engine.errors import ArgumentError

Array = NDArray[Any]


class Few(NamedTuple):
    """400 digits to learn from, 270 to choose rates by, the rest of the test rows to report."""

    x: Array
    y: Array
    choose_x: Array
    choose_y: Array
    test_x: Array
    test_y: Array


@cache
def few() -> Few:
    """Digits, centred; few rows, so that generalization is at stake.

    >>> [len(part) for part in few()]
    [400, 400, 270, 270, 269, 269]
    """
    data = digits()
    middle = data.x.mean()
    x, test = data.x - middle, data.test_x - middle
    return Few(x[:400], data.y[:400], test[:270], data.test_y[:270], test[270:], data.test_y[270:])


def norm_layer(norm: str, width: int) -> list[Any]:
    """The layer of that name, in a list; none for "none"; "frozen" starts as a batch norm.

    >>> [type(layer).__name__ for layer in norm_layer("layer", 4)]
    ['LayerNorm']
    """
    makers: dict[str, Any] = {
        "none": lambda: [],
        "batch": lambda: [nn.BatchNorm1d(width)],
        "frozen": lambda: [nn.BatchNorm1d(width)],
        "layer": lambda: [nn.LayerNorm(width)],
        "group": lambda: [nn.GroupNorm(4, width)],
    }
    if norm not in makers:
        raise ArgumentError(f"no normalization {norm!r} here", fix=f"one of {', '.join(makers)}")
    return list(makers[norm]())


def net(norm: str = "none", width: int = 32, depth: int = 2, activation: Any = nn.ReLU) -> Any:
    """64 inputs, `depth` hidden layers (linear, norm, activation), 10 outputs.

    "frozen" takes the batch statistics of the training rows once, and keeps them.
    """
    layers: list[Any] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else 64, width), *norm_layer(norm, width), activation()]
    made = nn.Sequential(*layers, nn.Linear(width, 10))
    return frozen(made) if norm == "frozen" else made


def frozen(made: Any) -> Any:
    """The same net with its batch norms fixed to the statistics of the 400 training rows."""
    layers: list[Any] = []
    h = fathom.tensor(few().x)
    for layer in made:
        if isinstance(layer, nn.BatchNorm1d):
            values = h.value()
            layer.running_mean.data = values.mean(axis=0)
            layer.running_var.data = values.var(axis=0)
            layer = nn.FrozenBatchNorm1d.of(layer)
        h = layer(h).detach()
        layers.append(layer)
    return nn.Sequential(*layers)


class Scores(NamedTuple):
    """A number for each seed: accuracy on the rows to choose by, on the test rows, last loss."""

    choose: Array
    test: Array
    loss: Array


def fleet(
    norm: str, batch: int, seeds: Sequence[int], *, lr: float | Sequence[float] = 0.1,
    epochs: int = 15, optimizer: str = "sgd", **net_options: Any,
) -> Any:  # fmt: skip
    """Nets trained on the few digits, one for each rate and seed."""
    return fathom.train_many(
        {
            "model": lambda: net(norm, **net_options), "optimizer": optimizer,
            "epochs": epochs, "batch_size": batch,
        },
        few().x, few().y, seeds=seeds, grid={"lr": [lr] if isinstance(lr, float) else lr},
        threads=1,
    )  # fmt: skip


def judged(nets: Any) -> Scores:
    """What became of a fleet, in eval mode; the loss of one that diverged is nan.

    >>> judged(fleet("layer", 32, [0, 1], epochs=2)).test.shape
    (2,)
    """
    data = few()
    losses = np.array([np.nan if run.diverged else run.losses[-1] for run in nets.runs])
    choose = nets.evaluate(data.choose_x, data.choose_y)["accuracy"]
    return Scores(choose, nets.evaluate(data.test_x, data.test_y)["accuracy"], losses)


def best_rate(
    norm: str, batch: int, seeds: Sequence[int], rates: Sequence[float], epochs: int
) -> float:
    """The rate with the highest mean accuracy on the rows to choose by."""
    nets = fleet(norm, batch, seeds, lr=rates, epochs=epochs)
    found = judged(nets).choose.reshape(len(rates), len(seeds))
    return float(rates[int(found.mean(axis=1).argmax())])
