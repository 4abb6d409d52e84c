"""Gradients checked against finite differences, with a report that names the worst element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fathom.engine.backward import grad as gradients
from fathom.engine.errors import DtypeError, FathomError
from fathom.engine.random import Random
from fathom.engine.tensor import Array, Tensor, no_grad

Function = Callable[..., Any]


class GradientMismatchError(FathomError, AssertionError):
    """A gradient differs from the finite difference of its function."""


def numerical_grad(
    function: Function, inputs: Sequence[Tensor], cotangent: Array, index: int, step: float = 1e-6
) -> Array:
    """Central differences of <cotangent, function(*inputs)> with respect to one input."""
    x = inputs[index].value()
    out = np.zeros(x.shape, np.float64)
    with no_grad():
        for place in np.ndindex(*x.shape):
            kept = x[place]
            width = step * max(1.0, abs(float(kept)))
            values = []
            for sign in (1, -1):
                x[place] = kept + sign * width
                values.append(float((cotangent * function(*inputs).value()).sum()))
            x[place] = kept
            out[place] = (values[0] - values[1]) / (2 * width)
    return out


def gradcheck(
    function: Function,
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Compare the gradients of `function` with central differences under a random cotangent.

    `inputs` must be float64 tensors (differences of float32 are too coarse). Returns True, or
    raises `GradientMismatchError` naming the worst element (returns False if told not to raise).

    >>> import fathom
    >>> x = fathom.tensor([1.0, 2.0], dtype=fathom.float64, requires_grad=True)
    >>> gradcheck(fathom.exp, x)
    True
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [t for t in tensors if t.requires_grad]
    for i, t in enumerate(tensors):
        if t.requires_grad and t.dtype != np.float64:
            raise DtypeError(f"gradcheck: input {i} is {t.dtype}; finite differences need float64")
    out = function(*tensors)
    cotangent = Random(seed).stream("cotangent").normal(out.shape, dtype=np.float64)
    found = gradients(out, wanted, Tensor(cotangent), allow_unused=True)
    for i, t in enumerate(tensors):
        if not t.requires_grad:
            continue
        gradient = found[[w is t for w in wanted].index(True)]
        exact = np.zeros(t.shape) if gradient is None else gradient.value()
        numeric = numerical_grad(function, tensors, cotangent, i, eps)
        error = np.abs(exact - numeric) - (atol + rtol * np.abs(numeric))
        if error.size and not error.max() <= 0:
            if raise_exception:
                worst = np.unravel_index(int(np.argmax(error)), error.shape)
                raise GradientMismatchError(
                    f"gradient of input {i} at element {tuple(map(int, worst))}: "
                    f"{exact[worst]:.10g} by backward, {numeric[worst]:.10g} by differences "
                    f"(step {eps:g})"
                )
            return False
    return True


def gradgradcheck(
    function: Function, inputs: Tensor | Sequence[Tensor], seed: int = 0, **keywords: Any
) -> bool:
    """`gradcheck` of the gradient itself: second derivatives."""
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    out = function(*tensors)
    weight = Tensor(Random(seed).stream("second").normal(out.shape, dtype=np.float64))
    wanted = [i for i, t in enumerate(tensors) if t.requires_grad]

    def gradient(*xs: Tensor) -> Any:
        from fathom.engine.tensor import enable_grad

        with enable_grad():
            y = function(*xs)
            found = gradients(
                y, [xs[i] for i in wanted], weight, create_graph=True, allow_unused=True
            )
        parts: Any = [g.reshape(-1) for g in found if g is not None and g.requires_grad]
        total = parts[0].sum() * 0.0
        for k, part in enumerate(parts):
            total = total + (part * np.cos(np.arange(part.size) + k)).sum()
        return total

    if not gradient(*tensors).requires_grad:
        return True
    return gradcheck(gradient, tensors, seed=seed, **keywords)
