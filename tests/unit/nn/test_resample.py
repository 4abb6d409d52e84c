"""Borders, other sizes and orders: the layers without weights that move elements about."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test

CASES = [
    (lambda: nn.ZeroPad1d(1), (2, 3, 4), (2, 3, 6)),
    (lambda: nn.ZeroPad2d((1, 0, 2, -1)), (2, 3, 4, 5), (2, 3, 5, 6)),
    (lambda: nn.ZeroPad3d(1), (2, 1, 2, 3, 2), (2, 1, 4, 5, 4)),
    (lambda: nn.ConstantPad1d((2, 0), 1.5), (2, 3, 4), (2, 3, 6)),
    (lambda: nn.ConstantPad2d(1, -1.0), (2, 3, 4, 5), (2, 3, 6, 7)),
    (lambda: nn.ConstantPad3d((0, 0, 1, 0, 0, 1), 2.0), (2, 1, 2, 3, 2), (2, 1, 3, 4, 2)),
    (lambda: nn.ReflectionPad1d(2), (2, 3, 4), (2, 3, 8)),
    (lambda: nn.ReflectionPad2d((1, 2, 0, 3)), (2, 3, 4, 5), (2, 3, 7, 8)),
    (lambda: nn.ReflectionPad3d(1), (2, 1, 2, 3, 2), (2, 1, 4, 5, 4)),
    (lambda: nn.ReplicationPad1d((3, 1)), (2, 3, 2), (2, 3, 6)),
    (lambda: nn.ReplicationPad2d(2), (2, 3, 1, 2), (2, 3, 5, 6)),
    (lambda: nn.ReplicationPad3d(1), (2, 1, 2, 3, 2), (2, 1, 4, 5, 4)),
    (lambda: nn.CircularPad1d((1, 2)), (2, 3, 4), (2, 3, 7)),
    (lambda: nn.CircularPad2d(1), (2, 3, 2, 2), (2, 3, 4, 4)),
    (lambda: nn.CircularPad3d(1), (2, 1, 2, 3, 2), (2, 1, 4, 5, 4)),
    (lambda: nn.Upsample(scale_factor=2), (2, 3, 4), (2, 3, 8)),
    (lambda: nn.Upsample((5, 3), mode="bilinear"), (2, 3, 4, 4), (2, 3, 5, 3)),
    (lambda: nn.Upsample(3, mode="bicubic", align_corners=True), (2, 1, 4, 4), (2, 1, 3, 3)),
    (lambda: nn.UpsamplingNearest2d(scale_factor=(2, 1)), (2, 3, 2, 3), (2, 3, 4, 3)),
    (lambda: nn.UpsamplingBilinear2d(5), (2, 1, 2, 3), (2, 1, 5, 5)),
    (lambda: nn.PixelShuffle(2), (2, 8, 2, 3), (2, 2, 4, 6)),
    (lambda: nn.PixelUnshuffle(2), (2, 2, 4, 6), (2, 8, 2, 3)),
    (lambda: nn.ChannelShuffle(3), (2, 6, 2), (2, 6, 2)),
    (lambda: nn.Unfold((2, 3), padding=1), (2, 3, 4, 3), (2, 18, 15)),
    (lambda: nn.Fold((4, 3), (2, 3), padding=1), (2, 18, 15), (2, 3, 4, 3)),
]


@pytest.mark.parametrize(("make", "shape", "out"), CASES, ids=lambda v: None)
def test_layer(make, shape, out):
    run_layer_test(make, shape, parameters=0, output_shape=out)


def test_shuffles_are_undone():
    x = fathom.Tensor(np.random.default_rng(0).standard_normal((2, 6, 4, 4)))
    assert (nn.PixelShuffle(2)(nn.PixelUnshuffle(2)(x)).value() == x.value()).all()
    assert (nn.ChannelShuffle(3)(nn.ChannelShuffle(2)(x)).value() == x.value()).all()


def test_fold_is_the_transpose_of_unfold():
    rng = np.random.default_rng(0)
    x, columns = rng.standard_normal((1, 2, 5, 4)), rng.standard_normal((1, 12, 9))
    options = {"stride": 2, "padding": 1}
    there = nn.Unfold((3, 2), **options)(fathom.Tensor(x)).value()
    back = nn.Fold((5, 4), (3, 2), **options)(fathom.Tensor(columns)).value()
    np.testing.assert_allclose((there * columns).sum(), (x * back).sum(), rtol=1e-12)


def test_a_convolution_pads_as_these_layers_do():
    x = fathom.Tensor(np.random.default_rng(0).standard_normal((2, 3, 5, 6)))
    pads = {
        "zeros": nn.ZeroPad2d, "reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d,
        "circular": nn.CircularPad2d,
    }  # fmt: skip
    for mode, pad in pads.items():
        layer = nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode=mode).double()
        bare = nn.functional.conv2d(pad((1, 1, 2, 2))(x), layer.weight, layer.bias)
        np.testing.assert_allclose(layer(x).value(), bare.value(), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.ZeroPad2d((1, 2)), "one whole number, or 4 of them"),
        (lambda: nn.ReflectionPad1d(1.0), "padding must be a whole number"),
        (lambda: nn.ConstantPad1d(1, "0"), "value must be a finite number"),
        (lambda: nn.Upsample(), "give size or scale_factor"),
        (lambda: nn.Upsample(2, 2.0), "one of them"),
        (lambda: nn.Upsample(2, mode="cubic"), "unknown mode 'cubic'"),
        (lambda: nn.Upsample(scale_factor=0.0), "scale_factor must be > 0"),
        (lambda: nn.PixelShuffle(0), "upscale_factor must be a whole number >= 1"),
    ],
)
def test_errors(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


def test_wrong_inputs():
    with pytest.raises(ShapeError, match=r"ZeroPad2d: the input needs shape"):
        nn.ZeroPad2d(1)(fathom.zeros(4, 4))
    with pytest.raises(ShapeError, match="reflect padding"):
        nn.ReflectionPad1d(4)(fathom.zeros(1, 1, 4))
    with pytest.raises(ShapeError, match=r"multiple of 4; received shape \(2, >6<, 3\)"):
        nn.ChannelShuffle(4)(fathom.zeros(2, 6, 3))
