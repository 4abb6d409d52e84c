"""Two small problems to train on over seeds and rates, and what a wrong rate costs on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import nn
from fathom.book.material.normed import few

Array = NDArray[Any]


class Task(NamedTuple):
    """Rows to learn from, to choose rates by, to report; and the widths of the net."""

    learn: tuple[Any, Any]
    choose: tuple[Any, Any]
    report: tuple[Any, Any]
    widths: tuple[int, int, int]


@cache
def task(name: str) -> Task:
    """400 digits ("digits"), or 400 points of two noisy moons ("moons").

    >>> task("moons").widths
    (2, 32, 2)
    """
    if name == "digits":
        d = few()
        parts = [(d.x, d.y), (d.choose_x, d.choose_y), (d.test_x, d.test_y)]
        return Task(parts[0], parts[1], parts[2], (64, 32, 10))
    made = [
        fathom.data.load("moons", n=n, noise=0.35, seed=s) for s, n in enumerate((400, 500, 500))
    ]
    parts = [(p.x.astype(np.float32), p.y) for p in made]
    return Task(parts[0], parts[1], parts[2], (2, 32, 2))


def nets(
    data: Task, batch: int, seeds: Sequence[int], lr: float | Sequence[float], epochs: int,
    optimizer: str = "sgd", **options: Any,
) -> Any:  # fmt: skip
    """Two hidden ReLU layers, a net for each rate and seed; options are the optimizer's."""
    inputs, hidden, outputs = data.widths
    spec = {
        "model": lambda: nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, outputs),
        ),
        "optimizer": optimizer, "epochs": epochs, "batch_size": batch, **options,
    }  # fmt: skip
    rates = {"lr": [lr] if isinstance(lr, float) else lr}
    return fathom.train_many(spec, *data.learn, seeds=seeds, grid=rates, threads=1)


def sweep(
    name: str, optimizer: str, rates: Sequence[float], seeds: Sequence[int], epochs: int,
    **options: Any,
) -> Array:  # fmt: skip
    """Test accuracy (rates, seeds), batches of 32."""
    data = task(name)
    made = nets(data, 32, seeds, rates, epochs, optimizer, **options)
    accuracy: Array = made.evaluate(*data.report)["accuracy"].reshape(len(rates), len(seeds))
    return accuracy


def cost_of_error(accuracy: Array, steps: int) -> Array:
    """What the best rate loses, a number a seed, where it is too large or too small.

    accuracy : (rates, seeds) on a grid of rates; the one used is so many steps off, and the worse
    side counts.

    >>> cost_of_error(np.array([[0.5], [0.9], [0.6]]), 1).round(3).tolist()
    [0.4]
    """
    best = int(accuracy.mean(axis=1).argmax())
    off = [i for i in (best - steps, best + steps) if 0 <= i < len(accuracy)]
    worse = min(off, key=lambda i: float(accuracy[i].mean()))
    return np.asarray(accuracy[best] - accuracy[worse])
