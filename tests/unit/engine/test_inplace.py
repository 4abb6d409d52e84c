"""Editing in place: recorded where it can be, refused with both lines where it would be wrong."""

import inspect
import re

import numpy as np
import pytest

import fathom
from fathom import func
from fathom.engine.errors import DtypeError, GraphError, InplaceError, ShapeError


def leaf(values, **keywords):
    return fathom.tensor(values, requires_grad=True, **keywords)


def line() -> int:
    return inspect.currentframe().f_back.f_lineno


def lines_named(error: pytest.ExceptionInfo[BaseException]) -> list[int]:
    return [int(n) for n in re.findall(r"test_inplace\.py:(\d+)", str(error.value))]


def test_leaf_that_requires_grad() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(GraphError, match="no_grad"):
        x += 1
    assert x.tolist() == [1.0, 2.0]
    with fathom.no_grad():
        x += 1
    assert x.tolist() == [2.0, 3.0] and x.requires_grad and x.is_leaf and x.version == 1


def test_saved_leaf_names_both_lines() -> None:
    x = leaf([1.0, 2.0])
    y = x * x; made = line()  # fmt: skip # noqa: E702
    with fathom.no_grad():
        x.mul_(2); edited = line()  # fmt: skip # noqa: E702
    with pytest.raises(InplaceError, match=r"mul .* edited in place at") as error:
        y.sum().backward()
    assert lines_named(error) == [made, edited]


def test_saved_output_names_both_lines() -> None:
    x = leaf([1.0, 2.0])
    y = x.exp(); made = line()  # fmt: skip # noqa: E702
    y += 1; edited = line()  # fmt: skip # noqa: E702
    with pytest.raises(InplaceError, match="exp") as error:
        y.sum().backward()
    assert lines_named(error) == [made, edited]


@pytest.mark.parametrize(
    "alias",
    [
        lambda y: y.detach(),
        lambda y: y[0],
        lambda y: y[0:1],
        lambda y: y.reshape(2, 1),
        lambda y: y.T,
        lambda y: y.detach()[1:],
    ],
)
def test_write_through_an_alias_is_noticed(alias) -> None:
    x = leaf([1.0, 2.0])
    y = x * 1
    z = (y * y).sum()
    with fathom.no_grad():
        alias(y).fill_(7)
    with pytest.raises(InplaceError):
        z.backward()


def test_edit_before_the_value_is_used_is_fine() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    y += 1
    (y * y).sum().backward()  # (2x + 1)^2
    assert x.grad.tolist() == [12.0, 20.0]


def test_edit_of_a_value_nobody_saved_is_fine() -> None:
    x = leaf([1.0, 2.0])
    y = x * 3
    z = (y + 1).sum()
    with fathom.no_grad():
        y.zero_()
    z.backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("edit", "slope"),
    [
        (lambda y, x: y.add_(x), 3.0),
        (lambda y, x: y.sub_(x), 1.0),
        (lambda y, x: y.mul_(3), 6.0),
        (lambda y, x: y.div_(2), 1.0),
        (lambda y, x: y.copy_(x), 1.0),
        (lambda y, x: y.mul_(x.detach()), None),
    ],
)
def test_recorded_edits(edit, slope) -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    node = y.node
    assert edit(y, x) is y and y.node is not node and y.version == 1
    y.sum().backward()
    assert x.grad.tolist() == ([2.0, 4.0] if slope is None else [slope, slope])


@pytest.mark.parametrize("edit", [lambda y: y.zero_(), lambda y: y.fill_(3)])
def test_overwritten_value_passes_no_gradient(edit) -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    edit(y)
    (y + x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_edit_by_itself() -> None:
    x = leaf([1.0, 2.0])
    y = x * 3
    y *= y
    y.sum().backward()  # 9 x^2
    assert x.grad.tolist() == [18.0, 36.0]


def test_constant_takes_up_history() -> None:
    w, total = leaf([2.0]), fathom.zeros(1)
    for _ in range(3):
        total += w * w
    assert total.requires_grad and not total.is_leaf
    total.sum().backward()
    assert w.grad.tolist() == [12.0]


def test_edit_in_place_is_seen_by_numpy() -> None:
    x = fathom.zeros(2)
    a = x.numpy()
    x += 1
    assert a.tolist() == [1.0, 1.0]


def test_recorded_edit_of_a_view_is_refused() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2
    row = y[0:1]
    with pytest.raises(InplaceError, match="view"):
        row += 1
    with pytest.raises(InplaceError, match="view"):
        y += 1


def test_setitem() -> None:
    x = fathom.zeros(3)
    x[1] = 5
    x[[0, 2]] = fathom.tensor([1.0, 2.0])
    assert x.tolist() == [1.0, 5.0, 2.0] and x.version == 2


def test_recorded_setitem() -> None:
    x, v = leaf([1.0, 2.0]), leaf(3.0)
    y = x * 2
    y[0] = v * v
    (y * y).sum().backward()  # v^4 + 4 x1^2
    assert x.grad.tolist() == [0.0, 16.0] and v.grad.item() == 108.0
    with pytest.raises(GraphError, match="no_grad"):
        x[0] = 1.0


def test_setitem_under_no_grad_is_noticed() -> None:
    x = leaf([1.0, 2.0])
    y = x * 1
    z = (y * y).sum()
    with fathom.no_grad():
        y[0] = 3; edited = line()  # fmt: skip # noqa: E702
    with pytest.raises(InplaceError) as error:
        z.backward()
    assert lines_named(error)[-1] == edited


def test_shape_and_kind_stay() -> None:
    with pytest.raises(ShapeError, match=r"cannot change shape \(2,\) to \(2, 2\)"):
        fathom.zeros(2).add_(fathom.ones(2, 2))
    with pytest.raises(DtypeError, match="int64"):
        fathom.tensor([1, 2]).add_(0.5)
    x = fathom.zeros(2)
    x += fathom.ones(2, dtype=np.float64)
    assert x.dtype == np.float32


def test_optimizer_step_between_forward_and_backward_is_noticed() -> None:
    w = leaf([1.0, 2.0])
    first, second = (w * w).sum(), (w * w).sum()
    optimizer = fathom.optim.SGD([w], lr=0.1)
    first.backward()
    kept = w.grad.numpy().copy()
    optimizer.step()
    np.testing.assert_array_equal(w.grad.numpy(), kept)  # optimizers never modify gradients
    with pytest.raises(InplaceError):
        second.backward()


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_optimizers_leave_gradients_alone(name) -> None:
    make = getattr(fathom.optim, name)
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    optimizer = make([x, y], lr=0.1, weight_decay=0.1)
    (x + y).sum().backward()
    optimizer.step()
    assert x.grad.tolist() == [1.0, 1.0] and y.grad.tolist() == [1.0, 1.0]


# -- inside transforms ---------------------------------------------------------------------------


def test_edits_inside_a_transform() -> None:
    def f(x):
        y = x * 2
        z, square = y, y * y
        y *= x
        y += 1
        y.add_(square)
        return (y + z).sum()  # z is y: 2 (2x^2 + 1 + 4x^2)

    x = fathom.tensor([1.0, 2.0])
    assert f(x).item() == 14 + 50
    assert func.grad(f)(x).tolist() == [24.0, 48.0]
    assert func.jvp(f, (x,), (fathom.tensor([1.0, 0.0]),))[1].item() == 24.0
    assert func.vmap(f)(x).tolist() == [14.0, 50.0]
    assert func.hessian(f)(x).tolist() == [[24.0, 0.0], [0.0, 24.0]]
    assert x.tolist() == [1.0, 2.0]


def test_edit_of_the_input_inside_a_transform() -> None:
    def f(x):
        y = x * x
        x *= 3
        return (x * y).sum()  # 3x^3

    x = fathom.tensor([1.0, 2.0])
    assert func.grad(f)(x).tolist() == [9.0, 36.0]
    out, pull = func.vjp(lambda v: v.mul_(3), x)
    assert out.tolist() == [3.0, 6.0] and pull(fathom.ones(2))[0].tolist() == [3.0, 3.0]
    assert x.tolist() == [1.0, 2.0]


def test_setitem_inside_a_transform() -> None:
    def f(x):
        y = x * 1
        y[0] = x[1] * x[1]
        return (y * y).sum()  # x1^4 + x1^2

    x = fathom.tensor([1.0, 2.0])
    assert func.grad(f)(x).tolist() == [0.0, 36.0]
    assert func.jvp(f, (x,), (fathom.ones(2),))[1].item() == 36.0


def test_edit_of_a_captured_tensor_inside_a_transform_is_refused() -> None:
    total = fathom.zeros(2)

    def f(x):
        total.add_(x * x)
        return total.sum()

    x = fathom.ones(2)
    for run in (lambda: func.grad(f)(x), lambda: func.jvp(f, (x,), (x,)),
                lambda: func.vmap(f)(fathom.ones(3, 2))):  # fmt: skip
        with pytest.raises(GraphError, match="outside a transform"):
            run()
    assert total.tolist() == [0.0, 0.0]
