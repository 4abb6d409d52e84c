"""Checks against finite differences: what passes, what fails, and what the report says."""

import numpy as np
import pytest

import fathom
from fathom.autograd import (
    Function,
    GradientMismatchError,
    gradcheck,
    gradgradcheck,
    numerical_grad,
)
from fathom.engine.errors import ArgumentError, DtypeError


def leaf(values):
    return fathom.tensor(values, dtype=np.float64, requires_grad=True)


class Wrong(Function):
    """sin(x)-like value with one wrong slope in the middle."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        factor = np.full(x.shape, 2.0)
        factor[1, 2] = 2.5
        factor[0, 0] = 2.1
        return g * x * fathom.Tensor(factor)


class WrongSecond(Function):
    """Right once, wrong twice: the gradient forgets that it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x.detach() ** 2


def test_right_gradients_pass() -> None:
    x, w = leaf([[0.5, 1.5], [2.0, -1.0]]), leaf([0.3, -0.4])
    assert gradcheck(lambda a, b: (a * b).tanh() @ b, [x, w])
    assert gradgradcheck(lambda a, b: (a * b).tanh() @ b, [x, w])
    assert gradcheck(lambda a: (a.exp(), (a * a).sum()), x)  # several outputs
    assert gradgradcheck(lambda a: a * 3, x)  # no second derivative at all
    assert x.grad is None


def test_a_single_number() -> None:
    assert gradcheck(lambda a: a.exp() * a, leaf(0.5))
    assert gradcheck(Wrong.apply, leaf(np.ones((2, 3))), raise_exception=False) is False


def test_inputs_come_back_as_they_were() -> None:
    x = leaf([1.0, 2.0])
    before = x.detach().numpy().copy()
    gradcheck(fathom.exp, x)
    np.testing.assert_array_equal(x.detach().numpy(), before)


def test_report_names_the_worst_element() -> None:
    x = leaf(np.arange(1.0, 7.0).reshape(2, 3))
    with pytest.raises(GradientMismatchError) as error:
        gradcheck(Wrong.apply, x)
    text = str(error.value)
    assert "gradient of input 0: 2 of 6 elements are wrong; the worst is (1, 2)" in text
    assert "by backward" in text and "by differences (step 1e-06)" in text
    assert gradcheck(Wrong.apply, x, raise_exception=False) is False
    assert isinstance(error.value, AssertionError)


def test_wrong_second_derivative_is_found() -> None:
    x = leaf([1.0, 2.0])
    assert gradcheck(WrongSecond.apply, x)
    with pytest.raises(GradientMismatchError, match="worst is"):
        gradgradcheck(WrongSecond.apply, x)


def test_error_that_a_sum_would_hide() -> None:
    class Swapped(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return fathom.Tensor(g.value()[::-1].copy())  # right for a cotangent of ones

    assert gradcheck(Swapped.apply, leaf([1.0, 2.0]), raise_exception=False) is False


def test_kinks_are_left_out_and_counted() -> None:
    assert gradcheck(fathom.relu, leaf([-1.0, 0.0, 2.0]))
    assert gradcheck(fathom.abs, leaf([0.0, 1e-7, 2.0]))
    assert gradcheck(lambda x: fathom.exp(3 * x), leaf([1.0, 2.0]))  # curved, not kinked

    class WrongRelu(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return fathom.relu(x)

        @staticmethod
        def backward(ctx, g):
            return g * 2.0

    with pytest.raises(GradientMismatchError, match=r"2 of 3 .*\(1 at kinks left out\)"):
        gradcheck(WrongRelu.apply, leaf([-1.0, 0.0, 2.0]))


def test_nan_is_wrong() -> None:
    class Nan(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * np.nan

    assert gradcheck(Nan.apply, leaf([1.0]), raise_exception=False) is False


def test_missing_gradient_is_found() -> None:
    assert gradcheck(lambda x: x.detach() * 2, leaf([1.0]), raise_exception=False) is False
    assert gradcheck(lambda x, y: x * 2, [leaf([1.0]), leaf([2.0])])


def test_what_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no input requires grad"):
        gradcheck(fathom.exp, fathom.ones(1))
    with pytest.raises(DtypeError, match="need float64"):
        gradcheck(fathom.exp, fathom.ones(1, requires_grad=True))
    with pytest.raises(DtypeError, match="int64"):
        numerical_grad(fathom.exp, fathom.tensor([1]))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float16, 5e-2), (np.float32, 2e-3), (np.float64, 1e-8)]
)
def test_step_fits_the_dtype(dtype, tolerance) -> None:
    x = fathom.tensor(np.array([0.5, 1.0, 2.0]), dtype=dtype)
    g = numerical_grad(lambda v: v * v * v, x)
    np.testing.assert_allclose(g.numpy(), [0.75, 3.0, 12.0], rtol=tolerance)


def test_numerical_grad_of_a_chosen_input() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    np.testing.assert_allclose(
        numerical_grad(lambda a, b: (a * b, a.sum()), [x, w], index=1).numpy(), [1, 2], rtol=1e-7
    )
    coarse = numerical_grad(lambda a: a**3, x, eps=0.1)
    np.testing.assert_allclose(coarse.numpy(), [3.01, 12.04], rtol=1e-9)  # + (eps x)^2
