"""Many networks at once: each is what it would be alone."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError
from fathom.train.fleet import train_many

DATA = fathom.data.load("moons", n=70)


def network(width=8, layer=None):
    more = [] if layer is None else [layer()]
    return nn.Sequential(nn.Linear(2, width), *more, nn.Tanh(), nn.Linear(width, 2))


SPEC = {"model": network, "epochs": 3, "batch_size": 16, "lr": 0.02}  # 4 batches and a rest of 6


def weights(run):
    return [p.value().tobytes() for p in run.model.parameters()]


def test_each_is_what_it_would_be_alone():
    fleet = train_many(SPEC, DATA.x, DATA.y, seeds=4, grid={"lr": [0.01, 0.05]}, threads=2)
    assert [(r.settings["lr"], r.seed) for r in fleet.runs] == [
        (lr, seed) for lr in (0.01, 0.05) for seed in range(4)
    ]
    for i in (2, 5):
        run = fleet.runs[i]
        (alone,) = train_many({**SPEC, **run.settings}, DATA.x, DATA.y, seeds=[run.seed]).runs
        assert weights(alone) == weights(run)
        assert alone.losses.tolist() == run.losses.tolist()


def test_a_single_run_is_what_fit_makes_of_it():
    (run,) = train_many(SPEC, DATA.x, DATA.y, seeds=[3]).runs
    with fathom.seed(3):
        model = network()
    history = model.fit(DATA.x.astype(np.float32), DATA.y, epochs=3, batch_size=16, lr=0.02, seed=3,
                        verbose=False)  # fmt: skip
    np.testing.assert_allclose(run.losses, history["loss"], rtol=1e-4)
    for p, q in zip(run.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(p.value(), q.value(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_lanes_do_not_matter(threads):
    a = train_many(SPEC, DATA.x, DATA.y, seeds=5, threads=threads)
    b = train_many(SPEC, DATA.x, DATA.y, seeds=5, threads=2)
    assert [weights(r) for r in a.runs] == [weights(r) for r in b.runs]


@pytest.mark.parametrize(
    "layer", [lambda: nn.Dropout(0.3), lambda: nn.BatchNorm1d(8)], ids=["dropout", "batch norm"]
)
def test_layers_with_state_or_masks(layer):
    spec = {**SPEC, "model": lambda: network(layer=layer)}
    fleet = train_many(spec, DATA.x, DATA.y, seeds=2)
    (alone,) = train_many(spec, DATA.x, DATA.y, seeds=[1]).runs
    assert weights(alone) == weights(fleet.runs[1])
    assert np.isfinite(fleet.losses).all()


def test_the_grid_reaches_model_run_and_optimizer():
    grid = {
        "width": [4, 6],
        "optimizer": ["sgd", "adamw"],
        "batch_size": [14, 35],
        "weight_decay": [0.1],
    }
    fleet = train_many({**SPEC, "epochs": 1}, DATA.x, DATA.y, seeds=1, grid=grid)
    assert len(fleet) == 8
    assert {r.model[0].out_features for r in fleet.runs} == {4, 6}
    assert len({r.losses[0] for r in fleet.runs}) == 8
    assert "width=4, optimizer=sgd" in fleet.table()


def test_in_order_and_full_batches_only():
    spec = {**SPEC, "shuffle": False, "batch_size": 35}
    fleet = train_many(spec, DATA.x, DATA.y, seeds=2)
    eager = network
    with fathom.seed(0):
        model = eager()
    history = model.fit(DATA.x.astype(np.float32), DATA.y, epochs=3, batch_size=35, lr=0.02,
                        shuffle=False, verbose=False)  # fmt: skip
    np.testing.assert_allclose(fleet.runs[0].losses, history["loss"], rtol=1e-4)


def test_evaluate_and_progress():
    seen = []
    fleet = train_many({**SPEC, "epochs": 30}, DATA.x, DATA.y, seeds=2,
                       progress=lambda *n: seen.append(n))  # fmt: skip
    found = fleet.evaluate(DATA.x.astype(np.float32), DATA.y)
    assert seen == [(1, 2), (2, 2)]
    assert (found["accuracy"] > 0.8).all() and found["loss"].shape == (2,)


def test_regression_and_a_run_that_diverges():
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    spec = {
        "model": lambda: nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1)),
        "optimizer": "sgd", "loss": "mse", "epochs": 4, "batch_size": 16,
    }  # fmt: skip
    fleet = train_many(spec, x, x[:, 0] * 3, seeds=2, grid={"lr": [0.05, 1e20]})
    good, bad = fleet.runs[:2], fleet.runs[2:]
    assert all(r.losses[-1] < r.losses[0] and not r.diverged for r in good)
    assert all("epoch" in r.diverged and np.isnan(r.losses[-1]) for r in bad)
    assert fleet.table().splitlines()[2].endswith("2")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": 3}, "builds a network"),
        ({"epochs": 0}, "epochs is 1 or more"),
        ({"batch_size": 2.5}, "batch_size is 1 or more"),
        ({"momentun": 0.9}, "momentun"),
        ({"model": lambda: 3}, "not a Module"),
    ],
)
def test_errors(change, words):
    with pytest.raises(fathom.FathomError, match=words):
        train_many({**SPEC, **change}, DATA.x, DATA.y, seeds=1)


def test_errors_of_grid_seeds_and_rows():
    with pytest.raises(ArgumentError, match="list of values"):
        train_many(SPEC, DATA.x, DATA.y, grid={"lr": 0.1})
    with pytest.raises(ArgumentError, match="seeds is empty"):
        train_many(SPEC, DATA.x, DATA.y, seeds=[])
    with pytest.raises(ArgumentError, match="69 of y"):
        train_many(SPEC, DATA.x, DATA.y[1:])
