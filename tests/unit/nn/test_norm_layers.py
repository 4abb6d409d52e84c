import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, ShapeError
from tests.unit.nn.layer_harness import run_layer_test


def draw(*shape, seed=0, shift=0.0):
    return np.random.default_rng(seed).standard_normal(shape) + shift


COUPLED = [
    (lambda: nn.BatchNorm1d(3), (5, 3), 6),
    (lambda: nn.BatchNorm1d(3, momentum=None), (5, 3, 4), 6),
    (lambda: nn.BatchNorm2d(3), (4, 3, 2, 3), 6),
    (lambda: nn.BatchNorm2d(3, affine=False), (4, 3, 2, 3), 0),
    (lambda: nn.BatchNorm3d(2), (3, 2, 2, 2, 2), 4),
    (lambda: nn.SyncBatchNorm(3, shards=2), (6, 3, 2), 6),
]
ALONE = [
    (lambda: nn.FrozenBatchNorm1d(3), (4, 3), 0),
    (lambda: nn.FrozenBatchNorm2d(3), (4, 3, 2, 3), 0),
    (lambda: nn.FrozenBatchNorm3d(3), (4, 3, 2, 1, 2), 0),
    (lambda: nn.LayerNorm(4), (5, 4), 8),
    (lambda: nn.LayerNorm((3, 4), bias=False), (5, 3, 4), 12),
    (lambda: nn.LayerNorm(4, elementwise_affine=False), (5, 4), 0),
    (lambda: nn.RMSNorm(4), (5, 4), 4),
    (lambda: nn.RMSNorm((3, 4), 1e-3, False), (5, 3, 4), 0),
    (lambda: nn.GroupNorm(2, 4), (3, 4, 5), 8),
    (lambda: nn.GroupNorm(2, 4, affine=False), (3, 4), 0),
    (lambda: nn.InstanceNorm1d(3), (4, 3, 5), 0),
    (lambda: nn.InstanceNorm2d(3, affine=True), (4, 3, 2, 3), 6),
    (lambda: nn.InstanceNorm3d(2), (2, 2, 2, 2, 3), 0),
    (lambda: nn.LocalResponseNorm(3), (2, 5, 3), 0),
]


@pytest.mark.parametrize(("make", "shape", "count"), COUPLED, ids=lambda v: None)
def test_layers_over_the_batch(make, shape, count):
    run_layer_test(make, shape, parameters=count, output_shape=shape)


@pytest.mark.parametrize(("make", "shape", "count"), ALONE, ids=lambda v: None)
def test_layers_within_a_sample(make, shape, count):
    run_layer_test(make, shape, parameters=count, output_shape=shape)


def test_batch_norm_without_statistics():
    run_layer_test(
        lambda: nn.BatchNorm1d(3, track_running_stats=False), (5, 3), parameters=6, per_sample=False
    )


class TestBatchNorm:
    def test_running_statistics(self):
        layer = nn.BatchNorm1d(2, momentum=0.25).double()
        x = draw(50, 2, shift=3.0)
        layer(fathom.Tensor(x))
        np.testing.assert_allclose(layer.running_mean.value(), 0.25 * x.mean(0))
        np.testing.assert_allclose(layer.running_var.value(), 0.75 + 0.25 * x.var(0, ddof=1))
        assert layer.num_batches_tracked.item() == 1

    def test_momentum_none_is_the_average_of_all_batches(self):
        layer = nn.BatchNorm1d(2, momentum=None).double()
        batches = [draw(20, 2, seed=i) for i in range(5)]
        for x in batches:
            layer(fathom.Tensor(x))
        means = np.mean([x.mean(0) for x in batches], 0)
        np.testing.assert_allclose(layer.running_mean.value(), means, atol=1e-12)
        assert layer.num_batches_tracked.item() == 5

    def test_a_bias_in_front_gets_no_gradient(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
        (model(fathom.Tensor(draw(16, 3))) ** 3).sum().backward()
        assert np.abs(model[0].bias.grad.value()).max() < 1e-10
        assert np.abs(model[0].weight.grad.value()).max() > 1e-3

    def test_one_value_a_channel(self):
        with pytest.raises(ShapeError, match="one value for each channel"):
            nn.BatchNorm1d(3)(fathom.zeros(1, 3))
        nn.BatchNorm1d(3).eval()(fathom.zeros(1, 3))

    def test_eval_does_not_learn(self):
        layer = nn.BatchNorm1d(2).eval()
        layer(fathom.Tensor(draw(5, 2).astype("f")))
        assert layer.running_mean.tolist() == [0.0, 0.0]
        assert layer.num_batches_tracked.item() == 0

    def test_state_dict_names(self):
        assert list(nn.BatchNorm2d(3).state_dict()) == [
            "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
        ]  # fmt: skip

    def test_reset(self):
        layer = nn.BatchNorm1d(2)
        layer(fathom.Tensor(draw(5, 2).astype("f")))
        layer.reset_running_stats()
        assert layer.running_var.tolist() == [1.0, 1.0]


class TestFrozen:
    def test_is_the_trained_norm_in_eval(self):
        trained = nn.BatchNorm2d(3)
        trained(fathom.Tensor(draw(8, 3, 4, 4).astype("f")))
        frozen = nn.FrozenBatchNorm2d.of(trained)
        x = fathom.Tensor(draw(2, 3, 4, 4, seed=1).astype("f"))
        assert (frozen(x).value() == trained.eval()(x).value()).all()
        assert (frozen.train()(x).value() == frozen.eval()(x).value()).all()
        assert not list(frozen.parameters())

    def test_of_something_else(self):
        with pytest.raises(ArgumentError, match="running statistics; received LayerNorm"):
            nn.FrozenBatchNorm2d.of(nn.LayerNorm(3))


class TestSync:
    @pytest.mark.parametrize("shards", [1, 2, 3, 6])
    def test_shards_of_one_tensor(self, shards):
        x = draw(12, 3, 4)
        whole, parts = nn.BatchNorm1d(3).double(), nn.SyncBatchNorm(3, shards=shards).double()
        a, b = whole(fathom.Tensor(x)), parts(fathom.Tensor(x))
        np.testing.assert_allclose(a.value(), b.value(), atol=1e-12)
        for name, value in whole.state_dict().items():
            np.testing.assert_allclose(parts.state_dict()[name].value(), value.value(), rtol=1e-12)

    def test_shards_alone_differ(self):
        x = draw(8, 3)
        x[4:] += 5
        alone = np.concatenate([nn.BatchNorm1d(3).double()(fathom.Tensor(p)).value()
                                for p in (x[:4], x[4:])])  # fmt: skip
        synced = nn.SyncBatchNorm(3, shards=2).double()(fathom.Tensor(x)).value()
        assert np.abs(alone - synced).max() > 0.5

    def test_single_values_are_enough_together(self):
        out = nn.SyncBatchNorm(2).double()([fathom.Tensor(draw(1, 2, seed=i)) for i in range(4)])
        assert np.abs(np.concatenate([o.value() for o in out]).mean(0)).max() < 1e-12
        with pytest.raises(ShapeError, match="all shards together"):
            nn.SyncBatchNorm(2)([fathom.zeros(1, 2)])


def test_layer_norm_does_not_see_the_other_samples():
    layer, x = nn.LayerNorm(4).double(), draw(3, 4)
    other = x.copy()
    other[1:] += 100
    assert (layer(fathom.Tensor(x)).value()[0] == layer(fathom.Tensor(other)).value()[0]).all()


def test_group_norm_between_layer_and_instance_norm():
    x = fathom.Tensor(draw(3, 4, 5))
    one = nn.GroupNorm(1, 4).double()(x).value()
    each = nn.GroupNorm(4, 4).double()(x).value()
    np.testing.assert_allclose(one, nn.LayerNorm((4, 5)).double()(x).value(), atol=1e-12)
    np.testing.assert_allclose(each, nn.InstanceNorm1d(4).double()(x).value(), atol=1e-12)


def test_rms_norm_keeps_the_mean_out_of_it():
    x = draw(3, 6, shift=4.0)
    out = nn.RMSNorm(6).double()(fathom.Tensor(x)).value()
    np.testing.assert_allclose((out**2).mean(1), 1.0)
    assert (out.mean(1) > 0.5).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nn.BatchNorm1d(0), "num_features must be"),
        (lambda: nn.BatchNorm1d(3, momentum=2.0), "momentum must lie in"),
        (lambda: nn.BatchNorm1d(3, eps=-1.0), "eps must be >= 0"),
        (lambda: nn.GroupNorm(3, 4), "cannot be split into num_groups=3"),
        (lambda: nn.LayerNorm(()), "must not be empty"),
        (lambda: nn.LayerNorm(0), "normalized_shape must be"),
        (lambda: nn.SyncBatchNorm(3, shards=0), "shards must be"),
        (lambda: nn.LocalResponseNorm(3, alpha=float("nan")), "alpha must be a finite number"),
    ],
)
def test_errors(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


def test_wrong_inputs():
    with pytest.raises(ShapeError, match=r"BatchNorm2d: needs an input \(n, c, h, w\)"):
        nn.BatchNorm2d(3)(fathom.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"expected 3 channels, received \(2, >4<\)"):
        nn.BatchNorm1d(3)(fathom.zeros(2, 4))
