"""Systems described with a mechanism: the checks that have no better place."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError
from fathom.nn.cost import conv_cost, linear_cost


def test_dense_parameter_flop_and_memory_calculator() -> None:
    """1,966,081,024 numbers, 7.86 GB, for 1,024 units on 800 x 800 pixels in three colours."""
    large = linear_cost(800 * 800 * 3, 1024)
    assert large.parameters == 1_966_081_024
    assert large.parameter_bytes / 1e9 == pytest.approx(7.86, abs=0.005)
    assert large.flops == 2 * 1920000 * 1024
    for layer, shape, cost in (
        (nn.Linear(30, 7), (30,), linear_cost(30, 7)),
        (nn.Linear(30, 7, bias=False).double(), (30,), linear_cost(30, 7, False, np.float64)),
        (nn.Conv2d(4, 6, (3, 2)), (4, 9, 9), conv_cost(4, 6, (3, 2), (7, 8))),
        (nn.Conv1d(4, 6, 3, groups=2), (4, 9), conv_cost(4, 6, (3,), (7,), groups=2)),
    ):
        told = layer.summary(shape)
        assert (told.parameters, told.parameter_bytes, told.multiply_adds) == (
            cost.parameters, cost.parameter_bytes, cost.multiply_adds,
        )  # fmt: skip
    with pytest.raises(ArgumentError, match="out_features"):
        linear_cost(3, 0)
    with pytest.raises(ArgumentError, match="groups=2"):
        conv_cost(3, 4, (3,), (5,), groups=2)
    with pytest.raises(ArgumentError, match="one number for each axis"):
        conv_cost(3, 4, (3, 3), (5,))


def test_novikoff_convergence_bound() -> None:
    """300 sets from a known plane: at most (R / gamma)^2 mistakes, with its margin for gamma."""
    sets, most, seed = 0, 0.0, 0
    while sets < 300:
        rng, seed = np.random.default_rng(seed), seed + 1
        width, gap = int(rng.integers(1, 6)), rng.uniform(0.02, 0.5)
        w = rng.standard_normal(width + 1)
        w /= np.linalg.norm(w)
        rows = fathom.models.augment(rng.standard_normal((40, width)))
        rows = rows[abs(rows @ w) > gap]
        y = np.where(rows @ w > 0, 1, -1)
        if len(set(y.tolist())) == 2:
            unit = fathom.models.Perceptron(max_epochs=100_000).fit(rows[:, 1:], y)
            bound = (rows**2).sum(axis=1).max() / abs(rows @ w).min() ** 2
            assert unit.converged and unit.mistakes <= bound
            sets, most = sets + 1, max(most, unit.mistakes / bound)
    assert most > 0.05  # and the bound is not an idle one
