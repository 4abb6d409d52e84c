"""Schedules against PyTorch, point by point, and as functions of the step."""

import math
import warnings

import numpy as np
import pytest

from fathom import nn, optim
from fathom.optim import lr_scheduler as ours

torch = pytest.importorskip("torch")
theirs = torch.optim.lr_scheduler

STEPS = 200
CASES = [
    ("LambdaLR", {"lr_lambda": lambda t: 0.95**t}),
    ("LambdaLR", {"lr_lambda": [lambda t: 1 / (t + 1), lambda t: 0.5]}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.99 if t % 2 else 1.001}),
    ("StepLR", {"step_size": 30}),
    ("StepLR", {"step_size": 7, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [10, 10, 50, 120], "gamma": 0.5}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 40}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "end_factor": 0.7, "total_iters": 90}),
    ("ExponentialLR", {"gamma": 0.97}),
    ("PolynomialLR", {"total_iters": 150, "power": 2.0}),
    ("PolynomialLR", {}),
    ("CosineAnnealingLR", {"T_max": 200}),
    ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 17}),
    ("CosineAnnealingWarmRestarts", {"T_0": 10, "T_mult": 2, "eta_min": 0.003}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 20}),
    (
        "CyclicLR",
        {
            "base_lr": [0.01, 0.02],
            "max_lr": 0.3,
            "step_size_up": 13,
            "step_size_down": 29,
            "mode": "triangular2",
        },
    ),
    (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 1.0, "step_size_up": 9, "mode": "exp_range", "gamma": 0.99},
    ),
    (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 1.0,
            "step_size_up": 9,
            "scale_fn": lambda x: 1 / x,
            "cycle_momentum": False,
        },
    ),
    ("OneCycleLR", {"max_lr": 0.4, "total_steps": 201}),
    (
        "OneCycleLR",
        {
            "max_lr": [0.4, 0.2],
            "epochs": 3,
            "steps_per_epoch": 70,
            "pct_start": 0.2,
            "anneal_strategy": "linear",
            "three_phase": True,
            "div_factor": 10.0,
            "final_div_factor": 50.0,
        },
    ),
]


def optimizers(kind="SGD", **options):
    options = {"momentum": 0.9} | options if kind == "SGD" else options
    made = []
    for library, tensor in (
        (optim, lambda: nn.Parameter([1.0])),
        (torch.optim, lambda: torch.nn.Parameter(torch.ones(1))),
    ):
        groups = [{"params": [tensor()]}, {"params": [tensor()], "lr": 0.05}]
        made.append(getattr(library, kind)(groups, lr=0.1, **options))
    return made


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def momenta(optimizer):
    return [g.get("momentum", g.get("betas", [0.0])[0]) for g in optimizer.param_groups]


def race(a, b, first, second, metrics=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch wants optimizer.step() called before
        for t in range(STEPS + 1):
            np.testing.assert_allclose(rates(first), rates(second), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(momenta(first), momenta(second), rtol=1e-9)
            assert a.get_last_lr() == rates(first)
            assert [a.lr_at(t, i) for i in range(2)] == rates(first)
            if t < STEPS:
                extra = () if metrics is None else (metrics[t],)
                a.step(*extra)
                b.step(*extra)


@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda v: None if " at 0x" in str(v) else str(v)[:60]
)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_every_point(kind, name, options):
    first, second = optimizers(kind)
    race(getattr(ours, name)(first, **options), getattr(theirs, name)(second, **options),
         first, second)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factor": 0.5, "patience": 2},
        {"factor": 0.5, "patience": 1, "cooldown": 3, "min_lr": [0.01, 0.001]},
        {"factor": 0.5, "patience": 1, "mode": "max"},
        {"factor": 0.5, "patience": 1, "threshold": 0.05, "threshold_mode": "abs"},
        {"factor": 0.5, "patience": 1, "threshold": 0.05, "threshold_mode": "abs", "mode": "max"},
        {"factor": 0.9, "patience": 0, "eps": 1e-2},
    ],
    ids=str,
)
def test_plateau(options):
    first, second = optimizers()
    values = np.exp(-np.arange(STEPS) / 50) + 0.2 * np.random.default_rng(0).standard_normal(STEPS)
    a, b = (library.ReduceLROnPlateau(o, **options)
            for library, o in ((ours, first), (theirs, second)))  # fmt: skip
    told = a.simulate(values)
    race(a, b, first, second, values)
    assert [row[0] for row in a.history[1:]] == told


def test_sequential():
    first, second = optimizers()

    def make(library, optimizer):
        parts = [
            library.LinearLR(optimizer, start_factor=0.1, total_iters=20),
            library.CosineAnnealingLR(optimizer, T_max=100),
            library.ExponentialLR(optimizer, gamma=0.9),
        ]
        return library.SequentialLR(optimizer, parts, milestones=[20, 120])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        race(make(ours, first), make(theirs, second), first, second)


def test_chained():
    first, second = optimizers()

    def make(library, optimizer):
        parts = [
            library.ConstantLR(optimizer, factor=0.1, total_iters=20),
            library.ExponentialLR(optimizer, gamma=0.97),
            library.CosineAnnealingLR(optimizer, T_max=250),
        ]
        return library.ChainedScheduler(parts)

    race(make(ours, first), make(theirs, second), first, second)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_swa(strategy):
    first, second = optimizers()
    a = ours.SWALR(first, 0.02, anneal_epochs=30, anneal_strategy=strategy)
    b = torch.optim.swa_utils.SWALR(second, 0.02, anneal_epochs=30, anneal_strategy=strategy)
    race(a, b, first, second)


@pytest.mark.parametrize("name", ["StepLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts"])
def test_restored_schedules_go_on(name):
    options = dict(next(o for n, o in CASES if n == name))
    whole, _ = optimizers()
    long = getattr(ours, name)(whole, **options)
    part, _ = optimizers()
    short = getattr(ours, name)(part, **options)
    for _ in range(10):
        long.step()
        short.step()
    fresh, _ = optimizers()
    again = getattr(ours, name)(fresh, **options)
    fresh.load_state_dict(part.state_dict())
    again.load_state_dict(short.state_dict())
    for _ in range(20):
        long.step()
        again.step()
        assert rates(whole) == rates(fresh)


def test_closed_forms_of_our_own():
    optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    noam = ours.NoamLR(optimizer, d_model=512, warmup_steps=4000)
    for t in (1, 100, 4000, 20000):
        wanted = 512**-0.5 * min(t**-0.5, t * 4000**-1.5)
        assert noam.lr_at(t - 1) == pytest.approx(wanted, rel=1e-12)
    root = ours.InverseSquareRootLR(optimizer, warmup_steps=10)
    assert max(range(100), key=root.lr_at) == 9
    assert root.lr_at(39) == pytest.approx(0.5)
    warm = ours.WarmupCosineLR(optimizer, warmup_steps=10, total_steps=110)
    assert [warm.lr_at(t) for t in (0, 5, 10, 110, 500)] == pytest.approx([0, 0.5, 1, 0, 0])
    assert warm.lr_at(60) == pytest.approx(0.5)


def test_the_cosine_is_steepest_half_way():
    optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    schedule = ours.CosineAnnealingLR(optimizer, T_max=100)
    drops = [schedule.lr_at(t) - schedule.lr_at(t + 1) for t in range(100)]
    assert int(np.argmax(drops)) in (49, 50)
    assert max(drops) == pytest.approx(math.pi / 200, rel=1e-3)
