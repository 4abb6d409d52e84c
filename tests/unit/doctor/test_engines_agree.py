"""One program on both engines, eager and compiled: the same finding, at the same place, first."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fathom
from fathom.doctor.callback import Doctor
from fathom.doctor.watching import Watch, watch

RNG = np.random.default_rng(0)
X = RNG.standard_normal((512, 10)).astype(np.float32)
MIXING = RNG.standard_normal((10, 3))
LABELS = (X @ MIXING + 0.3 * RNG.standard_normal((512, 3))).argmax(1)
OTHERS = (X[:, 0] > 0).astype(np.int64) + (X[:, 2] > 0)
REAL = (np.sin(X[:, :1]) + 0.5 * X[:, 1:2]).astype(np.float32)
HOT = np.eye(3, dtype=np.float32)[LABELS]
STEPS = 60


def engine_of(name: str) -> Any:
    """Either library with what differs between them put over."""
    if name == "torch":
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        return SimpleNamespace(
            name=name, nn=torch.nn, F=torch.nn.functional, optim=torch.optim,
            tensor=torch.as_tensor, no_grad=torch.no_grad,
            put=lambda p, value: p.data.copy_(torch.as_tensor(value)),
        )  # fmt: skip
    fathom.seed(0)
    functional = importlib.import_module("fathom.nn.functional")
    return SimpleNamespace(
        name=name, nn=fathom.nn, F=functional, optim=fathom.optim, tensor=fathom.tensor,
        no_grad=fathom.no_grad, put=lambda p, value: p.copy_(fathom.tensor(value)),
    )  # fmt: skip


@pytest.fixture(params=["torch", "fathom", "compiled"])
def engine(request: Any) -> Any:
    found = engine_of("torch" if request.param == "torch" else "fathom")
    found.compiled = request.param == "compiled"
    return found


def run(
    e: Any, model: Any, targets: Any = LABELS, loss: Any = None, lr: float = 1e-2,
    steps: int = STEPS, zero: bool = True,
) -> Watch:  # fmt: skip
    """Train and watch; parameters that are frozen stay out of the optimizer."""
    loss = loss or e.F.cross_entropy
    optimizer = e.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)

    def step(x: Any, y: Any) -> Any:
        if zero:
            optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value

    made = fathom.compile(step) if e.compiled else step
    rng = np.random.default_rng(1)
    with watch(model, optimizer, quiet=True, planned_steps=steps, budget=1.0) as seen:
        for _ in range(steps):
            rows = rng.integers(0, len(X), 32)
            made(e.tensor(X[rows]), e.tensor(targets[rows]))
    return seen


def first(seen: Watch) -> tuple[str, str]:
    """Kind and place of the first finding that is no advice."""
    found = [f for f in seen.findings if f.severity != "advice"]
    return (found[0].kind, found[0].where) if found else ("", "")


def network(e: Any, *behind: Any, outputs: int = 3) -> Any:
    nn = e.nn
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
                         nn.Linear(32, outputs), *behind)  # fmt: skip


def body_and_head(e: Any, inside: Callable[[Any, Any], Any], hidden: bool = False) -> Any:
    """A model of a body and a head; `inside` is what becomes of the body's output."""

    class Model(e.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            first, second = e.nn.Linear(10, 32), e.nn.Linear(32, 32)
            self.body = [first] if hidden else first
            self.middle, self.head = second, e.nn.Linear(32, 3)

        def forward(self, x: Any) -> Any:
            body = self.body[0] if hidden else self.body
            return self.head(e.F.relu(self.middle(inside(body, x))))

    return Model()


def test_a_layer_called_without_gradients(engine):
    def inside(body, x):
        with engine.no_grad():
            return engine.F.relu(body(x))

    assert first(run(engine, body_and_head(engine, inside))) == ("no_gradient", "body")


def test_a_detached_layer(engine):
    model = body_and_head(engine, lambda body, x: engine.F.relu(body(x)).detach())
    assert first(run(engine, model)) == ("no_gradient", "body")


def test_layers_in_a_plain_list(engine):
    seen = run(engine, body_and_head(engine, lambda body, x: engine.F.relu(body(x)), hidden=True))
    assert first(seen) == ("missing_from_optimizer", "body")
    assert seen.case.hidden_in == "body" and len(seen.case.unregistered) == 2


def test_a_body_with_gradients_is_well(engine):
    model = body_and_head(engine, lambda body, x: engine.F.relu(body(x)))
    assert first(run(engine, model)) == ("", "")


HAND = {
    "double softmax": (lambda e: network(e, e.nn.Softmax(1)), HOT,
                       lambda e, o, y: -(y * e.F.log_softmax(o, 1)).sum(1).mean(),
                       ("softmax_before_cross_entropy", "output")),
    "softmax and its logarithm": (lambda e: network(e, e.nn.Softmax(1)), HOT,
                                  lambda e, o, y: -(y * (o + 1e-8).log()).sum(1).mean(), ("", "")),
    "targets out of reach": (lambda e: network(e, e.nn.Tanh(), outputs=1), 10 * REAL,
                             lambda e, o, y: ((o - y) ** 2).mean(),
                             ("unreachable_targets", "output")),
    "errors of each with each": (lambda e: network(e, outputs=1), REAL[:, 0],
                                 lambda e, o, y: ((o - y) ** 2).mean(), ("loss_broadcast", "loss")),
    "errors": (lambda e: network(e, outputs=1), REAL, lambda e, o, y: ((o - y) ** 2).mean(),
               ("", "")),
}  # fmt: skip


@pytest.mark.parametrize("form", list(HAND))
def test_losses_by_hand(engine, form):
    make, targets, loss, expected = HAND[form]
    seen = run(engine, make(engine), targets, lambda o, y: loss(engine, o, y))
    assert first(seen) == expected
    assert seen.case.loss is not None and seen.case.loss.function in (
        "cross_entropy", "nll_loss", "mse_loss")  # fmt: skip
    assert len(list(seen.adapter.batches)) > 1  # for trials


def test_soft_capped_logits_are_well(engine):
    def loss(logits, y):
        return engine.F.cross_entropy(30.0 * engine.F.tanh(logits / 30.0), y)

    assert first(run(engine, network(engine), loss=loss)) == ("", "")


@pytest.mark.parametrize("form", ["chosen", "cross-entropy"])
@pytest.mark.parametrize("name", ["torch", "fathom"])
def test_rewards_are_well(name, form):
    engine = engine_of(name)
    engine.compiled = False
    rng = np.random.default_rng(2)

    def loss(logits, y):
        logs = engine.F.log_softmax(logits, 1)
        p = np.exp(np.array(logs.detach().numpy()))
        actions = np.array([rng.choice(3, p=row / row.sum()) for row in p])
        rewards = (actions == np.array(y.detach().numpy())).astype(np.float32) - 0.3
        if form == "chosen":
            rows = engine.tensor(np.arange(len(actions)))
            return -(logs[rows, engine.tensor(actions)] * engine.tensor(rewards)).mean()
        each = engine.F.cross_entropy(logits, engine.tensor(actions), reduction="none")
        return (each * engine.tensor(rewards)).mean()

    assert first(run(engine, network(engine), loss=loss)) == ("", "")


# -- trained before --------------------------------------------------------------------------------


def pretrained(e: Any, model: Any, lr: float = 1e-2, steps: int = 200) -> Any:
    optimizer = e.optim.Adam(model.parameters(), lr=lr)
    rng = np.random.default_rng(5)
    for _ in range(steps):
        rows = rng.integers(0, len(X), 32)
        optimizer.zero_grad()
        loss = e.F.cross_entropy(model(e.tensor(X[rows])), e.tensor(LABELS[rows]))
        loss.backward()
        optimizer.step()
    return model


def tuned(e: Any, frozen: bool = True, norm: bool = True) -> Any:
    """A trained body, in eval mode, below a new head."""
    nn = e.nn
    norms = [nn.BatchNorm1d(64)] if norm else []
    body = nn.Sequential(nn.Linear(10, 64), *norms, nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    pretrained(e, nn.Sequential(body, nn.Linear(64, 3)))
    for p in body.parameters():
        p.requires_grad_(not frozen)
    model = nn.Sequential(body, nn.Linear(64, 3))
    model.train()
    body.eval()
    return model


@pytest.mark.parametrize("norm", [True, False])
def test_a_frozen_body_is_well(engine, norm):
    assert first(run(engine, tuned(engine, norm=norm), OTHERS)) == ("", "")


def test_norms_at_rest_are_well(engine):
    assert first(run(engine, tuned(engine, frozen=False), OTHERS)) == ("", "")


def test_a_frozen_body_is_well_with_the_whole_model_in_eval_mode(engine):
    model = tuned(engine)
    model.eval()
    assert first(run(engine, model, OTHERS)) == ("", "")


def test_a_trained_body_is_not_with_the_whole_model_in_eval_mode(engine):
    model = tuned(engine, frozen=False)
    model.eval()
    assert first(run(engine, model, OTHERS)) == ("eval_mode_in_training", "0.1")


def test_adapters_beside_frozen_weights_are_well(engine):
    nn = engine.nn

    class Adapted(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, linear: Any) -> None:
            super().__init__()
            self.linear = linear
            self.down = nn.Linear(linear.in_features, 4, bias=False)
            self.up = nn.Linear(4, linear.out_features, bias=False)
            for p in linear.parameters():
                p.requires_grad_(False)
            with engine.no_grad():
                engine.put(self.up.weight, np.zeros(self.up.weight.shape, np.float32))

        def forward(self, x: Any) -> Any:
            return self.linear(x) + self.up(self.down(x))

    base = pretrained(engine, network(engine))
    model = nn.Sequential(Adapted(base[0]), nn.ReLU(), Adapted(base[2]), nn.ReLU(),
                          nn.Linear(32, 3))  # fmt: skip
    assert first(run(engine, model, OTHERS)) == ("", "")


def test_a_body_frozen_as_drawn_is_not(engine):
    model = network(engine)
    for p in [*model[0].parameters(), *model[2].parameters()]:
        p.requires_grad_(False)
    assert first(run(engine, model, OTHERS)) == ("wrongly_frozen", "0")


def test_going_on_with_trained_weights_is_well(engine):
    model = pretrained(engine, network(engine), lr=0.1, steps=600)
    assert max(float(abs(np.array(p.detach().numpy())).max()) for p in model.parameters()) > 2
    assert first(run(engine, model, lr=1e-3)) == ("", "")


def test_large_weights_as_drawn_are_not(engine):
    model = network(engine)
    for i in (0, 2, 4):
        with engine.no_grad():
            engine.put(model[i].weight, 30 * np.array(model[i].weight.detach().numpy()))
    seen = run(engine, model, lr=1e-3)
    assert any(f.kind == "initialization_scale" for f in seen.findings)


def test_a_second_fit_is_well():
    fathom.seed(0)
    e = SimpleNamespace(nn=fathom.nn)
    model = network(e)
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.1)
    model.fit(X, LABELS, loss="cross_entropy", epochs=30, optimizer=optimizer, verbose=False)
    seen = Doctor(quiet=True)
    model.fit(X, LABELS, loss="cross_entropy", epochs=10, callbacks=[seen], verbose=False)
    assert [f.kind for f in seen.findings if f.severity != "advice"] == []
