"""The same expression in Fathom and in PyTorch: value, dtype, shape, gradients of two orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fathom

VALUE, GRADIENT, SECOND = 1e-9, 1e-7, 1e-6  # relative tolerances in float64


@dataclass(frozen=True)
class Case:
    """One expression. `ours` and `theirs` take the inputs as positional arguments."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: Sequence[tuple[tuple[int, ...], ...]]
    domain: tuple[float, float] = (-2.0, 2.0)
    second: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def inputs_of(case: Case, shapes: Sequence[tuple[int, ...]], layout: str) -> list[np.ndarray]:
    """Float64 arrays in the case's domain, in one of several memory layouts."""
    rng = np.random.default_rng(len(case.name) + 31 * len(shapes))
    arrays = []
    for shape in shapes:
        a = rng.uniform(*case.domain, size=shape)
        if layout == "strided" and a.ndim:
            a = np.repeat(a, 2, axis=-1)[..., ::2]
        elif layout == "reversed" and a.ndim:
            a = a[..., ::-1].copy()[..., ::-1]
        elif layout == "fortran":
            a = np.asfortranarray(a)
        arrays.append(a)
    return arrays


def close(ours: np.ndarray, theirs: Any, tolerance: float, what: str) -> None:
    theirs = np.asarray(theirs.detach().numpy(force=True) if hasattr(theirs, "detach") else theirs)
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, PyTorch {theirs.shape}"
    assert ours.dtype == theirs.dtype, f"{what}: dtype {ours.dtype}, PyTorch {theirs.dtype}"
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(case: Case, arrays: Sequence[np.ndarray], torch: Any) -> None:
    """Value, gradient and second gradient under random cotangents."""
    ours = [fathom.Tensor(a, a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]
    y, ty = case.ours(*ours), case.theirs(*theirs)
    close(y.detach().numpy(), ty, VALUE, "value")
    if not ty.requires_grad:
        assert not y.requires_grad
        return
    rng = np.random.default_rng(7)
    u = rng.standard_normal(y.shape).astype(y.dtype)
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    mine, others = [ours[i] for i in floats], [theirs[i] for i in floats]
    g = fathom.autograd.grad(y, mine, u, create_graph=True, allow_unused=True)
    tg = torch.autograd.grad(ty, others, torch.tensor(u), create_graph=True, allow_unused=True)
    for k, (a, b) in enumerate(zip(g, tg, strict=True)):
        assert (a is None) == (b is None), f"gradient {k} is {a}, PyTorch {b}"
        if a is not None and b is not None:
            close(a.detach().numpy(), b, GRADIENT, f"gradient {k}")
    if not case.second:
        return
    pairs = [(a, b) for a, b in zip(g, tg, strict=True) if b is not None and b.requires_grad]
    if not pairs:
        return
    weights = [rng.standard_normal(b.shape) for _, b in pairs]
    live = [(a, w) for (a, _), w in zip(pairs, weights, strict=True) if a.requires_grad]
    h = [None] * len(mine)  # where nothing of ours depends on the inputs, theirs must be zero
    if live:
        roots, cotangents = zip(*live, strict=True)
        h = fathom.autograd.grad(roots, mine, cotangents, allow_unused=True)
    th = torch.autograd.grad(
        [b for _, b in pairs], others, [torch.tensor(w) for w in weights], allow_unused=True
    )
    for k, (a, b) in enumerate(zip(h, th, strict=True)):
        zero = np.zeros(arrays[floats[k]].shape)
        left = zero if a is None else a.detach().numpy()
        right = zero if b is None else b.detach().numpy(force=True)
        np.testing.assert_allclose(
            left, right, rtol=SECOND, atol=SECOND, err_msg=f"second gradient {k}"
        )
