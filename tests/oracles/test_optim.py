"""Optimizers against PyTorch: a thousand float64 steps side by side."""

import numpy as np
import pytest

import fathom
from fathom import nn, optim

torch = pytest.importorskip("torch")

SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
SGD_OPTIONS = [
    {"lr": 0.05},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.02, "momentum": 0.9, "dampening": 0.3},
    {"lr": 0.02, "momentum": 0.8, "nesterov": True},
    {"lr": 0.05, "weight_decay": 0.1},
    {"lr": 0.02, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
]
ADAM_OPTIONS = [
    {},
    {"lr": 0.01, "betas": (0.5, 0.9)},
    {"lr": 0.01, "betas": (0.0, 0.0)},
    {"lr": 0.02, "eps": 0.1},
    {"lr": 0.02, "weight_decay": 0.05},
    {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.5},
]
CASES = [("SGD", options) for options in SGD_OPTIONS] + [("Adam", o) for o in ADAM_OPTIONS]


class Race:
    """The same parameters in both libraries, pulled to the same noisy targets."""

    def __init__(self):
        rng = np.random.default_rng(0)
        starts = [rng.standard_normal(shape) for shape in SHAPES]
        self.targets = [rng.standard_normal(shape) for shape in SHAPES]
        self.ours = [nn.Parameter(np.array(start)) for start in starts]
        self.theirs = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
        self.noise = np.random.default_rng(1)

    def gradients(self, without=()):
        for i, (a, b, target) in enumerate(zip(self.ours, self.theirs, self.targets, strict=True)):
            noise = self.noise.standard_normal(target.shape)
            if i in without:
                a.grad = b.grad = None
                continue
            a.grad = fathom.tensor(np.asarray(a.value() - target + noise))
            b.grad = b.detach() - torch.tensor(target) + torch.tensor(noise)

    def assert_equal(self, tolerance=1e-9):
        for a, b in zip(self.ours, self.theirs, strict=True):
            np.testing.assert_allclose(a.value(), b.detach().numpy(), rtol=0, atol=tolerance)


def pair(race, name, options):
    return (
        getattr(optim, name)(race.ours, **options),
        getattr(torch.optim, name)(race.theirs, **({"lr": 1e-3} | options)),
    )


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: str(v))
def test_a_thousand_steps(name, options):
    race = Race()
    ours, theirs = pair(race, name, options)
    start = race.ours[0].value().copy()
    for _ in range(1000):
        race.gradients()
        ours.step()
        theirs.step()
    race.assert_equal()
    assert np.abs(race.ours[0].value() - start).max() > 0.1  # it did move


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_parameter_groups_with_options_of_their_own(name):
    race = Race()
    groups = [
        (optim, race.ours),
        (torch.optim, race.theirs),
    ]
    ours, theirs = (
        getattr(library, name)(
            [{"params": ps[:2], "lr": 0.1}, {"params": ps[2:], "weight_decay": 0.2}], lr=0.01
        )
        for library, ps in groups
    )
    for _ in range(50):
        race.gradients()
        ours.step()
        theirs.step()
    race.assert_equal()
    for group in (ours.param_groups[0], theirs.param_groups[0]):
        group["lr"] = 0.001  # options may be changed on the way
    for _ in range(50):
        race.gradients()
        ours.step()
        theirs.step()
    race.assert_equal()


@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {})])
def test_parameters_without_gradient_are_skipped(name, options):
    """Also at changing times, so that the step counts of neighbours differ."""
    race = Race()
    ours, theirs = pair(race, name, {"lr": 0.05, "weight_decay": 0.1, **options})
    for step in range(60):
        race.gradients(without={step % 3, 3} if step < 40 else {1})
        ours.step()
        theirs.step()
        race.assert_equal()


@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {})])
def test_a_group_added_on_the_way_leaves_the_state_of_the_others(name, options):
    race = Race()
    ours = getattr(optim, name)(race.ours[:2], lr=0.05, **options)
    theirs = getattr(torch.optim, name)(race.theirs[:2], lr=0.05, **options)
    for step in range(20):
        if step == 10:
            ours.add_param_group({"params": race.ours[2:], "lr": 0.01})
            theirs.add_param_group({"params": race.theirs[2:], "lr": 0.01})
        race.gradients()
        ours.step()
        theirs.step()
    race.assert_equal()


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: str(v))
def test_state_dict_round_trip_goes_on_equal(name, options):
    race = Race()
    ours, theirs = pair(race, name, options)
    for _ in range(10):
        race.gradients(without={1})
        ours.step()
        theirs.step()
    fresh = getattr(optim, name)(race.ours, lr=123.0)
    fresh.load_state_dict(ours.state_dict())
    assert fresh.param_groups[0]["lr"] == ours.param_groups[0]["lr"]
    for _ in range(10):
        race.gradients()
        fresh.step()
        theirs.step()
    race.assert_equal()


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_the_state_dict_has_the_layout_of_torch(name):
    race = Race()
    ours, theirs = pair(race, name, {"momentum": 0.9} if name == "SGD" else {})
    race.gradients(without={2})
    ours.step()
    theirs.step()
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert a["param_groups"][0]["params"] == b["param_groups"][0]["params"]
    assert sorted(a["state"]) == sorted(b["state"])
    for number, entry in b["state"].items():
        for slot, value in entry.items():
            np.testing.assert_allclose(a["state"][number][slot], value, atol=1e-12)


def test_float32_follows_closely():
    rng = np.random.default_rng(0)
    start, target = rng.standard_normal((2, 64)).astype(np.float32)
    a, b = nn.Parameter(start.copy()), torch.nn.Parameter(torch.tensor(start))
    ours, theirs = optim.Adam([a], lr=0.01), torch.optim.Adam([b], lr=0.01)
    for _ in range(200):
        a.grad = fathom.tensor(a.value() - target)
        b.grad = b.detach() - torch.tensor(target)
        ours.step()
        theirs.step()
    assert a.dtype == np.float32
    np.testing.assert_allclose(a.value(), b.detach().numpy(), rtol=1e-4, atol=1e-5)
