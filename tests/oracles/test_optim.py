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
MORE = [
    ("SGD", {"lr": 1e-4, "maximize": True}),
    ("SGD", {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.02, "amsgrad": True}),
    ("Adam", {"lr": 0.02, "amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 1e-3, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", {"lr": 1e-3, "maximize": True, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.02, "betas": (0.5, 0.9), "weight_decay": 0.1}),
    ("Adamax", {"lr": 1e-3, "eps": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.02, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 1e-3, "betas": (0.5, 0.9), "maximize": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.02, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 1e-3, "betas": (0.5, 0.9), "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.5, "lr_decay": 0.01, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.5, "initial_accumulator_value": 0.3, "eps": 1e-3, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-4, "weight_decay": 0.1}),
    ("Adadelta", {"lr": 0.01, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.9, "centered": True}),
    ("RMSprop", {"alpha": 0.9, "momentum": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 1e-3, "centered": True, "momentum": 0.5, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (1e-4, 1.0)}),
]
CASES = [("SGD", options) for options in SGD_OPTIONS] + [("Adam", o) for o in ADAM_OPTIONS] + MORE
NAMES = sorted({name for name, _ in CASES})


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
        getattr(torch.optim, name)(race.theirs, **options),
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
    assert np.abs(race.ours[0].value() - start).max() > 1e-3  # it did move


GROUPED = [name for name in NAMES if name != "Rprop"]


@pytest.mark.parametrize("name", GROUPED)
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


PLAIN = [(name, {"momentum": 0.9} if name == "SGD" else {}) for name in GROUPED]


@pytest.mark.parametrize(("name", "options"), PLAIN)
def test_parameters_without_gradient_are_skipped(name, options):
    """Also at changing times, so that the step counts of neighbours differ."""
    race = Race()
    ours, theirs = pair(race, name, {"lr": 0.05, "weight_decay": 0.1, **options})
    for step in range(60):
        race.gradients(without={step % 3, 3} if step < 40 else {1})
        ours.step()
        theirs.step()
        race.assert_equal()


@pytest.mark.parametrize(("name", "options"), PLAIN)
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


@pytest.mark.parametrize("name", GROUPED)
def test_the_state_dict_has_the_layout_of_torch(name):
    race = Race()
    ours, theirs = pair(race, name, {"momentum": 0.9} if name == "SGD" else {})
    if name == "Adagrad":  # PyTorch makes its state before the first gradient
        race.gradients()
    else:
        race.gradients(without={2})
    ours.step()
    theirs.step()
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert a["param_groups"][0]["params"] == b["param_groups"][0]["params"]
    assert sorted(a["state"]) == sorted(b["state"])
    for number, entry in b["state"].items():
        for slot, value in entry.items():
            if slot == "mu_product":  # a function of the step here
                continue
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


# -- L-BFGS ------------------------------------------------------------------------------------


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def both_lbfgs(options, start, loss_of, theirs_of, steps):
    """The losses and weights after each step, in both libraries."""
    a, b = (
        nn.Parameter(np.array(start)),
        torch.nn.Parameter(torch.tensor(start, dtype=torch.float64)),
    )
    found = []
    for library, w, function in ((optim, a, loss_of), (torch.optim, b, theirs_of)):
        optimizer = library.LBFGS([w], **options)

        def closure(optimizer=optimizer, w=w, function=function):
            optimizer.zero_grad()
            loss = function(w)
            loss.backward()
            return loss

        losses = [float(optimizer.step(closure).detach()) for _ in range(steps)]
        found.append((losses, np.array(w.tolist())))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 1, "max_iter": 7},
        {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 5, "lr": 0.3},
        {"lr": 1e-3, "max_iter": 4},
    ],
    ids=str,
)
def test_lbfgs_on_rosenbrock(options):
    ours, theirs = both_lbfgs(options, [-1.2, 1.0], rosenbrock, rosenbrock, 6)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6, atol=1e-7)


def test_lbfgs_finds_the_minimum_of_rosenbrock():
    options = {"line_search_fn": "strong_wolfe", "max_iter": 100}
    (_, w), _ = both_lbfgs(options, [-1.2, 1.0], rosenbrock, rosenbrock, 1)
    np.testing.assert_allclose(w, [1.0, 1.0], atol=1e-4)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_on_logistic_regression(search):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4))
    y = (x @ [1.0, -2.0, 0.5, 0.0] + rng.standard_normal(60) > 0) * 2.0 - 1.0
    xf, yf, xt, yt = fathom.tensor(x), fathom.tensor(y), torch.tensor(x), torch.tensor(y)

    def ours(w):
        return fathom.log1p(fathom.exp(-yf * (xf @ w))).mean() + 0.01 * (w * w).sum()

    def theirs(w):
        return torch.log1p(torch.exp(-yt * (xt @ w))).mean() + 0.01 * (w * w).sum()

    a, b = both_lbfgs({"line_search_fn": search, "max_iter": 6}, [0.0] * 4, ours, theirs, 5)
    np.testing.assert_allclose(a[0], b[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(a[1], b[1], rtol=0, atol=1e-7)


def test_lbfgs_state_round_trip_goes_on_equal():
    def closure_of(optimizer, w):
        def closure():
            optimizer.zero_grad()
            loss = rosenbrock(w)
            loss.backward()
            return loss

        return closure

    options = {"line_search_fn": "strong_wolfe", "max_iter": 3, "history_size": 2}
    w = nn.Parameter(np.array([-1.2, 1.0]))
    first = optim.LBFGS([w], **options)
    first.step(closure_of(first, w))
    copy = nn.Parameter(w.value().copy())
    second = optim.LBFGS([copy])
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        first.step(closure_of(first, w))
        second.step(closure_of(second, copy))
    assert w.tolist() == copy.tolist()


def test_clipping_against_torch():
    rng = np.random.default_rng(0)
    for norm_type in (1.0, 2.0, 3.5, float("inf")):
        for bound in (0.1, 2.0, 1e6):
            values = [rng.standard_normal(shape) for shape in SHAPES]
            a = [nn.Parameter(v.copy()) for v in values]
            b = [torch.nn.Parameter(torch.tensor(v)) for v in values]
            for p, q, v in zip(a, b, values, strict=True):
                p.grad, q.grad = fathom.tensor(v * 3), torch.tensor(v * 3)
            ours = nn.utils.clip_grad_norm_(a, bound, norm_type)
            theirs = torch.nn.utils.clip_grad_norm_(b, bound, norm_type)
            assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
            for p, q in zip(a, b, strict=True):
                np.testing.assert_allclose(p.grad.value(), q.grad.numpy(), rtol=1e-12)
            nn.utils.clip_grad_value_(a, bound / 10)
            torch.nn.utils.clip_grad_value_(b, bound / 10)
            for p, q in zip(a, b, strict=True):
                np.testing.assert_allclose(p.grad.value(), q.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_averaged_models_against_torch(ema):
    from torch.optim import swa_utils

    a, b = nn.Linear(3, 2).double(), torch.nn.Linear(3, 2).double()
    ours = optim.swa_utils.AveragedModel(a, avg_fn=ema and optim.swa_utils.get_ema_avg_fn(ema))
    theirs = swa_utils.AveragedModel(b, avg_fn=ema and swa_utils.get_ema_avg_fn(ema))
    rng = np.random.default_rng(0)
    for _ in range(5):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            value = rng.standard_normal(p.shape)
            p.value()[...] = value
            q.data[...] = torch.tensor(value)
        ours.update_parameters(a)
        theirs.update_parameters(b)
    assert ours.n_averaged == int(theirs.n_averaged)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.value(), q.detach().numpy(), atol=1e-12)


def test_levenberg_marquardt_against_scipy():
    least_squares = pytest.importorskip("scipy.optimize").least_squares
    rng = np.random.default_rng(0)
    t = np.linspace(0, 3, 40)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.standard_normal(40)
    wanted = least_squares(lambda w: w[0] * np.exp(w[1] * t) + w[2] - y, [1.0, -0.5, 0.0]).x
    w = nn.Parameter(np.array([1.0, -0.5, 0.0]))
    optimizer = optim.LevenbergMarquardt([w])
    tt, yt = fathom.tensor(t), fathom.tensor(y)
    for _ in range(30):
        optimizer.step(lambda: w[0] * fathom.exp(w[1] * tt) + w[2] - yt)
    np.testing.assert_allclose(w.value(), wanted, rtol=1e-6)
