"""Reverse mode: what ends up in `.grad`, and when it is refused."""

import numpy as np
import pytest

import fathom
from fathom.autograd import backward, grad
from fathom.engine.errors import DtypeError, GraphError, GraphFreedError, ShapeError
from fathom.engine.primitive import TABLE, Primitive


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


def test_diamond() -> None:
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4.0


def test_value_used_in_many_places() -> None:
    x = leaf([1.0, 2.0])
    y = x * x  # 2x
    (y * x + y + x).sum().backward()  # 3x^2 + 2x + 1
    assert x.grad.tolist() == [6.0, 17.0]


def test_gradients_accumulate_until_zeroed() -> None:
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * 2).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    x.zero_grad()
    assert x.grad is None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_accumulation_writes_into_the_same_gradient() -> None:
    x = leaf([1.0])
    (x * 2).sum().backward()
    first = x.grad
    (x * 2).sum().backward()
    assert x.grad is first and first.tolist() == [4.0]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 1, 4)])
def test_gradient_has_shape_and_dtype_of_its_leaf(kind, shape) -> None:
    x = leaf(np.ones(shape), dtype=kind)
    wide = fathom.ones(2, 3, 4, dtype=np.float64)
    (x * wide + x * 2).sum().backward()
    assert x.grad.shape == shape and x.grad.dtype == kind
    assert x.grad.numpy().sum() == 24 + 2 * 24


def test_mixed_dtypes_each_get_their_own() -> None:
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0], dtype=np.float64)
    (x * y).sum().backward()
    assert x.grad.dtype == np.float32 and y.grad.dtype == np.float64


def test_editing_one_gradient_leaves_the_other() -> None:
    for make in (lambda x, y: x + y, lambda x, y: fathom.stack([x, y]), lambda x, y: y - (-x)):
        for create_graph in (False, True):
            x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
            z = make(x, y)
            seed = np.ones(z.shape, np.float32)
            z.backward(seed, create_graph=create_graph)
            x.grad.detach().add_(5)
            assert y.grad.tolist() == [1.0, 1.0]
            assert (seed == 1).all()


def test_gradient_is_not_the_cotangent_that_was_passed() -> None:
    x, g = leaf([1.0, 2.0]), np.ones(2, np.float32)
    x.backward(g)
    x.backward(g)
    assert x.grad.tolist() == [2.0, 2.0] and g.tolist() == [1.0, 1.0]


def test_results_of_grad_may_be_edited() -> None:
    x, y, v = leaf([1.0, 2.0]), leaf([3.0, 4.0]), fathom.ones(2)
    gx, gy = grad(x + y, [x, y], v)
    gx += 5
    assert gy.tolist() == [1.0, 1.0] and v.tolist() == [1.0, 1.0]
    (g,) = grad(x.sum(), x)
    g += 1  # not a read-only view of one number
    assert g.tolist() == [2.0, 2.0]


def test_backward_of_a_leaf() -> None:
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0
    assert grad(x, x)[0].item() == 1.0


def test_non_scalar_needs_a_gradient() -> None:
    y = leaf([1.0, 2.0]) * 2
    with pytest.raises(ShapeError, match=r"shape \(2,\) needs a gradient(?s:.)*mean\(\)"):
        y.backward()
    with pytest.raises(ShapeError, match="must be equal"):
        y.backward(fathom.ones(3))
    with pytest.raises(DtypeError, match="must hold floats"):
        y.backward([1, 1])
    y.backward([1.0, 10.0])


def test_single_element_of_any_rank_needs_none() -> None:
    x = leaf([[2.0]])
    (x * x).backward()
    assert x.grad.tolist() == [[4.0]]


def test_nothing_recorded() -> None:
    with pytest.raises(GraphError, match="nothing was recorded"):
        (fathom.ones(1) * 2).backward()
    with fathom.no_grad():
        y = leaf([1.0]) * 2
    with pytest.raises(GraphError, match="no_grad"):
        y.backward()


def test_second_backward_names_operation_and_line() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphFreedError, match=r"sum .*test_tape\.py:\d+(?s:.)*retain_graph=True"):
        y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_retain_graph() -> None:
    x = leaf([1.0, 2.0])
    y = (x.exp() * x).sum()
    y.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), first * 2)
    with pytest.raises(GraphFreedError):
        y.backward()


def test_several_roots_in_one_pass() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    backward([h.sum(), (h * h).sum()], [None, 2.0])
    assert x.grad.tolist() == [2 + 8.0, 4 + 64.0]
    backward(x.sum())
    assert x.grad.tolist() == [11.0, 69.0]
    with pytest.raises(GraphError, match="one for each"):
        backward([x.sum()], [None, None])


def test_root_that_feeds_another_root() -> None:
    x = leaf(2.0)
    y = x * x
    z = y * y
    backward([y, z])
    assert x.grad.item() == 4 + 32


def test_inputs_limits_what_is_filled() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    h = x * w
    (h * h).sum().backward(inputs=[w, h])
    assert x.grad is None
    assert w.grad.tolist() == [6.0, 32.0] and h.grad.tolist() == [6.0, 16.0]
    (x * w).sum().backward(inputs=x)
    assert x.grad.tolist() == [3.0, 4.0] and w.grad.tolist() == [6.0, 32.0]
    with pytest.raises(GraphError, match="empty"):
        (x * w).sum().backward(inputs=[])


def test_inputs_does_not_wake_hooks_of_others() -> None:
    x, w, seen = leaf([1.0]), leaf([2.0]), []
    w.register_hook(seen.append)
    (x * w).sum().backward(inputs=x)
    assert seen == []


def test_inputs_edit_one_leave_the_other() -> None:
    x, w = leaf([1.0]), leaf([2.0])
    (x + w).sum().backward(inputs=[x, w], create_graph=True)
    x.grad.detach().add_(1)
    assert w.grad.tolist() == [1.0]


def test_grad_leaves_grad_alone() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    gx, gw = grad((x * w).sum(), [x, w])
    assert gx.tolist() == [3.0, 4.0] and gw.tolist() == [1.0, 2.0]
    assert x.grad is None and w.grad is None
    assert not gx.requires_grad


def test_grad_of_intermediate_and_duplicate_inputs() -> None:
    x = leaf(3.0)
    h = x * x
    y = h * 2
    gh, gx, again = grad(y, [h, x, x])
    assert (gh.item(), gx.item(), again.item()) == (2.0, 12.0, 12.0)


def test_grad_of_several_outputs() -> None:
    x = leaf([1.0, 2.0])
    (g,) = grad([x * 2, (x * x).sum()], x, [fathom.tensor([1.0, 0.0]), None])
    assert g.tolist() == [4.0, 4.0]


def test_unused_input() -> None:
    x, w = leaf([1.0, 2.0]), leaf([1.0])
    with pytest.raises(GraphError, match=r"input 1 \(shape \(1,\)\)(?s:.)*allow_unused=True"):
        grad((x * x).sum(), [x, w])
    gx, gw = grad((x * x).sum(), [x, w], allow_unused=True)
    assert gw is None and gx.tolist() == [2.0, 4.0]
    with pytest.raises(GraphError, match="input 0 does not require grad"):
        grad((x * x).sum(), fathom.ones(1))


def test_unused_input_of_zero_gradient_is_zero_not_none() -> None:
    x = leaf([1.0, 2.0])
    (g,) = grad((x * 0).sum(), x)
    assert g.tolist() == [0.0, 0.0]


def test_second_derivatives() -> None:
    x = leaf(2.0)
    (g,) = grad(x**3, x, create_graph=True)
    (h,) = grad(g, x, create_graph=True)
    (third,) = grad(h, x)
    assert (g.item(), h.item(), third.item()) == (12.0, 12.0, 6.0)


def test_create_graph_through_backward() -> None:
    x = leaf([1.0, 2.0])
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    assert g.requires_grad
    x.grad = None
    (g * g).sum().backward()  # d (3x^2)^2 = 36 x^3
    assert x.grad.tolist() == [36.0, 288.0]


def test_gradient_penalty() -> None:
    x, w = leaf([1.0, 2.0, 3.0]), leaf([0.5, -1.0, 2.0])
    y = fathom.tanh(x * w).sum()
    (gx,) = grad(y, x, create_graph=True)
    (gx * gx).sum().backward()
    eps, numeric = 1e-3, []
    for i in range(3):
        side = []
        for sign in (1, -1):
            v = w.detach().numpy().astype(np.float64).copy()
            v[i] += sign * eps
            t = np.tanh(x.detach().numpy() * v)
            side.append((((1 - t**2) * v) ** 2).sum())
        numeric.append((side[0] - side[1]) / (2 * eps))
    np.testing.assert_allclose(w.grad.numpy(), numeric, rtol=1e-3, atol=1e-5)


def test_maml_inner_loop() -> None:
    """d/dw of L(w - a L'(w)) for L = w^4, by hand."""
    w = leaf(1.5, dtype=np.float64)
    a = 0.1
    (g,) = grad(w**4, w, create_graph=True)
    inner = w - a * g
    (inner**4).backward()
    expected = 4 * (1.5 - a * 4 * 1.5**3) ** 3 * (1 - a * 12 * 1.5**2)
    assert w.grad.item() == pytest.approx(expected, rel=1e-12)


def test_double_backward_after_retained_first() -> None:
    x = leaf([0.3, -0.7])
    y = (x.sigmoid() * x.exp()).sum()
    (g,) = grad(y, x, create_graph=True)
    (h,) = grad(g.sum(), x, retain_graph=True)
    (again,) = grad(g.sum(), x)
    np.testing.assert_array_equal(h.numpy(), again.numpy())


def test_detach_stops_the_gradient() -> None:
    x = leaf([2.0, 3.0])
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]


def test_constant_branch_is_not_recorded() -> None:
    x, c = leaf([1.0]), fathom.ones(1)
    assert not (c * 2 + 1).requires_grad
    assert (c * 2 + x).requires_grad
    assert not (x > 0).requires_grad


def test_nodes_describe_themselves() -> None:
    x = leaf([1.0])
    y = (x * 2).exp()
    assert y.node.next_functions[0][0].name() == "mul"
    assert y.node.next_functions[0][0].next_functions == ((x, 0),)
    assert "exp at" in repr(y.node) and "test_tape.py" in repr(y.node)
    assert y.node.outputs == 1
    assert repr(y.node.primitive) == "<elementwise primitive exp>"


def test_only_what_the_rule_declared_is_saved() -> None:
    x, c = leaf([1.0, 2.0]), fathom.ones(2)
    assert [a.tolist() for a in (x * c).node.saved_arrays()] == [[1.0, 1.0]]  # c, for x
    assert (x + c).node.saved_arrays() == []
    e = x.exp()
    (kept,) = e.node.saved_arrays()
    assert kept is e.data  # the output, by reference
    e.sum().backward()
    assert e.node.saved_arrays() == []


def test_primitive_table() -> None:
    assert TABLE["exp"].form == "elementwise" and TABLE["matmul"].name == "matmul"
    with pytest.raises(ValueError, match="declared twice"):
        Primitive("exp", "elementwise", np.exp)
    with pytest.raises(ValueError, match="unknown saves 'inn'"):
        Primitive("nonsense", "elementwise", np.exp, saves="inn", listed=False)


def test_outputs_of_which_only_some_are_used() -> None:
    x = leaf(np.arange(6.0).reshape(2, 3))
    parts = fathom.split(x, [1, 2], axis=1)
    parts[1].sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
