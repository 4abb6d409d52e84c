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


def compare_jvp(case: Case, arrays: Sequence[np.ndarray], torch: Any) -> None:
    """Forward mode against PyTorch's gradients: <u, J t> = <J' u, t>, and forward over reverse."""
    rng = np.random.default_rng(11)
    if any(a.dtype.kind != "f" for a in arrays):
        return
    tangents = [rng.standard_normal(a.shape) for a in arrays]
    out, pushed = fathom.func.jvp(case.ours, tuple(arrays), tuple(tangents))
    theirs = [torch.tensor(a.copy(), requires_grad=True) for a in arrays]
    ty = case.theirs(*theirs)
    close(out.numpy(), ty, VALUE, "value under jvp")
    if not ty.requires_grad:
        np.testing.assert_array_equal(pushed.numpy(), 0)
        return
    assert pushed.shape == out.shape and pushed.dtype == out.dtype
    u = rng.standard_normal(out.shape)
    tg = torch.autograd.grad(ty, theirs, torch.tensor(u), create_graph=True, allow_unused=True)
    expected = sum(
        float((g.detach().numpy(force=True) * t).sum())
        for g, t in zip(tg, tangents, strict=True)
        if g is not None
    )
    np.testing.assert_allclose(
        float((pushed.numpy() * u).sum()), expected, rtol=GRADIENT, atol=GRADIENT
    )
    if not case.second:
        return

    def scalar(*xs: Any) -> Any:
        return (case.ours(*xs) * u).sum()

    numbers = tuple(range(len(arrays)))
    ours = fathom.func.hvp(scalar, tuple(map(fathom.Tensor, arrays)), tuple(tangents))
    live = [(g, t) for g, t in zip(tg, tangents, strict=True) if g is not None and g.requires_grad]
    th: list[Any] = [None for _ in numbers]
    if live:
        roots, weights = zip(*live, strict=True)
        th = torch.autograd.grad(
            roots, theirs, [torch.tensor(w) for w in weights], allow_unused=True
        )
    for k, (a, b) in enumerate(zip(ours, th, strict=True)):
        right = np.zeros(arrays[k].shape) if b is None else b.detach().numpy(force=True)
        np.testing.assert_allclose(
            a.numpy(), right, rtol=SECOND, atol=SECOND, err_msg=f"hvp, input {k}"
        )


def compare_vmap(case: Case, shapes: Sequence[tuple[int, ...]]) -> None:
    """vmap equals the loop over rows: value and gradient, each input batched or shared."""
    rng = np.random.default_rng(5)
    size = 3
    rows = [inputs_of(case, shapes, "plain") for _ in range(size)]
    for k in range(size):
        rows[k] = [
            a + rng.uniform(-0.1, 0.1, a.shape) * (a > case.domain[0] + 0.2) for a in rows[k]
        ]
    count = len(shapes)
    for mask in range(1, 2**count):
        flags = [bool(mask >> i & 1) for i in range(count)]
        args = [
            np.stack([row[i] for row in rows]) if f else rows[0][i] for i, f in enumerate(flags)
        ]
        dims = tuple(0 if f else None for f in flags)

        def row(k: int, flags: Any = flags) -> list[np.ndarray]:
            return [rows[k][i] if f else rows[0][i] for i, f in enumerate(flags)]

        found = fathom.func.vmap(case.ours, dims)(*map(fathom.Tensor, args))
        looped = np.stack([case.ours(*map(fathom.Tensor, row(k))).numpy() for k in range(size)])
        np.testing.assert_allclose(found.numpy(), looped, rtol=1e-12, atol=1e-12)
        if found.dtype.kind != "f":
            continue
        numbers = tuple(range(count))

        def slope(*xs: Any, numbers: Any = numbers) -> Any:
            y = case.ours(*xs)
            return fathom.func.grad(lambda *v: (case.ours(*v) ** 2).sum(), numbers)(*xs), y

        batched, _ = fathom.func.vmap(slope, dims)(*map(fathom.Tensor, args))
        for i in range(count):
            single = np.stack(
                [slope(*map(fathom.Tensor, row(k)))[0][i].numpy() for k in range(size)]
            )
            np.testing.assert_allclose(batched[i].numpy(), single, rtol=1e-10, atol=1e-10)


def compare_float32(case: Case, shapes: Sequence[tuple[int, ...]], torch: Any) -> None:
    """Float32 in, float32 (or whole numbers, or booleans) out, as in PyTorch."""
    arrays = [a.astype(np.float32) for a in inputs_of(case, shapes, "plain")]
    ours = case.ours(*(fathom.Tensor(a, True) for a in arrays))
    theirs = case.theirs(*map(torch.tensor, arrays))
    assert ours.dtype == theirs.numpy().dtype
    np.testing.assert_allclose(ours.detach().numpy(), theirs.numpy(), rtol=3e-5, atol=3e-6)
    if ours.requires_grad and ours.size:
        inputs = [fathom.Tensor(a, True) for a in arrays]
        gradients = fathom.autograd.grad(case.ours(*inputs).sum(), inputs, allow_unused=True)
        assert all(g is None or g.dtype == np.float32 for g in gradients)


LAYOUTS = ("plain", "strided", "reversed", "fortran")


def check(case: Case, what: str, torch: Any) -> None:
    """One case over all its shapes: in a memory layout, in forward mode, batched, in float32."""
    for shapes in case.shapes:
        if what == "jvp":
            compare_jvp(case, inputs_of(case, shapes, "plain"), torch)
        elif what == "vmap":
            compare_vmap(case, shapes)
        elif what == "float32":
            compare_float32(case, shapes, torch)
        else:
            compare(case, inputs_of(case, shapes, what), torch)


CHECKS = (*LAYOUTS, "jvp", "vmap", "float32")
