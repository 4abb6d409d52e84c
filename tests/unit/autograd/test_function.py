"""`Function`: forward and backward by hand, to any order, at every level."""

import gc

import numpy as np
import pytest

import fathom
from fathom import func
from fathom.autograd import Function, grad, gradcheck, gradgradcheck
from fathom.engine.errors import GraphError, GraphFreedError, InplaceError, ShapeError


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x**2


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Scale(Function):
    """Takes a number, and leaves out the gradient of what does not need one."""

    @staticmethod
    def forward(ctx, x, w, factor):
        ctx.factor = factor
        ctx.save_for_backward(x, w)
        return x * w * factor

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx = g * w * ctx.factor if ctx.needs_input_grad[0] else None
        gw = g * x * ctx.factor if ctx.needs_input_grad[1] else None
        return gx, gw, None


class SumDiff(Function):
    @staticmethod
    def forward(ctx, x, y):
        return x + y, x - y

    @staticmethod
    def backward(ctx, gs, gd):
        return gs + gd, gs - gd


def test_gradient_and_higher_orders() -> None:
    x = leaf(2.0, dtype=np.float64)
    y = Cube.apply(x)
    assert y.item() == 8.0 and y.node.name() == "Cube"
    (g,) = grad(y, x, create_graph=True)
    (h,) = grad(g, x, create_graph=True)
    (t,) = grad(h, x)
    assert (g.item(), h.item(), t.item()) == (12.0, 12.0, 6.0)


@pytest.mark.parametrize("function", [Cube, Exp])
def test_gradcheck_of_both_orders(function) -> None:
    x = leaf([0.5, -1.0, 2.0], dtype=np.float64)
    assert gradcheck(function.apply, x) and gradgradcheck(function.apply, x)


def test_saved_output_has_its_history() -> None:
    x = leaf(0.5, dtype=np.float64)
    (g,) = grad(Exp.apply(x), x, create_graph=True)
    assert grad(g, x)[0].item() == pytest.approx(np.exp(0.5))


def test_needs_input_grad_and_constants() -> None:
    x, w = leaf([1.0, 2.0]), fathom.tensor([3.0, 4.0])
    Scale.apply(x, w, 10.0).sum().backward()
    assert x.grad.tolist() == [30.0, 40.0] and w.grad is None
    assert not Scale.apply(w, w, 1.0).requires_grad
    with fathom.no_grad():
        assert not Scale.apply(x, w, 1.0).requires_grad


def test_several_outputs_and_unused_ones() -> None:
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    s, d = SumDiff.apply(x, y)
    (s * 2 + d * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0] and y.grad.tolist() == [-1.0, -1.0]
    x.zero_grad()
    _, d = SumDiff.apply(x, y)  # the gradient of the other arrives as zeros
    d.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_nothing_is_recorded_inside_forward() -> None:
    seen = []

    class Look(Function):
        @staticmethod
        def forward(ctx, x):
            seen.append(fathom.is_grad_enabled())
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    Look.apply(leaf([1.0])).sum().backward()
    assert seen == [False]


def test_edit_of_a_saved_tensor_is_noticed() -> None:
    x = leaf([1.0, 2.0])
    y = x * 1
    z = Cube.apply(y)
    y += 1
    with pytest.raises(InplaceError, match=r"Cube .*test_function\.py"):
        z.sum().backward()
    y = Exp.apply(x)
    y += 1
    with pytest.raises(InplaceError, match="Exp"):
        y.sum().backward()


def test_second_backward_is_refused() -> None:
    y = Cube.apply(leaf(2.0))
    y.backward()
    with pytest.raises(GraphFreedError, match="Cube"):
        y.backward()


def test_mistakes_are_named() -> None:
    class Bare(Function):
        pass

    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g, g

    class NotTensor(Function):
        @staticmethod
        def forward(ctx, x):
            return 3.0

    with pytest.raises(NotImplementedError, match="forward"):
        Bare.apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="backward"):
        Bare.backward(None, leaf(1.0))
    with pytest.raises(GraphError, match=r"Two\.backward returned 2 gradients for 1 inputs"):
        Two.apply(leaf(1.0)).backward()
    with pytest.raises(ShapeError, match=r"NotTensor\.forward returned a float"):
        NotTensor.apply(leaf(1.0))


def test_under_transforms() -> None:
    x = fathom.tensor([1.0, 2.0, 3.0])
    assert func.grad(lambda v: Cube.apply(v).sum())(x).tolist() == [3.0, 12.0, 27.0]
    twice = func.grad(func.grad(Cube.apply))
    assert twice(fathom.tensor(2.0)).item() == 12.0
    assert func.vmap(Cube.apply)(x).tolist() == [1.0, 8.0, 27.0]
    assert func.vmap(func.grad(Exp.apply))(x).tolist() == pytest.approx(np.exp([1, 2, 3]).tolist())
    s, d = func.vmap(SumDiff.apply, in_dims=(0, None))(x, fathom.tensor(1.0))
    assert s.tolist() == [2.0, 3.0, 4.0] and d.tolist() == [0.0, 1.0, 2.0]
    jac = func.jacrev(Cube.apply)(x)
    np.testing.assert_allclose(jac.numpy(), np.diag([3.0, 12.0, 27.0]))
    with pytest.raises(GraphError, match="no rule for forward mode"):
        func.jvp(Cube.apply, (x,), (x,))


@pytest.mark.parametrize("function", [Cube, Exp])
def test_recorded_backward_inside_a_transform(function) -> None:
    def slope(v):
        return grad(function.apply(v), v, create_graph=True)[0]

    x = fathom.tensor(2.0, np.float64)
    second = 12.0 if function is Cube else np.exp(2.0)
    assert func.grad(slope)(x).item() == pytest.approx(second)
    rows = func.vmap(func.grad(slope))(fathom.tensor([2.0, 3.0], np.float64))
    assert rows.tolist() == pytest.approx([12.0, 18.0] if function is Cube else np.exp([2, 3]))


def test_constant_under_a_transform() -> None:
    c = fathom.tensor([1.0, 2.0])
    g = func.grad(lambda v: (v * Scale.apply(c, c, 2.0)).sum())(c)
    assert g.tolist() == [2.0, 8.0]

    def without(v):
        with fathom.no_grad():
            y = Cube.apply(v)
        return (v * y).sum()

    assert func.grad(without)(c).tolist() == [1.0, 8.0]


@pytest.mark.parametrize("function", [Cube, Exp])
def test_no_cycles(function) -> None:
    gc.collect()
    gc.disable()
    try:
        function.apply(leaf([1.0])).sum().backward()
        function.apply(leaf([1.0]))
        assert gc.collect() == 0
    finally:
        gc.enable()
