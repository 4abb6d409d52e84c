"""Losses written out by hand are read off the graph of either engine, with what they were given."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.doctor.adapters.fathom_written import written
from fathom.nn import functional as F


def of_fathom():
    def seen(loss, *outputs):
        found = written(loss.node, outputs)
        return None if found is None else (found[0], array(found[1]), array(found[2]), found[3])

    def array(tensor):
        return np.array(tensor.detach().numpy())

    def linear(inputs, outputs):
        with fathom.seed(0):
            return nn.Linear(inputs, outputs)

    return SimpleNamespace(
        F=F, seen=seen, array=array, tensor=fathom.tensor, linear=linear,
        gather=lambda z, i: z.gather(1, i), clip=lambda z, low, high: z.clip(low, high),
        logsigmoid=F.log_sigmoid if hasattr(F, "log_sigmoid") else F.logsigmoid,
    )  # fmt: skip


def of_torch():
    torch = pytest.importorskip("torch")
    graph = importlib.import_module("fathom.doctor.adapters.torch_graph")
    forms = importlib.import_module("fathom.doctor.adapters.torch_written")

    def seen(loss, *outputs):
        found = forms.written_call(graph.read(loss.grad_fn, {}, {})[1], next(iter(outputs), None))
        return None if found is None else (found[1], array(found[2]), array(found[3]), found[4])

    def array(tensor):
        return np.array(tensor.detach().numpy())

    def linear(inputs, outputs):
        torch.manual_seed(0)
        return torch.nn.Linear(inputs, outputs)

    return SimpleNamespace(
        F=torch.nn.functional, seen=seen, array=array, tensor=torch.as_tensor, linear=linear,
        gather=lambda z, i: z.gather(1, i), clip=lambda z, low, high: z.clamp(low, high),
        logsigmoid=torch.nn.functional.logsigmoid,
    )  # fmt: skip


@pytest.fixture(params=["fathom", "torch"])
def engine(request):
    return of_fathom() if request.param == "fathom" else of_torch()


rng = np.random.default_rng(0)
X = rng.standard_normal((8, 5)).astype(np.float32)
Y = rng.standard_normal((8, 3)).astype(np.float32)
LABELS = np.arange(8) % 3
HOT = np.eye(3, dtype=np.float32)[LABELS]
YES = (np.arange(8) % 2).astype(np.float32)[:, None]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


ERRORS = {
    "mean of the square": (lambda o, y: ((o - y) ** 2).mean(), "mse_loss", "mean"),
    "sum of the square": (lambda o, y: ((y - o) ** 2).sum(), "mse_loss", "sum"),
    "square": (lambda o, y: (o - y).square().mean(), "mse_loss", "mean"),
    "product": (lambda o, y: ((o - y) * (o - y)).mean(), "mse_loss", "mean"),
    "absolute": (lambda o, y: (o - y).abs().mean(), "l1_loss", "mean"),
    "half": (lambda o, y: 0.5 * ((o - y) ** 2).mean(), "mse_loss", "mean"),
    "root": (lambda o, y: ((o - y) ** 2).mean().sqrt(), "mse_loss", "mean"),
    "power 1/2": (lambda o, y: (((o - y) ** 2).mean() + 1e-8) ** 0.5, "mse_loss", "mean"),
}


@pytest.mark.parametrize("form", list(ERRORS))
def test_errors(engine, form):
    loss, function, reduction = ERRORS[form]
    output = engine.linear(5, 3)(engine.tensor(X))
    name, given, aim, options = engine.seen(loss(output, engine.tensor(Y)), output)
    assert name == function and options["reduction"] == reduction
    np.testing.assert_allclose(aim, Y, atol=1e-6)
    np.testing.assert_array_equal(given, engine.array(output))
    apart = np.abs(given - Y) if function == "l1_loss" else (given - Y) ** 2
    own = apart.sum() if reduction == "sum" else apart.mean()
    assert options["value"] == pytest.approx(own, rel=1e-4)  # whatever became of it


def test_an_error_of_what_was_made_of_the_output(engine):
    output = engine.linear(5, 3)(engine.tensor(X))
    p = engine.F.sigmoid(output)
    name, given, aim, _ = engine.seen(((p - engine.tensor(HOT)) ** 2).mean(), output)
    assert name == "mse_loss"
    np.testing.assert_array_equal(given, engine.array(p))
    np.testing.assert_allclose(aim, HOT, atol=1e-6)


def test_a_broadcast_error_shows_both_shapes(engine):
    output = engine.linear(5, 1)(engine.tensor(X))
    target = Y[:, 0]
    _, given, aim, _ = engine.seen(((output - engine.tensor(target)) ** 2).mean(), output)
    assert given.shape == (8, 1)
    np.testing.assert_allclose(aim, target, atol=1e-6)


ENTROPIES = {
    "softmax": lambda e, o, y: -(y * e.F.softmax(o, 1).log()).sum(1).mean(),
    "softmax, minus inside": lambda e, o, y: (-y * e.F.softmax(o, 1).log()).sum(1).mean(),
    "softmax and a little": lambda e, o, y: -(y * (e.F.softmax(o, 1) + 1e-8).log()).sum(1).mean(),
    "clipped": lambda e, o, y: -(y * e.clip(e.F.softmax(o, 1), 1e-8, 1.0).log()).sum(1).mean(),
    "log_softmax": lambda e, o, y: -(y * e.F.log_softmax(o, 1)).sum(1).mean(),
    "logsumexp": lambda e, o, y: (o.logsumexp(1) - (o * y).sum(1)).mean(),
}


@pytest.mark.parametrize("form", list(ENTROPIES))
def test_cross_entropies(engine, form):
    output = engine.linear(5, 3)(engine.tensor(X))
    loss = ENTROPIES[form](engine, output, engine.tensor(HOT))
    name, given, aim, _ = engine.seen(loss, output)
    assert name in ("cross_entropy", "nll_loss")
    np.testing.assert_array_equal(aim, HOT)
    np.testing.assert_allclose(softmax(given), softmax(engine.array(output)), atol=1e-6)


@pytest.mark.parametrize("gathered", [True, False])
def test_the_chosen_log_probability(engine, gathered):
    output = engine.linear(5, 3)(engine.tensor(X))
    logs, labels = engine.F.log_softmax(output, 1), engine.tensor(LABELS)
    rows = engine.tensor(np.arange(8))
    chosen = engine.gather(logs, labels[:, None]) if gathered else logs[rows, labels]
    name, given, aim, options = engine.seen(-chosen.mean(), output)
    assert name == "nll_loss" and options["reduction"] == "mean"
    np.testing.assert_array_equal(aim, LABELS)
    np.testing.assert_array_equal(given, engine.array(logs))


BINARY = {
    "plain": lambda e, p, y: -(y * p.log() + (1 - y) * (1 - p).log()).mean(),
    "turned round": lambda e, p, y: -((1 - y) * (1 - p).log() + y * p.log()).mean(),
    "minus inside": lambda e, p, y: (-y * p.log() - (1 - y) * (1 - p).log()).mean(),
    "a little added": lambda e, p, y: -((1 - y) * (1 - p + 1e-7).log()
                                        + y * (p + 1e-7).log()).mean(),
    "clipped": lambda e, p, y: -(y * e.clip(p, 1e-7, 1 - 1e-7).log()
                                 + (1 - y) * e.clip(1 - p, 1e-7, 1.0).log()).mean(),
}  # fmt: skip


@pytest.mark.parametrize("form", list(BINARY))
def test_binary_cross_entropy(engine, form):
    p = engine.F.sigmoid(engine.linear(5, 1)(engine.tensor(X)))
    name, given, aim, _ = engine.seen(BINARY[form](engine, p, engine.tensor(YES)), p)
    assert name == "binary_cross_entropy"
    np.testing.assert_allclose(given, engine.array(p), atol=1e-6)
    np.testing.assert_array_equal(aim, YES)


def test_binary_cross_entropy_of_logits(engine):
    z, y, log = engine.linear(5, 1)(engine.tensor(X)), engine.tensor(YES), engine.logsigmoid
    name, given, aim, _ = engine.seen(-(y * log(z) + (1 - y) * log(-z)).mean(), z)
    assert name == "binary_cross_entropy_with_logits"
    np.testing.assert_array_equal(given, engine.array(z))
    np.testing.assert_array_equal(aim, YES)


MARGINS = {
    "hinge": (lambda e, z, y: e.F.relu(1 - y * z).mean(), "hinge_loss"),
    "clipped": (lambda e, z, y: e.clip(1 - y * z, 0, None).mean(), "hinge_loss"),
    "softplus": (lambda e, z, y: e.F.softplus(-y * z).mean(), "soft_margin_loss"),
    "log1p": (lambda e, z, y: (-y * z).exp().log1p().mean(), "soft_margin_loss"),
    "log of 1 +": (lambda e, z, y: (1 + (-y * z).exp()).log().mean(), "soft_margin_loss"),
}


@pytest.mark.parametrize("form", list(MARGINS))
def test_margins(engine, form):
    loss, function = MARGINS[form]
    z, sign = engine.linear(5, 1)(engine.tensor(X)), 2 * YES - 1
    name, given, aim, _ = engine.seen(loss(engine, z, engine.tensor(sign)), z)
    assert name == function
    np.testing.assert_array_equal(aim, sign)
    np.testing.assert_array_equal(given, engine.array(z))


def test_other_losses_are_left_alone(engine):
    layer = engine.linear(5, 3)
    output, other = layer(engine.tensor(X)), layer(engine.tensor(X[::-1].copy()))
    target, chosen = engine.tensor(Y), engine.tensor(HOT)
    rewards, labels = engine.tensor(Y[:, 0].copy()), engine.tensor(LABELS)
    square = layer(engine.tensor(X[:3]))
    logs = engine.F.log_softmax(output, 1)
    losses = {
        "a mean": -output.mean(),
        "a policy": -((logs * chosen).sum(1) * rewards).mean(),
        "a policy's chosen actions": -(logs[engine.tensor(np.arange(8)), engine.tensor(LABELS)]
                                       * rewards).mean(),
        "roots": ((output - target) ** 2).sum(1).sqrt().mean(),
        "a root of something else": -(logs * chosen).sum(1).mean().abs().sqrt(),
        "contrasts": -engine.F.log_softmax(square, 0)[
            engine.tensor(np.arange(3)), engine.tensor(np.arange(3))].mean(),
        "probabilities": -engine.gather(engine.F.softmax(output, 1), labels[:, None]).mean(),
        "two outputs": ((output - other) ** 2).mean(),
        "what is no output": ((output * 3 + 1 - target) ** 2).mean(),
    }  # fmt: skip
    assert [name for name, loss in losses.items() if engine.seen(loss, output)] == []


CHOSEN = {
    "log of a softmax": lambda e, z, y: e.gather(e.F.softmax(z, 1), y).log(),
    "with a small number": lambda e, z, y: (e.gather(e.F.softmax(z, 1), y) + 1e-12).log(),
    "over the wrong axis": lambda e, z, y: e.gather(e.F.log_softmax(z, 0), y),
    "log of a sigmoid": lambda e, z, y: e.gather(e.F.sigmoid(z), y).log(),
    "raw": lambda e, z, y: e.gather(z, y),
}


@pytest.mark.parametrize("form", list(CHOSEN))
def test_what_was_chosen_by_the_labels(engine, form):
    z, labels = engine.linear(5, 3)(engine.tensor(X)), engine.tensor(LABELS[:, None])
    chosen = CHOSEN[form](engine, z, labels)
    name, given, aim, _ = engine.seen(-chosen.mean(), z)
    assert name == "nll_loss"
    np.testing.assert_array_equal(aim, LABELS)
    picked = given[np.arange(8), LABELS]
    np.testing.assert_allclose(picked, engine.array(chosen)[:, 0], atol=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_whatever_is_made_of_a_column_less_a_row(engine, turned):
    output = engine.linear(5, 1)(engine.tensor(X))
    output = output.reshape(8) if turned else output
    target = Y[:, :1] if turned else Y[:, 0]
    weights = engine.tensor(np.linspace(1, 2, 8, dtype=np.float32))
    loss = (((output - engine.tensor(target)) ** 2) * weights).mean()
    name, given, aim, _ = engine.seen(loss, output)
    assert name == "custom" and given.shape == output.shape
    np.testing.assert_allclose(aim, target, atol=1e-6)
    fine, weights = engine.tensor(target.reshape(output.shape)), weights.reshape(output.shape)
    assert engine.seen((((output - fine) ** 2) * weights).mean(), output) is None
