"""Which of two stacks learns digits sooner: losses by epoch, and how many it takes to a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom.book.material.data import digits
from fathom.book.material.stacks import stack

Array = NDArray[Any]


@dataclass(frozen=True)
class Race:
    """losses : (seeds, epochs), means over each epoch. accuracy : (seeds,) on test rows, 0 where it
    diverged."""

    losses: Array
    accuracy: Array

    def epochs_to(self, level: float) -> Array:
        """The first epoch whose mean loss is at most `level`, (seeds,); one more than there are
        where none is.

        >>> Race(np.array([[2.0, 1.0, 0.5], [3.0, 2.0, 2.0]]), np.zeros(2)).epochs_to(1.0).tolist()
        [2, 4]
        """
        reached = np.column_stack([self.losses <= level, np.ones(len(self.losses), bool)])
        return np.asarray(reached.argmax(axis=1) + 1)


def race(
    seeds: Sequence[int], activation: str, *, rate: float = 0.1, epochs: int = 20, depth: int = 3,
    width: int = 32, norm: bool = False, init: str = "he_normal", optimizer: str = "sgd",
) -> Race:  # fmt: skip
    """Stacks on digits in batches of 64, the same seeds and order of rows for every choice.

    >>> race([0, 1], "relu", epochs=2, depth=1).losses.shape
    (2, 2)
    """
    data = digits()
    spec = {
        "model": lambda: stack(64, 10, width, depth, activation=activation, init=init, norm=norm),
        "optimizer": optimizer, "lr": rate, "epochs": epochs, "batch_size": 64,
    }  # fmt: skip
    fleet = fathom.train_many(spec, data.x, data.y, seeds=seeds)
    right = fleet.evaluate(data.test_x, data.test_y)["accuracy"]
    fine = np.array([not run.diverged for run in fleet.runs])
    return Race(fleet.losses, np.where(fine, right, 0.0))
