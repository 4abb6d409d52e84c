"""Gradients checked against finite differences, with a report that names the worst element."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.backward import grad as gradients
from fathom.engine.errors import ArgumentError, DtypeError, FathomError
from fathom.engine.modes import enable_grad, no_grad
from fathom.engine.random import Random
from fathom.engine.tensor import Array, Tensor

Function = Callable[..., Any]
STEPS = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3, np.dtype(np.float16): 3e-2}


class GradientMismatchError(FathomError, AssertionError):
    """A gradient differs from the finite difference of its function."""


@dataclass(frozen=True)
class Difference:
    """Numerical derivatives of one input, and where a kink makes them meaningless."""

    values: Array  # central differences
    kinks: Array  # True where the slopes to the left and right disagree


def _scalar(function: Function, inputs: Sequence[Tensor], cotangent: Any) -> float:
    out = function(*inputs)
    outs = out if isinstance(out, tuple) else (out,)
    return float(sum(float((c * o.value()).sum()) for c, o in zip(cotangent, outs, strict=True)))


@contextmanager
def _moved(x: Array, place: tuple[int, ...], value: float) -> Iterator[None]:
    kept = x[place]
    x[place] = value
    try:
        yield
    finally:
        x[place] = kept


def differences(
    function: Function, inputs: Sequence[Tensor], cotangent: Any, index: int, step: float
) -> Difference:
    """Central differences of <cotangent, function(*inputs)> with respect to one input.

    A kink is suspected where the slopes on both sides differ and go on differing with a
    hundredth of the step: a curved function's would come together. If they do, the finer
    difference is taken: it does not reach over a kink nearby.
    """
    x = inputs[index].value()
    values, kinks = np.zeros(x.shape), np.zeros(x.shape, bool)

    def at(place: tuple[int, ...], value: float) -> float:
        with _moved(x, place, value):
            return _scalar(function, inputs, cotangent)

    with no_grad():
        centre = _scalar(function, inputs, cotangent)
        for place in np.ndindex(*x.shape):
            here = float(x[place])
            width = step * max(1.0, abs(here))
            right, left = at(place, here + width), at(place, here - width)
            values[place] = (right - left) / (2 * width)
            gap = abs((right - centre) - (centre - left)) / width
            if gap > 1e-3 * max(1.0, abs(float(values[place]))):
                fine = width / 100
                right, left = at(place, here + fine), at(place, here - fine)
                kinks[place] = abs(right - 2 * centre + left) / fine > 0.5 * gap
                if not kinks[place] and x.dtype == np.float64 and step < 1e-4:
                    values[place] = (right - left) / (2 * fine)
    return Difference(values, kinks)


def step_for(x: Tensor, eps: float | None) -> float:
    """The step that balances rounding against curvature for the elements of x."""
    if x.dtype not in STEPS:
        raise DtypeError(f"finite differences need floats; the input holds {x.dtype}")
    return STEPS[x.dtype] if eps is None else eps


def numerical_grad(
    function: Function,
    inputs: Tensor | Sequence[Tensor],
    eps: float | None = None,
    index: int = 0,
) -> Tensor:
    """The gradient of sum(function(*inputs)) with respect to one input, by central differences.

    Two evaluations an element; error of the order of eps squared plus rounding over eps.

    >>> import fathom
    >>> x = fathom.tensor([3.0], dtype=fathom.float64)
    >>> numerical_grad(lambda v: v * v, x)
    tensor([6.], dtype=float64)
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    out = function(*tensors)
    ones = [np.ones(o.shape) for o in (out if isinstance(out, tuple) else (out,))]
    step = step_for(tensors[index], eps)
    return Tensor(differences(function, tensors, ones, index, step).values)


def gradcheck(
    function: Function,
    inputs: Tensor | Sequence[Tensor],
    eps: float | None = None,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Compare the gradients of `function` with central differences under a random cotangent.

    `inputs` must be float64 tensors (differences of float32 are too coarse). Elements at which
    the function has a kink are left out: no difference quotient is a gradient there. Returns
    True, or raises `GradientMismatchError` naming the worst element (or returns False).

    >>> import fathom
    >>> x = fathom.tensor([1.0, 2.0], dtype=fathom.float64, requires_grad=True)
    >>> gradcheck(fathom.exp, x)
    True
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, t in enumerate(tensors) if isinstance(t, Tensor) and t.requires_grad]
    if not wanted:
        raise ArgumentError("gradcheck: no input requires grad", fix="x.requires_grad_()")
    for i in wanted:
        if tensors[i].dtype != np.float64:
            raise DtypeError(
                f"gradcheck: input {i} is {tensors[i].dtype}; finite differences need float64",
                fix="fathom.tensor(..., dtype=fathom.float64, requires_grad=True)",
            )
    out = function(*tensors)
    outs = out if isinstance(out, tuple) else (out,)
    stream = Random(seed).stream("cotangent")
    cotangents = [stream.normal(o.shape, dtype=np.float64) for o in outs]
    live = [(o, Tensor(c)) for o, c in zip(outs, cotangents, strict=True) if o.requires_grad]
    found: Sequence[Any] = [None] * len(wanted)
    if live:
        roots, seeds = zip(*live, strict=True)
        found = gradients(roots, [tensors[i] for i in wanted], seeds, allow_unused=True)
    for i, gradient in zip(wanted, found, strict=True):
        exact = np.zeros(tensors[i].shape) if gradient is None else gradient.value()
        step = step_for(tensors[i], eps)
        numeric = differences(function, tensors, cotangents, i, step)
        report = _report(i, exact, numeric, atol, rtol, step)
        if report and raise_exception:
            raise GradientMismatchError(report)
        if report:
            return False
    return True


def _report(
    i: int, exact: Array, numeric: Difference, atol: float, rtol: float, step: float
) -> str:
    """What is wrong with the gradient of input i; empty if nothing is."""
    error = np.asarray(np.abs(exact - numeric.values) - (atol + rtol * np.abs(numeric.values)))
    error[numeric.kinks] = -np.inf
    error[np.isnan(error)] = np.inf
    if not error.size or error.max() <= 0:
        return ""
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    wrong = int((error > 0).sum())
    kinks = int(numeric.kinks.sum())
    place = tuple(int(k) for k in worst)
    return (
        f"gradient of input {i}: {wrong} of {error.size} elements are wrong"
        + (f" ({kinks} at kinks left out)" if kinks else "")
        + f"; the worst is {place}: {exact[worst]:.10g} by backward, "
        f"{numeric.values[worst]:.10g} by differences (step {step:g})"
    )


def gradgradcheck(
    function: Function, inputs: Tensor | Sequence[Tensor], seed: int = 0, **keywords: Any
) -> bool:
    """`gradcheck` of the gradient itself: second derivatives, under random cotangents."""
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, t in enumerate(tensors) if isinstance(t, Tensor) and t.requires_grad]
    first = function(*tensors)
    stream = Random(seed).stream("second")
    outs = first if isinstance(first, tuple) else (first,)
    weights = [Tensor(stream.normal(o.shape, dtype=np.float64)) for o in outs]

    def gradient(*xs: Tensor) -> Any:
        with enable_grad():
            y = function(*xs)
            ys = y if isinstance(y, tuple) else (y,)
            found = gradients(
                ys, [xs[i] for i in wanted], weights, create_graph=True, allow_unused=True
            )
        return tuple(
            Tensor(np.zeros(xs[i].shape)) if g is None else g
            for i, g in zip(wanted, found, strict=True)
        )

    return gradcheck(gradient, tensors, seed=seed, **keywords)
