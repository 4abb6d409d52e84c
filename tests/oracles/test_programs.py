"""The random programs of `tests/properties` beside PyTorch: value, gradient, second gradient."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import fathom
from tests.properties.programs import Program, programs

torch = pytest.importorskip("torch")

THEIRS = SimpleNamespace(
    **{name: getattr(torch, name) for name in ("tanh", "exp", "log", "sqrt", "sigmoid", "maximum",
       "where", "amax", "softmax", "logsumexp", "stack", "concatenate")}
)  # fmt: skip


@settings(
    max_examples=100, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(programs())
def test_beside_pytorch(program: Program) -> None:
    ours = [fathom.tensor(a, requires_grad=True) for a in program.inputs]
    theirs = [torch.tensor(a, requires_grad=True) for a in program.inputs]
    y, ty = program(fathom, *ours), program(THEIRS, *theirs)
    np.testing.assert_allclose(y.item(), ty.item(), rtol=1e-12, atol=1e-12)
    g = fathom.autograd.grad(y, ours, create_graph=True, allow_unused=True)
    tg = torch.autograd.grad(ty, theirs, create_graph=True, allow_unused=True)
    compare(g, tg, 1e-10)
    second(g, tg, ours, theirs)


def compare(ours: Any, theirs: Any, tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        left = 0.0 if a is None else a.detach().numpy()
        right = 0.0 if b is None else b.detach().numpy()
        scale = max(1.0, float(np.abs(right).max()) if np.size(right) else 1.0)
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance * scale)


def second(g: Any, tg: Any, ours: Any, theirs: Any) -> None:
    """The gradient of the gradient's sum of squares."""
    mine = [(a * a).sum() for a in g if a is not None and a.requires_grad]
    others = [(b * b).sum() for b in tg if b is not None and b.requires_grad]
    if not others:
        return
    none: list[Any] = [None] * len(ours)
    h = fathom.autograd.grad(mine, ours, allow_unused=True) if mine else none
    th = torch.autograd.grad(others, theirs, allow_unused=True)
    compare(h, th, 1e-8)
