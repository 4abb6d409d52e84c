import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test

DEPTH, WIDTH = 50, 32


def deep(wrap, depth=DEPTH):
    with fathom.seed(0):
        blocks = [
            wrap(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)))
            for _ in range(depth)
        ]
        for block in blocks:
            for layer in (block.body[0], block.body[2]):
                nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(*blocks)


def gain(model):
    """How much the network multiplies the norm of its input, forward and backward."""
    x = fathom.Tensor(np.random.default_rng(0).standard_normal((64, WIDTH)).astype("f"), True)
    out = model(x)
    u = fathom.Tensor(np.random.default_rng(1).standard_normal(out.shape).astype("f"))
    (g,) = fathom.autograd.grad((out * u).sum(), x)
    size = lambda t: float(np.sqrt((t.value() ** 2).mean()))  # noqa: E731
    return size(out) / size(x), size(g) / size(u)


def test_layers():
    body = lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh())  # noqa: E731
    run_layer_test(lambda: nn.Residual(body()), (3, 4), parameters=20, output_shape=(3, 4))
    run_layer_test(
        lambda: nn.Residual(nn.Linear(4, 2), nn.Linear(4, 2, bias=False), scale=0.5),
        (3, 4), parameters=18, output_shape=(3, 2),
    )  # fmt: skip
    run_layer_test(lambda: nn.Residual(body(), scale=0.3, learnable=True), (3, 4), parameters=21)
    run_layer_test(lambda: nn.Residual(body(), drop=0.5), (6, 4), learns=True)
    run_layer_test(lambda: nn.LayerScale(4, 0.1), (3, 4), parameters=4, output_shape=(3, 4))
    run_layer_test(
        lambda: nn.LayerScale(4, 0.1, channels_first=True), (3, 4, 2), parameters=4,
        output_shape=(3, 4, 2),
    )  # fmt: skip


def test_the_gradient_has_an_identity_path():
    layer = nn.Residual(nn.Linear(3, 3)).double()
    layer.body.weight.data[...] = 0.0
    x = fathom.Tensor(np.ones((2, 3)), True)
    layer(x).sum().backward()
    assert (x.grad.value() == 1.0).all()


def test_plain_residuals_grow_and_scaled_ones_do_not():
    forward, backward = gain(deep(lambda body: nn.Residual(body)))
    assert forward > 1e5 and backward > 1e5
    small = deep(lambda body: nn.Residual(body, scale=DEPTH**-0.5))
    assert all(0.8 < g < 3.5 for g in gain(small))  # e, in theory


def test_layer_scale_has_gain_one_at_depth_fifty():
    model = deep(lambda body: nn.Residual(body.append(nn.LayerScale(WIDTH, 1e-4))))
    assert gain(model) == pytest.approx((1.0, 1.0), abs=0.02)


def test_rezero_starts_as_the_identity():
    model = deep(lambda body: nn.Residual(body, scale=0.0, learnable=True))
    assert gain(model) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert len([n for n, _ in model.named_parameters() if n.endswith("scale")]) == DEPTH


def test_fixup_has_gain_one_at_depth_fifty_and_learns():
    model = deep(lambda body: nn.Residual(body))
    model.append(nn.Linear(WIDTH, 2))
    assert nn.init.fixup_(model) == DEPTH
    assert gain(model[:DEPTH]) == pytest.approx((1.0, 1.0), abs=1e-6)
    first = model[0].body[0].weight.value()
    assert first.std() == pytest.approx((2 / WIDTH) ** 0.5 * DEPTH**-0.5, rel=0.1)
    assert (model[0].body[2].weight.value() == 0).all()
    assert (model[DEPTH].weight.value() == 0).all()


def test_dropped_branches_keep_the_expectation():
    layer = nn.Residual(nn.Identity(), drop=0.25)
    with fathom.seed(0):
        out = layer(fathom.ones(20000, 1)).value()
    assert set(np.unique(out.round(4))) == {1.0, np.float32(2.3333)}
    assert out.mean() == pytest.approx(2.0, abs=0.02)
    assert (layer.eval()(fathom.ones(5, 1)).value() == 2.0).all()


def test_errors():
    with pytest.raises(ShapeError, match=r"makes \(3, 2\) of \(3, 4\)"):
        nn.Residual(nn.Linear(4, 2))(fathom.zeros(3, 4))
    with pytest.raises(ArgumentError, match="body must be a layer"):
        nn.Residual([nn.Linear(2, 2)])
    with pytest.raises(ShapeError, match="expected 3 channels on axis 1"):
        nn.LayerScale(3)(fathom.zeros(2, 4))
    with pytest.raises(ArgumentError, match=r"no nn\.Residual blocks"):
        nn.init.fixup_(nn.Sequential(nn.Linear(2, 2)))
