"""Every operation against PyTorch: the same lambda in two libraries."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import Case, compare, compare_jvp, compare_vmap, inputs_of

torch = pytest.importorskip("torch")

UNARY = (((),), ((3,),), ((2, 3),), ((0, 3),), ((2, 1, 3),))
BINARY = (
    ((), ()),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((2, 3), ()),
    ((0, 3), (3,)),
    ((4, 1, 3), (2, 1)),
)


def unary(name, ours=None, theirs=None, domain=(-2.0, 2.0)):
    return Case(name, ours or getattr(ft, name), theirs or getattr(torch, name), UNARY, domain)


def binary(name, ours=None, theirs=None, domain=(-2.0, 2.0)):
    return Case(name, ours or getattr(ft, name), theirs or getattr(torch, name), BINARY, domain)


MATRIX = (((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)),
          ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (5, 3, 4)),
          ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((0, 3), (3, 4)))  # fmt: skip

CASES = [
    binary("add"),
    binary("sub"),
    binary("mul"),
    binary("div", domain=(0.5, 2.0)),
    binary("power", theirs=torch.pow, domain=(0.5, 2.0)),
    binary("maximum"),
    binary("minimum"),
    unary("neg"),
    unary("reciprocal", domain=(0.5, 2.0)),
    unary("square"),
    unary("exp"),
    unary("log", domain=(0.5, 2.0)),
    unary("sqrt", domain=(0.5, 2.0)),
    unary("abs"),
    unary("sign"),
    unary("tanh"),
    unary("sigmoid"),
    unary("relu"),
    unary("clip", lambda x: ft.clip(x, -1, 1), lambda x: torch.clip(x, -1, 1)),
    unary("clip_low", lambda x: ft.clip(x, min=0.5), lambda x: torch.clip(x, min=0.5)),
    unary("power_2", lambda x: x**2, lambda x: x**2),
    unary("power_3.5", lambda x: x**3.5, lambda x: x**3.5, (0.5, 2.0)),
    unary("rpower", lambda x: 2.0**x, lambda x: 2.0**x),
    unary("scalar", lambda x: 3 - (2 * x) / 4 + 1, lambda x: 3 - (2 * x) / 4 + 1),
    unary("greater", lambda x: x > 0, lambda x: x > 0),
    unary("astype", lambda x: x.float().double(), lambda x: x.float().double()),
    Case("where", lambda x, y: ft.where(x > y, x, y * 2),
         lambda x, y: torch.where(x > y, x, y * 2), BINARY),
    unary("sum", lambda x: x.sum(), lambda x: x.sum()),
    unary("mean", lambda x: (x + 1).mean() if x.size else x.sum(),
          lambda x: (x + 1).mean() if x.numel() else x.sum()),
    Case("sum_axis", lambda x: x.sum(axis=1), lambda x: x.sum(dim=1), [((2, 3),), ((2, 0),)]),
    Case("sum_axes", lambda x: x.sum(axis=(0, -1), keepdims=True),
         lambda x: x.sum(dim=(0, -1), keepdim=True), [((2, 3, 4),)]),
    Case("mean_dim", lambda x: x.mean(dim=-1, keepdim=True),
         lambda x: x.mean(dim=-1, keepdim=True), [((2, 3),)]),
    Case("max", lambda x: x.max(axis=1), lambda x: x.amax(dim=1), [((2, 3),)]),
    Case("min", lambda x: x.min(), lambda x: x.amin(), [((2, 3),)]),
    Case("var", lambda x: x.var(axis=0), lambda x: x.var(dim=0), [((4, 3),)]),
    Case("std", lambda x: x.std(axis=1, correction=0), lambda x: x.std(dim=1, correction=0),
         [((4, 3),)]),
    Case("argmax", lambda x: x.argmax(axis=1), lambda x: x.argmax(dim=1), [((4, 3),)]),
    Case("reshape", lambda x: x.reshape(3, -1), lambda x: x.reshape(3, -1), [((2, 3),)]),
    Case("flatten", lambda x: x.flatten(1), lambda x: x.flatten(1), [((2, 3, 4),)]),
    Case("permute", lambda x: x.permute(2, 0, -2), lambda x: x.permute(2, 0, -2), [((2, 3, 4),)]),
    Case("transpose", lambda x: x.transpose(0, -1), lambda x: x.transpose(0, -1), [((2, 3, 4),)]),
    Case("T", lambda x: x.T, lambda x: x.T, [((2, 3),)]),
    Case("expand", lambda x: x.expand(4, -1, 3), lambda x: x.expand(4, -1, 3), [((2, 1),)]),
    Case("squeeze", lambda x: x.squeeze(1), lambda x: x.squeeze(1), [((2, 1, 3),)]),
    Case("unsqueeze", lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(-1), [((2, 3),)]),
    Case("concatenate", lambda x, y: ft.concatenate([x, y], axis=1),
         lambda x, y: torch.cat([x, y], dim=1), [((2, 3), (2, 1)), ((2, 0), (2, 1))]),
    Case("stack", lambda x, y: ft.stack([x, y], dim=-1),
         lambda x, y: torch.stack([x, y], dim=-1), [((2, 3), (2, 3))]),
    Case("slice", lambda x: x[1:, ::2], lambda x: x[1:, ::2], [((3, 5),)]),
    Case("newaxis", lambda x: x[None, ..., 0], lambda x: x[None, ..., 0], [((3, 5),)]),
    Case("integers", lambda x: x[[0, 2, 0]], lambda x: x[[0, 2, 0]], [((3, 5),)]),
    Case("pairs", lambda x: x[np.array([0, 1]), np.array([2, 2])],
         lambda x: x[torch.tensor([0, 1]), torch.tensor([2, 2])], [((3, 5),)]),
    Case("mask", lambda x: x[np.arange(3) > 0], lambda x: x[torch.arange(3) > 0], [((3, 5),)]),
    Case("gather", lambda x: x.take_along_axis(np.array([[0], [2], [1]]), 1),
         lambda x: torch.gather(x, 1, torch.tensor([[0], [2], [1]])), [((3, 5),)]),
    Case("matmul", lambda x, y: x @ y, lambda x, y: x @ y, MATRIX),
    Case("linear", lambda x, w, b: ft.affine(x, w, b),
         lambda x, w, b: torch.nn.functional.linear(x, w, b),
         [((4, 3), (2, 3), (2,)), ((3,), (2, 3), (2,)), ((5, 4, 3), (2, 3), (2,))]),
    Case("linear_no_bias", lambda x, w: ft.affine(x, w),
         lambda x, w: torch.nn.functional.linear(x, w), [((4, 3), (2, 3))]),
    Case("softmax", lambda x: ft.softmax(x, axis=0), lambda x: torch.softmax(x, 0), [((4, 3),)]),
    Case("log_softmax", lambda x: ft.log_softmax(x, dim=-1),
         lambda x: torch.log_softmax(x, -1), [((4, 3),)]),
    Case("diamond", lambda x: (x + x) * (x + x).exp(), lambda x: (x + x) * (x + x).exp(), UNARY),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["plain", "strided", "reversed", "fortran"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, layout: str) -> None:
    for shapes in case.shapes:
        compare(case, inputs_of(case, shapes, layout), torch)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_forward_mode(case: Case) -> None:
    for shapes in case.shapes:
        compare_jvp(case, inputs_of(case, shapes, "plain"), torch)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_vmap(case: Case) -> None:
    for shapes in case.shapes:
        compare_vmap(case, shapes)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_float32_stays_float32(case: Case) -> None:
    for shapes in case.shapes:
        arrays = [a.astype(np.float32) for a in inputs_of(case, shapes, "plain")]
        ours = case.ours(*map(ft.Tensor, arrays))
        theirs = case.theirs(*map(torch.tensor, arrays))
        assert ours.numpy().dtype == theirs.numpy().dtype
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-5, atol=2e-6)


SPECIAL = [-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan]


@pytest.mark.parametrize("name", "exp log sqrt abs sign tanh sigmoid relu square neg".split())
def test_special_values(name: str) -> None:
    x, t = ft.Tensor(np.array(SPECIAL), True), torch.tensor(SPECIAL, requires_grad=True)
    t = torch.tensor(np.array(SPECIAL), requires_grad=True)
    y, ty = getattr(ft, name)(x), getattr(torch, name)(t)
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-12)
    y.sum().backward()
    ty.sum().backward()
    finite = np.isfinite(SPECIAL)
    np.testing.assert_allclose(x.grad.numpy()[finite], t.grad.numpy()[finite], rtol=1e-12)


MIXED = [
    (np.float32, 2.0), (np.float32, 2), (np.float32, True), (np.int64, 2), (np.int64, 2.0),
    (np.float32, np.int64), (np.int32, np.int64), (np.float32, np.float64), (np.bool_, np.float32),
    (np.bool_, 2), (np.bool_, np.int64), (np.float64, np.int32),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), MIXED, ids=str)
@pytest.mark.parametrize("op", ["add", "mul", "div", "maximum"])
def test_mixed_dtypes_promote_as_in_pytorch(op: str, left, right) -> None:
    a = np.ones(3, left)
    if isinstance(right, type):
        b = np.ones((2, 3), right)
        ours, theirs = (ft.Tensor(a), ft.Tensor(b)), (torch.tensor(a), torch.tensor(b))
    elif op == "maximum":
        pytest.skip("torch.maximum takes tensors only")
    else:
        ours, theirs = (ft.Tensor(a), right), (torch.tensor(a), right)
    assert getattr(ft, op)(*ours).numpy().dtype == getattr(torch, op)(*theirs).numpy().dtype


def test_arrays_with_axes_decide_over_single_numbers() -> None:
    x = ft.Tensor(np.ones(3, np.float32))
    assert (x * ft.Tensor(np.float64(2))).dtype == np.float32
    assert (x * np.float64(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float32
    assert (np.ones(3, np.float32) * x).dtype == np.float32
    assert isinstance(np.ones(3, np.float32) * x, ft.Tensor)
