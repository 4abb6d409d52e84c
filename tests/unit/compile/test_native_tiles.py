"""Attention by tiles: what is recognized, values and gradients, and memory that stays linear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.nn import functional as F

pytest.importorskip("llvmlite")

from fathom.compile.native import attention, attention_plan

ATTEND = ["attend", "attend_backward"]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tiles for few scores, too; nothing is kept from one test for another."""
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "tiles"))
    monkeypatch.setattr(attention_plan, "LARGE", 0)
    monkeypatch.setattr(attention_plan, "SHORT", 0)
    monkeypatch.setenv("FATHOM_NUM_THREADS", "1")


def leaves(*shapes: tuple[int, ...], dtype: Any = np.float64) -> list[Any]:
    draws = (np.random.default_rng([7, i]).normal(size=s) for i, s in enumerate(shapes))
    return [fathom.tensor(d.astype(dtype), requires_grad=True) for d in draws]


def array(x: Any) -> Any:
    return np.array(x.detach().numpy() if isinstance(x, fathom.Tensor) else x)


def program_of(compiled: Any) -> Any:
    return next(e for es in compiled._entries.values() for e in es).program


def tiles(compiled: Any) -> list[str]:
    """The tiled steps of a compiled function."""
    names = [u.steps[0].primitive.name for u in program_of(compiled).schedule.units if u.steps]
    return [name for name in names if name.startswith("attend")]


def compare(function: Callable[..., Any], *given: Any, near: float = 1e-12) -> Any:
    """Values and gradients, eagerly and natively; the compiled function."""
    held = [x for x in given if x.requires_grad]

    def step() -> Any:
        out = function(*given)
        weights = np.random.default_rng(9).normal(size=out.shape).astype(out.dtype)
        (out * fathom.tensor(weights)).sum().backward()
        slopes = [x.grad for x in held]
        for x in held:
            x.grad = None
        return (out.detach(), *slopes)

    compiled = fathom.compile(step, backend="native")
    found = [[array(v) for v in run()] for run in (step, compiled, compiled)]
    for native in found[1:]:
        for a, b in zip(found[0], native, strict=True):
            np.testing.assert_allclose(b, a, rtol=near, atol=near * abs(a).max())
    return compiled


@pytest.mark.parametrize("dtype, near", [(np.float64, 1e-12), (np.float32, 5e-6)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 64, 16), (130, 8), (1, 2, 300, 24)])
def test_self_attention(shape: tuple[int, ...], causal: bool, dtype: Any, near: float) -> None:
    compiled = compare(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal),
        *leaves(shape, shape, shape, dtype=dtype),
        near=near,
    )
    assert tiles(compiled) == ATTEND


@pytest.mark.parametrize("causal", [False, True])
def test_many_tiles(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Largest scores that grow and shrink from tile to tile; ragged tiles at both edges."""
    monkeypatch.setattr(attention, "ROWS", 8)
    monkeypatch.setattr(attention, "COLUMNS", 16)
    q, k, v = leaves((2, 37, 6), (2, 53, 6), (2, 53, 11))
    rising = k.detach().numpy() * np.linspace(0.1, 9.0, 53)[:, None]
    for keys in (rising, rising[:, ::-1].copy()):
        given = (q, fathom.tensor(keys, requires_grad=True), v)
        compiled = compare(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), *given
        )
        assert tiles(compiled) == ATTEND


def test_large_scores() -> None:
    """Exponentials that would overflow without the largest score taken off."""
    q, k, v = leaves((40, 4), (300, 4), (300, 3))
    q = fathom.tensor(100.0 * q.detach().numpy(), requires_grad=True)
    compare(F.scaled_dot_product_attention, q, k, v)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_some_gradients(wanted: tuple[int, ...]) -> None:
    given = leaves((3, 20, 4), (3, 20, 4), (3, 20, 4))
    for i, x in enumerate(given):
        x.requires_grad = i in wanted
    assert tiles(compare(F.scaled_dot_product_attention, *given)) == ATTEND


def test_a_gradient_that_is_one_number() -> None:
    q, k, v = leaves((2, 20, 4), (2, 20, 4), (2, 20, 4))

    def step() -> Any:
        loss = F.scaled_dot_product_attention(q, k, v).sum()
        loss.backward()
        slopes = [x.grad for x in (q, k, v)]
        for x in (q, k, v):
            x.grad = None
        return (loss.detach(), *slopes)

    compiled = fathom.compile(step, backend="native")
    for a, b in zip(step(), compiled(), strict=True):
        np.testing.assert_allclose(array(b), array(a), rtol=1e-9, atol=1e-12)
    assert tiles(compiled) == ATTEND


def test_without_gradients() -> None:
    q, k, v = (x.detach() for x in leaves((2, 30, 4), (2, 30, 4), (2, 30, 4)))
    with fathom.no_grad():
        run = fathom.compile(F.scaled_dot_product_attention, backend="native")
        wanted = F.scaled_dot_product_attention(q, k, v).numpy()
        np.testing.assert_allclose(run(q, k, v).numpy(), wanted, rtol=1e-12)
    assert tiles(run) == ["attend"]


def test_heads_of_a_layer() -> None:
    """Queries, keys and values are views of one product's result."""
    with fathom.seed(0):
        layer = nn.MultiheadAttention(12, 3, batch_first=True).to(np.float64)
    (x,) = leaves((2, 21, 12))
    compiled = compare(lambda x: layer(x, x, x, need_weights=False)[0], x)
    assert tiles(compiled) == ATTEND


def test_what_is_left_as_it_was() -> None:
    """Weights that somebody looks at, masks, dropout: no tiles, and the same results."""
    q, k, v = leaves((2, 20, 4), (2, 20, 4), (2, 20, 4))
    mask = fathom.tensor(np.random.default_rng(3).random((20, 20)) > 0.3)

    def watched(q: Any, k: Any, v: Any) -> Any:
        weights = F.softmax(q @ k.mT, -1)
        return weights @ v + weights.sum()

    for function in (
        watched,
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        lambda q, k, v: F.softmax(q @ k.mT + k @ q.mT, -1) @ v,
    ):
        assert tiles(compare(function, q, k, v)) == []


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads in parts; the results are those of one thread, bit for bit."""
    shape = (1, 5, 200, 16)
    found = []
    for count in ("1", "3"):
        monkeypatch.setenv("FATHOM_NUM_THREADS", count)
        q, k, v = leaves(shape, shape, shape, dtype=np.float32)
        compiled = compare(F.scaled_dot_product_attention, q, k, v, near=5e-6)
        assert tiles(compiled) == ATTEND
        found.append([array(x) for x in compiled()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_grows_with_the_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def needed(length: int) -> int:
        q, k, v = leaves(*[(2, length, 8)] * 3, dtype=np.float32)
        program = program_of(compare(F.scaled_dot_product_attention, q, k, v, near=1e-4))
        return int(program.arena_bytes + program.scratch)

    short, long = needed(128), needed(512)
    assert long < 4.5 * short
    monkeypatch.setattr(attention_plan, "LARGE", 1 << 60)
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "scores"))
    assert needed(512) > 4 * long


def test_few_scores_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    q, k, v = leaves(*[(2, 64, 8)] * 3)
    assert tiles(compare(F.scaled_dot_product_attention, q, k, v)) == []


def test_the_two_steps_in_numpy() -> None:
    """What the plan says the steps compute is what eager code computes."""
    q, k, v = leaves((2, 9, 4), (2, 7, 4), (2, 7, 3))
    for causal in (False, True):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0)
        out.sum().backward()
        a, b, x = array(q), array(k).swapaxes(-1, -2), array(v)
        made, logs = attention_plan.FORWARD.forward(a, b, x, causal=causal)
        np.testing.assert_allclose(made, out.detach().numpy(), rtol=1e-12)
        back = attention_plan.BACKWARD.forward
        da, db, dv = back(a, b, x, made, logs, np.ones_like(made), causal=causal)
        for slope, leaf in ((da, q), (db.swapaxes(-1, -2), k), (dv, v)):
            np.testing.assert_allclose(slope, array(leaf.grad), rtol=1e-10, atol=1e-13)
            leaf.grad = None


def test_a_kept_program_knows_whether_its_mask_is_causal() -> None:
    """Two constants of one shape, of which only one may do without its array."""
    (x,) = leaves((12, 4))
    other = np.tri(12, dtype=bool)
    other[3, :3] = False
    for mask in (np.tri(12, dtype=bool), other):
        mask.flags.writeable = False

        def step(mask: Any = mask) -> Any:
            scores = fathom.where(mask, x @ x.mT, -np.inf)
            return (F.softmax(scores, -1) @ x).detach()

        compiled = fathom.compile(step, backend="native")
        np.testing.assert_allclose(array(compiled()), array(step()), rtol=1e-12)
        assert tiles(compiled) == (["attend"] if mask is not other else [])
