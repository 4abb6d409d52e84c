"""The training steps of all examples, compiled: what eager steps give, on either back end.

An example is run up to the headline from which on it trains, so that models, losses and data are
its own. Its steps then run eagerly and compiled. NumPy back end: the same bits. Native: 1e-5 of
weights and gradients in the first steps, and 1e-4 of the loss after a hundred. Adam divides a
gradient by its size: where that is rounding alone, a weight may go either way.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.func import vmap
from fathom.nn import functional as F
from fathom.nn.utils import clip_grad_norm_
from fathom.train.distill import soft_labels
from tests.compiled import BACKENDS, alike

EXAMPLES = Path(__file__).parents[2] / "examples"
NEAR = 3  # steps after which everything is compared
ROWS = 16
NOISE = 1e-4  # of the largest gradient of a weight: below it is rounding

Names = dict[str, Any]
Step = Callable[..., Any]
Made = tuple[list[nn.Module], Step, Callable[[np.random.Generator], tuple[Any, ...]]]
CASES: dict[str, tuple[str, str, Callable[[Names], Made]]] = {}


def case(example: str, until: str, which: str = "") -> Callable[..., Any]:
    """Declare steps: modules, the step, and what draws its arguments, from an example's names."""

    def declare(make: Callable[[Names], Made]) -> Callable[[Names], Made]:
        CASES[f"{example} {which}".strip()] = example, until, make
        return make

    return declare


def names_of(example: str, until: str) -> Names:
    """What an example has defined when it comes to a headline."""
    file = EXAMPLES / f"{example}.py"
    text = file.read_text(encoding="utf-8")
    head, mark, _ = text.partition(f"\n# -- {until}")
    assert mark, f"{example}: no headline {until!r}"
    names: Names = {"__name__": example, "__doc__": "", "__file__": str(file)}
    exec(compile(head, str(file), "exec"), names)
    return names


def stepper(model: nn.Module, optimizer: Any, loss_of: Callable[..., Any]) -> Step:
    """One step of a loop as the examples write it."""

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def rows_of(
    *arrays: Any, dtype: Any = np.float32
) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Some rows of arrays, drawn for each step."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        chosen = rng.integers(0, len(arrays[0]), ROWS)
        parts = (np.asarray(a)[chosen] for a in arrays)
        return tuple(fathom.tensor(p.astype(dtype) if p.dtype.kind == "f" else p) for p in parts)

    return draw


def classifier(model: nn.Module, x: Any, y: Any, optimizer: Any = None, loss: Any = None) -> Made:
    """What `fit` does to a model: Adam, and the cross-entropy of scores."""
    adam = optimizer or optim.Adam(model.parameters(), lr=1e-3)
    loss = loss or F.cross_entropy
    draw = rows_of(x, y, dtype=next(model.parameters()).dtype)
    return [model], stepper(model, adam, lambda x, y: loss(model(x), y)), draw


# -- the examples ---------------------------------------------------------------------------------


@case("mlp_digits", "training:")
def _mlp(n: Names) -> Made:
    return classifier(n["model"], n["train"].x, n["train"].y)


@case("cnn_mnist", "training ---")
def _cnn(n: Names) -> Made:
    return classifier(n["model"], n["x_train"], n["train"].y)


def _deep(kind: str) -> Callable[[Names], Made]:
    def make(n: Names) -> Made:
        # not Adam: before a batch normalization gradients are zero up to rounding
        # and float64: a value beside the kink of a ReLU that rounding pushes over changes all
        model = n["build"](kind).double()
        sgd = optim.SGD(model.parameters(), lr=0.001)
        return classifier(model, n["x_train"], n["train"].y, sgd)

    return make


for _kind in ("plain ReLU", "BatchNorm", "SELU"):
    case("deep_selu", "the experiment", _kind)(_deep(_kind))


@case("distillation", "what it has to say", "teacher")
def _teacher(n: Names) -> Made:
    return classifier(n["mlp"](64, 0.5, 0), n["train"].x, n["train"].y)


@case("distillation", "what it has to say", "student")
def _student(n: Names) -> Made:
    x = n["train"].x[:300]
    soft = soft_labels(n["mlp"](64, 0.5, 0).eval()(fathom.tensor(x)).detach().value(), 4.0)

    def loss(scores: Any, soft: Any) -> Any:
        return F.cross_entropy(scores / 4.0, soft) * 16.0

    return classifier(n["mlp"](32, 0.0, 1), x, soft, loss=loss)


@case("quantization", "all of it in 8 bits")
def _quantization(n: Names) -> Made:
    return classifier(n["model"], n["train"].x, n["train"].y)


@case("quantile_regression", "cross-validation")
def _quantiles(n: Names) -> Made:
    data = fathom.data.load("diabetes")
    x, y = ((a - a.mean(0)) / a.std(0) for a in (data.x, data.y))
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3))
    adam = optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.1)
    return classifier(model, x, y, adam, n["pinball"])


@case("forgetting", "the first task")
def _forgetting(n: Names) -> Made:
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    sgd = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return classifier(model, n["train"].x, n["train"].y, sgd)


def windows(codes: np.ndarray, length: int) -> Callable[[np.random.Generator], tuple[Any, ...]]:
    """Stretches of a text, and what follows each character."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        at = rng.integers(0, len(codes) - length, (4, 1)) + np.arange(length)
        return fathom.tensor(codes[at]), fathom.tensor(codes[at + 1])

    return draw


@case("char_lstm", "training:")
def _char_lstm(n: Names) -> Made:
    model, loss_of = n["model"], n["loss_of"]
    step = stepper(model, n["optimizer"], lambda x, y: F.cross_entropy(
        model(x)[0].reshape(-1, len(n["alphabet"])), y.reshape(-1)))  # fmt: skip
    assert loss_of(model(fathom.tensor([[1, 2]]))[0], np.array([[2, 3]])).item() > 0
    return [model], step, windows(n["train"], 12)


@case("char_transformer", "training:")
def _char_transformer(n: Names) -> Made:
    model = n["model"]
    group = n["optimizer"].param_groups[0]
    group["lr"] = 0.001  # as at the slow start
    group["eps"] = 1e-5  # the slope of a key's bias is rounding alone: not to blow it up to 1
    step = stepper(model, n["optimizer"], lambda x, y: F.cross_entropy(
        model(x).reshape(-1, len(n["alphabet"])), y.reshape(-1)))  # fmt: skip
    return [model], step, windows(n["train"], 12)


@case("gan_1d", "training:")
def _gan(n: Names) -> Made:
    generator, loss_of = n["generator"], n["loss_of"]

    def step(real: Any, first: Any, second: Any) -> Any:
        n["of_discriminator"].zero_grad()
        judged = loss_of(real, 1.0) + loss_of(generator(first).detach(), 0.0)
        judged.backward()
        n["of_discriminator"].step()
        n["of_generator"].zero_grad()
        fooled = loss_of(generator(second), 1.0)
        fooled.backward()
        n["of_generator"].step()
        return judged.detach() + fooled.detach()

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        noise = rng.standard_normal((2, ROWS, n["noise"])).astype("f")
        return fathom.tensor(n["real"](ROWS)), *map(fathom.tensor, noise)

    return [generator, n["discriminator"]], step, draw


def _maml(second_order: bool) -> Callable[[Names], Made]:
    def make(n: Names) -> Made:
        model = n["network"]()
        optimizer = optim.Adam(model.parameters(), lr=0.002)

        def step(*given: Any) -> Any:
            weights = dict(model.named_parameters())
            if second_order:
                each = vmap(n["after_one_step"], in_dims=(None, 0, 0, 0, 0))
                total = each(weights, *given).mean()
            else:
                total = n["loss"](weights, *given[:2])
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            return total

        return [model], step, lambda rng: n["sines"](4, 5)

    return make


case("maml_sine", "training:", "first order")(_maml(False))
case("maml_sine", "training:", "MAML")(_maml(True))


@case("look_inside", "3. the first value")
def _neuron(n: Names) -> Made:
    layer = nn.Linear(2, 1)
    sgd = optim.SGD(layer.parameters(), lr=0.1)
    step = stepper(layer, sgd, lambda x, y: ((fathom.tanh(layer(x)) - y) ** 2).sum())
    return [layer], step, lambda rng: (n["x"][None], fathom.tensor([[1.0]]))


# -- the comparison -------------------------------------------------------------------------------


class Run:
    """An example of its own, with its data drawn the same way each time."""

    def __init__(self, name: str) -> None:
        example, until, make = CASES[name]
        with fathom.seed(3):
            self.modules, self.step, self.draw = make(names_of(example, until))
        self.rng, self.random = np.random.default_rng(7), fathom.Random(5)

    def turn(self, step: Step) -> float:
        with fathom.random.use(self.random):
            return float(step(*self.draw(self.rng)).item())

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for i, module in enumerate(self.modules):
            found |= {f"{i}.{k}": np.array(v) for k, v in module.state_dict().items()}
            for k, p in module.named_parameters():
                found[f"{i}.{k}.grad"] = None if p.grad is None else np.array(p.grad.value())
        return copy.deepcopy(found)


@pytest.fixture(autouse=True)
def no_data_but_the_built_in(tmp_path, monkeypatch, capsys):
    for name in ("FATHOM_DATA", "FATHOM_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["example", "--quick"])
    yield
    sys.modules.pop("common", None)


def test_every_example_is_here() -> None:
    assert {e for e, _, _ in CASES.values()} == {f.stem for f in EXAMPLES.glob("*.py")} - {"common"}


def steady(states: Sequence[dict[str, Any]], key: str) -> Any:
    """Which elements of a weight had gradients worth the name in all steps so far."""
    slopes = [np.abs(state[f"{key}.grad"]) for state in states]
    return np.all([g > NOISE * g.max() for g in slopes], axis=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_compiled_steps_are_eager_steps(name, backend) -> None:
    eager, other = Run(name), Run(name)
    compiled = fathom.compile(other.step, backend=backend)
    native, states = backend == "native", []
    close = 1e-5 if native else 0.0
    for number in range(NEAR):
        a, b = eager.turn(eager.step), other.turn(compiled)
        np.testing.assert_allclose(b, a, rtol=close, err_msg=f"loss {number}")
        wanted, found = eager.state(), other.state()
        states.append(wanted)
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            sure = steady(states, key) if native and f"{key}.grad" in wanted else ...
            alike(value[sure], found[key][sure], close, f"step {number}, {key}")
    for _ in range(NEAR, 100 if native else 10):
        a, b = eager.turn(eager.step), other.turn(compiled)
    np.testing.assert_allclose(b, a, rtol=1e-4 if native else 0.0)
    assert len(compiled.plans) <= 2, compiled.traces
    assert eager.random.state_dict() == other.random.state_dict()
