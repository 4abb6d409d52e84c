import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import FathomError

DATA = fathom.data.load("moons", n=200)


def model(seed=0):
    with fathom.seed(seed):
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_suggestion_is_in_the_good_band_of_a_grid(optimizer):
    found = model().lr_find(DATA.x, DATA.y, optimizer=optimizer, end=100.0)
    grid = {}
    for lr in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 10.0, found.suggestion):
        try:
            history = model().fit(
                DATA.x, DATA.y, epochs=6, lr=lr, optimizer=optimizer, verbose=False, metrics=()
            )
            grid[lr] = history["loss"][-1]
        except FathomError:
            grid[lr] = np.inf
    best, start = min(grid.values()), grid[1e-5]
    assert grid[found.suggestion] < best + 0.35 * (start - best)


def test_everything_is_put_back():
    net = model()
    net.eval()
    before = [p.value().copy() for p in net.parameters()]
    outside = fathom.Random(3)
    with fathom.random.use(outside):
        net.lr_find(DATA.x, DATA.y, steps=20)
    assert outside.state_dict()["streams"] == {}
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.value(), old)
        assert p.grad is None
    assert not any(m.training for m in net.modules())


def test_it_is_deterministic_and_stops_where_it_diverges():
    a = model().lr_find(DATA.x, DATA.y, optimizer="sgd", end=1e6, steps=150)
    b = model().lr_find(DATA.x, DATA.y, optimizer="sgd", end=1e6, steps=150)
    assert a == b
    assert len(a.lrs) < 150 and a.reason != "reached 1e+06"
    assert a.suggestion < a.lrs[-1] and a.lowest < a.lrs[-1]
    np.testing.assert_allclose(np.diff(np.log(a.lrs)), np.log(a.lrs[1] / a.lrs[0]))
    assert "suggestion" in repr(a)
    assert a.plot().get_xscale() == "log"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": 1.0, "end": 0.1}, "0 < start < end"),
        ({"smooth": 1.0}, "smooth"),
        ({"steps": 0}, "steps"),
        ({"optimizer": "lbfgs"}, "no rate to search"),
        ({"optimizer": "sgd", "start": 1e38, "end": 3e38}, "diverged after"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(FathomError, match=text):
        model().lr_find(DATA.x, DATA.y, **options)


def test_losses_and_optimizers_by_name():
    plain = model().lr_find(DATA.x, DATA.y, optimizer="sgd", steps=40)
    heavy = model().lr_find(DATA.x, DATA.y, optimizer="sgd:momentum=0.9", steps=40)
    focal = model().lr_find(DATA.x, DATA.y, loss={"name": "focal", "gamma": 1}, steps=40)
    assert heavy.losses != plain.losses and focal.losses[0] < plain.losses[0]
    with pytest.raises(FathomError, match="did you mean 'momentum'"):
        model().lr_find(DATA.x, DATA.y, optimizer="sgd:momentun=0.9")
    with pytest.raises(FathomError, match="needs probabilities"):
        model().lr_find(DATA.x, DATA.y, loss="bce")
