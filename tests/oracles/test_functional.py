"""`fathom.autograd.functional` against `torch.autograd.functional`."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from fathom.autograd import functional as ours

torch = pytest.importorskip("torch")
theirs = torch.autograd.functional

X, Y = np.array([0.5, -1.0, 2.0]), np.array([1.5, 0.3, -0.7])


def flat(tree):
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in flat(part)]
    return [tree.detach().numpy()]


def shape_of(tree):
    return tuple(map(shape_of, tree)) if isinstance(tree, tuple) else tuple(tree.shape)


def number(x, y):
    return (x * x * y + y**3).sum()


def vector(x, y):
    return x * y, (x * x).sum()


CALLS = {
    "jacobian": lambda m, t: m.jacobian(lambda x: x**3 * x.sum(), t(X)),
    "jacobian_tuple": lambda m, t: m.jacobian(lambda x, y: x * y, (t(X), t(Y))),
    "jacobian_outputs": lambda m, t: m.jacobian(vector, (t(X), t(Y))),
    "hessian": lambda m, t: m.hessian(lambda x: (x**3).sum(), t(X)),
    "hessian_tuple": lambda m, t: m.hessian(number, (t(X), t(Y))),
    "vjp": lambda m, t: m.vjp(lambda x: x**2, t(X), t(Y)),
    "vjp_number": lambda m, t: m.vjp(number, (t(X), t(Y))),
    "vjp_outputs": lambda m, t: m.vjp(vector, (t(X), t(Y)), (t(Y), t(np.array(2.0)))),
    "jvp": lambda m, t: m.jvp(lambda x: x**2, t(X), t(Y)),
    "jvp_tuple": lambda m, t: m.jvp(vector, (t(X), t(Y)), (t(Y), t(X))),
    "jvp_number": lambda m, t: m.jvp(lambda x: x * 3, t(np.array(2.0))),
    "hvp": lambda m, t: m.hvp(lambda x: (x**3).sum(), t(X), t(Y)),
    "hvp_tuple": lambda m, t: m.hvp(number, (t(X), t(Y)), (t(Y), t(X))),
    "vhp": lambda m, t: m.vhp(lambda x: (x**3).sum(), t(X), t(Y)),
    "vhp_tuple": lambda m, t: m.vhp(number, (t(X), t(Y)), (t(Y), t(X))),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_equals_pytorch(name: str) -> None:
    a, b = CALLS[name](ours, ft.tensor), CALLS[name](theirs, torch.tensor)
    assert shape_of(a) == shape_of(b)
    for left, right in zip(flat(a), flat(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "hvp", "vhp"])
def test_create_graph(name: str) -> None:
    found = []
    for m, leaf, library in ((ours, ft.tensor, ft), (theirs, torch.tensor, torch)):
        x, v = leaf(X, requires_grad=True), leaf(Y)
        more = () if name in ("jacobian", "hessian", "vjp") else (v,)
        loss = lambda x: (x**4).sum()  # noqa: E731
        plain = getattr(m, name)(loss, x, *more)
        graph = getattr(m, name)(loss, x, *more, create_graph=True)
        plain, graph = (p[1] if isinstance(p, tuple) else p for p in (plain, graph))
        assert not plain.requires_grad and graph.requires_grad
        found.append(library.autograd.grad((graph * graph).sum(), x)[0].detach().numpy())
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_both_strategies_give_one_jacobian() -> None:
    x = ft.tensor(X)
    reverse = ours.jacobian(lambda x: x**2 * x.sum(), x)
    forward = ours.jacobian(
        lambda x: x**2 * x.sum(), x, vectorize=True, strategy="forward-mode"
    )  # fmt: skip
    np.testing.assert_allclose(forward.numpy(), reverse.numpy(), rtol=1e-12)


def test_mistakes() -> None:
    x = ft.tensor(X)
    for wrong in (
        lambda: ours.vjp(lambda x: x * 2, x),
        lambda: ours.vjp(lambda x: x * 2, x, ft.ones(2)),
        lambda: ours.jvp(lambda x: x * 2, x),
        lambda: ours.jacobian(lambda x: x, x, strategy="sideways"),
        lambda: ours.hessian(lambda x: x.sum(), x, strict=True),
    ):
        with pytest.raises(ft.FathomError):
            wrong()


def test_stacked_modules_run_as_one() -> None:
    models = [ft.nn.Linear(3, 2) for _ in range(4)]
    parameters, buffers = ft.func.stack_module_state(models)
    assert not buffers and parameters["bias"].requires_grad and parameters["bias"].is_leaf
    x = ft.randn(5, 3)

    def run(weights):
        return ft.func.functional_call(models[0], weights, x)

    out = ft.func.vmap(run)({k: v.detach() for k, v in parameters.items()})
    for row, model in zip(out.numpy(), models, strict=True):
        np.testing.assert_allclose(row, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ft.FathomError):
        ft.func.stack_module_state([])
    with pytest.raises(ft.FathomError):
        ft.func.stack_module_state([models[0], ft.nn.Identity()])
