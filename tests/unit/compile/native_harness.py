"""Compile a function natively and compare it, with its gradients, with eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


def program_of(compiled: Any) -> Any:
    """The only native program of a compiled function."""
    (entry,) = [entry for entries in compiled._entries.values() for entry in entries]
    return entry.program


def hosted(compiled: Any) -> list[str]:
    """What NumPy still runs."""
    return [
        unit.steps[0].primitive.name
        for unit in program_of(compiled).schedule.units
        if unit.kind == "host"
    ]


def parameter(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    values = np.random.default_rng([seed, *shape]).normal(size=shape)
    return fathom.tensor(values.astype(dtype), requires_grad=True)


def both(function: Callable[..., Any], *given: Any) -> tuple[list[Any], list[Any], Any]:
    """Results and gradients in eager and in native code, and the compiled function."""

    def step() -> Any:
        out = function(*given)
        outs = list(out) if isinstance(out, tuple) else [out]
        loss: Any = 0.0
        for o in outs:
            if o.dtype.kind == "f":
                loss = loss + (o * o * 0.5 + o).sum()
        loss.backward()
        held = [x for x in given if x.requires_grad]
        slopes = [x.grad for x in held]
        for x in held:
            x.grad = None
        return (*outs, *slopes)

    compiled = fathom.compile(step, backend="native")
    for _ in range(2):  # the second call meets memory that was used before
        native = [_array(x) for x in compiled()]
    return [_array(x) for x in step()], native, compiled


def _array(x: Any) -> Any:
    return np.array(x.detach().numpy() if isinstance(x, fathom.Tensor) else x)


def agree(function: Callable[..., Any], *given: Any) -> None:
    """Native code gives what eager gives, and NumPy has no part in it."""
    eager, native, compiled = both(function, *given)
    assert not hosted(compiled)
    for a, b in zip(eager, native, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        near = TOLERANCE.get(a.dtype.name, 0.0)
        np.testing.assert_allclose(b, a, rtol=near, atol=near * max(1.0, float(abs(a).max())))
