"""Gradient checkpointing: the same gradients to the bit, for less memory."""

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.autograd import checkpoint, grad, memory_report
from fathom.engine.errors import ArgumentError


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


def model_of(seed: int) -> nn.Sequential:
    with fathom.seed(seed):
        return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU(),
                             nn.Linear(32, 3))  # fmt: skip


X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)


def gradients(model, run) -> tuple[list[np.ndarray], np.ndarray, int]:
    x = leaf(X)
    loss = (run(model, x) ** 2).mean()
    kept = memory_report(loss).bytes
    loss.backward()
    return [p.grad.numpy() for p in model.parameters()], x.grad.numpy(), kept


def test_bit_equal_gradients_and_fewer_saved_bytes() -> None:
    plain, gx, all_bytes = gradients(model_of(0), lambda m, x: m(x))
    saved, hx, few_bytes = gradients(model_of(0), lambda m, x: checkpoint(m, x))
    for a, b in zip([*plain, gx], [*saved, hx], strict=True):
        np.testing.assert_array_equal(a, b)
    assert few_bytes < all_bytes / 3


def test_segments_in_a_row() -> None:
    def segmented(m, x):
        for layer in m:
            x = checkpoint(layer, x)
        return x

    plain, gx, _ = gradients(model_of(1), lambda m, x: m(x))
    saved, hx, _ = gradients(model_of(1), segmented)
    for a, b in zip([*plain, gx], [*saved, hx], strict=True):
        np.testing.assert_array_equal(a, b)


def test_nested() -> None:
    x, y = leaf([0.5, 1.5]), leaf([0.5, 1.5])

    def inner(v):
        return (v.exp() * v).tanh()

    checkpoint(lambda v: checkpoint(inner, v * 2) * v, x).sum().backward()
    (inner(y * 2) * y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.grad.numpy())


def test_the_same_dropout_mask_in_both_runs() -> None:
    def noisy(x):
        mask = fathom.random.current().stream("dropout").bernoulli(0.5, x.shape)
        return x * fathom.Tensor(mask.astype(np.float32)) * x

    x = leaf(np.arange(1.0, 65.0))
    with fathom.seed(3):
        y = checkpoint(noisy, x)
        after = fathom.random.current().stream("dropout").index
        y.sum().backward()
        assert fathom.random.current().stream("dropout").index == after  # nothing was drawn twice
    kept = y.detach().numpy() != 0
    np.testing.assert_array_equal(x.grad.numpy() != 0, kept)
    assert 10 < kept.sum() < 54


def test_several_outputs_constants_and_captured_tensors() -> None:
    w = leaf(3.0)
    x = leaf([1.0, 2.0])
    a, b = checkpoint(lambda v, k: (v * w * k, (v * v).sum()), x, 10.0)
    (a.sum() + b * 2).backward()
    assert x.grad.tolist() == [34.0, 38.0] and w.grad.item() == 30.0
    x.zero_grad()
    _, b = checkpoint(lambda v: (v * 2, v.sum()), x)
    b.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_second_derivatives() -> None:
    x = leaf([0.5, 1.5], dtype=np.float64)
    w = leaf(2.0, dtype=np.float64)

    def f(v):
        return (v * w).exp()

    found = []
    for run in (f, lambda v: checkpoint(f, v)):
        (g,) = grad(run(x).sum(), x, create_graph=True)
        found.append([h.numpy() for h in grad((g * g).sum(), [x, w])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_without_gradients_it_is_a_plain_call() -> None:
    x = fathom.ones(2)
    assert not checkpoint(lambda v: v * 2, x).requires_grad
    with fathom.no_grad():
        assert not checkpoint(lambda v: v * 2, leaf([1.0])).requires_grad
    with pytest.raises(ArgumentError, match="must be a function"):
        checkpoint(x)


def test_backward_under_no_grad() -> None:
    x = leaf([1.0, 2.0])
    y = checkpoint(lambda v: v * v, x).sum()
    with fathom.no_grad():
        y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_training_with_checkpoints_is_the_same_to_the_bit() -> None:
    ends = []
    for run in (lambda m, x: m(x), lambda m, x: checkpoint(m, x)):
        model = model_of(4)
        optimizer = fathom.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            (run(model, fathom.Tensor(X)) ** 2).mean().backward()
            optimizer.step()
        ends.append([p.detach().numpy().copy() for p in model.parameters()])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)
