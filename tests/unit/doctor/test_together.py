"""Several optimizers of one model: given as a list, side by side or in turns."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import fathom
from fathom.doctor.adapters.together import Together, one_of
from fathom.doctor.watching import watch
from fathom.engine.errors import ArgumentError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = X[:, :3].argmax(1).astype(np.int64)


@pytest.fixture(params=["torch", "fathom"])
def engine(request):
    pytest.importorskip(request.param)
    module = importlib.import_module(request.param)
    if request.param == "torch":
        with module.random.fork_rng():
            module.manual_seed(0)
            yield module
    else:
        with fathom.seed(0):
            yield module


SIDE_BY_SIDE = "zero0 zero1 backward step0 step1"
IN_TURNS = "zero0 backward step0 zero1 backward step1"
RARELY = "zero0 backward step0 " * 3 + "zero1 backward step1"


def run(engine, order, rounds=20):
    nn, optim = engine.nn, importlib.import_module(f"{engine.__name__}.optim")
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    some = [optim.SGD(model[0].parameters(), lr=0.1), optim.Adam(model[2].parameters(), lr=0.01)]
    x, y, loss = engine.tensor(X), engine.tensor(Y), nn.CrossEntropyLoss()
    seen = watch(model, some, quiet=True, budget=1.0)
    with seen:
        for _ in range(rounds):
            for word in order.split():
                if word == "backward":
                    loss(model(x), y).backward()
                elif word.startswith("zero"):
                    some[int(word[-1])].zero_grad()
                else:
                    some[int(word[-1])].step()
    assert not [n for n in seen.case.notes if "Error" in n], seen.case.notes
    return seen


def faults(seen):
    return [f.kind for f in seen.findings if f.severity != "advice"]


@pytest.mark.parametrize("order", [SIDE_BY_SIDE, IN_TURNS, RARELY], ids=["side", "turns", "rarely"])
def test_healthy_loops(engine, order):
    seen = run(engine, order)
    assert faults(seen) == [] and not set(seen.told) - {"still_improving"}
    assert seen.case.optimizer.several == 2 and seen.case.optimizer.kind == "SGD and Adam"
    assert all(p.in_optimizer for p in seen.case.parameters.values())


def test_a_round_is_a_step(engine):
    assert run(engine, SIDE_BY_SIDE).case.usage.steps == 20
    assert run(engine, IN_TURNS).case.usage.steps == 20
    stats = run(engine, SIDE_BY_SIDE).case.steps[0].parameters
    assert stats["0.weight"].update > 0 and stats["2.weight"].update > 0


def test_gradients_that_nobody_clears(engine):
    seen = run(engine, "backward step0 step1")
    assert faults(seen)[0] == "missing_zero_grad" and seen.told["missing_zero_grad"] <= 3


def test_one_that_never_steps(engine):
    seen = run(engine, "zero0 zero1 backward step0", rounds=40)
    assert faults(seen)[0] == "frozen_parameters" and seen.findings[0].where == "2"


def test_one_of_a_list_of_one_is_that_one():
    optimizer = fathom.optim.SGD(fathom.nn.Linear(2, 1).parameters(), lr=0.1)
    assert one_of([optimizer]) is optimizer and one_of((optimizer, optimizer)) is optimizer
    assert one_of(None) is None and one_of([]) is None and one_of(optimizer) is optimizer
    with pytest.raises(ArgumentError):
        Together([optimizer, "sgd"])


def test_no_hooks_are_left_behind():
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    some = [torch.optim.SGD([p], 0.1) for p in model.parameters()]
    with watch(model, some, quiet=True):
        for o in some:
            assert o._optimizer_step_post_hooks
    assert not any(o._optimizer_step_post_hooks or o._optimizer_step_pre_hooks for o in some)
