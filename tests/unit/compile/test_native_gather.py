"""Picking, scattering and moving elements in native code, against eager."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from fathom.engine.errors import ArgumentError, AxisError
from fathom.nn import functional as F
from tests.unit.compile.native_harness import agree, parameter

pytest.importorskip("llvmlite")


def places(high: int, *shape: int, dtype: Any = np.int64) -> Any:
    """Whole numbers below `high`, the last one among them, and some twice."""
    values = np.random.default_rng(high).integers(0, high, shape).astype(dtype)
    values.flat[0] = high - 1
    return fathom.tensor(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", [np.int64, np.int32], ids=lambda d: d.__name__)
def test_embedding(dtype: Any, kind: Any) -> None:
    agree(F.embedding, places(10, 4, 5, dtype=kind), parameter(10, 3, dtype=dtype))
    agree(lambda i, t: F.embedding(i, t.T), places(10, 7, dtype=kind), parameter(3, 10))


def test_small_whole_numbers_as_places() -> None:
    index = fathom.tensor(np.array([200, 0, 255], np.uint8))
    agree(lambda x, i: fathom.take(x, i, axis=0), parameter(256, 2), index)
    agree(lambda x, i: fathom.take(x, i, axis=0), parameter(90, 2), places(90, 5, dtype=np.int8))


@pytest.mark.parametrize(
    ("function", "shape", "index"),
    [
        (lambda x, i: fathom.take(x, i, axis=0), (4, 6), [3, -1, 0, 2, 2]),
        (lambda x, i: fathom.take(x.T, i, axis=1), (4, 6), [[3], [-4], [0]]),
        (lambda x, i: fathom.take(x, i, axis=1), (2, 4, 3, 2), [3, -1, 0]),
        (lambda x, i: fathom.take(x, i), (4, 6), [23, -24, 0]),
        (lambda x, i: x[i], (4, 6), [3, -1, 0, 2, 2]),
        (lambda x, i: x[:, i], (2, 4, 3), [[3, -1], [0, 2]]),
        (lambda x, i: x[i, i], (4, 4, 3), [3, -1, 0, 3]),
        (lambda x, i: x[:, i, np.array([[0], [-1]])], (2, 4, 3, 2), [3, -1, 3]),
        (lambda x, i: x[np.arange(3), i], (3, 5), [4, -5, 0]),
        (lambda x, i: fathom.gather(x, 1, i), (3, 5), [[4, -5, 0], [0, 0, 1]]),
        (lambda x, i: fathom.gather(x, 0, i), (3, 5), [[2, -3, 0], [0, 0, 1]]),
        (lambda x, i: fathom.take_along_axis(x.T, i, 1), (3, 5), [[2], [-3], [0], [0], [1]]),
    ],
)
def test_picking(function: Any, shape: tuple[int, ...], index: Any) -> None:
    agree(function, parameter(*shape), fathom.tensor(np.array(index)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[1:3, ::2],
        lambda x: x[::-1, -2],
        lambda x: x[None, ..., 1:],
        lambda x: x[2, 3] * x[0, 0],
        lambda x: x.at[1:3].set(2.5),
        lambda x: x.at[:, ::-2].set(x[:, :3] * 2.0),
        lambda x: x.at[1].set(x[0]),
        lambda x: fathom.pad(x, (1, 2, 0, 3)),
        lambda x: fathom.pad(x, (1, 2), value=2.0),
        lambda x: fathom.pad(x, (2, 1), mode="reflect"),
        lambda x: fathom.pad(x, (2, 1), mode="circular"),
        lambda x: x.flip(0) * 2.0,
        lambda x: x.flip(1).T + x.T,
        lambda x: fathom.roll(x, (1, -2), (0, 1)),
        lambda x: fathom.roll(x.T, 7, 0),
        fathom.tril,
        lambda x: fathom.triu(x.T, 1),
        lambda x: fathom.tril(x.reshape(2, 2, 6), -1),
        fathom.diagonal,
        lambda x: fathom.diagonal(x, -1) * 2.0,
        lambda x: fathom.diagonal(x.T, 2),
        lambda x: fathom.diag_embed(x, -1),
    ],
)
def test_moving(function: Any) -> None:
    agree(function, parameter(4, 6))
    agree(function, parameter(4, 6, dtype=np.float64))


def test_whole_numbers_and_truths_are_moved_too() -> None:
    x = fathom.tensor(np.arange(24).reshape(4, 6))
    for given in (x, x > 7, x.astype(np.int32)):
        step = fathom.compile(
            lambda x: (fathom.tril(x), fathom.roll(x, 2, 1), fathom.diagonal(x), x[[3, 0]]),
            backend="native",
        )
        expected = (fathom.tril(given), fathom.roll(given, 2, 1), fathom.diagonal(given))
        for a, b in zip(step(given), (*expected, given[[3, 0]]), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(np.asarray(a.numpy()), b.numpy())


@pytest.mark.parametrize(
    ("function", "bad"),
    [
        (lambda x, i: x[i], [1, 4]),
        (lambda x, i: x[:, i], [-4, 0]),
        (lambda x, i: x[i, i], [0, 3]),
        (lambda x, i: fathom.take(x, i, axis=1), [0, 3]),
        (lambda x, i: fathom.gather(x, 1, i.reshape(2, 1)), [0, -4]),
        (lambda x, i: F.embedding(i, x), [0, -1]),
    ],
)
def test_an_index_outside_is_refused(function: Any, bad: Any) -> None:
    x = fathom.tensor(np.ones((4, 3), np.float32))
    step = fathom.compile(function, backend="native")
    step(x, fathom.tensor(np.array([0, 1])))
    with pytest.raises(AxisError, match="out of"):
        step(x, fathom.tensor(np.array(bad)))
    step(x, fathom.tensor(np.array([0, 1])))


def test_an_index_outside_leaves_state_alone() -> None:
    table = parameter(4, 3)
    optimizer = fathom.optim.SGD([table], lr=0.1)

    def step(i: Any) -> Any:
        optimizer.zero_grad()
        loss = fathom.take(table, i, axis=0).sum()
        loss.backward()
        optimizer.step()
        return loss

    run = fathom.compile(step, backend="native")
    run(fathom.tensor(np.array([0, 1])))
    before = table.detach().numpy().copy()
    with pytest.raises(AxisError):
        run(fathom.tensor(np.array([0, 4])))
    np.testing.assert_array_equal(table.detach().numpy(), before)
    run(fathom.tensor(np.array([0, 3])))
    assert not np.array_equal(table.detach().numpy(), before)


@pytest.mark.parametrize(
    "function",
    [
        F.embedding,
        lambda i, x: fathom.take(x, i, axis=0),
        lambda i, x: fathom.take(x, i, axis=1),
        lambda i, x: fathom.take(x.T, i, axis=0),
        lambda i, x: fathom.take(x.reshape(4, 32, 200), i, axis=1),
        lambda i, x: fathom.take(x[:, 0], i, axis=0),
    ],
    ids=["embedding", "rows", "columns", "turned", "middle", "vector"],
)
def test_threads_share_what_is_large(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_NUM_THREADS", "3")
    index = np.random.default_rng(0).integers(0, 32, (70, 30))
    agree(lambda x: function(fathom.Tensor(index), x), parameter(128, 200))


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 2}, {"scale_grad_by_freq": True}], ids=["plain", "pad", "freq"]
)
def test_bags_of_rows(mode: str, options: Any) -> None:
    flat = fathom.tensor([1, 2, 4, 2, 2, 9, 0, 1])
    starts = fathom.tensor([0, 3, 3, 6])
    table = parameter(10, 3)
    agree(lambda t: F.embedding_bag(flat, t, starts, mode=mode, **options), table)
    agree(lambda t: F.embedding_bag(flat.reshape(2, 4), t, mode=mode, **options), table)


def test_bags_of_weighted_rows() -> None:
    flat, starts = fathom.tensor([1, 2, 4, 2, 5]), fathom.tensor([0, 2, 5])
    weights = parameter(5)
    agree(
        lambda t, w: F.embedding_bag(flat, t, starts, mode="sum", per_sample_weights=w),
        parameter(6, 3), weights,
    )  # fmt: skip


@pytest.mark.parametrize("starts", [[1, 3], [0, 4, 3], [0, 9]], ids=str)
def test_bags_that_do_not_rise_are_refused(starts: Any) -> None:
    table = fathom.ones(6, 2)
    bags = fathom.compile(lambda i, s: F.embedding_bag(i, table, s), backend="native")
    index = fathom.tensor([0, 1, 2, 3, 5])
    bags(index, fathom.tensor([0, 3, 4][: len(starts)]))
    with pytest.raises(ArgumentError, match="offsets must rise"):
        bags(index, fathom.tensor(starts))
