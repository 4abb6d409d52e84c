"""Watching changes nothing: weights, random numbers, plans; and nothing of it is left behind."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.function import Compiled
from fathom.doctor.callback import Doctor
from fathom.doctor.watching import watch
from fathom.engine.hearing import HEARERS
from fathom.engine.random import current
from fathom.nn import functional as F

RNG = np.random.default_rng(1)
X = RNG.normal(size=(256, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 256)
IMAGES = RNG.normal(size=(64, 1, 6, 6)).astype(np.float32)
STEPS = 70  # past the last doubling: 0, 1, 2, 4, ..., 64 are sampled

Run = Callable[[nn.Module, Any, Any, Any], list[float]]


def table() -> tuple[nn.Module, Any, Any]:
    """Batch normalization and dropout: state and random numbers that a sample might move."""
    return nn.Sequential(
        nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3)
    ), X, Y  # fmt: skip


def images() -> tuple[nn.Module, Any, Any]:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.Linear(64, 3)
    ), IMAGES, Y[:64]  # fmt: skip


MODELS = {"table": table, "images": images}


def batches(x: Any, y: Any) -> Any:
    for i in range(STEPS):
        rows = slice(16 * i % len(x), 16 * i % len(x) + 16)
        yield x[rows], y[rows]


def eager(model: nn.Module, optimizer: Any, x: Any, y: Any) -> list[float]:
    losses = []
    for a, b in batches(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(fathom.tensor(a)), b)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compiled(model: nn.Module, optimizer: Any, x: Any, y: Any) -> list[float]:
    @fathom.compile
    def step(a: Any, b: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
        return loss

    return [step(a, b).item() for a, b in batches(x, y)]


def accumulated(model: nn.Module, optimizer: Any, x: Any, y: Any) -> list[float]:
    losses = []
    for i, (a, b) in enumerate(batches(x, y)):
        loss = F.cross_entropy(model(fathom.tensor(a)), b) / 2
        loss.backward()
        losses.append(loss.item())
        if i % 2:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    return losses


def without_zeroing(model: nn.Module, optimizer: Any, x: Any, y: Any) -> list[float]:
    """Gradients that a compiled step goes on adding up."""

    @fathom.compile
    def step(a: Any, b: Any) -> Any:
        loss = F.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
        return loss

    F.cross_entropy(model(fathom.tensor(x[:16])), y[:16]).backward()
    return [step(a, b).item() for a, b in batches(x, y)]


def scheduled(model: nn.Module, optimizer: Any, x: Any, y: Any) -> list[float]:
    """A compiled step that changes more than the weights: a counter, an average, the rate."""
    average = [fathom.tensor(p.value()) for p in model.parameters()]

    @fathom.compile
    def step(a: Any, b: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(a), b)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for mean, p in zip(average, model.parameters(), strict=True):
            mean.mul_(0.9).add_(0.1 * p.detach())
        return loss

    losses = []
    for i, (a, b) in enumerate(batches(x, y)):
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + i)
        losses.append(step(a, b).item())
    return [*losses, *(float(abs(mean.value()).sum()) for mean in average)]


LOOPS: dict[str, Run] = {
    "eager": eager, "compiled": compiled, "accumulated": accumulated,
    "without_zeroing": without_zeroing, "scheduled": scheduled,
}  # fmt: skip


def state(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    found = {name: t.value().copy() for name, t in model.state_dict().items()}
    for number, entry in optimizer.state_dict()["state"].items():
        found |= {f"{number}/{k}": np.array(v) for k, v in entry.items()}
    for name, p in model.named_parameters():
        if p.grad is not None:
            found[f"{name}.grad"] = p.grad.value().copy()
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name


def nothing_is_left(model: nn.Module) -> None:
    assert not HEARERS
    for module in model.modules():
        assert not (module._pre_hooks or module._hooks or module._backward_hooks)
    assert all(not (p.extra or {}).get("hooks") for p in model.parameters())


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("loop", LOOPS)
def test_weights_are_bitwise_equal(
    loop: str, kind: str, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native == "1" and loop in ("eager", "accumulated"):
        pytest.skip("there is no plan")
    monkeypatch.setenv("FATHOM_NATIVE", native)

    def train(watched: bool) -> tuple[dict[str, Any], list[float], Any]:
        with fathom.seed(3):
            model, x, y = MODELS[kind]()
            optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
            if not watched:
                losses = LOOPS[loop](model, optimizer, x, y)
            else:
                with watch(model, optimizer, quiet=True, budget=1.0) as seen:
                    losses = LOOPS[loop](model, optimizer, x, y)
                assert len(seen.case.steps) >= 7 and not seen.adapter.broken
                assert all(step.layers for step in seen.case.steps)
                assert not [n for n in seen.case.notes if "rule" not in n]
                nothing_is_left(model)
            return state(model, optimizer), losses, current().state_dict()

    (a, losses, random), (b, watched, drawn) = train(False), train(True)
    same(a, b)
    assert losses == watched and random == drawn


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("compile", [False, True])
def test_fit_is_bitwise_equal(compile: bool, native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_NATIVE", native)

    def train(*callbacks: Any) -> tuple[dict[str, Any], Any]:
        with fathom.seed(3):
            model, x, y = table()
            optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
            history = model.fit(
                x, y, epochs=5, batch_size=16, optimizer=optimizer, compile=compile,
                callbacks=callbacks, verbose=False, validation_data=(x, y), clip_norm=1.0,
            )  # fmt: skip
        nothing_is_left(model)
        return state(model, optimizer), dict(history.to_dict())

    doctor = Doctor(quiet=True, budget=1.0)
    (a, without), (b, watched) = train(), train(doctor)
    same(a, b)
    assert without == watched and doctor.watch is not None
    assert len(doctor.watch.case.steps) >= 8


def test_unsampled_compiled_steps_run_as_the_plan_they_had() -> None:
    with fathom.seed(3):
        model, x, y = table()
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
    runs = itertools.count()  # of the Python code

    @fathom.compile
    def step(a: Any, b: Any) -> Any:
        next(runs)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(a), b)
        loss.backward()
        optimizer.step()
        return loss

    assert isinstance(step, Compiled)
    with watch(model, optimizer, quiet=True, budget=1.0) as seen:
        for a, b in batches(x, y):
            step(a, b)
    assert len(step.plans) == 1 and not step.observed
    assert next(runs) == 1 + len(seen.case.steps)  # the trace, and a rehearsal each


@pytest.mark.parametrize("loop", ["eager", "compiled"])
def test_nothing_is_left_after_an_exception(loop: str) -> None:
    with fathom.seed(3):
        model, x, y = table()
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
    before = Compiled.__call__, F.cross_entropy, type(optimizer).step
    with pytest.raises(ZeroDivisionError), watch(model, optimizer, quiet=True):
        LOOPS[loop](model, optimizer, x, y)
        raise ZeroDivisionError
    nothing_is_left(model)
    assert before == (Compiled.__call__, F.cross_entropy, type(optimizer).step)


def test_a_compiled_step_that_raises_leaves_everything_in_place() -> None:
    with fathom.seed(3):
        model, x, y = table()
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)

    @fathom.compile
    def step(a: Any, b: Any) -> Any:
        loss = F.cross_entropy(model(a), b)
        loss.backward()
        if float(loss) > -1:  # no trace
            raise KeyError("no")
        optimizer.step()

    before = state(model, optimizer)
    with pytest.raises(Exception, match=r"value|no"), watch(model, optimizer, quiet=True):
        step(x[:16], y[:16])
    same(before, state(model, optimizer))
    nothing_is_left(model)


def test_treatment_leaves_the_run_alone() -> None:
    with fathom.seed(3):
        model, x, y = table()
        optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
        with watch(model, optimizer, quiet=True) as seen:
            eager(model, optimizer, x, y)
        before, drawn = state(model, optimizer), current().state_dict()
        patient = seen.adapter.patient(seed=1)
        patient.hold_out(0)
        patient.train(3)
        patient.score()
        same(before, state(model, optimizer))
        assert current().state_dict() == drawn
