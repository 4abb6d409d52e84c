"""What the book says of gradient descent and its relatives, measured."""

import math

import numpy as np
import pytest

import fathom
from fathom import func, nn, optim
from fathom.nn.summary import count_multiply_adds
from fathom.optim.newton import conjugate_gradient


def parameter(*values):
    return nn.Parameter(np.asarray(values, np.float64))


def descend(optimizer, loss, done, limit=3000):
    """Steps until `done()`."""
    for step in range(1, limit):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        if done():
            return step
    return limit


def test_momentum_needs_691_steps_less_to_95():
    """On a bowl of condition 100, to a millionth of the first distance, at the best rates."""
    curvatures = fathom.tensor(np.array([1.0, 100.0]))

    def steps(lr, momentum):
        w = parameter(1.0, 1.0)
        optimizer = optim.SGD([w], lr=lr, momentum=momentum)
        return descend(
            optimizer,
            lambda: 0.5 * (curvatures * w * w).sum(),
            lambda: np.linalg.norm(w.value()) < 1e-6 * math.sqrt(2.0),
        )

    plain = steps(2 / 101, 0.0)
    assert plain == 691 == math.ceil(math.log(1e-6) / math.log(99 / 101))
    assert 85 <= steps(4 / (10 + 1) ** 2, (9 / 11) ** 2) <= 100


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW, optim.NAdam, optim.Adamax])
def test_adams_first_step_is_the_rate_by_sign(make):
    w = parameter(1.0, 1.0, 1.0)
    w.grad = fathom.tensor(np.array([1e-3, -50.0, 7.0]))
    options = {"weight_decay": 0.0} if make is optim.AdamW else {}
    optimizer = make([w], lr=0.1, **options)
    optimizer.step()
    rate = 0.1 if make is not optim.NAdam else 1.0 - w.value()[0]
    np.testing.assert_allclose(w.value(), 1.0 - rate * np.array([1, -1, 1]), atol=2e-6)


def test_decoupled_decay_of_the_book():
    """Weights 1 and 10: with Adam's L2 penalty both move by lr; AdamW takes 1 % of each, too."""
    coupled, decoupled = parameter(1.0, 10.0), parameter(1.0, 10.0)
    for w in (coupled, decoupled):
        w.grad = fathom.tensor(np.array([1.0, 1.0]))
    optim.Adam([coupled], lr=0.1, weight_decay=0.1).step()
    optim.AdamW([decoupled], lr=0.1, weight_decay=0.1).step()
    np.testing.assert_allclose(coupled.value(), [0.9, 9.9], atol=1e-7)
    np.testing.assert_allclose(decoupled.value(), [0.89, 9.8], atol=1e-7)


def test_sgd_with_decay_is_sgd_with_a_penalty_and_adam_is_not():
    def end(make, penalized):
        w = parameter(1.0, -3.0)
        optimizer = make([w], lr=0.05, weight_decay=0.0 if penalized else 0.2)

        def loss():
            fit = ((w - fathom.tensor(np.array([2.0, 2.0]))) ** 2).sum()
            return fit + nn.penalties.l2_penalty([w], 0.1) if penalized else fit

        descend(optimizer, loss, lambda: False, limit=21)
        return w.value()

    np.testing.assert_allclose(end(optim.SGD, True), end(optim.SGD, False), atol=1e-13)
    np.testing.assert_allclose(end(optim.Adam, True), end(optim.Adam, False), atol=1e-13)
    assert np.abs(end(optim.AdamW, True) - end(optim.AdamW, False)).max() > 1e-3


def test_clipping_by_norm_keeps_the_direction_and_by_value_does_not():
    g = np.random.default_rng(0).standard_normal(1000) ** 3
    turned, kept = parameter(*np.zeros(1000)), parameter(*np.zeros(1000))
    turned.grad, kept.grad = fathom.tensor(g.copy()), fathom.tensor(g.copy())
    before = nn.utils.clip_grad_norm_([kept], 0.5)
    nn.utils.clip_grad_value_([turned], 0.5)

    def cosine(v):
        return float(v @ g / np.linalg.norm(v) / np.linalg.norm(g))

    assert before.item() == pytest.approx(np.linalg.norm(g))
    assert cosine(kept.grad.value()) == pytest.approx(1.0, abs=1e-12)
    assert np.linalg.norm(kept.grad.value()) == pytest.approx(0.5)
    assert 0.5 < cosine(turned.grad.value()) < 0.9
    assert np.abs(turned.grad.value()).max() == 0.5


@pytest.mark.parametrize("start", [1e-3, 1e-6])
def test_steps_to_leave_a_saddle(start):
    """(x^2 - y^2) / 2 from y = 1e-6 at rate 0.05: ln(1e6) / ln(1.05) = 283.2 steps to y = 1."""
    w = parameter(1.0, start)
    optimizer = optim.SGD([w], lr=0.05)
    steps = descend(optimizer, lambda: 0.5 * (w[0] ** 2 - w[1] ** 2), lambda: w.value()[1] >= 1)
    predicted = -math.log(start) / math.log(1.05)
    assert steps == math.ceil(predicted)
    assert start > 1e-6 or (steps, math.floor(predicted)) == (284, 283)


def test_few_random_symmetric_matrices_are_positive():
    """1/2, (2 - sqrt 2) / 4 and (pi - 2 sqrt 2) / 4 pi: minima are rare among critical points."""
    wanted = (0.5, (2 - math.sqrt(2)) / 4, (math.pi - 2 * math.sqrt(2)) / (4 * math.pi))
    for n, share in enumerate(wanted, start=1):
        a = np.random.default_rng(n).standard_normal((20000, n, n))
        goe = fathom.tensor(a + a.transpose(0, 2, 1))
        lowest = fathom.linalg.eigvalsh(goe).value().min(axis=1)
        assert (lowest > 0).mean() == pytest.approx(share, abs=4 * math.sqrt(share / 20000))


def test_operations_of_second_order_grow_with_powers_two_and_three():
    """A Hessian-vector product costs n^2 multiply-adds; the Hessian, and n steps of CG, n^3."""

    def counts(n):
        b = np.random.default_rng(0).standard_normal((n, n))
        matrix, x = fathom.tensor(b @ b.T + np.eye(n)), fathom.tensor(np.ones(n))

        def loss(w):
            return 0.5 * (w @ (matrix @ w))

        def product(v):
            return (matrix @ fathom.tensor(v)).value()

        found = []
        for work in (
            lambda: func.hvp(loss, x, x),
            lambda: func.hessian(loss)(x),
            lambda: conjugate_gradient(product, b[0], 0.0, n),
        ):
            found.append(0)
            with count_multiply_adds(found):
                work()
        return np.array(found)

    once, hessian, conjugate = np.log2(counts(64) / counts(32))
    assert once == pytest.approx(2.0, abs=0.1)
    assert (hessian, conjugate) == pytest.approx((3.0, 3.0), abs=0.1)


# -- by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sam", "lookahead"])
def test_wrappers_by_name_take_any_optimizer(name):
    w = parameter(1.0)
    made = optim.make(name, [w], base="adamw", lr=0.25, betas=(0.5, 0.5))
    assert type(made).__name__.lower() == name and isinstance(made.optimizer, optim.AdamW)
    assert made.param_groups[0]["lr"] == 0.25 and made.param_groups[0]["betas"] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("adam", {"betaz": (0.9, 0.9)}, "'adam' has no option 'betaz'\n.*did you mean 'betas'"),
        ("sam", {"base": "adma"}, "did you mean 'adam'"),
        ("sam", {"momentun": 0.5}, "'sgd' has no option 'momentun'\n.*did you mean 'momentum'"),
        ("adam", {"betas": 0.9}, "Adam: betas are two numbers"),
        ("radam", {"weight_decay": -1}, "RAdam: weight_decay must be a number >= 0"),
        ("lamb", {"clamp_value": "big"}, "LAMB: clamp_value must be a number >= 0"),
    ],
)
def test_mistakes_by_name(name, options, text):
    with pytest.raises(fathom.engine.errors.ArgumentError, match=text):
        optim.make(name, [parameter(1.0)], **options)
