"""Contract rules on planted faults, their repaired twins, and what they are to be silent on.

Each program is written once and run on both engines.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fathom.doctor.rules import RULES
from fathom.doctor.watching import Watch, watch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype(np.float32)
CLASS = (np.arange(64) % 4).astype(np.int64)
X += 2 * RNG.normal(size=(4, 8)).astype(np.float32)[CLASS]
YES = (CLASS[:, None] > 1).astype(np.float32)
REAL = (X[:, :1] - 0.5 * X[:, 1:2]).astype(np.float32)
ONE_HOT = np.eye(4, dtype=np.float32)[CLASS]
FILES = ("output", "targets", "setup", "structure", "loop", "trained")


class Engine:
    """torch or fathom: the names that programs use, which are the same in both."""

    def __init__(self, name: str) -> None:
        self.name, self.root = name, importlib.import_module(name)
        self.nn, self.optim = self.root.nn, importlib.import_module(f"{name}.optim")
        seed = self.root.manual_seed if name == "torch" else None
        if seed is not None:
            seed(0)

    def tensor(self, values: Any) -> Any:
        return self.root.tensor(values)

    def net(self, *parts: Any) -> Any:
        """Numbers are layers' widths, names are activations: net(8, "ReLU", 4)."""
        layers, width = [], 8
        for part in parts:
            if isinstance(part, int):
                layers.append(self.nn.Linear(width, part))
                width = part
            else:
                layers.append(part if not isinstance(part, str) else getattr(self.nn, part)())
        return self.nn.Sequential(*layers)

    def fill(self, model: Any, value: float, scale: float | None = None) -> Any:
        with self.root.no_grad():
            for p in model.parameters():
                p.copy_(p * scale if scale is not None else p * 0 + value)
        return model


@dataclass
class Program:
    """A model, its loss, its data, and what is odd about the loop."""

    model: Any
    loss: Any
    x: Any = field(default_factory=lambda: X)
    y: Any = field(default_factory=lambda: CLASS)
    optimizer: Any = None
    lr: float = 0.01
    steps: int = 5
    order: str = "zero backward step"


Make = Callable[[Engine], Program]


def run(engine: Engine, make: Make) -> Watch:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own warnings of the same faults
        p = make(engine)
        optimizer = p.optimizer or engine.optim.SGD(p.model.parameters(), lr=p.lr)
        seen = watch(p.model, optimizer, p.loss, quiet=True)
        with suppress(Exception), seen:
            for _ in range(p.steps):
                x = engine.tensor(p.x)
                for word in p.order.split():
                    if word == "zero":
                        optimizer.zero_grad()
                    elif word == "backward":
                        p.loss(p.model(x), engine.tensor(p.y)).backward()
                    elif word == "step":
                        optimizer.step()
                    elif word == "evaluate" and optimizer is not None:
                        with engine.root.no_grad():
                            p.model(x), p.model(x)
    assert not seen._off, seen._off
    return seen


def alarms(seen: Watch) -> list[str]:
    """Warnings and errors of the contract rules."""
    found = []
    for rule in RULES.values():
        if rule.look.__module__.rpartition(".")[2] in FILES and not rule.gates:
            hits = rule(seen.case)
            found += [rule.name for h in hits if (h.severity or rule.severity) != "advice"]
    return found


@pytest.fixture(params=["torch", "fathom"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    pytest.importorskip(request.param)
    if request.param == "fathom":
        import fathom

        with fathom.seed(0):
            yield Engine("fathom")
    else:
        import torch

        with torch.random.fork_rng():
            yield Engine("torch")


def ce(e: Engine) -> Any:
    return e.nn.CrossEntropyLoss()


def classes(*parts: Any, **options: Any) -> Make:
    """A network of these parts on four classes."""
    return lambda e: Program(e.net(*[p(e) if callable(p) else p for p in parts]), ce(e), **options)


def yes(loss: str, *parts: Any, **options: Any) -> Make:
    options.setdefault("y", YES)
    return lambda e: Program(e.net(*parts), getattr(e.nn, loss)(), **options)


def real(*parts: Any, loss: str = "MSELoss", **options: Any) -> Make:
    options.setdefault("y", REAL)
    return lambda e: Program(e.net(*parts), getattr(e.nn, loss)(), **options)


def softmax(e: Engine) -> Any:
    return e.nn.Softmax(1)


def nll(*parts: Any, axis: int | None = 1, y: Any = CLASS, softmax: str = "LogSoftmax") -> Make:
    def made(e: Engine) -> Program:
        last = () if axis is None else (getattr(e.nn, softmax)(axis),)
        return Program(e.net(*parts, *last), e.nn.NLLLoss(), y=y)

    return made


MLP = (16, "ReLU", 4)
GOOD = classes(*MLP)
GOOD_YES = yes("BCEWithLogitsLoss", 16, "ReLU", 1)
GOOD_REAL = real(16, "ReLU", 1)


def filled(value: float = 0.0, *, only: int | None = None, scale: float | None = None) -> Make:
    def made(e: Engine) -> Program:
        model = e.net(16, "ReLU", 16, "ReLU", 4)
        e.fill(model if only is None else model[only], value, scale)
        return Program(model, ce(e))

    return made


def copied(rows: int) -> Make:
    """The first of 16 units begin as so many different ones, each several times."""

    def made(e: Engine) -> Program:
        model = e.net(*MLP)
        first = 0.3 * np.random.default_rng(1).normal(size=(rows, 8)).astype(np.float32)
        with e.root.no_grad():
            model[0].weight.copy_(e.tensor(np.tile(first, (16 // rows, 1))))
        return Program(model, ce(e))

    return made


def optimizer_of(choose: Callable[[Engine, Any], Any]) -> Make:
    def made(e: Engine) -> Program:
        model = e.net(*MLP)
        held = choose(e, model)
        return Program(model, ce(e), optimizer=e.optim.SGD(held.parameters(), lr=0.01))

    return made


def frozen(*places: int) -> Make:
    def made(e: Engine) -> Program:
        model = e.net(16, "ReLU", 16, "ReLU", 4)
        for place in places:
            for p in model[place].parameters():
                p.requires_grad_(False)
        return Program(model, ce(e), optimizer=e.optim.SGD(model.parameters(), lr=0.01))

    return made


def trained_then_frozen(e: Engine) -> Program:
    """A backbone that was trained before and is kept; its head is new."""
    model = e.net(16, "ReLU", 4)
    x, y, loss = e.tensor(X), e.tensor(CLASS), ce(e)
    optimizer = e.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    for p in model[0].parameters():
        p.requires_grad_(False)
    return Program(e.nn.Sequential(model[0], model[1], e.nn.Linear(16, 4)), loss)


def given(loss: Any, width: int = 4, y: Any = CLASS) -> Make:
    """A loss written with the functions: loss(F, output, target)."""
    return lambda e: Program(e.net(16, "ReLU", width),
                             lambda o, t: loss(e.nn.functional, o, t), y=y, lr=0.1)  # fmt: skip


def forgetting(e: Engine) -> Program:
    """A trained network whose loss is made larger on purpose."""
    model = e.net(*MLP)
    x, y, loss = e.tensor(X), e.tensor(CLASS), ce(e)
    optimizer = e.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return Program(model, lambda o, t: -loss(o, t), lr=0.1)


def noisy(mode: str, order: str = "zero backward step", p: float = 0.3) -> Make:
    def made(e: Engine) -> Program:
        model = e.net(16, "ReLU", e.nn.Dropout(p), 4)
        model.train(mode == "train")
        return Program(model, ce(e), order=order, steps=6)

    return made


def normalized(rows: int) -> Make:
    return lambda e: Program(e.net(16, e.nn.BatchNorm1d(16), "ReLU", 4), ce(e), X[:rows],
                             CLASS[:rows])  # fmt: skip


def scaled_inside(e: Engine) -> Program:
    class Net(e.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = e.net(16, "ReLU", 4)

        def forward(self, x: Any) -> Any:
            return self.inner(x / 255.0)

    return Program(Net(), ce(e), 255 * X)


def capped(e: Engine) -> Program:
    class Net(e.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.tanh = e.net(16, "ReLU", 4), e.nn.Tanh()

        def forward(self, x: Any) -> Any:
            return 30.0 * self.tanh(self.inner(x) / 30.0)

    return Program(Net(), ce(e))


def detached(e: Engine) -> Program:
    class Net(e.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = e.nn.Linear(8, 16), e.nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x).detach())

    return Program(Net(), ce(e))


def hidden_layers(e: Engine) -> Program:
    class Net(e.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.__dict__["layers"] = [e.net(16, "ReLU")]
            self.out = e.nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.out(self.layers[0](x))

    return Program(Net(), ce(e))


def residual_zero(e: Engine) -> Program:
    """Residual branches, low-rank adapters and a head that start at 0."""

    class Net(e.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = e.nn.Linear(8, 16), e.nn.Linear(16, 4)
            self.a, self.act, self.b = e.nn.Linear(16, 16), e.nn.ReLU(), e.nn.Linear(16, 16)
            e.fill(self.b, 0.0)

        def forward(self, x: Any) -> Any:
            h = self.enter(x)
            return self.leave(h + self.b(self.act(self.a(h))))

    return Program(Net(), ce(e))


def unlike(*indices: int) -> Any:
    """Labels with the given ones in place of the first."""
    y = CLASS.copy()
    y[: len(indices)] = indices
    return y


WIDE = X * np.array([1, 10, 100, 1e3, 1e4, 1, 1, 0.01], np.float32)
NEGATIVE_ROWS = np.repeat(X[:1], 64, axis=0)

# name: rule, where, severity, the fault, its repaired twin
PLANTED: dict[str, tuple[str, str, str, Make, Make]] = {
    "cross-entropy on one unit": ("one_unit_softmax", "output", "error",
        classes(16, "ReLU", 1, y=np.zeros(64, np.int64)), GOOD),
    "softmax on one unit": ("one_unit_softmax", "output", "error",
        lambda e: Program(e.net(16, "ReLU", 1, e.nn.Softmax(1)), e.nn.BCELoss(), y=YES),
        yes("BCELoss", 16, "ReLU", 1, "Sigmoid")),
    "softmax twice": ("softmax_before_cross_entropy", "output", "error",
        classes(*MLP, softmax), GOOD),
    "sigmoid twice": ("sigmoid_before_bce_with_logits", "output", "error",
        yes("BCEWithLogitsLoss", 16, "ReLU", 1, "Sigmoid"), GOOD_YES),
    "binary loss on logits": ("probabilities_expected", "output", "error",
        yes("BCELoss", 16, "ReLU", 1), yes("BCELoss", 16, "ReLU", 1, "Sigmoid")),
    "nll on logits": ("probabilities_expected", "output", "error",
        nll(*MLP, axis=None), nll(*MLP)),
    "nll on probabilities": ("probabilities_expected", "output", "error",
        nll(*MLP, softmax="Softmax"), nll(*MLP)),
    "relu on logits": ("activation_on_logits", "output", "error", classes(*MLP, "ReLU"), GOOD),
    "tanh on logits": ("activation_on_logits", "output", "warning", classes(*MLP, "Tanh"), GOOD),
    "dropout on logits": ("activation_on_logits", "output", "warning",
        classes(*MLP, "Dropout"), GOOD),
    "softmax over the batch": ("softmax_wrong_axis", "output", "error",
        nll(*MLP, axis=0), nll(*MLP)),
    "relu on a regression": ("unreachable_targets", "output", "error",
        real(16, "ReLU", 1, "ReLU"), GOOD_REAL),
    "sigmoid on a regression": ("unreachable_targets", "output", "error",
        real(16, "ReLU", 1, "Sigmoid"), GOOD_REAL),
    "absolute error on classes": ("wrong_loss", "loss", "warning",
        real(*MLP, loss="L1Loss", y=ONE_HOT), GOOD),
    "labels beyond the classes": ("label_range", "targets", "error",
        classes(*MLP, y=CLASS + 1), GOOD),
    "negative labels": ("label_range", "targets", "error", classes(*MLP, y=unlike(-1)), GOOD),
    "labels as floats": ("label_range", "targets", "error",
        classes(*MLP, y=CLASS.astype(np.float32)), GOOD),
    "labels of -1 and 1": ("label_range", "targets", "error",
        yes("BCEWithLogitsLoss", 16, "ReLU", 1, y=2 * YES - 1), GOOD_YES),
    "class numbers in a binary loss": ("label_range", "targets", "error",
        yes("BCEWithLogitsLoss", 16, "ReLU", 1, y=CLASS[:, None].astype(np.float32)), GOOD_YES),
    "several labels in a cross-entropy": ("label_range", "targets", "error",
        classes(*MLP, y=(X[:, :4] > 0).astype(np.float32)), classes(*MLP, y=ONE_HOT)),
    "hinge with 0 and 1": ("label_range", "targets", "error",
        yes("SoftMarginLoss", 16, "ReLU", 1), yes("SoftMarginLoss", 16, "ReLU", 1, y=2 * YES - 1)),
    "one class only": ("label_range", "targets", "error", classes(*MLP, y=CLASS * 0), GOOD),
    "a loss with a minus": ("wrong_loss", "loss", "error",
        given(lambda F, o, y: -F.cross_entropy(o, y)), GOOD),
    "a constant less the loss": ("wrong_loss", "loss", "error",
        given(lambda F, o, y: 1 - F.cross_entropy(o, y)),
        given(lambda F, o, y: 1 + F.cross_entropy(o, y))),
    "a sigmoid of a sigmoid": ("sigmoid_before_bce_with_logits", "output", "error",
        yes("BCELoss", 16, "ReLU", 1, "Sigmoid", "Sigmoid"),
        yes("BCELoss", 16, "ReLU", 1, "Sigmoid")),
    "log-softmax of a softmax": ("softmax_before_cross_entropy", "output", "error",
        lambda e: Program(e.net(*MLP, e.nn.Softmax(1), e.nn.LogSoftmax(1)), e.nn.NLLLoss()),
        nll(*MLP)),
    "a logarithm of sigmoids": ("probabilities_expected", "output", "error",
        given(lambda F, o, y: F.nll_loss(F.sigmoid(o).log(), y)),
        given(lambda F, o, y: F.nll_loss(F.softmax(o, 1).log(), y))),
    "a root on a sigmoid": ("unreachable_targets", "output", "error",
        given(lambda F, o, y: F.mse_loss(F.sigmoid(o), y).sqrt(), 1, y=REAL),
        given(lambda F, o, y: F.mse_loss(o, y).sqrt(), 1, y=REAL)),
    "a column against a row, not reduced": ("loss_broadcast", "loss", "error",
        given(lambda F, o, y: F.mse_loss(o, y, reduction="none").mean(), 1, y=REAL[:, 0]),
        given(lambda F, o, y: F.mse_loss(o, y, reduction="none").mean(), 1, y=REAL)),
    "a column against a row": ("loss_broadcast", "loss", "error",
        real(16, "ReLU", 1, y=REAL[:, 0]), GOOD_REAL),
    "raw inputs": ("input_scale", "inputs", "warning", classes(*MLP, x=100 * X, lr=1e-5), GOOD),
    "features of unlike scale": ("input_scale", "inputs", "warning",
        classes(*MLP, x=WIDE, lr=1e-9), GOOD),
    "the same inputs": ("inputs_constant", "inputs", "error", classes(*MLP, x=NEGATIVE_ROWS), GOOD),
    "raw targets": ("target_scale", "targets", "warning",
        real(16, "ReLU", 1, y=1000 * REAL + 9e4, lr=1e-9), GOOD_REAL),
    "constant weights": ("symmetric_initialization", "0", "error", filled(0.1), GOOD),
    "zero weights": ("symmetric_initialization", "0", "error", filled(0.0), GOOD),
    "a hidden layer of zeros": ("symmetric_initialization", "2", "error", filled(only=2), GOOD),
    "units that are copies": ("symmetric_initialization", "0", "warning", copied(4), copied(16)),
    "huge weights": ("initialization_scale", "2", "warning", filled(only=2, scale=20.0), GOOD),
    "a linear stack": ("no_nonlinearity", "0", "warning", classes(16, 16, 4), GOOD),
    "one unit in the middle": ("bottleneck", "2", "warning",
        classes(16, "ReLU", 1, "Tanh", 16, "ReLU", 4), GOOD),
    "one unit after the other": ("bottleneck", "2", "warning",
        real(16, "ReLU", 1, "Tanh", 1, "Tanh", 1), real(16, "ReLU", 1, "Tanh", 1)),
    "tiny batches normalized": ("batchnorm_few_samples", "1", "warning",
        normalized(4), normalized(16)),
    "dropout of 95 %": ("dropout_too_strong", "2", "warning",
        noisy("train", p=0.95), noisy("train")),
    "another model's optimizer": ("stale_optimizer", "optimizer", "error",
        optimizer_of(lambda e, m: e.net(*MLP)), optimizer_of(lambda e, m: m)),
    "the head alone is handed over": ("missing_from_optimizer", "0", "error",
        optimizer_of(lambda e, m: m[2]), optimizer_of(lambda e, m: m)),
    "frozen as drawn": ("wrongly_frozen", "0", "warning", frozen(0, 2), frozen()),
    "all frozen": ("wrongly_frozen", "0", "error", frozen(0, 2, 4), frozen()),
    "a learning rate of 0": ("frozen_parameters", "optimizer", "error",
        classes(*MLP, lr=0.0), GOOD),
    "detached in the middle": ("no_gradient", "a", "error", detached, GOOD),
    "gradients never cleared": ("missing_zero_grad", "optimizer", "error",
        classes(*MLP, order="backward step"), GOOD),
    "cleared too late": ("gradients_cleared", "optimizer", "error",
        classes(*MLP, order="backward zero step"), classes(*MLP, order="backward step zero")),
    "never stepped": ("missing_step", "optimizer", "error",
        classes(*MLP, order="zero backward"), GOOD),
    "trained in eval mode": ("eval_mode_in_training", "2", "warning",
        noisy("eval"), noisy("train")),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named_and_its_twin_is_not(engine: Engine, name: str) -> None:
    kind, where, severity, fault, repaired = PLANTED[name]
    seen = run(engine, fault)
    hits = RULES[kind](seen.case)
    assert hits, [f.kind for f in seen.findings]
    assert hits[0].where == where
    assert (hits[0].severity or RULES[kind].severity) == severity
    assert seen.findings and seen.findings[0].kind == kind, [f.kind for f in seen.findings]
    assert alarms(run(engine, repaired)) == []


def momentarily(order: str, **options: Any) -> Make:
    return classes(*MLP, order=order, **options)


# what is odd, and fine
HEALTHY: dict[str, Make] = {
    "linear regression": real(1),
    "softmax regression from zeros": lambda e: Program(e.fill(e.net(4), 0.0), ce(e)),
    "logistic regression": yes("BCELoss", 1, "Sigmoid"),
    "autoencoder with a linear bottleneck": real(2, 8, y=X),
    "reconstruction of 0 and 1 by absolute error":
        lambda e: Program(e.net(16, "ReLU", 8), e.nn.L1Loss(), (X > 0).astype(np.float32),
                          (X > 0).astype(np.float32)),
    "Brier's score": real(16, "ReLU", 1, "Sigmoid", y=YES),
    "a loss taken away from another":
        given(lambda F, o, y: F.cross_entropy(o, y) - 0.1 * F.mse_loss(o, 0 * o.detach())),
    "losses times rewards":
        given(lambda F, o, y: (-F.cross_entropy(o, y, reduction="none") * o.detach()[:, 0]).mean()),
    "quantiles against quantiles, not reduced":
        given(lambda F, o, y: F.mse_loss(o[:, :, None], y[:, None, :], reduction="none").mean(),
              y=X[:, :4]),
    "the first of many is alike":
        given(lambda F, o, y: F.cross_entropy(o @ o.detach().T, y), y=CLASS * 0),
    "a loss that counts for nothing yet": given(lambda F, o, y: 0.0 * F.cross_entropy(o, y)),
    "a network that is to forget": forgetting,
    "squared error on one-hot rows": real(*MLP, y=ONE_HOT),
    "counts, squared error":
        real(16, "ReLU", 1, y=RNG.poisson(2.0, (64, 1)).astype(np.float32)),
    "non-negative targets behind a relu": real(16, "ReLU", 1, "ReLU", y=abs(REAL)),
    "soft labels": classes(*MLP, y=0.9 * ONE_HOT + 0.025),
    "greys in a binary loss": yes("BCELoss", 16, "ReLU", 1, "Sigmoid", y=0.5 + 0.2 * YES),
    "ignored labels": classes(*MLP, y=unlike(-100, -100)),
    "log-probabilities into a cross-entropy":
        lambda e: Program(e.net(*MLP, e.nn.LogSoftmax(1)), ce(e)),
    "soft capping": capped,
    "scaled inside the model": scaled_inside,
    "a normalization first":
        lambda e: Program(e.nn.Sequential(e.nn.BatchNorm1d(8), *e.net(*MLP)), ce(e), WIDE),
    "one-hot inputs": classes(*MLP, x=np.eye(8, dtype=np.float32)[np.arange(64) % 8]),
    "zero-initialized branches": residual_zero,
    "a trained backbone, frozen": trained_then_frozen,
    "cleared behind the step": momentarily("backward step zero"),
    "accumulation": momentarily("zero backward backward backward step"),
    "evaluation in eval mode": noisy("train", "zero backward step"),
    "everything in eval mode without dropout":
        lambda e: Program(e.net(*MLP).eval(), ce(e)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_odd_but_fine_raises_no_alarm(engine: Engine, name: str) -> None:
    assert alarms(run(engine, HEALTHY[name])) == []


# -- what only PyTorch's programs do ---------------------------------------------------------------


def torch_run(make: Make, **habits: Any) -> Watch:
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        return run(Engine("torch"), make)


def test_layers_in_a_plain_list_are_found() -> None:
    seen = torch_run(hidden_layers)
    assert seen.findings[0].kind == "missing_from_optimizer"
    assert seen.findings[0].where == "layers"


def test_another_optimizer_trains_the_rest() -> None:
    torch = pytest.importorskip("torch")
    engine, model = Engine("torch"), None
    model = engine.net(*MLP)
    other = torch.optim.SGD(model[0].parameters(), lr=0.01)
    held = torch.optim.SGD(model[2].parameters(), lr=0.01)
    assert alarms(run(engine, lambda e: Program(model, ce(e), optimizer=held))) == []
    assert other.param_groups


def test_a_loss_made_anew_from_a_number_reaches_nothing() -> None:
    torch = pytest.importorskip("torch")

    def loss(z: Any, y: Any) -> Any:
        value = torch.nn.functional.cross_entropy(z, y)
        return torch.tensor(value.item(), requires_grad=True)

    seen = torch_run(lambda e: Program(e.net(*MLP), loss))
    assert (seen.findings[0].kind, seen.findings[0].where) == ("no_gradient", "loss")


def test_labels_that_make_the_loss_raise_are_explained() -> None:
    for labels in (ONE_HOT.astype(np.int64), CLASS[:, None], CLASS + 7):
        seen = torch_run(classes(*MLP, y=labels))
        assert [f.kind for f in seen.findings] == ["label_range"], labels.shape
        assert any(e.name == "the loss raised" for e in seen.findings[0].evidence)


def test_rows_that_do_not_match_are_a_matter_of_shapes() -> None:
    seen = torch_run(classes(*MLP, y=CLASS[:-3]))
    assert [f.kind for f in seen.findings] == ["loss_broadcast"]


def test_softmax_over_time_instead_of_classes() -> None:
    x = RNG.normal(size=(8, 3, 12)).astype(np.float32)
    y = RNG.integers(0, 5, size=(8, 12))

    def made(axis: int) -> Make:
        return lambda e: Program(
            e.nn.Sequential(e.nn.Conv1d(3, 8, 1), e.nn.ReLU(), e.nn.Conv1d(8, 5, 1),
                            e.nn.LogSoftmax(axis)), e.nn.NLLLoss(), x, y)  # fmt: skip

    assert torch_run(made(-1)).findings[0].kind == "softmax_wrong_axis"
    assert alarms(torch_run(made(1))) == []


def test_nan_in_the_data_is_named_as_such() -> None:
    spoilt = X.copy()
    spoilt[3, 2] = np.nan
    seen = torch_run(classes(*MLP, x=spoilt))
    assert (seen.findings[0].kind, seen.findings[0].where) == ("non_finite", "inputs")


def test_a_generator_is_not_blamed_for_its_opponents_losses() -> None:
    torch = pytest.importorskip("torch")
    e = Engine("torch")
    net, judge = e.net(16, "ReLU", 8), e.net(16, "ReLU", 1)
    loss, ones = e.nn.BCEWithLogitsLoss(), torch.ones(64, 1)
    own, other = (torch.optim.Adam(m.parameters(), 2e-4) for m in (net, judge))
    with watch(net, own, quiet=True) as seen:
        for _ in range(6):
            made = net(torch.randn(64, 8))
            other.zero_grad()
            (loss(judge(e.tensor(X)), ones) + loss(judge(made.detach()), 0 * ones)).backward()
            other.step()
            own.zero_grad()
            loss(judge(made), ones).backward()
            own.step()
    assert alarms(seen) == []


# -- how soon it is told, at the default budget ----------------------------------------------------


def cut(e: Engine) -> Any:
    """A network whose first half is cut off from the loss."""

    class Cut(e.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = e.net(16, "ReLU"), e.nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.encoder(x).detach())

    return Program(Cut(), ce(e), steps=6)


def with_rate_zero(scheduled: bool) -> Make:
    def make(e: Engine) -> Program:
        p = Program(e.net(16, "ReLU", 4), ce(e), steps=6)
        p.optimizer = e.optim.SGD(p.model.parameters(), lr=0.0)
        if scheduled:
            for group in p.optimizer.param_groups:
                group["initial_lr"] = 0.1
        return p

    return make


def strange(e: Engine) -> Program:
    p = Program(e.net(16, "ReLU", 4), ce(e), steps=6)
    p.optimizer = e.optim.SGD(e.net(16, "ReLU", 4).parameters(), lr=0.1)
    return p


def partial_(e: Engine) -> Program:
    p = Program(e.net(16, "ReLU", 4), ce(e), steps=6)
    p.optimizer = e.optim.SGD(p.model[2].parameters(), lr=0.1)
    return p


def frozen(e: Engine) -> Program:
    p = Program(e.net(32, "ReLU", 4), ce(e), steps=6)
    for q in p.model[0].parameters():
        q.requires_grad_(False)
    p.optimizer = e.optim.SGD([q for q in p.model.parameters() if q.requires_grad], lr=0.1)
    return p


def in_eval(e: Engine) -> Program:
    p = Program(e.net(16, "ReLU", e.nn.Dropout(0.5), 4), ce(e), steps=6)
    p.model.eval()
    return p


SOON: dict[str, Make] = {
    "no_gradient": cut,
    "frozen_parameters": with_rate_zero(False),
    "stale_optimizer": strange,
    "missing_from_optimizer": partial_,
    "wrongly_frozen": frozen,
    "eval_mode_in_training": in_eval,
    "missing_zero_grad": classes(16, "ReLU", 4, order="backward step", steps=6),
    "gradients_cleared": classes(16, "ReLU", 4, order="backward zero step", steps=6),
    "batchnorm_few_samples": lambda e: Program(
        e.net(16, e.nn.BatchNorm1d(16), "ReLU", 4), ce(e), x=X[:2], y=CLASS[:2], steps=6
    ),
}


@pytest.mark.parametrize("name", SOON)
def test_usage_faults_are_told_within_three_steps(engine: Engine, name: str) -> None:
    seen = run(engine, SOON[name])
    assert seen.told.get(name, 99) <= 3, seen.told


def test_a_schedule_that_starts_at_a_rate_of_zero_has_time(engine: Engine) -> None:
    seen = run(engine, with_rate_zero(True))
    assert seen.told.get("frozen_parameters", 99) >= 6  # at the end: it never began


def test_steps_with_closures_are_no_missing_steps(engine: Engine) -> None:
    model = engine.net(16, "Tanh", 4)
    optimizer = engine.optim.LBFGS(model.parameters(), lr=0.5, max_iter=20)
    x, y, loss = engine.tensor(X), engine.tensor(CLASS), ce(engine)

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        return value

    seen = watch(model, optimizer, quiet=True, budget=1.0)
    with seen:
        for _ in range(4):
            optimizer.step(closure)
    assert "missing_step" not in seen.told and not alarms(seen)


@pytest.mark.parametrize(("rate", "told"), [(0.5, True), (0.0, False)])
def test_one_evaluation_in_train_mode_is_told_where_its_loss_was_seen(
    rate: float, told: bool
) -> None:
    pytest.importorskip("torch")
    engine = Engine("torch")
    model = engine.net(16, "ReLU", engine.nn.Dropout(rate), 4)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1)
    x, y, loss = engine.tensor(X), engine.tensor(CLASS), ce(engine)
    with watch(model, optimizer, loss, quiet=True) as seen:
        for step in range(30):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            if step == 9:
                with engine.root.no_grad():
                    loss(model(x), y)
    assert (seen.told.get("train_mode_in_evaluation", 99) <= 11) is told


def test_a_loss_that_is_not_finite_is_told_two_steps_later(engine: Engine) -> None:
    model = engine.net(16, "ReLU", 4)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1)
    x, y, loss = engine.tensor(X), engine.tensor(CLASS), ce(engine)
    with watch(model, optimizer, loss, quiet=True) as seen:
        for step in range(40):
            optimizer.zero_grad()
            (loss(model(x), y) * (float("nan") if step == 5 else 1.0)).backward()
            optimizer.step()
    assert seen.told["non_finite"] <= 8
