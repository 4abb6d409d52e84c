"""Hooks on tensors and nodes: when they run, in which order, what they may change."""

import numpy as np
import pytest

import fathom
from fathom.autograd import grad
from fathom.engine.errors import DtypeError, GraphError, ShapeError


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


def test_hook_sees_the_sum_of_all_contributions_once() -> None:
    x, seen = leaf([1.0, 2.0]), []
    h = x * 3
    h.register_hook(lambda g: seen.append(g.tolist()))
    (h * 2 + h).sum().backward()
    assert seen == [[3.0, 3.0]]


def test_hook_on_a_leaf_runs_once_a_pass_on_the_sum() -> None:
    x, seen = leaf([1.0, 2.0]), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    for _ in range(2):
        (x * 2 + x * x).sum().backward()
    assert seen == [[4.0, 6.0], [4.0, 6.0]]  # not the accumulated .grad
    assert x.grad.tolist() == [8.0, 12.0]


def test_hooks_replace_in_order_of_registration() -> None:
    x = leaf([1.0])
    h = x * 1
    h.register_hook(lambda g: g + 1)
    h.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 0.5)
    h.sum().backward()
    assert x.grad.tolist() == [20.5]


def test_retained_gradient_is_what_all_hooks_leave() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    y.register_hook(lambda g: g + 1)
    y.retain_grad()
    y.register_hook(lambda g: g * 10)  # registered later, and still before the keeping
    y.sum().backward()
    assert y.grad.tolist() == [20.0, 20.0] and x.grad.tolist() == [40.0, 40.0]


def test_retain_grad() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    z = (y * y).sum()
    z.backward(retain_graph=True)
    assert y.grad.tolist() == [4.0, 8.0]
    z.backward()
    assert y.grad.tolist() == [8.0, 16.0]  # accumulates, as leaves do
    x.retain_grad()  # nothing to do for a leaf
    with pytest.raises(GraphError, match="requires grad"):
        fathom.ones(1).retain_grad()


def test_retained_gradient_is_its_own_memory() -> None:
    x = leaf([1.0, 2.0])
    y = x + 0
    y.retain_grad()
    y.sum().backward()
    y.grad += 5
    assert x.grad.tolist() == [1.0, 1.0]


def test_retain_grad_of_one_output_of_several() -> None:
    x = leaf(np.arange(4.0))
    a, b = fathom.split(x, 2)
    b.retain_grad()
    (a.sum() + (b * 2).sum()).backward()
    assert a.grad is None and b.grad.tolist() == [2.0, 2.0]
    assert x.grad.tolist() == [1.0, 1.0, 2.0, 2.0]


def test_retain_grad_does_not_keep_the_tensor_alive() -> None:
    x = leaf([1.0])
    y = x * 2
    y.retain_grad()
    z = y.sum()
    del y
    z.backward()
    assert x.grad.tolist() == [2.0]


def test_retained_gradient_with_history() -> None:
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * y).backward(create_graph=True)
    assert y.grad.requires_grad and y.grad.item() == 8.0  # 2y = 2x^2
    assert grad(y.grad, x)[0].item() == 8.0


def test_removed_hook_is_silent() -> None:
    x, seen = leaf([1.0]), []
    handle = x.register_hook(lambda g: seen.append(1))
    handle.remove()
    handle.remove()
    with x.register_hook(lambda g: seen.append(2)):
        (x * 1).sum().backward()
    (x * 1).sum().backward()
    assert seen == [2]


def test_hook_that_removes_itself() -> None:
    x, seen = leaf([1.0]), []
    h = x * 1
    handle = h.register_hook(lambda g: (seen.append("first"), handle.remove(), None)[-1])
    h.register_hook(lambda g: seen.append("second"))
    h.sum().backward(retain_graph=True)
    h.sum().backward()
    assert seen == ["first", "second", "second"]


@pytest.mark.parametrize("where", ["leaf", "inside"])
def test_wrong_shape_or_kind_is_refused(where) -> None:
    for hook, error, match in [
        (lambda g: fathom.ones(3), ShapeError, r"shape \(3,\) in place of one of shape \(2,\)"),
        (lambda g: 3.0, DtypeError, "returned a float"),
        (lambda g: g.numpy(), DtypeError, "returned a ndarray"),
    ]:
        x = leaf([1.0, 2.0])
        h = x * 2
        (x if where == "leaf" else h).register_hook(hook)
        with pytest.raises(error, match=match):
            h.sum().backward()


def test_replacement_takes_the_dtype_of_the_gradient() -> None:
    x = leaf([1.0, 2.0])
    h = x * 2
    h.register_hook(lambda g: g.double() * 2)
    x.register_hook(lambda g: g.double() * 3)
    h.sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [12.0, 12.0]


def test_hook_replacement_stays_differentiable() -> None:
    x = leaf(2.0)
    h = x * x
    handle = h.register_hook(lambda g: g * h)  # dh * h
    (g,) = grad(h * 1, x, create_graph=True)  # x^2 * 2x
    handle.remove()
    assert g.item() == 16.0
    assert grad(g, x)[0].item() == 24.0


def test_hook_needs_a_gradient() -> None:
    with pytest.raises(GraphError, match="requires grad"):
        fathom.ones(1).register_hook(print)


def test_grad_of_a_hooked_tensor_is_after_its_hooks() -> None:
    x = leaf([1.0])
    h = x * 2
    h.register_hook(lambda g: g * 7)
    gh, gx = grad(h.sum(), [h, x])
    assert gh.tolist() == [7.0] and gx.tolist() == [14.0]


def test_node_prehook_and_posthook() -> None:
    x, w = leaf([2.0]), leaf([3.0])
    y = x * w
    y.node.register_prehook(lambda grads: (grads[0] * 10,))
    seen = []

    def after(inputs, outputs):
        seen.append(([g.tolist() for g in inputs], outputs[0].tolist()))
        return (inputs[0] + 1, None)

    handle = y.node.register_hook(after)
    y.backward(retain_graph=True)
    assert seen == [([[30.0], [20.0]], [10.0])]
    assert x.grad.tolist() == [31.0] and w.grad.tolist() == [20.0]  # None keeps the gradient
    handle.remove()
    y.backward()
    assert x.grad.tolist() == [61.0]


def two_outputs():
    """Eigenvalues and eigenvectors: one node, two outputs."""
    x = leaf([[2.0, 1.0], [1.0, 3.0]], dtype=np.float64)
    values, vectors = fathom.linalg.eigh(x)
    assert values.node is vectors.node and values.node.outputs == 2
    return x, values, vectors


def test_node_hooks_on_several_outputs() -> None:
    found, seen = [], []
    for factor in (1, 2):
        x, values, _ = two_outputs()

        def scale(grads, factor=factor):
            seen.append([g is None for g in grads])
            return tuple(None if g is None else g * factor for g in grads)

        values.node.register_prehook(scale)
        (values * values).sum().backward()
        found.append(x.grad.numpy())
    assert seen == [[False, True]] * 2
    np.testing.assert_allclose(found[1], 2 * found[0])
    np.testing.assert_allclose(found[0], 2 * x.detach().numpy())  # d tr(x^2) = 2x


def test_hook_and_retained_gradient_of_the_second_output() -> None:
    x, values, vectors = two_outputs()
    vectors.register_hook(lambda g: g * 0)
    values.retain_grad()
    vectors.retain_grad()
    (values.sum() + (vectors * 3).sum()).backward()
    assert values.grad.tolist() == [1.0, 1.0] and not vectors.grad.numpy().any()
    np.testing.assert_allclose(x.grad.numpy(), np.eye(2), atol=1e-12)


@pytest.mark.parametrize("replaced", [3.0, (), [1, 2], (1.0,)])
def test_wrong_results_of_node_hooks(replaced) -> None:
    x = leaf([2.0])
    y = x.exp()
    y.node.register_prehook(lambda grads: replaced)
    with pytest.raises((GraphError, DtypeError), match="hook"):
        y.backward()


def test_tensor_hooks_run_before_node_prehooks() -> None:
    x, order = leaf([2.0]), []
    y = x.exp()
    y.node.register_prehook(lambda grads: order.append("node"))
    y.register_hook(lambda g: order.append("tensor"))
    y.backward()
    assert order == ["tensor", "node"]


def test_post_accumulate_hooks_see_the_leaf_with_its_gradient() -> None:
    x, seen = leaf([1.0, 2.0]), []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append((t is x, t.grad.tolist())))
    (x * 2 + x).sum().backward()
    (x * 2).sum().backward()
    assert seen == [(True, [3.0, 3.0]), (True, [5.0, 5.0])]
    handle.remove()
    x.sum().backward()
    assert len(seen) == 2
    grad((x * x).sum(), x)
    assert len(seen) == 2


def test_post_accumulate_hook_may_take_the_step_and_drop_the_gradient() -> None:
    x, y = leaf([1.0]), leaf([1.0])

    def step(t):
        with fathom.no_grad():
            t -= 0.5 * t.grad
        t.grad = None

    for t in (x, y):
        t.register_post_accumulate_grad_hook(step)
    (x * y * 2).sum().backward()
    assert x.tolist() == y.tolist() == [0.0] and x.grad is None and y.grad is None
    x.name = "x"  # naming a tensor keeps its hooks
    (x * 2).sum().backward(inputs=[x])
    assert x.tolist() == [-1.0]


def test_post_accumulate_hook_needs_a_leaf() -> None:
    x = leaf([1.0])
    for wrong in (x * 2, fathom.ones(1)):
        with pytest.raises(GraphError, match="leaf"):
            wrong.register_post_accumulate_grad_hook(print)
