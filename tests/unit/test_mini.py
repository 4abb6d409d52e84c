"""`docs/mini.py` tells the truth: the same small tests run against it and against the engine."""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import fathom
from fathom.engine import primitive
from fathom.engine.tape import Node

PATH = Path(__file__).resolve().parents[2] / "docs" / "mini.py"


def mini() -> ModuleType:
    module = ModuleType("mini")
    exec(compile(PATH.read_text(), str(PATH), "exec"), module.__dict__)
    return module


MINI = mini()
REAL = SimpleNamespace(
    Tensor=lambda data, requires_grad=False: fathom.tensor(data, np.float64, requires_grad),
    no_grad=fathom.no_grad,
    relu=fathom.relu,
    logsumexp=lambda x: fathom.logsumexp(x, axis=-1),
)


@pytest.fixture(params=["mini", "fathom"])
def lib(request):
    return MINI if request.param == "mini" else REAL


def test_it_is_short_and_has_the_same_names() -> None:
    assert len(PATH.read_text().splitlines()) <= 200
    for name in ("Primitive", "elementwise", "linear", "general", "apply", "TABLE"):
        assert hasattr(MINI, name) and hasattr(primitive, name)
    for name in ("Tensor", "no_grad", "Node", "backward"):
        assert hasattr(MINI, name)
    assert set(MINI.TABLE) <= set(primitive.TABLE)
    for name, record in MINI.TABLE.items():
        assert record.form == primitive.TABLE[name].form, name
    y = fathom.ones(1, requires_grad=True) * 2
    assert isinstance(y.node, Node) and {"primitive", "parents", "saved", "sequence"} <= set(
        vars(MINI.Tensor(1.0, True).exp().node)
    )


def test_diamond(lib) -> None:
    a = lib.Tensor(3.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4.0


def test_chain_rule(lib) -> None:
    x = lib.Tensor([0.5, -1.5], requires_grad=True)
    ((x * 2 + 1).tanh().exp() / (x * x + 1)).sum().backward()
    eps = 1e-6

    def f(v):
        return (np.exp(np.tanh(v * 2 + 1)) / (v * v + 1)).sum()

    for i in range(2):
        step = np.eye(2)[i] * eps
        v = np.array([0.5, -1.5])
        numeric = (f(v + step) - f(v - step)) / (2 * eps)
        assert x.grad.tolist()[i] == pytest.approx(numeric, rel=1e-8)


def test_double_use(lib) -> None:
    x = lib.Tensor([2.0, 3.0], requires_grad=True)
    y = x * x
    (y * x + y).sum().backward()  # 3x^2 + 2x
    assert x.grad.tolist() == [16.0, 33.0]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 1), (1, 1)])
def test_broadcasting(lib, shape) -> None:
    x = lib.Tensor(np.full(shape, 2.0), requires_grad=True)
    w = np.arange(6.0).reshape(2, 3)
    (x * w + x).sum().backward()
    expected = MINI.sum_to(w + 1, shape)
    np.testing.assert_array_equal(np.asarray(x.grad.tolist()), expected)


def test_matmul_transpose_reshape(lib) -> None:
    rng = np.random.default_rng(0)
    a, b, u = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=(8,))
    x, w = lib.Tensor(a, requires_grad=True), lib.Tensor(b, requires_grad=True)
    ((x @ w).T.reshape(8) * u).sum().backward()
    g = u.reshape(2, 4).T
    np.testing.assert_allclose(x.grad.tolist(), g @ b.T)
    np.testing.assert_allclose(w.grad.tolist(), a.T @ g)


def test_accumulation_and_zero_grad(lib) -> None:
    x = lib.Tensor([1.0, 2.0], requires_grad=True)
    for _ in range(2):
        (x * 3).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    x.zero_grad()
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_gradients_are_not_shared(lib) -> None:
    x, y = lib.Tensor([1.0], requires_grad=True), lib.Tensor([2.0], requires_grad=True)
    (x + y).sum().backward()
    x.grad.data += 5
    assert y.grad.tolist() == [1.0]


def test_weighted_backward_and_array_on_the_left(lib) -> None:
    x = lib.Tensor([1.0, 2.0], requires_grad=True)
    y = np.array([3.0, 4.0]) * x - 1.0 / x
    y.backward([1.0, 10.0])
    assert x.grad.tolist() == [4.0, 42.5]


def test_no_grad(lib) -> None:
    x = lib.Tensor([1.0], requires_grad=True)
    with lib.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad and not lib.Tensor([1.0]).exp().requires_grad


def test_logsumexp(lib) -> None:
    v = np.array([[0.5, 2.0, -1.0], [100.0, 101.0, 0.0]])
    x = lib.Tensor(v, requires_grad=True)
    y = lib.logsumexp(x)
    (y * np.array([1.0, -2.0])).sum().backward()
    soft = np.exp(v - v.max(1, keepdims=True))
    soft /= soft.sum(1, keepdims=True)
    np.testing.assert_allclose(y.tolist(), np.log(np.exp(v - 100).sum(1)) + 100)
    np.testing.assert_allclose(x.grad.tolist(), soft * [[1.0], [-2.0]])


def test_relu_at_zero(lib) -> None:
    x = lib.Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    lib.relu(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0]


def test_a_deep_chain(lib) -> None:
    x = lib.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y * 1.0
    y.backward()
    assert x.grad.item() == 1.0


def learn_xor(lib, steps: int) -> list[float]:
    rng = np.random.default_rng(0)
    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0.0], [1], [1], [0]])
    start = rng.normal(size=(2, 8)), np.zeros(8), rng.normal(size=(8, 1)), np.zeros(1)
    params = [lib.Tensor(v, requires_grad=True) for v in start]
    losses = []
    for _ in range(steps):
        w1, b1, w2, b2 = params
        p = ((x @ w1 + b1).tanh() @ w2 + b2).sigmoid()
        loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
        loss.backward()
        for parameter in params:
            parameter.data -= 0.5 * parameter.grad.data
            parameter.zero_grad()
        losses.append(loss.item())
    return losses


def test_training_xor(lib) -> None:
    losses = learn_xor(lib, 300)
    assert losses[0] > 0.5 and losses[-1] < 0.05


def test_both_train_alike() -> None:
    np.testing.assert_allclose(learn_xor(MINI, 100), learn_xor(REAL, 100), rtol=1e-9)


def test_the_script_runs(capsys) -> None:
    runpy.run_path(str(PATH), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[-1].startswith("step 500  loss 0.0")
    assert "mini" not in sys.modules
