"""The four tests that every table of cases goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import Case, compare, compare_jvp, compare_vmap, inputs_of

LAYOUTS = ("plain", "strided", "reversed", "fortran")


def battery(
    cases: Sequence[Case], torch: Any, *, vmap: bool = True, rtol: float = 2e-5, atol: float = 2e-6
) -> tuple[Callable[..., None], ...]:
    """Value and two orders of gradients in several layouts, forward mode, vmap, float32."""
    each = pytest.mark.parametrize("case", cases, ids=lambda c: c.name)

    @each
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_equals_pytorch(case: Case, layout: str) -> None:
        for shapes in case.shapes:
            compare(case, inputs_of(case, shapes, layout), torch)

    @each
    def test_forward_mode(case: Case) -> None:
        for shapes in case.shapes:
            compare_jvp(case, inputs_of(case, shapes, "plain"), torch)

    @each
    def test_vmap(case: Case) -> None:
        for shapes in case.shapes:
            compare_vmap(case, shapes)

    @each
    def test_float32_stays_float32(case: Case) -> None:
        for shapes in case.shapes:
            arrays = [a.astype(np.float32) for a in inputs_of(case, shapes, "plain")]
            ours = [ft.Tensor(a, True) for a in arrays]
            out = case.ours(*ours)
            theirs = case.theirs(*map(torch.tensor, arrays)).numpy()
            assert out.dtype == theirs.dtype
            np.testing.assert_allclose(out.detach().numpy(), theirs, rtol=rtol, atol=atol)
            if out.requires_grad:
                out.backward(np.ones(out.shape, out.dtype))
                assert all(x.grad is None or x.grad.dtype == np.float32 for x in ours)

    return test_equals_pytorch, test_forward_mode, test_vmap, test_float32_stays_float32
