"""Random programs: gradients, both modes, second order and vmap agree with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings

import fathom
from fathom import func
from fathom.autograd import grad, gradcheck
from fathom.autograd.gradcheck import GradientMismatchError
from tests.properties.programs import Program, programs

few = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def leaves(program: Program) -> list[Any]:
    return [fathom.tensor(a, requires_grad=True) for a in program.inputs]


def tensors(program: Program) -> tuple[Any, ...]:
    return tuple(fathom.Tensor(a.copy()) for a in program.inputs)


def directions(program: Program, seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    return tuple(fathom.Tensor(rng.standard_normal(a.shape)) for a in program.inputs)


def dot(xs: Any, ys: Any) -> float:
    return float(sum((x.numpy() * y.numpy()).sum() for x, y in zip(xs, ys, strict=True)))


def close(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    scale = max(1.0, float(np.abs(np.asarray(b)).max(initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


@few
@given(programs())
def test_gradients_against_differences(program: Program) -> None:
    inputs = leaves(program)
    assert gradcheck(lambda *xs: program(fathom, *xs), inputs, atol=1e-5, rtol=1e-4)


@few
@given(programs())
def test_forward_against_reverse(program: Program) -> None:
    """<u, J v> = <J' u, v>: for one number that comes out, J v = <gradient, v>."""
    xs, vs = tensors(program), directions(program, 1)
    numbers = tuple(range(len(xs)))

    def f(*args: Any) -> Any:
        return program(fathom, *args)

    value, pushed = func.jvp(f, xs, vs)
    pulled = func.grad(f, numbers)(*xs)
    close(pushed.item(), dot(pulled, vs))
    close(value.item(), f(*xs).item(), 0)
    inputs = leaves(program)
    program(fathom, *inputs).backward()
    for x, g in zip(inputs, pulled, strict=True):  # the tape and the transform do the same
        expected = np.zeros(x.shape) if x.grad is None else x.grad.numpy()
        np.testing.assert_array_equal(g.numpy(), expected)


@few
@given(programs(most=20))
def test_second_order_three_ways(program: Program) -> None:
    """Hessian times vector: forward over reverse, reverse over reverse, double backward."""
    xs, vs = tensors(program), directions(program, 2)
    numbers = tuple(range(len(xs)))

    def f(*args: Any) -> Any:
        return program(fathom, *args)

    def slope(*args: Any) -> Any:
        gs = func.grad(f, numbers)(*args)
        return sum(((g * v).sum() for g, v in zip(gs, vs, strict=True)), start=fathom.tensor(0.0))

    forward = func.hvp(f, xs, vs)
    reverse = func.grad(slope, numbers)(*xs)
    inputs = leaves(program)
    gs = grad(program(fathom, *inputs), inputs, create_graph=True, allow_unused=True)
    live = [(g, v) for g, v in zip(gs, vs, strict=True) if g is not None and g.requires_grad]
    twice: Any = [None] * len(inputs)
    if live:
        roots, seeds = zip(*live, strict=True)
        twice = grad(roots, inputs, seeds, allow_unused=True)
    for a, b, c in zip(forward, reverse, twice, strict=True):
        close(a.numpy(), b.numpy())
        close(a.numpy(), 0 * a.numpy() if c is None else c.numpy())


@few
@given(programs(most=20))
def test_vmap_equals_the_loop(program: Program) -> None:
    """Value and gradient of every row, with all inputs batched and with the first alone."""
    rng = np.random.default_rng(3)
    rows = [tuple(a + rng.uniform(-0.2, 0.2, a.shape) for a in program.inputs) for _ in range(3)]
    numbers = tuple(range(len(program.inputs)))

    def both(*args: Any) -> Any:
        gradients, value = func.grad_and_value(lambda *xs: program(fathom, *xs), numbers)(*args)
        return (value, *gradients)

    for flags in ((True,) * len(numbers), (True,) + (False,) * (len(numbers) - 1)):
        stacked = [
            fathom.Tensor(np.stack([r[i] for r in rows]) if flag else rows[0][i])
            for i, flag in enumerate(flags)
        ]
        found = func.vmap(both, tuple(0 if flag else None for flag in flags))(*stacked)
        for k, row in enumerate(rows):
            chosen = [row[i] if flag else rows[0][i] for i, flag in enumerate(flags)]
            single = both(*map(fathom.Tensor, chosen))
            for a, b in zip(found, single, strict=True):
                close(a.numpy()[k], b.numpy(), 1e-10)


@few
@given(programs())
def test_the_tape_leaves_its_inputs_and_float32_alone(program: Program) -> None:
    inputs = [fathom.tensor(a.astype(np.float32), requires_grad=True) for a in program.inputs]
    before = [x.detach().numpy().copy() for x in inputs]
    out = program(fathom, *inputs)
    out.backward()
    assert out.dtype == np.float32 and out.shape == ()
    for x, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x.detach().numpy(), kept)
        assert x.version == 0
        assert x.grad is None or (x.grad.dtype == np.float32 and x.grad.shape == x.shape)


def test_the_check_would_notice() -> None:
    """A program with a wrong rule in it fails the test above."""

    class Off(fathom.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2.001

    x = fathom.tensor([0.3, -0.4], np.float64, requires_grad=True)
    try:
        gradcheck(lambda v: fathom.tanh(Off.apply(v)).sum(), x, atol=1e-5, rtol=1e-4)
    except GradientMismatchError:
        return
    raise AssertionError("a slope that is off by 0.05 % passed")
