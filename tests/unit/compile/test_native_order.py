"""Sorting, ranks and running sums in native code, against eager."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from tests.unit.compile.native_harness import agree, both, hosted, parameter

pytest.importorskip("llvmlite")


def equal(function: Any, *given: Any) -> None:
    """The same bits as eager, and NumPy has no part in it."""
    compiled = fathom.compile(function, backend="native")
    for _ in range(2):
        native = compiled(*given)
    for a, b in zip(function(*given), native, strict=True):
        np.testing.assert_array_equal(b.value(), a.value())
    assert not hosted(compiled)


def keys(dtype: Any, *shape: int) -> Any:
    """Numbers of which many are equal, and some are no numbers at all."""
    values = np.random.default_rng(shape).integers(0, 9, shape).astype(dtype)
    if values.dtype.kind == "f":
        values[values == 4] = np.nan
        values[values == 5] = -0.0
        values[values == 7] = np.inf
    return fathom.Tensor(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(1,), (2,), (37,), (64,), (5, 33), (6, 1, 4)])
def test_sorting_is_stable_and_puts_nan_last(dtype: Any, shape: tuple[int, ...]) -> None:
    x = keys(dtype, *shape)
    axes = range(len(shape))
    equal(lambda x: [fathom.argsort(x, a, descending=d) for a in axes for d in (False, True)], x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_the_first_of_the_largest(dtype: Any) -> None:
    for function in (fathom.argmax, fathom.argmin):
        for shape in ((4, 23), (3, 32), (9, 150)):
            equal(
                lambda x, f=function: [f(x, 0), f(x, 1, keepdims=True), f(x), f(x.T[::-1], 0)],
                keys(dtype, *shape),
            )


@pytest.mark.parametrize("dtype", [np.float32, np.int64], ids=lambda d: d.__name__)
def test_the_largest_at_every_place(dtype: Any) -> None:
    x = np.zeros((100, 100), dtype) + 2 * np.eye(100, dtype=dtype)
    x[::7, 60] = 2
    if dtype is np.float32:
        x[::9, 41:] = np.nan
    equal(lambda x: [fathom.argmax(x, 1), fathom.argmin(x, 1)], fathom.Tensor(x))


def test_lines_of_other_layouts_and_many_lines() -> None:
    x = keys(np.float32, 12, 7)
    equal(lambda x: [fathom.argsort(x.T, 0), fathom.argsort(x[::-2, 1:], 1)], x)
    equal(lambda x: list(fathom.sort(x)), keys(np.float32, 300, 128))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: fathom.sort(x, 1).values,
        lambda x: fathom.topk(x, 3, axis=0).values,
        lambda x: fathom.kthvalue(x, 2).values,
        lambda x: fathom.median(x, axis=0),
        lambda x: fathom.median(x),
        lambda x: fathom.quantile(x, [0.1, 0.5], axis=1),
        lambda x: fathom.cumsum(x, 0),
        lambda x: fathom.cumsum(x.T, 0),
        lambda x: fathom.cumprod(x, 1),
        lambda x: fathom.nn.functional.sparsemax(x),
        lambda x: fathom.nn.functional.sparsemax(x, 0),
        lambda x: fathom.nn.functional.entmax15(x),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_what_sorting_is_good_for(function: Any, dtype: Any) -> None:
    agree(function, parameter(5, 9, dtype=dtype))


def test_a_median_with_nan() -> None:
    x = keys(np.float64, 4, 11)
    equal(lambda x: [fathom.median(x, axis=1), fathom.median(x), fathom.median(x[:, :1])], x)


def test_running_sums_of_whole_numbers() -> None:
    x = fathom.Tensor(np.arange(-6, 6).reshape(3, 4))
    equal(lambda x: [fathom.cumsum(x, 0), fathom.cumsum(x, 1), fathom.cumprod(x, 1)], x)


def test_running_sums_are_bit_for_bit_those_of_numpy() -> None:
    x = parameter(4, 300)
    eager, native, _ = both(lambda x: fathom.cumsum(x, 1), x)
    np.testing.assert_array_equal(native[0], eager[0])
