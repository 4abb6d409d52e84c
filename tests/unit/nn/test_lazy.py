import copy

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, FathomError, GraphError
from fathom.nn.lazy import UninitializedParameter
from tests.unit.nn.layer_harness import run_layer_test

LAYERS = [
    (lambda: nn.LazyLinear(3), nn.Linear, (4, 5), 18),
    (lambda: nn.Linear(None, 3, bias=False), nn.Linear, (4, 5), 15),
    (lambda: nn.LazyConv1d(2, 3), nn.Conv1d, (2, 4, 6), 26),
    (lambda: nn.LazyConv2d(2, 3, padding=1), nn.Conv2d, (2, 4, 5, 5), 74),
    (lambda: nn.Conv2d(None, 4, 3, groups=2), nn.Conv2d, (2, 4, 5, 5), 76),
    (lambda: nn.LazyConv3d(2, 2), nn.Conv3d, (1, 2, 3, 3, 3), 34),
    (lambda: nn.ConvTranspose2d(None, 2, 2), nn.ConvTranspose2d, (2, 3, 3, 3), 26),
    (lambda: nn.LazyConvTranspose1d(2, 3), nn.ConvTranspose1d, (2, 3, 4), 20),
    (lambda: nn.LazyConvTranspose2d(2, 2, stride=2), nn.ConvTranspose2d, (2, 3, 3, 3), 26),
    (lambda: nn.LazyConvTranspose3d(2, 2, bias=False), nn.ConvTranspose3d, (1, 2, 2, 2, 2), 32),
    (lambda: nn.LazyBatchNorm1d(), nn.BatchNorm1d, (4, 3), 6),
    (lambda: nn.LazyBatchNorm2d(), nn.BatchNorm2d, (3, 2, 2, 2), 4),
    (lambda: nn.LazyBatchNorm3d(affine=False), nn.BatchNorm3d, (3, 2, 2, 2, 2), 0),
    (lambda: nn.LazyInstanceNorm1d(), nn.InstanceNorm1d, (4, 3, 5), 6),
    (lambda: nn.LazyInstanceNorm2d(affine=False), nn.InstanceNorm2d, (4, 3, 2, 3), 0),
    (lambda: nn.LazyInstanceNorm3d(), nn.InstanceNorm3d, (2, 3, 2, 2, 2), 6),
    (lambda: nn.DepthwiseConv1d(None, 3), nn.DepthwiseConv1d, (2, 4, 6), 16),
    (lambda: nn.SeparableConv1d(None, 2, 3), nn.SeparableConv1d, (2, 4, 6), 22),
    (lambda: nn.BatchNorm2d(None), nn.BatchNorm2d, (3, 2, 2, 2), 4),
]


@pytest.mark.parametrize(("make", "kind", "shape", "count"), LAYERS, ids=lambda v: None)
def test_layer(make, kind, shape, count):
    layer = run_layer_test(make, shape, parameters=count)
    assert type(layer) is kind
    assert not any(isinstance(p, UninitializedParameter) for p in layer.parameters())


def model():
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )


def test_lazy_and_known_sizes_draw_the_same_weights():
    with fathom.seed(0):
        lazy = nn.LazyLinear(3)
        lazy(fathom.zeros(1, 5))
    with fathom.seed(0):
        known = nn.Linear(5, 3)
    assert lazy.weight.tolist() == known.weight.tolist()
    assert repr(lazy) == repr(known)


def test_a_network_of_lazy_layers():
    net = model()
    assert net(fathom.zeros(2, 3, 6, 6)).shape == (2, 2)
    assert net[0].in_channels == 3
    assert net[1].num_features == 4
    assert net[4].in_features == 64
    spec = nn.to_spec(net)
    assert [layer["type"] for layer in spec["layers"]] == [
        "Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear"
    ]  # fmt: skip
    nn.from_spec(spec).load_state_dict(net.state_dict())


def test_summary_settles_the_sizes():
    net = model()
    table = net.summary((3, 6, 6))
    assert table.parameters == 4 * 27 + 4 + 8 + 64 * 2 + 2
    assert net[4].in_features == 64


def test_summary_cannot_guess():
    with pytest.raises(ArgumentError, match=r"in_features is not known yet(.|\n)*input_shape"):
        nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)).summary()


def test_fit_settles_the_sizes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    with fathom.seed(0):
        net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(2))
        history = net.fit(x, (x[:, 0] > 0).astype(int), epochs=8, verbose=0)
    losses = history.history["loss"] if hasattr(history, "history") else history["loss"]
    assert losses[-1] < losses[0]


def test_optimizers_made_before():
    net = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = fathom.optim.Adam(net.parameters(), lr=0.05)
    x = fathom.Tensor(np.random.default_rng(0).standard_normal((20, 3)).astype("f"))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ((net(x) - 1.0) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_state_before_the_first_batch():
    for act in (lambda m: m.state_dict(), lambda m: m.load_state_dict({})):
        with pytest.raises(GraphError, match=r"learns the size of its input from the first batch"):
            act(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(GraphError, match="first batch"):
        nn.BatchNorm1d(None, affine=False).state_dict()


def test_double_and_deepcopy_before():
    net = nn.LazyLinear(3).double()
    twin = copy.deepcopy(net)
    assert twin(fathom.zeros(2, 4, dtype=np.float64)).dtype == np.float64
    assert twin.in_features == 4 and net.in_features == 0


def test_unfilled_layers_are_shown_and_stored_as_such():
    layer = nn.LazyLinear(3)
    assert repr(layer) == "LazyLinear(out_features=3, bias=True)"
    assert type(nn.from_spec(nn.to_spec(layer))) is nn.LazyLinear
    assert repr(nn.Linear(None, 3)) == "Linear(in_features=None, out_features=3, bias=True)"
    assert nn.from_spec(nn.to_spec(nn.Linear(None, 3))).in_features == 0


@pytest.mark.parametrize("make", [nn.init.auto_, nn.init.fixup_])
def test_initializers_want_weights(make):
    with pytest.raises(FathomError, match=r"lazy|Residual"):
        make(nn.Sequential(nn.LazyLinear(3)))


def test_groups_that_do_not_fit():
    with pytest.raises(ArgumentError, match="3 channels of the first batch cannot be split"):
        nn.Conv2d(None, 4, 3, groups=2)(fathom.zeros(1, 3, 5, 5))
