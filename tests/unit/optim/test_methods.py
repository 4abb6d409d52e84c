"""What the papers say of methods that have no counterpart in PyTorch."""

import itertools

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.engine.errors import ArgumentError, DivergedError, FathomError
from fathom.optim.newton import conjugate_gradient
from fathom.optim.scaling import GradScaler, underflow_share
from fathom.optim.swa_utils import AveragedModel, update_bn

RNG = np.random.default_rng(0)


def parameter(value, grad=None):
    p = nn.Parameter(np.asarray(value, np.float64))
    p.grad = None if grad is None else fathom.tensor(np.asarray(grad, np.float64))
    return p


def bowl(n=6, condition=100.0, seed=0):
    """(A, b, minimum) of x'Ax/2 - b'x."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    a = q @ np.diag(np.geomspace(1.0, condition, n)) @ q.T
    b = rng.standard_normal(n)
    return a, b, np.linalg.solve(a, b)


def quadratic(w, a, b):
    return 0.5 * (w @ (fathom.tensor(a) @ w)) - (fathom.tensor(b) * w).sum()


def with_gradients(optimizer, loss_of):
    def closure():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return closure


def test_lion_moves_every_weight_by_the_rate():
    p = parameter(np.zeros(50), RNG.standard_normal(50) * np.geomspace(1e-6, 1e6, 50))
    g = p.grad.value().copy()
    optim.Lion([p], lr=0.01).step()
    np.testing.assert_allclose(p.value(), -0.01 * np.sign(g))


def test_lion_by_hand():
    p = parameter([2.0], [1.0])
    optimizer = optim.Lion([p], lr=0.1, betas=(0.9, 0.5), weight_decay=0.5)
    optimizer.step()  # sign(0.1) + 0.5 * 2
    assert p.item() == pytest.approx(2.0 - 0.1 * (1 + 1.0))
    p.grad = fathom.tensor(np.array([-1.0]))  # m = 0.5: 0.9 * 0.5 - 0.1 > 0
    optimizer.step()
    assert p.item() == pytest.approx(1.8 - 0.1 * (1 + 0.9))


def test_lamb_steps_are_as_long_as_the_weights():
    ps = [parameter(RNG.standard_normal(shape) * size, RNG.standard_normal(shape))
          for shape, size in (((4, 3), 0.1), ((5,), 2.0))]  # fmt: skip
    before = [p.value().copy() for p in ps]
    optim.LAMB(ps, lr=0.01).step()
    for p, old in zip(ps, before, strict=True):
        assert np.linalg.norm(p.value() - old) == pytest.approx(0.01 * np.linalg.norm(old))


def test_lamb_of_zero_weights_takes_adams_step():
    a, b = parameter(np.zeros(3), [1.0, -2.0, 3.0]), parameter(np.zeros(3), [1.0, -2.0, 3.0])
    optim.LAMB([a], lr=0.1).step()
    optim.Adam([b], lr=0.1, eps=1e-6).step()
    np.testing.assert_allclose(a.value(), b.value())


def test_decoupled_decay_does_not_meet_the_scale_of_adam():
    p = parameter([1.0, 1.0], [1e-3, 10.0])
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(p.value(), [0.85, 0.85], atol=1e-5)


@pytest.mark.parametrize("condition", [10.0, 1e4])
def test_newton_needs_one_step_on_a_bowl(condition):
    a, b, minimum = bowl(condition=condition)
    w = parameter(RNG.standard_normal(6))
    optim.Newton([w]).step(lambda: quadratic(w, a, b))
    np.testing.assert_allclose(w.value(), minimum, rtol=1e-8, atol=1e-10)


def test_newton_goes_to_saddles_and_its_saddle_free_form_away():
    def saddle(w):
        return w[0] ** 2 - w[1] ** 2 + 0.25 * w[1] ** 4

    plain, free = parameter([1.0, 0.1]), parameter([1.0, 0.1])
    one, other = optim.Newton([plain]), optim.Newton([free], lr=0.5, saddle_free=True)
    for _ in range(40):
        one.step(lambda: saddle(plain))
        other.step(lambda: saddle(free))
    np.testing.assert_allclose(plain.value(), [0, 0], atol=1e-6)
    np.testing.assert_allclose(np.abs(free.value()), [0, 2**0.5], atol=1e-4)


def test_newton_of_several_parameters_and_of_a_singular_hessian():
    a, b = parameter([[1.0, 2.0]]), parameter([3.0])
    optim.Newton([a, b]).step(lambda: ((a.sum() + b.sum() - 1) ** 2).sum())
    assert a.value().sum() + b.value().sum() == pytest.approx(1.0)


@pytest.mark.parametrize("n", [3, 8])
def test_conjugate_gradients_end_in_n_steps(n):
    a, b, minimum = bowl(n)
    x, steps = conjugate_gradient(lambda v: a @ v, b, 1e-9)
    assert steps <= n
    np.testing.assert_allclose(x, minimum, atol=1e-8)


def test_newton_cg():
    a, b, minimum = bowl(8)
    w = parameter(np.zeros(8))
    optimizer = optim.NewtonCG([w], tolerance=1e-10)
    optimizer.step(lambda: quadratic(w, a, b))
    assert optimizer.inner <= 9
    np.testing.assert_allclose(w.value(), minimum, atol=1e-7)
    w = parameter([-1.2, 1.0])
    optimizer = optim.NewtonCG([w], tolerance=0.01)
    for _ in range(40):
        optimizer.step(lambda: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2)
    np.testing.assert_allclose(w.value(), [1.0, 1.0], atol=1e-6)


def test_gauss_newton_solves_a_linear_problem_at_once():
    x, y = RNG.standard_normal((20, 3)), RNG.standard_normal(20)
    w = parameter(np.zeros(3))
    xt, yt = fathom.tensor(x), fathom.tensor(y)
    loss = optim.GaussNewton([w]).step(lambda: xt @ w - yt)
    assert loss.item() == pytest.approx(0.5 * (y @ y))
    np.testing.assert_allclose(w.value(), np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-10)


def test_levenberg_marquardt_never_raises_the_loss():
    t = fathom.tensor(np.linspace(0, 2, 30))
    y = fathom.tensor(np.sin(3.1 * np.linspace(0, 2, 30)))
    w = parameter([0.5, 2.0])
    optimizer = optim.LevenbergMarquardt([w])
    losses = [optimizer.step(lambda: w[0] * fathom.sin(w[1] * t) - y).item() for _ in range(30)]
    assert all(b <= a for a, b in itertools.pairwise(losses))
    np.testing.assert_allclose(w.value(), [1.0, 3.1], atol=1e-6)


def test_sam_finds_the_flatter_minimum():
    """(xy - 1)^2 is 0 along a hyperbola with curvature 2 (x^2 + y^2): flattest at x = y = 1."""
    sharpness = []
    for make in (
        lambda ps: optim.SGD(ps, lr=0.02),
        lambda ps: optim.SAM(ps, optim.SGD, rho=0.2, lr=0.02),
    ):
        w = parameter([3.0, 0.5])
        optimizer = make([w])
        for _ in range(1500):
            optimizer.step(with_gradients(optimizer, lambda w=w: (w[0] * w[1] - 1) ** 2))
        assert abs(w[0].item() * w[1].item() - 1) < 0.2
        sharpness.append(float(np.square(w.value()).sum()))
    assert sharpness[0] > 8.0 and sharpness[1] < 2.5


def test_sam_takes_the_gradient_at_the_worst_point():
    w = parameter([3.0, 4.0])
    optimizer = optim.SAM([w], rho=0.5, lr=0.1)
    loss = optimizer.step(with_gradients(optimizer, lambda: (w * w).sum()))
    assert loss.item() == 25.0
    np.testing.assert_allclose(w.value(), [3 - 0.2 * 3.3, 4 - 0.2 * 4.4])


def test_sam_puts_the_weights_back_when_the_second_pass_fails():
    w = parameter([1.0])
    optimizer, calls = optim.SAM([w], rho=0.5, lr=0.1), []

    def closure():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert w.item() == 1.0


def test_lookahead_by_hand_and_round_trip():
    w = parameter([0.0])
    optimizer = optim.Lookahead(optim.SGD([w], lr=1.0, momentum=0.5), k=3, alpha=0.25)
    twin = parameter([0.0])
    for step in range(7):
        if step == 4:
            twin.value()[...] = w.value()
            other = optim.Lookahead(optim.SGD([twin], lr=9.0, momentum=0.1), k=3, alpha=0.25)
            other.load_state_dict(optimizer.state_dict())
        for p, o in ((w, optimizer), *([(twin, other)] if step >= 4 else [])):
            p.grad = fathom.tensor(np.array([-1.0]))
            o.step()
        if step == 2:
            assert w.item() == pytest.approx(0.25 * (1 + 1.5 + 1.75))
    assert w.item() == twin.item()


def test_a_step_with_a_closure_returns_its_loss():
    w = parameter([2.0])
    optimizer = optim.SGD([w], lr=0.1)
    with fathom.no_grad():  # the closure records all the same
        loss = optimizer.step(with_gradients(optimizer, lambda: (w * w).sum()))
    assert loss.item() == 4.0 and w.item() == pytest.approx(1.6)


def test_check_finite_of_lbfgs_leaves_the_weights():
    w = parameter([1.0])
    optimizer = optim.LBFGS([w], lr=1e308)
    optimizer.check_finite = True
    with pytest.raises(DivergedError):
        for _ in range(3):
            optimizer.step(with_gradients(optimizer, lambda: (w**4).sum()))
    assert np.isfinite(w.value()).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: optim.LBFGS([p], line_search_fn="wolfe"), "strong_wolfe"),
        (lambda p: optim.LBFGS([{"params": [p]}, {"params": [parameter([1.0])]}]), "one group"),
        (lambda p: optim.LBFGS([p]).step(), "needs a closure"),
        (lambda p: optim.Newton([p]).step(), "needs a closure"),
        (lambda p: optim.Newton([p]).step(lambda: 3.0), "must return the loss"),
        (lambda p: optim.LevenbergMarquardt([p]).step(lambda: 3.0), "return the residuals"),
        (lambda p: optim.LevenbergMarquardt([p], up=0.5), "up must be > 1"),
        (lambda p: optim.SAM([p], rho=-1), "rho"),
        (lambda p: optim.SAM([p]).step(), "needs a closure"),
        (lambda p: optim.Lookahead(optim.SGD([p]), k=0), "k must be"),
        (lambda p: optim.Lookahead(optim.SGD([p]), alpha=2), "alpha"),
        (lambda p: optim.Lookahead([p]), "wraps an optimizer"),
        (lambda p: optim.Rprop([p], etas=(1.2, 0.5)), "etas"),
        (lambda p: optim.RMSprop([p], alpha=1.0), "alpha"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), "lr_decay"),
        (lambda p: optim.Lion([p], betas=(1.0, 0.9)), r"betas\[0\]"),
        (lambda p: optim.SGD([p]).step(3), "closure is a function"),
        (lambda p: optim.lr_scheduler.StepLR(optim.SGD([p]), 0), "step_size"),
        (lambda p: optim.lr_scheduler.StepLR([p], 1), "needs an optimizer"),
        (lambda p: optim.lr_scheduler.OneCycleLR(optim.SGD([p]), 0.1), "total_steps"),
        (lambda p: optim.lr_scheduler.OneCycleLR(optim.Adagrad([p]), 1, 9), "neither momentum"),
        (lambda p: optim.lr_scheduler.StepLR(optim.SGD([p]), 1, last_epoch=3), "initial_lr"),
        (lambda p: optim.lr_scheduler.CyclicLR(optim.SGD([p]), 0.1, [1, 2]), "2 values for 1"),
        (lambda p: optim.schedules.make("step", optim.SGD([p]), foo=1), "foo"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make(parameter([1.0]))


@pytest.mark.parametrize("name", ["newton", "newton_cg", "lbfgs", "levenberg_marquardt"])
def test_state_of_whole_optimizers_round_trips_through_a_dictionary(name):
    w = parameter([1.0, 2.0])
    optimizer = optim.make(name, [w])
    whole = optimizer.wants_graph

    def closure():
        optimizer.zero_grad()
        loss = ((w - 0.5) ** 2).sum() if name != "levenberg_marquardt" else w - 0.5
        if not whole:
            loss.backward()
        return loss

    optimizer.step(closure)
    saved = optimizer.state_dict()
    fresh = optim.make(name, [w])
    fresh.load_state_dict(saved)
    again = fresh.state_dict()
    assert again["state"].keys() == saved["state"].keys()
    for slot, value in saved["state"].get(0, {}).items():
        np.testing.assert_array_equal(again["state"][0][slot], value)
    with pytest.raises(ArgumentError, match="other parameter groups"):
        optim.make(name, [w, parameter([1.0])]).load_state_dict(saved)


# -- loss scaling ----------------------------------------------------------------------------------


def test_scaling_recovers_float16_gradients_that_underflow():
    ends = []
    for enabled in (True, False):
        w = parameter([1.0])
        optimizer = optim.SGD([w], lr=1e8)
        scaler = GradScaler(enabled=enabled, simulate="float16")
        for _ in range(10):
            optimizer.zero_grad()
            scaler.scale((w * 1e-9).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        ends.append(w.item())
    assert ends[0] == pytest.approx(0.0, abs=1e-3) and ends[1] == 1.0
    small = RNG.standard_normal(1000) * 1e-8
    assert underflow_share(small) > 0.9 and underflow_share(small, 65536) < 0.01


def test_scaling_skips_overflow_and_adapts():
    w = parameter([1.0])
    optimizer = optim.SGD([w], lr=0.1)
    scaler = GradScaler(simulate="float16", growth_interval=2)
    scales = []
    for _ in range(8):
        optimizer.zero_grad()
        scaler.scale((w * 10.0).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert scales[:5] == [32768, 16384, 8192, 4096, 4096]  # 10 * 4096 fits into float16
    assert scaler.skipped > 3 and w.item() < 1.0
    copy = GradScaler()
    copy.load_state_dict(scaler.state_dict())
    assert copy.get_scale() == scaler.get_scale()
    with pytest.raises(FathomError, match="growth_factor"):
        GradScaler(growth_factor=0.5)


# -- averages --------------------------------------------------------------------------------------


def test_update_bn_takes_the_mean_over_batches():
    if not hasattr(nn, "BatchNorm1d"):
        pytest.skip("no batch normalization yet")
    net = nn.Sequential(nn.BatchNorm1d(3))
    batches = [RNG.standard_normal((8, 3)).astype(np.float32) + i for i in range(4)]
    averaged = AveragedModel(net)
    averaged.update_parameters(net)
    update_bn([(b, None) for b in batches], averaged)
    layer = averaged.module[0]
    np.testing.assert_allclose(
        layer.running_mean.value(), np.mean([b.mean(axis=0) for b in batches], axis=0), rtol=1e-5
    )
    assert layer.momentum == 0.1
