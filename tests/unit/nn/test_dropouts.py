import math

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test

LAYERS = [
    (lambda: nn.Dropout(0.3), (4, 8)),
    (lambda: nn.Dropout1d(), (4, 6, 3)),
    (lambda: nn.Dropout2d(), (4, 6, 3, 2)),
    (lambda: nn.Dropout3d(), (4, 6, 2, 2, 2)),
    (lambda: nn.AlphaDropout(), (4, 8)),
    (lambda: nn.FeatureAlphaDropout(), (4, 6, 3)),
    (lambda: nn.DropPath(0.5), (8, 3)),
    (lambda: nn.DropPath(0.9, "batch"), (8, 3)),
    (lambda: nn.DropBlock1d(0.3, 2), (2, 3, 9)),
    (lambda: nn.DropBlock2d(0.3, 2), (2, 3, 6, 6)),
    (lambda: nn.DropBlock3d(0.2, 2), (2, 2, 3, 4, 5)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=lambda v: None)
def test_layer(make, shape):
    run_layer_test(make, shape, parameters=0, output_shape=shape, training_only=True)


def test_classic_dropout_scales_in_eval():
    run_layer_test(lambda: nn.Dropout(0.3, classic=True), (4, 8), output_shape=(4, 8))
    layer, x = nn.Dropout(0.25, classic=True), fathom.ones(400, 100)
    with fathom.seed(0):
        out = layer(x).value()
    assert set(np.unique(out)) == {0.0, 1.0}
    assert out.mean() == pytest.approx(0.75, abs=0.02)
    assert layer.eval()(x).value().mean() == pytest.approx(0.75)


def test_inverted_and_classic_have_the_moments_of_the_book():
    """Expectation x (inverted) and x (1-p) (classic); variance x^2 p / (1-p) inverted."""
    x, p = fathom.full((1000, 500), 2.0), 0.4
    with fathom.seed(0):
        inverted, classic = nn.Dropout(p)(x).value(), nn.Dropout(p, classic=True)(x).value()
    assert inverted.mean() == pytest.approx(2.0, rel=5e-3)
    assert inverted.var() == pytest.approx(4 * p / (1 - p), rel=0.01)
    assert classic.mean() == pytest.approx(2.0 * (1 - p), rel=5e-3)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_alpha_dropout_keeps_mean_and_variance(p):
    x = np.random.default_rng(0).standard_normal((1000, 500))
    with fathom.seed(1):
        out = nn.AlphaDropout(p)(fathom.Tensor(x)).value()
    assert abs(out.mean()) < 0.01
    assert out.var() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_whole_channels(rank):
    x = fathom.ones(20, 30, *(3,) * rank)
    with fathom.seed(0):
        out = getattr(nn, f"Dropout{rank}d")(0.4)(x).value().reshape(600, -1)
    assert (out == out[:, :1]).all()
    assert (out[:, 0] == 0).mean() == pytest.approx(0.4, abs=0.08)


class TestDropPath:
    def test_whole_samples_and_the_expectation(self):
        x = fathom.ones(20000, 3)
        with fathom.seed(0):
            out = nn.DropPath(0.3)(x).value()
        assert (out == out[:, :1]).all()
        assert out.mean() == pytest.approx(1.0, abs=5 * math.sqrt(0.3 / 0.7 / 20000))

    def test_batch_mode_drops_all_or_nothing(self):
        layer = nn.DropPath(0.5, "batch")
        with fathom.seed(0):
            outs = [layer(fathom.ones(4, 2)).value() for _ in range(50)]
        assert {float(o.min()) for o in outs} == {float(o.max()) for o in outs} == {0.0, 2.0}

    def test_p_one(self):
        assert nn.DropPath(1.0)(fathom.ones(3)).tolist() == [0.0] * 3


class TestDropBlock:
    def test_regions_are_squares(self):
        x = fathom.ones(1, 400, 9, 9)
        with fathom.seed(0):
            out = nn.DropBlock2d(0.03, 3)(x).value()[0]
        single = 0
        for plane in out == 0:
            rows, columns = np.nonzero(plane)
            if not rows.size:
                continue
            # every dropped element lies in a dropped 3 x 3 square
            for i, j in zip(rows, columns, strict=True):
                squares = [plane[a : a + 3, b : b + 3].all()
                           for a in range(max(i - 2, 0), min(i, 6) + 1)
                           for b in range(max(j - 2, 0), min(j, 6) + 1)]  # fmt: skip
                assert any(squares)
            single += rows.size == 9
        assert single > 20  # and most are one square alone

    @pytest.mark.parametrize("p", [0.05, 0.1, 0.2])
    def test_share_and_scale(self, p):
        x = fathom.ones(50, 20, 14, 14)
        with fathom.seed(0):
            out = nn.DropBlock2d(p, 3)(x).value()
        assert (out == 0).mean() == pytest.approx(p, rel=0.2)  # squares overlap
        assert out.mean() == pytest.approx(1.0, abs=1e-5)

    def test_stretches_and_cubes(self):
        with fathom.seed(0):
            line = nn.DropBlock1d(0.03, 4)(fathom.ones(1, 500, 20)).value()[0] == 0
            cube = nn.DropBlock3d(0.01, 2)(fathom.ones(1, 500, 6, 5, 4)).value()[0] == 0
        counts = line.sum(axis=1)
        assert set(np.unique(counts[counts > 0])) & {4} and not set(counts) & {1, 2, 3}
        counts = cube.sum(axis=(1, 2, 3))
        assert set(np.unique(counts[counts > 0])) & {8} and not set(counts) & set(range(1, 8))

    def test_blocks_that_do_not_fit(self):
        with pytest.raises(ShapeError, match=r"block_size=7 does not fit into \(1, 1, >5<, >5<\)"):
            nn.DropBlock2d(0.1)(fathom.zeros(1, 1, 5, 5))
        with pytest.raises(ShapeError, match=r"needs \(n, c, h, w\)"):
            nn.DropBlock2d(0.1)(fathom.zeros(5, 5))


@pytest.mark.parametrize(
    "kind",
    [nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.DropPath, nn.DropBlock2d],
)
@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), "0.5", True])
def test_p_outside(kind, p):
    with pytest.raises(ArgumentError, match=rf"{kind.__name__}: p is a probability in \[0, 1\]"):
        kind(p)


def test_unknown_mode():
    with pytest.raises(ArgumentError, match="'row' or 'batch'"):
        nn.DropPath(0.1, "column")
