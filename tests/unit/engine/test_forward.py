"""Forward mode: every kind of primitive, and what has no tangent."""

import numpy as np
import pytest

import fathom
from fathom import func

X = fathom.tensor([0.5, -1.5, 2.0], np.float64)
V = fathom.tensor([1.0, 0.5, -2.0], np.float64)


def check(f, x=X, v=V, tolerance=1e-7) -> None:
    eps = 1e-6
    out, tangent = func.jvp(f, (x,), (v,))
    step = eps * v.numpy()
    high, low = (f(fathom.Tensor(x.numpy() + s * step)).numpy() for s in (1, -1))
    np.testing.assert_array_equal(out.numpy(), f(x).numpy())
    np.testing.assert_allclose(tangent.numpy(), (high - low) / (2 * eps), rtol=tolerance, atol=1e-8)
    assert tangent.dtype == out.dtype and tangent.shape == out.shape


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.exp() * 2 - 1 / x,  # elementwise, constants
        lambda x: x.sum() * x,  # linear, broadcasting
        lambda x: fathom.concatenate([x, x * 2, fathom.ones(2, dtype=np.float64)]),  # joint
        lambda x: x.reshape(3, 1) @ x.reshape(1, 3),  # product
        lambda x: fathom.softmax(x, -1),  # general
        lambda x: fathom.where(x > 0, x * x, -x),
        lambda x: fathom.maximum(x[0] * 3, x),
        lambda x: x[[2, 0]].max(),
        lambda x: sum(p.sum() * (i + 1) for i, p in enumerate(fathom.split(x * x, 1))),
        lambda x: fathom.linalg.slogdet(fathom.outer(x, x) + fathom.eye(3, dtype=np.float64))[1],
        lambda x: fathom.linalg.eigh(fathom.outer(x, x) + fathom.diag(x))[0],
    ],
)
def test_against_differences(f) -> None:
    check(f)


def test_detach_has_no_tangent() -> None:
    out, tangent = func.jvp(lambda x: x.detach() * x, (X,), (V,))
    np.testing.assert_array_equal(tangent.numpy(), X.numpy() * V.numpy())
    np.testing.assert_array_equal(out.numpy(), X.numpy() ** 2)


def test_what_does_not_depend_on_the_input() -> None:
    for f, shape in [
        (lambda x: fathom.ones(2), (2,)),
        (lambda x: x > 0, (3,)),
        (lambda x: x.argmax(), ()),
        (lambda x: fathom.sign(x) * 1.0, (3,)),
        (lambda x: 3.0, ()),
    ]:
        out, tangent = func.jvp(f, (X,), (V,))
        assert tangent.shape == shape and not tangent.numpy().any()
        assert np.shape(out) == shape


def test_mask_beside_a_single_number_keeps_double_precision() -> None:
    """The tangent of a number without axes met a float32 mask with axes, and lost digits."""
    y = fathom.tensor([0.25], np.float64)
    x, v = fathom.tensor(1 / 3, np.float64), fathom.tensor(1 / 7, np.float64)
    _, tangent = func.jvp(lambda a: fathom.maximum(a, y), (x,), (v,))
    assert tangent.dtype == np.float64 and tangent.tolist() == [1 / 7]


def test_several_inputs_and_missing_tangents() -> None:
    _, tangent = func.jvp(lambda a, b: a * b + b, (X, X), (V, V * 0))
    np.testing.assert_allclose(tangent.numpy(), V.numpy() * X.numpy())
    y, w = fathom.ones(3, dtype=np.float64), fathom.tensor([[1.0], [2.0]], np.float64)
    _, tangent = func.jvp(lambda a: fathom.concatenate([y, a * y], 0) * w, (X,), (V,))
    np.testing.assert_allclose(tangent.numpy(), w.numpy() * np.r_[np.zeros(3), V.numpy()])


def test_hooked_up_to_the_tape() -> None:
    x = fathom.tensor([1.0, 2.0], np.float64, requires_grad=True)
    v = fathom.tensor([1.0, 1.0], np.float64, requires_grad=True)
    _, tangent = func.jvp(lambda a: a**3, (x,), (v,))
    tangent.sum().backward()  # sum of 3 x^2 v
    assert x.grad.tolist() == [6.0, 12.0] and v.grad.tolist() == [3.0, 12.0]


def test_repr_and_flags_inside() -> None:
    seen = []

    def f(x):
        seen.append((repr(x * 2), x.requires_grad, x.is_leaf))
        return x

    func.jvp(f, (fathom.ones(1),), (fathom.ones(1),))
    func.grad(lambda x: f(x).sum())(fathom.ones(1))
    assert seen[0][0].startswith("Dual(tensor([2.]), level") and seen[0][1] is False
    assert seen[1][0].startswith("Taped(tensor([2.]), level") and seen[1][1] is True
