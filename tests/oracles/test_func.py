"""The transforms of `fathom.func`, and reverse mode with its modes, beside PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from fathom import func

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

RNG = np.random.default_rng(3)
X, Y = RNG.uniform(0.5, 1.5, 3), RNG.uniform(0.5, 1.5, (2, 3))
V, W = RNG.standard_normal(3), RNG.standard_normal((2, 3))


def same(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for k in theirs:
            same(ours[k], theirs[k], tolerance)
    elif isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, tolerance)
    elif theirs is None:
        assert ours is None
    else:
        a, b = ours.detach().numpy(), theirs.detach().numpy()
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def both(f: Any, *arrays: Any) -> None:
    """f(library, its func module, its tensors) must agree."""
    same(
        f(fathom, func, *(fathom.Tensor(a.copy()) for a in arrays)),
        f(torch, torch.func, *(torch.tensor(a) for a in arrays)),
    )


# functions of x (3,) and y (2, 3) with a single number, an array and a structure as result
def scalar(x: Any, y: Any) -> Any:
    return ((x * y).exp() * y).sum() + (x**3).sum() * (y @ x).tanh().sum()


def array(x: Any, y: Any) -> Any:
    return (x * y).tanh() * (y @ x).exp()[:, None]


def several(x: Any, y: Any) -> Any:
    return (x * y).sum(-1), {"e": (x * x).exp(), "s": (y * y).sum()}


FUNCTIONS = [scalar, array]


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1, 0)])
def test_grad(argnums: Any) -> None:
    both(lambda lib, f, x, y: f.grad(scalar, argnums)(x, y), X, Y)
    both(lambda lib, f, x, y: f.grad_and_value(scalar, argnums)(x, y), X, Y)


def test_grad_with_aux() -> None:
    def with_aux(x: Any, y: Any) -> Any:
        z = x * 2
        return scalar(z, y), {"z": z}

    both(lambda lib, f, x, y: f.grad(with_aux, has_aux=True)(x, y), X, Y)
    both(lambda lib, f, x, y: f.grad_and_value(with_aux, has_aux=True)(x, y), X, Y)


def test_grad_of_structures() -> None:
    def loss(params: Any, x: Any) -> Any:
        return ((params["w"] @ x + params["b"][0]) ** 2).sum()

    both(lambda lib, f, x, y: f.grad(loss)({"w": y, "b": [y[:, 0]]}, x), X, Y)


@pytest.mark.parametrize("name", ["jacfwd", "jacrev"])
@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1,)])
def test_jacobians(name: str, argnums: Any) -> None:
    for function in (scalar, array, several):
        both(lambda lib, f, x, y, g=function: getattr(f, name)(g, argnums)(x, y), X, Y)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_hessians(argnums: Any) -> None:
    both(lambda lib, f, x, y: f.hessian(scalar, argnums)(x, y), X, Y)
    for outer in ("jacfwd", "jacrev"):
        for inner in ("jacfwd", "jacrev"):
            both(
                lambda lib, f, x, y, o=outer, i=inner: getattr(f, o)(
                    getattr(f, i)(array, argnums), argnums
                )(x, y),
                X, Y,
            )  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_jvp_and_vjp(function: Any) -> None:
    both(lambda lib, f, x, y, v, w: f.jvp(function, (x, y), (v, w)), X, Y, V, W)

    def pulled(lib: Any, f: Any, x: Any, y: Any) -> Any:
        out, pull = f.vjp(function, x, y)
        return out, pull(out * 2), pull(out * 3)  # it may be called again

    both(pulled, X, Y)


def test_jvp_and_vjp_of_structures() -> None:
    both(lambda lib, f, x, y, v, w: f.jvp(several, (x, y), (v, w)), X, Y, V, W)

    def pulled(lib: Any, f: Any, x: Any, y: Any) -> Any:
        out, pull = f.vjp(several, x, y)
        return pull(out)

    both(pulled, X, Y)


def test_linearize_equals_jvp() -> None:
    x, y = fathom.Tensor(X), fathom.Tensor(Y)
    value, push = func.linearize(array, x, y)
    for _ in range(3):
        v, w = (fathom.Tensor(RNG.standard_normal(a.shape)) for a in (X, Y))
        out, tangent = func.jvp(array, (x, y), (v, w))
        np.testing.assert_array_equal(value.numpy(), out.numpy())
        np.testing.assert_allclose(push(v, w).numpy(), tangent.numpy(), rtol=1e-12)


@pytest.mark.parametrize("depth", range(1, 4))
def test_nesting(depth: int) -> None:
    """Every word of grad, jvp and vmap-of-jacobian over one function of one variable."""

    def wrap(f: Any, kind: str, g: Any, one: Any) -> Any:
        if kind == "grad":
            return f.grad(g)
        if kind == "jvp":
            return lambda x: f.jvp(g, (x,), (one,))[1]
        if kind == "rev":
            return f.jacrev(g)
        return f.jacfwd(g)

    words = ["grad", "jvp", "rev", "fwd"]
    for code in range(4**depth):
        kinds = [words[code // 4**i % 4] for i in range(depth)]

        def run(lib: Any, f: Any, x: Any, kinds: Any = kinds) -> Any:
            def g(v: Any) -> Any:
                return (v * 1.3).exp() * v.tanh()

            for kind in kinds:
                g = wrap(f, kind, g, lib.ones(()).double() if lib is torch
                         else fathom.ones((), dtype=np.float64))  # fmt: skip
            return f.vmap(g)(x)

        both(run, X)


def test_perturbation_confusion() -> None:
    for outer in (func.grad, lambda g: lambda x: func.jvp(g, (x,), (fathom.ones(()),))[1]):
        for inner in (func.grad, lambda g: lambda x: func.jvp(g, (x,), (fathom.ones(()),))[1]):
            f = outer(lambda x: x * inner(lambda y: x + y)(fathom.tensor(1.0)))  # noqa: B023
            assert f(fathom.tensor(2.0)).item() == 1.0
            g = outer(lambda x: inner(lambda y: x)(fathom.tensor(1.0)))  # noqa: B023
            assert g(fathom.tensor(2.0)).item() == 0.0


def test_hvp_forward_over_reverse_equals_reverse_over_reverse() -> None:
    x, y, v = map(fathom.Tensor, (X, Y, V))

    def f(z: Any) -> Any:
        return scalar(z, y)

    forward = func.hvp(f, x, v)
    reverse = func.grad(lambda z: (func.grad(f)(z) * v).sum())(x)
    matrix = func.hessian(f)(x).numpy() @ V
    np.testing.assert_allclose(forward.numpy(), reverse.numpy(), rtol=1e-12)
    np.testing.assert_allclose(forward.numpy(), matrix, rtol=1e-12)
    pair = func.hvp(scalar, (x, y), (v, fathom.Tensor(W)))
    theirs = torch.autograd.functional.hvp(
        scalar, (torch.tensor(X), torch.tensor(Y)), (torch.tensor(V), torch.tensor(W))
    )[1]
    same(pair, theirs)


@pytest.mark.parametrize(
    ("in_dims", "out_dims"),
    [((0, None), 0), ((None, 0), 1), ((0, 1), -1), ((None, 1), 0)],
)
def test_vmap(in_dims: Any, out_dims: Any) -> None:
    xs = RNG.standard_normal((4, 3))
    ys = {0: RNG.standard_normal((4, 2, 3)), 1: RNG.standard_normal((2, 4, 3)), None: Y}
    args = (xs if in_dims[0] == 0 else X, ys[in_dims[1]])
    both(lambda lib, f, x, y: f.vmap(array, in_dims, out_dims)(x, y), *args)
    both(lambda lib, f, x, y: f.vmap(f.grad(scalar, (0, 1)), in_dims)(x, y), *args)
    both(lambda lib, f, x, y: f.vmap(f.hessian(scalar), in_dims, chunk_size=3)(x, y), *args)


def mlp(lib: Any, weights: list[np.ndarray]) -> Any:
    nn = lib.nn
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    for p, w in zip(model.parameters(), weights, strict=True):
        p.data = w.copy() if lib is fathom else torch.tensor(w)
    return model


WEIGHTS = [RNG.standard_normal(s) for s in ((5, 4), (5,), (3, 5), (3,))]
BATCH, LABELS = RNG.standard_normal((6, 4)), RNG.integers(0, 3, 6)


def entropy(lib: Any, model: Any, f: Any) -> Any:
    """The loss of one sample as a function of the parameters."""
    functional = lib.nn.functional if lib is torch else fathom.nn.functional

    def loss(params: Any, x: Any, y: Any) -> Any:
        out = f.functional_call(model, params, (x[None],))
        return functional.cross_entropy(out, y[None])

    return loss


def test_per_sample_gradients() -> None:
    model = mlp(fathom, WEIGHTS)
    params = {n: p.detach() for n, p in model.named_parameters()}
    loss = entropy(fathom, model, func)
    ours = func.per_sample_grad(loss)(params, fathom.Tensor(BATCH), fathom.tensor(LABELS))
    other = mlp(torch, WEIGHTS)
    theirs = torch.func.vmap(torch.func.grad(entropy(torch, other, torch.func)), (None, 0, 0))(
        {n: p.detach() for n, p in other.named_parameters()},
        torch.tensor(BATCH), torch.tensor(LABELS),
    )  # fmt: skip
    same(ours, theirs)
    for i in range(len(BATCH)):  # and equal the loop of single backward passes
        model.zero_grad()
        out = model(fathom.Tensor(BATCH[i : i + 1]))
        fathom.nn.functional.cross_entropy(out, fathom.tensor(LABELS[i : i + 1])).backward()
        for name, p in model.named_parameters():
            np.testing.assert_allclose(ours[name].numpy()[i], p.grad.numpy(), rtol=1e-12)


def maml(lib: Any, f: Any, model: Any, x: Any, y: Any) -> Any:
    """Gradient of the loss after two inner steps, with respect to the first parameters."""
    params = {n: p.detach() for n, p in model.named_parameters()}

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return ((f.functional_call(model, weights, (x,)) - y) ** 2).mean()

    def outer(weights: Any) -> Any:
        fast = weights
        for _ in range(2):
            g = f.grad(loss)(fast, x[:3], y[:3])
            fast = {n: fast[n] - 0.1 * g[n] for n in fast}
        return loss(fast, x[3:], y[3:])

    return f.grad_and_value(outer)(params)


def test_maml() -> None:
    target = RNG.standard_normal((6, 3))
    same(
        maml(fathom, func, mlp(fathom, WEIGHTS), fathom.Tensor(BATCH), fathom.Tensor(target)),
        maml(torch, torch.func, mlp(torch, WEIGHTS), torch.tensor(BATCH), torch.tensor(target)),
    )


def test_maml_on_the_tape_equals_maml_by_transforms() -> None:
    target = fathom.Tensor(RNG.standard_normal((6, 3)))
    x, model = fathom.Tensor(BATCH), mlp(fathom, WEIGHTS)
    expected, _ = maml(fathom, func, model, x, target)
    fast = dict(model.named_parameters())
    names = list(fast)
    for _ in range(2):
        loss = ((func.functional_call(model, fast, (x[:3],)) - target[:3]) ** 2).mean()
        grads = fathom.autograd.grad(loss, [fast[n] for n in names], create_graph=True)
        fast = {n: fast[n] - 0.1 * g for n, g in zip(names, grads, strict=True)}
    ((func.functional_call(model, fast, (x[3:],)) - target[3:]) ** 2).mean().backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), expected[name].numpy(), rtol=1e-10)


# -- our own ground: history, levels, functional_call ----------------------------------------------


def test_transforms_keep_the_history_of_what_they_close_over() -> None:
    def run(lib: Any, f: Any, x: Any, y: Any) -> Any:
        w = x.clone().requires_grad_()
        results = []
        for g in (
            lambda: f.grad(lambda v: (v * v * w).sum())(x).sum(),
            lambda: f.jvp(lambda v: (v * w).exp(), (x,), (x,))[1].sum(),
            lambda: f.vmap(lambda row: (row * w).sum())(y).sum(),
            lambda: f.vjp(lambda v: v * w, x)[1](x)[0].sum(),
            lambda: f.jacrev(lambda v: (v * w).exp())(x).sum(),
            lambda: f.vmap(f.grad(lambda row: (row**2 * w).sum()))(y).sum(),
        ):
            w.grad = None
            g().backward()
            results.append(w.grad)
        return results

    both(run, X, Y)


@pytest.mark.parametrize("slope", [fathom.exp, fathom.tanh, lambda v: v**3])
def test_recorded_backward_inside_a_transform(slope: Any) -> None:
    def first(v: Any) -> Any:
        return fathom.autograd.grad(slope(v).sum(), v, create_graph=True)[0].sum()

    x = fathom.Tensor(X)
    expected = func.grad(lambda v: func.grad(lambda u: slope(u).sum())(v).sum())(x)
    np.testing.assert_allclose(func.grad(first)(x).numpy(), expected.numpy(), rtol=1e-12)


def other_transform(a: Any) -> Any:
    return func.grad(lambda v: (v * a).sum())(fathom.ones(2))


@pytest.mark.parametrize(
    "use", [lambda a: a + 1, lambda a: a.exp(), lambda a: a.sum(), other_transform]
)
def test_leaked_tensors_are_refused(use: Any) -> None:
    from fathom.engine.errors import GraphError

    x, leaked = fathom.ones(2), []

    def f(v: Any) -> Any:
        leaked.append(v * 2)
        return (v * v).sum()

    func.grad(f)(x)
    func.jvp(f, (x,), (x,))
    func.vmap(f)(fathom.ones(3, 2))
    assert len(leaked) == 3
    for a in leaked:
        with pytest.raises(GraphError, match="outlived the transform"):
            use(a)
        with fathom.no_grad(), pytest.raises(GraphError, match="outlived the transform"):
            use(a)
        assert repr(a)


def test_functional_call_puts_the_parameters_back() -> None:
    model = mlp(fathom, WEIGHTS)
    before = dict(model.named_parameters())
    other = {n: p.detach() * 0 for n, p in before.items()}
    assert func.functional_call(model, other, (fathom.Tensor(BATCH),)).numpy().max() == 0
    with pytest.raises(ValueError, match=r"\(Linear\)"):
        func.functional_call(model, other, (fathom.ones(2, 7, dtype=np.float64),))
    with pytest.raises(ValueError, match="no parameter 'nowhere'"):
        func.functional_call(model, {"nowhere": other["0.bias"]}, (fathom.Tensor(BATCH),))
    assert all(p is before[n] for n, p in model.named_parameters())
    shift = func.functional_call(model, {"2.bias": before["2.bias"] + 1}, fathom.Tensor(BATCH))
    np.testing.assert_allclose(
        shift.detach().numpy(), model(fathom.Tensor(BATCH)).detach().numpy() + 1, rtol=1e-12
    )


def test_results_of_transforms_may_be_edited() -> None:
    gx, gy = func.grad(lambda a, b: (a + b).sum(), (0, 1))(fathom.ones(2), fathom.ones(2))
    gx += 1
    assert gy.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("run", "match"),
    [
        (lambda: func.grad(lambda x: x * 2)(fathom.ones(2)), r"single number; got \(2,\)"),
        (lambda: func.grad(lambda x: 3.0)(fathom.ones(2)), "got float"),
        (lambda: func.grad(lambda x: x.sum(), 1)(fathom.ones(2)), "argnums names argument 1"),
        (lambda: func.grad(lambda x: x.sum())(fathom.tensor([1])), "holds int64"),
        (lambda: func.jvp(fathom.exp, (fathom.ones(2),), (fathom.ones(3),)), "differ in shape"),
        (lambda: func.vjp(fathom.exp, fathom.ones(2))[1](fathom.ones(3)), "must be equal"),
    ],
)
def test_refused(run: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        run()


def test_independent_outputs_have_zero_derivatives() -> None:
    x = fathom.ones(2)
    assert func.grad(lambda v: fathom.tensor(1.0))(x).tolist() == [0.0, 0.0]
    assert func.jvp(lambda v: fathom.ones(3), (x,), (x,))[1].tolist() == [0.0] * 3
    assert func.jacrev(lambda v: fathom.ones(3))(x).numpy().tolist() == [[0.0, 0.0]] * 3
    assert func.value_and_grad(lambda v: (v * v).sum())(x)[0].item() == 2.0


# -- reverse mode with its modes: the same program in both libraries -------------------------------


def leaf(lib: Any, array: np.ndarray) -> Any:
    if lib is torch:
        return torch.tensor(array, requires_grad=True)
    return fathom.tensor(array, requires_grad=True)


def hooks_and_retained(lib: Any) -> Any:
    x = leaf(lib, X)
    h = x * 3
    h.register_hook(lambda g: g + 1)
    h.retain_grad()
    h.register_hook(lambda g: g * 2)
    x.register_hook(lambda g: g * 0.5)
    (h * h).sum().backward(retain_graph=True)
    (h * 2).sum().backward()
    return x.grad, h.grad


def accumulation(lib: Any) -> Any:
    x, w = leaf(lib, X), leaf(lib, Y)
    y = (x * w).exp()
    y.sum().backward(retain_graph=True)
    y.backward(y.detach(), inputs=[w])
    lib.autograd.backward([(x * x).sum(), w[0, 0]], None)
    return x.grad, w.grad


def grad_with_unused(lib: Any) -> Any:
    x, w = leaf(lib, X), leaf(lib, Y)
    h = x * x
    return lib.autograd.grad([h.sum(), h[0]], [h, x, w], allow_unused=True)


def double(lib: Any) -> Any:
    x, w = leaf(lib, X), leaf(lib, Y)
    (g,) = lib.autograd.grad((x * w).tanh().sum(), x, create_graph=True)
    ((g * g).sum() + x.sum()).backward()
    return x.grad, w.grad


def in_place(lib: Any) -> Any:
    x, w = leaf(lib, X), leaf(lib, Y)
    y = w * 2
    y += x
    y *= 3
    y.mul_(w.detach())
    z = y.exp() * 0.01
    y.sub_(1)
    (z.sum() + y.sum()).backward()
    return x.grad, w.grad


def detach_and_no_grad(lib: Any) -> Any:
    x = leaf(lib, X)
    with lib.no_grad():
        a = x * 2
        with lib.enable_grad():
            b = x * 5
    (x * x.detach() + x * a + b).sum().backward()
    return x.grad


def node_hooks(lib: Any) -> Any:
    x = leaf(lib, X)
    y = (x * 2).exp()
    y.grad_fn.register_prehook(lambda grads: (grads[0] * 3,))
    y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] + 1,))
    y.sum().backward()
    return x.grad


def module_hooks(lib: Any) -> Any:
    model = mlp(lib, WEIGHTS)
    seen = []
    model[0].register_forward_pre_hook(lambda m, i: (i[0] * 2,))
    model[1].register_forward_hook(lambda m, i, o: o * 0.5)
    model[2].register_full_backward_hook(lambda m, i, o: seen.extend([i[0], o[0]]))
    model[1].register_full_backward_hook(lambda m, i, o: (i[0] * 3,))
    x = torch.tensor(BATCH) if lib is torch else fathom.Tensor(BATCH)
    (model(x) ** 2).sum().backward()
    return [p.grad for p in model.parameters()], seen


@pytest.mark.parametrize(
    "program",
    [hooks_and_retained, accumulation, grad_with_unused, double, in_place, detach_and_no_grad,
     node_hooks, module_hooks],
)  # fmt: skip
def test_program(program: Any) -> None:
    same(program(fathom), program(torch))
