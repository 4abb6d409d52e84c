"""What the book says of training, measured through `fit`."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import DivergedError
from fathom.train.quantize import Affine, lookup_table

DIGITS = fathom.data.load("digits")
ORDER = np.random.default_rng(0).permutation(len(DIGITS.x))
X, Y = (DIGITS.x[ORDER] / 16).astype(np.float32), DIGITS.y[ORDER]


def deep(norm=None, widths=(48,) * 4, seed=0):
    with fathom.seed(seed):
        layers, width = [], 64
        for size in widths:
            layers += [nn.Linear(width, size), *([norm(size)] if norm else []), nn.ReLU()]
            width = size
        return nn.Sequential(*layers, nn.Linear(width, 10))


def accuracy(net, rows, **options):
    try:
        net.fit(X[:rows], Y[:rows], optimizer="sgd", metrics=(), verbose=False, **options)
    except DivergedError:
        return 0.0
    return net.evaluate(X[1000:], Y[1000:])["accuracy"]


def test_batch_norm_stands_a_rate_of_two():
    bare = [accuracy(deep(), 600, epochs=4, batch_size=50, lr=lr) for lr in (1.0, 2.0)]
    normed = accuracy(deep(nn.BatchNorm1d), 600, epochs=4, batch_size=50, lr=2.0)
    assert normed > 0.85 and max(bare) < 0.4


def test_group_norm_stands_batches_of_two_and_batch_norm_does_not():
    options = {"epochs": 2, "batch_size": 2, "lr": 0.02}
    group = accuracy(deep(lambda width: nn.GroupNorm(8, width), (48,) * 3), 250, **options)
    batch = accuracy(deep(nn.BatchNorm1d, (48,) * 3), 250, **options)
    assert group > batch + 0.15


class TestAccumulation:
    def weights(self, norm, batch_size, accumulate):
        with fathom.seed(0):
            middle = [nn.BatchNorm1d(8)] if norm else []
            net = nn.Sequential(nn.Linear(64, 8), *middle, nn.Tanh(), nn.Linear(8, 10)).double()
        net.fit(X[:64], Y[:64], epochs=1, batch_size=batch_size, accumulate=accumulate,
                optimizer="sgd", lr=0.1, shuffle=False, verbose=False)  # fmt: skip
        return np.concatenate([p.value().reshape(-1) for p in net.parameters()])

    @pytest.mark.parametrize("k", [2, 4, 16])
    def test_micro_batches_are_one_big_batch_unless_they_are_normalized(self, k):
        for norm in (False, True):
            apart = self.weights(norm, 64 // k, k) - self.weights(norm, 64, 1)
            assert np.abs(apart).max() < 5e-16 if not norm else np.abs(apart).max() > 1e-4

    def test_the_same_seed_gives_the_same_bytes(self):
        runs = [self.weights(True, 16, 2).tobytes() for _ in range(2)]
        assert runs[0] == runs[1]


class TestExactZeros:
    """50 features, 6 of them in the targets."""

    def zeros(self, penalty, **options):
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((400, 50)), np.zeros(50)
        w[:6] = [2.0, -1.5, 1.0, -1.0, 3.0, 0.8]
        with fathom.seed(0):
            model = nn.Linear(50, 1, bias=False).double()
        model.fit(x, x @ w + 0.1 * rng.standard_normal(400), penalty=penalty, epochs=60,
                  batch_size=100, verbose=False, **options)  # fmt: skip
        found = model.weight.value().reshape(-1)
        assert np.abs(found[:6] - w[:6]).max() < 0.2
        return int((found == 0).sum())

    @pytest.mark.parametrize(
        ("penalty", "zeros"),
        [("proximal_l1:strength=0.1", 44), ("l1:strength=0.05", 0), ("l2:strength=0.1", 0)],
    )
    def test_l1_by_proximal_steps_makes_44_and_l2_none(self, penalty, zeros):
        assert self.zeros(penalty, optimizer="sgd", lr=0.05) == zeros

    def test_elastic_net_by_name(self):
        assert self.zeros({"name": "elastic_net", "l1": 0.01, "l2": 0.01}, lr=0.05) == 0


class TestActivationsInEightBits:
    grid = Affine.fit(-4.0, 4.0)
    values = grid.dequantize(np.arange(-128, 128))

    def table(self, layer, grid_out=None):
        call = lambda r: layer(fathom.tensor(r)).value()  # noqa: E731
        table, out = lookup_table(call, self.grid, grid_out)
        return out, out.dequantize(table), call(self.values)

    def test_relu_is_exact(self):
        _, found, exact = self.table(nn.ReLU(), self.grid)
        np.testing.assert_array_equal(found, exact)

    def test_gelu_is_within_half_a_step(self):
        out, found, exact = self.table(nn.GELU())
        assert 0.45 * out.scale < np.abs(found - exact).max() <= 0.5001 * out.scale

    def test_the_left_side_of_leaky_relu_collapses_to_two_codes(self):
        _, found, _ = self.table(nn.LeakyReLU(0.01), self.grid)
        left = found[self.values < 0]
        right = found[self.values >= 0]
        assert len(np.unique(left)) == 2 and len(np.unique(right)) == len(right)
