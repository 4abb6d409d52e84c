"""Signals that are lost on the way: in normalizations over one value, in softmaxes over examples,
in time, and between errors and labels of which each meets each. On both engines."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fathom.doctor.adapters.through_time import kept
from fathom.doctor.case import Layer
from fathom.doctor.rules import RULES
from fathom.doctor.watching import Watch, watch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8, 1)).astype(np.float32)
CLASS = RNG.integers(0, 4, size=64)


@pytest.fixture(params=["torch", "fathom"])
def engine(request: pytest.FixtureRequest) -> Any:
    root = pytest.importorskip(request.param)
    root.manual_seed(0)
    functional = importlib.import_module(f"{request.param}.nn.functional")
    optim = importlib.import_module(f"{request.param}.optim")
    return SimpleNamespace(name=request.param, root=root, nn=root.nn, F=functional, optim=optim)


def train(
    e: Any, model: Any, loss: Callable[..., Any], x: Any, y: Any, *, steps: int = 8,
    batch: int = 32, lr: float = 1e-2,
) -> Watch:  # fmt: skip
    optimizer = e.optim.Adam(model.parameters(), lr=lr)
    with watch(model, optimizer, quiet=True, budget=1.0) as seen:
        for step in range(steps):
            at = (np.arange(batch) + step * batch) % len(x)
            optimizer.zero_grad()
            loss(model(e.root.tensor(x[at])), e.root.tensor(y[at])).backward()
            optimizer.step()
    assert not seen._off and not seen.case.notes, (seen._off, seen.case.notes)
    return seen


def entropy(e: Any) -> Any:
    return e.nn.CrossEntropyLoss()


def module(e: Any, forward: Callable[..., Any], **parts: Any) -> Any:
    """A model of these parts: forward(parts, x)."""

    class Model(e.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return Model()


# -- normalizations over one value -----------------------------------------------------------------


def normalized(e: Any, norm: Any, *, behind: bool = False) -> Any:
    """A normalization in front of a small network, or behind its first layer."""
    nn = e.nn
    lift = [nn.Flatten(), nn.Linear(8, 16)]
    first = [*lift, norm] if behind else [norm, *lift]
    return nn.Sequential(*first, nn.ReLU(), nn.Linear(16, 4))


FAULTY = {
    "layer": (lambda nn: nn.LayerNorm(1), False, "error"),
    "root mean square": (lambda nn: nn.RMSNorm(1), False, "warning"),
    "group": (lambda nn: nn.GroupNorm(16, 16), True, "error"),
}
FINE = {
    "layer": (lambda nn: nn.LayerNorm((8, 1)), False),
    "root mean square": (lambda nn: nn.RMSNorm((8, 1)), False),
    "group": (lambda nn: nn.GroupNorm(4, 16), True),
    "places": (lambda nn: nn.Sequential(nn.GroupNorm(8, 8), nn.Conv1d(8, 8, 1)), False),
}


@pytest.mark.parametrize("form", list(FAULTY))
def test_what_is_normalized_by_itself_is_lost(engine: Any, form: str) -> None:
    made, behind, severity = FAULTY[form]
    seen = train(engine, normalized(engine, made(engine.nn), behind=behind), entropy(engine), X,
                 CLASS)  # fmt: skip
    (found,) = [f for f in seen.findings if f.kind == "inputs_ignored"]
    assert (found.where, found.severity) == ("2" if behind else "0", severity)
    assert seen.findings[0] is found and seen.told["inputs_ignored"] <= 1


@pytest.mark.parametrize("form", list(FINE))
def test_normalizations_over_several_values(engine: Any, form: str) -> None:
    made, behind = FINE[form]
    model = normalized(engine, made(engine.nn), behind=behind)
    x = X
    if form == "places":
        x = RNG.normal(size=(64, 8, 5)).astype(np.float32)
        model = engine.nn.Sequential(made(engine.nn), engine.nn.Flatten(), engine.nn.Linear(40, 4))
    assert not RULES["inputs_ignored"](train(engine, model, entropy(engine), x, CLASS).case)


def test_a_scale_that_begins_at_zero(engine: Any) -> None:
    norm = engine.nn.GroupNorm(16, 16)
    with engine.root.no_grad():
        norm.weight.copy_(norm.weight * 0)
    model = normalized(engine, norm, behind=True)
    assert not RULES["inputs_ignored"](train(engine, model, entropy(engine), X, CLASS).case)


def test_a_normalization_without_weights(engine: Any) -> None:
    """It is known where it stands in the graph, as behind a layer."""
    norm = engine.nn.LayerNorm(1, elementwise_affine=False)
    model = normalized(engine, engine.nn.Sequential(engine.nn.Linear(1, 1), norm))
    seen = train(engine, model, entropy(engine), X, CLASS)
    assert [f.where for f in seen.findings if f.kind == "inputs_ignored"] == ["0.1"]


def test_a_normalization_that_is_not_used(engine: Any) -> None:
    whole = module(engine, lambda m, x: m.net(x), net=normalized(engine, engine.nn.Identity()),
                   spare=engine.nn.LayerNorm(1))  # fmt: skip
    assert not RULES["inputs_ignored"](train(engine, whole, entropy(engine), X, CLASS).case)


# -- softmaxes over the examples -------------------------------------------------------------------


def pooled(e: Any, axis: int) -> Any:
    parts = {"score": e.nn.Linear(3, 1), "share": e.nn.Softmax(axis), "out": e.nn.Linear(3, 4)}
    return module(e, lambda m, x: m.out((m.share(m.score(x)) * x).sum(1)), **parts)


def both_ways(e: Any) -> Any:
    """Assignments to 6 clusters, normalized over the clusters and over the examples."""

    def forward(m: Any, x: Any) -> Any:
        z = m.score(x)
        return m.out(e.F.softmax(z, 1) * e.F.softmax(z, 0))

    return module(e, forward, score=e.nn.Linear(8, 6), out=e.nn.Linear(6, 4))


def weighed(e: Any) -> Any:
    """A weight for each example among those of its batch."""
    return module(e, lambda m, x: m.out(x) * e.F.softmax(m.score(x), 0),
                  score=e.nn.Linear(8, 1), out=e.nn.Linear(8, 4))  # fmt: skip


def test_a_softmax_over_the_examples(engine: Any) -> None:
    x = RNG.normal(size=(64, 7, 3)).astype(np.float32)
    found = train(engine, pooled(engine, 0), entropy(engine), x, CLASS).findings[0]
    assert (found.kind, found.where) == ("softmax_wrong_axis", "score")
    fine = train(engine, pooled(engine, 1), entropy(engine), x, CLASS)
    assert not RULES["softmax_wrong_axis"](fine.case)


@pytest.mark.parametrize(("same", "told"), [(True, False), (False, True)])
def test_where_one_step_was_sampled_the_kept_batches_tell(
    made: Any, same: bool, told: bool
) -> None:
    """Steps of a few microseconds afford no second sample."""
    case = made.case([1.4], loss=made.call())
    case.inputs, case.softmaxes = [np.zeros((40, 7, 3))], (("score", 0, (40, 7, 1)),)
    y = np.asarray(case.losses[0].target)
    case.kept_targets = lambda: [y, y if same else y[::-1]]
    assert bool(RULES["softmax_wrong_axis"](case)) is told


@pytest.mark.parametrize("made", [both_ways, weighed])
def test_softmaxes_over_the_examples_that_are_meant(engine: Any, made: Any) -> None:
    seen = train(engine, made(engine), entropy(engine), X[:, :, 0], CLASS)
    assert seen.case.softmaxes and not RULES["softmax_wrong_axis"](seen.case)


def test_the_time_may_come_first(engine: Any) -> None:
    """Inputs (time, batch, features), targets of the batch."""

    def forward(m: Any, x: Any) -> Any:
        return m.out((e.F.softmax(m.score(x), 0) * x).sum(0))

    e = engine
    model = module(e, forward, score=e.nn.Linear(3, 1), out=e.nn.Linear(3, 4))
    optimizer = e.optim.Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer, quiet=True) as seen:
        for _ in range(8):
            x, y = RNG.normal(size=(7, 32, 3)).astype(np.float32), RNG.integers(0, 4, size=32)
            optimizer.zero_grad()
            e.F.cross_entropy(model(e.root.tensor(x)), e.root.tensor(y)).backward()
            optimizer.step()
    assert seen.case.softmaxes and not RULES["softmax_wrong_axis"](seen.case)


# -- labels of which each meets each error ---------------------------------------------------------


def distance(e: Any) -> Any:
    return module(e, lambda m, x: ((m.net(x) ** 2).sum(1) + 0.1) ** 0.5, net=e.nn.Linear(8, 3))


def contrastive(d: Any, same: Any) -> Any:
    return (same * d**2 + (1 - same) * (1.5 - d).clip(0, None) ** 2).mean()


SAME = (CLASS > 1).astype(np.float32)


@pytest.mark.parametrize("column", [True, False])
def test_a_column_of_labels_meets_distances(engine: Any, column: bool) -> None:
    y = SAME[:, None] if column else SAME
    model = distance(engine)
    loss = contrastive if column else lambda d, t: contrastive(d.reshape(-1, 1), t)
    found = train(engine, model, loss, X[:, :, 0], y).findings[0]
    assert found.kind == "loss_broadcast"


def weights_of_all(d: Any, same: Any) -> Any:
    """Comparisons of all with all: both sides depend on the weights, and so the mask is square."""
    mask = (same[:, None] != same[None, :]) * 1.0
    return (mask * (d[:, None] - d[None, :]) ** 2).mean()


def quantiles(d: Any, same: Any) -> Any:
    """Some function of each product: more is made of it than its mean."""
    return ((same[:, None] * d) ** 2).exp().mean()


PAIRED: dict[str, Any] = {
    "one shape": contrastive,
    "all with all": weights_of_all,
    "what is not linear": quantiles,
    "a constant": lambda d, t: (d * (t[:, None] * 0 + 1)).mean(),
}


@pytest.mark.parametrize("form", list(PAIRED))
def test_products_that_are_meant(engine: Any, form: str) -> None:
    seen = train(engine, distance(engine), PAIRED[form], X[:, :, 0], SAME)
    assert not RULES["loss_broadcast"](seen.case)


# -- gradients that vanish in time -----------------------------------------------------------------


def test_what_is_left_of_a_gradient() -> None:
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    assert kept(np.zeros((30, 2, 4)), turn) == pytest.approx(1.0, rel=1e-4)
    assert kept(np.zeros((31, 2, 4)), 0.5 * turn) == pytest.approx(0.5**30)
    assert kept(np.full((31, 2, 4), 0.9), turn) == pytest.approx(0.19**15, rel=1e3)  # tanh is flat
    assert kept(np.full((31, 2, 4), 0.9), turn, relu=True) == pytest.approx(1.0, rel=1e-4)


def test_a_long_sequence_goes_on_as_it_began() -> None:
    wide = np.linalg.qr(RNG.normal(size=(512, 512)))[0]
    assert kept(np.zeros((101, 2, 512)), 0.9 * wide) == pytest.approx(0.9**100, rel=1e-2)
    assert kept(np.zeros((1001, 2, 4)), 2.0 * np.eye(4)) > 1e9  # finite, too
    slow = np.diag([0.999, *[0.1] * 15])  # one of its directions lasts
    assert kept(np.zeros((201, 2, 16)), slow) > 1e-2


LONG = RNG.integers(0, 4, size=(256, 40))


def remembering(e: Any, kind: str, *, mean: bool = False) -> Any:
    def forward(m: Any, x: Any) -> Any:
        states, _ = m.rnn(m.emb(x))
        return m.out(states.mean(1) if mean else states[:, -1])

    return module(e, forward, emb=e.nn.Embedding(4, 8), out=e.nn.Linear(16, 4),
                  rnn=getattr(e.nn, kind)(8, 16, batch_first=True))  # fmt: skip


def test_a_plain_rnn_forgets_what_came_first(engine: Any) -> None:
    seen = train(engine, remembering(engine, "RNN"), entropy(engine), LONG, LONG[:, 0], steps=80,
                 lr=1e-3)  # fmt: skip
    left = seen.case.series("rnn", "memory")
    assert len(left) >= 3 and max(left) < 1e-6
    found = seen.findings[0]
    assert (found.kind, found.where) == ("vanishing_gradients", "rnn")


def test_what_does_not_have_to_go_through_time_is_not_measured(engine: Any) -> None:
    pooled = train(engine, remembering(engine, "RNN", mean=True), entropy(engine), LONG, LONG[:, 0])
    gated = train(engine, remembering(engine, "GRU"), entropy(engine), LONG, LONG[:, 0])
    assert not pooled.case.series("rnn", "memory") and not gated.case.series("rnn", "memory")


def case_of(made: Any, curve: Any, left: float, **more: Any) -> Any:
    case = made.case(curve, made.steps(layers={"second": {"memory": left}}, **more))
    case.layers["second"] = Layer("second", "RNN")
    return case


def test_a_memory_that_is_lost_counts_in_runs_that_do_not_learn(made: Any) -> None:
    rule = RULES["vanishing_gradients"]
    assert [h.where for h in rule(case_of(made, made.stuck(), 1e-9))] == ["second"]
    assert not rule(case_of(made, made.stuck(), 1e-3))  # some of it comes through
    assert not rule(case_of(made, made.learned(), 1e-9))
    assert not rule(case_of(made, made.stuck(), 1e-9, ratio=1e-5))  # a learning rate too low
    assert not rule(case_of(made, made.stuck(40), 1e-9))  # too early to tell
