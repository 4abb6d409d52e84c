"""Products of matrices and the softmax family against PyTorch."""

from __future__ import annotations

import pytest

import fathom as ft
from tests.oracles.harness import CHECKS, Case, check

torch = pytest.importorskip("torch")

MATRIX = (((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)),
          ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (5, 3, 4)),
          ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((0, 3), (3, 4)))  # fmt: skip

CASES = [
    Case("matmul", lambda x, y: x @ y, lambda x, y: x @ y, MATRIX),
    Case("linear", lambda x, w, b: ft.affine(x, w, b),
         lambda x, w, b: torch.nn.functional.linear(x, w, b),
         [((4, 3), (2, 3), (2,)), ((3,), (2, 3), (2,)), ((5, 4, 3), (2, 3), (2,))]),
    Case("linear_no_bias", lambda x, w: ft.affine(x, w),
         lambda x, w: torch.nn.functional.linear(x, w), [((4, 3), (2, 3))]),
    Case("softmax", lambda x: ft.softmax(x, axis=0), lambda x: torch.softmax(x, 0), [((4, 3),)]),
    Case("log_softmax", lambda x: ft.log_softmax(x, dim=-1),
         lambda x: torch.log_softmax(x, -1), [((4, 3),)]),
]  # fmt: skip


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, what: str) -> None:
    check(case, what, torch)
