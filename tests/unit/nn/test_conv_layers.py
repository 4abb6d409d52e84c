import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, FathomError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test

CASES = [
    (lambda: nn.Conv1d(4, 6, 3), (2, 4, 8), 78, (2, 6, 6)),
    (lambda: nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 5, 4), 112, (2, 4, 5, 4)),
    (lambda: nn.Conv2d(4, 4, (3, 2), 2, 1, groups=2, bias=False), (2, 4, 5, 4), 48, (2, 4, 3, 3)),
    (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 2, 4, 4), 38,
     (2, 2, 4, 4)),
    (lambda: nn.Conv3d(2, 2, 2), (2, 2, 3, 3, 3), 34, (2, 2, 2, 2, 2)),
    (lambda: nn.ConvTranspose1d(3, 2, 3, stride=2), (2, 3, 4), 20, (2, 2, 9)),
    (lambda: nn.ConvTranspose2d(3, 4, 2, 2, output_padding=1), (2, 3, 3, 2), 52, (2, 4, 7, 5)),
    (lambda: nn.ConvTranspose3d(2, 2, 2), (1, 2, 2, 2, 2), 34, (1, 2, 3, 3, 3)),
    (lambda: nn.DepthwiseConv1d(3, 3), (2, 3, 6), 12, (2, 3, 4)),
    (lambda: nn.DepthwiseConv2d(3, 3, depth_multiplier=2), (2, 3, 5, 5), 60, (2, 6, 3, 3)),
    (lambda: nn.DepthwiseConv2d(None, 3, padding_mode="reflect", padding=1), (2, 3, 4, 4), 30,
     (2, 3, 4, 4)),
    (lambda: nn.DepthwiseConv3d(2, 2, bias=False), (2, 2, 3, 3, 3), 16, (2, 2, 2, 2, 2)),
    (lambda: nn.SeparableConv2d(None, 5, 3, depth_multiplier=2), (2, 3, 5, 4), 89, (2, 5, 3, 2)),
    (lambda: nn.SeparableConv3d(2, 3, 2), (2, 2, 3, 3, 3), 25, (2, 3, 2, 2, 2)),
    (lambda: nn.SeparableConv1d(3, 5, 3, padding=1), (2, 3, 6), 29, (2, 5, 6)),
    (lambda: nn.SeparableConv2d(3, 5, 3, padding="same"), (2, 3, 5, 4), 47, (2, 5, 5, 4)),
    (lambda: nn.MaxPool1d(2), (2, 3, 6), 0, (2, 3, 3)),
    (lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 3, 5, 4), 0, (2, 3, 3, 2)),
    (lambda: nn.MaxPool3d(2), (1, 2, 4, 4, 4), 0, (1, 2, 2, 2, 2)),
    (lambda: nn.AvgPool1d(2), (2, 3, 6), 0, (2, 3, 3)),
    (lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False), (2, 3, 5, 4), 0, (2, 3, 5, 4)),
    (lambda: nn.AvgPool3d(2), (1, 2, 4, 4, 4), 0, (1, 2, 2, 2, 2)),
    (lambda: nn.LPPool1d(2, 2), (2, 3, 6), 0, (2, 3, 3)),
    (lambda: nn.LPPool2d(2, 2), (2, 3, 4, 4), 0, (2, 3, 2, 2)),
    (lambda: nn.LPPool3d(2, 2, 1), (1, 2, 3, 3, 3), 0, (1, 2, 2, 2, 2)),
    (lambda: nn.AdaptiveAvgPool1d(2), (2, 3, 5), 0, (2, 3, 2)),
    (lambda: nn.AdaptiveAvgPool2d((2, None)), (2, 3, 5, 4), 0, (2, 3, 2, 4)),
    (lambda: nn.AdaptiveAvgPool3d(1), (1, 2, 3, 3, 3), 0, (1, 2, 1, 1, 1)),
    (lambda: nn.AdaptiveMaxPool1d(3), (2, 3, 5), 0, (2, 3, 3)),
    (lambda: nn.AdaptiveMaxPool2d(2), (2, 3, 4, 6), 0, (2, 3, 2, 2)),
    (lambda: nn.AdaptiveMaxPool3d((1, 2, None)), (2, 2, 3, 4, 2), 0, (2, 2, 1, 2, 2)),
    (lambda: nn.GlobalAvgPool(), (2, 3, 4, 5), 0, (2, 3)),
    (lambda: nn.GlobalMaxPool(keepdims=True), (2, 3, 4, 5), 0, (2, 3, 1, 1)),
    (lambda: nn.Flatten(), (2, 3, 4), 0, (2, 12)),
    (lambda: nn.Unflatten(1, (2, 3)), (2, 6, 4), 0, (2, 2, 3, 4)),
    (lambda: nn.Linear(5, 3), (4, 5), 18, (4, 3)),
    (lambda: nn.Identity(), (4, 5), 0, (4, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "count", "out"), CASES, ids=lambda v: None)
def test_layer(make, shape, count, out):
    run_layer_test(make, shape, parameters=count, output_shape=out)


def test_bilinear():
    run_layer_test(lambda: nn.Bilinear(3, 4, 2), (5, 3), (5, 4), parameters=26, output_shape=(5, 2))


@pytest.mark.parametrize(
    ("rank", "kind"), [(1, nn.MaxUnpool1d), (2, nn.MaxUnpool2d), (3, nn.MaxUnpool3d)]
)
def test_unpooling(rank, kind):
    pool = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)
    x = fathom.Tensor(np.random.default_rng(0).standard_normal((2, 3, *(4,) * rank)))
    values, index = pool(x)
    run_layer_test(
        lambda: kind(2),
        inputs=[values.value(), index.value()],
        output_shape=x.shape,
    )


@pytest.mark.parametrize(("k", "channels"), [(3, 8), (5, 4)])
def test_separable_has_k2c_plus_c2_weights(k, channels):
    layer = nn.SeparableConv2d(channels, channels, k, bias=False)
    assert sum(p.size for p in layer.parameters()) == k * k * channels + channels * channels


def test_separable_is_the_two_convolutions():
    layer = nn.SeparableConv2d(3, 5, 3, stride=2, padding=1, depth_multiplier=2)
    x = fathom.Tensor(np.random.default_rng(0).standard_normal((2, 3, 7, 7)).astype("f"))
    middle = nn.functional.conv2d(x, layer.depthwise, None, 2, 1, groups=3)
    out = nn.functional.conv2d(middle, layer.pointwise, layer.bias)
    np.testing.assert_allclose(layer(x).value(), out.value(), rtol=1e-6)


def test_flops_of_a_convolution():
    """VGG's second layer: 924,844,032 half multiply-adds, half additions, over 224 x 224."""
    layer = nn.Conv2d(64, 32, 3, padding=1, bias=False)
    assert layer.summary((64, 224, 224)).multiply_adds == 924_844_032


def test_equivariance_and_invariance():
    rng = np.random.default_rng(0)
    x = np.zeros((1, 1, 12, 12))
    x[:, :, 3:7, 3:7] = rng.standard_normal((4, 4))
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular").double()
    shifted = np.roll(x, (2, 3), (2, 3))
    a, b = layer(fathom.Tensor(x)), layer(fathom.Tensor(shifted))
    assert np.abs(np.roll(a.value(), (2, 3), (2, 3)) - b.value()).max() == 0.0
    assert np.abs(a.value() - b.value()).max() > 0.1
    pool = nn.GlobalAvgPool()
    np.testing.assert_allclose(pool(a).value(), pool(b).value(), atol=1e-15)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.Conv2d(0, 4, 3), "in_channels must be a whole number >= 1"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "cannot be split into groups=2"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size is one whole number, or 2 of them"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), "unknown padding_mode"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), "'same' or 'valid'"),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"), "needs stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), "stride must be >= 1"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), "padding is numbers"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "only padding_mode='zeros'"),
        (lambda: nn.MaxPool2d(2, padding=2), "at most half"),
        (lambda: nn.LPPool2d(0, 2), "norm_type must be > 0"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "output_size"),
        (lambda: nn.GlobalAvgPool()(fathom.zeros(2, 3)), r"needs \(n, c, \*spatial\)"),
        (lambda: nn.Unflatten(1, 6), "tuple of whole numbers"),
        (lambda: nn.Bilinear(2, 0, 3), "in2_features must be a whole number >= 1"),
        (lambda: nn.SeparableConv2d(3, 4, 3, depth_multiplier=0), "depth_multiplier must be"),
    ],
)
def test_errors(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


def test_wrong_inputs():
    with pytest.raises(ShapeError, match="channels come before height and width"):
        nn.Conv2d(3, 4, 3)(fathom.zeros(2, 8, 8, 3))
    with pytest.raises(ShapeError, match=r"input 2 .* must have 4 features"):
        nn.Bilinear(3, 4, 2)(fathom.zeros(5, 3), fathom.zeros(5, 3))
    with pytest.raises(ShapeError, match="must agree in all axes but the last"):
        nn.Bilinear(3, 4, 2)(fathom.zeros(5, 3), fathom.zeros(6, 4))
    with pytest.raises(FathomError, match="lies between"):
        nn.ConvTranspose2d(2, 2, 3, stride=2)(fathom.zeros(1, 2, 4, 4), output_size=(20, 9))
