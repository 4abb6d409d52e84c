"""What runs in the mine field besides the tests of layers: windows of odd sizes, benchmarks.

Run by `tests/contracts/test_bounds.py`, in a process with the plugin `tests.bounds`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fathom
from fathom.nn import functional as F
from tests.unit.compile.native_harness import both

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from libraries import with_fathom, work

WINDOWS: dict[str, tuple[Any, ...]] = {
    "padding": (lambda x, w: F.conv2d(x, w, padding=1), (3, 5, 13, 21), (7, 5, 3, 3)),
    "stride": (lambda x, w: F.conv2d(x, w, stride=2), (3, 5, 13, 21), (7, 5, 3, 3)),
    "dilation": (
        lambda x, w: F.conv2d(x, w, dilation=2, padding=2), (3, 5, 13, 21), (7, 5, 3, 3),
    ),
    "transposed": (lambda x, w: F.conv_transpose2d(x, w), (3, 5, 9, 11), (5, 7, 3, 3)),
    "depthwise": (
        lambda x, w: F.conv2d(x, w, groups=5, padding=1), (3, 5, 13, 21), (5, 1, 3, 3),
    ),
    "pointwise": (lambda x, w: F.conv2d(x, w), (3, 5, 13, 21), (7, 5, 1, 1)),
    "small": (lambda x, w: F.conv2d(x, w), (6, 5, 5, 6), (7, 5, 3, 3)),
    "max": (lambda x: F.max_pool2d(x, 2), (3, 5, 14, 22)),
    "max overlapping": (lambda x: F.max_pool2d(x, 3, 2, 1), (3, 5, 13, 21)),
    "mean": (lambda x: F.avg_pool2d(x, 3, 2, 1), (3, 5, 13, 21)),
    "mean with gaps": (lambda x: F.avg_pool1d(x, 3, 4), (5, 7, 83)),
    "product": (lambda x, w: x @ w, (37, 53), (53, 29)),
    "large product": (lambda x, w: x @ w, (131, 517), (517, 67)),
}  # fmt: skip


def compare(function: Any, *given: Any) -> None:
    """Values and gradients, native against eager."""
    eager, native, _ = both(function, *given)
    for a, b in zip(eager, native, strict=True):
        size = float(np.abs(a).max())
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name, dtype):
    function, *shapes = WINDOWS[name]
    rng = np.random.default_rng(0)
    compare(function, *(fathom.tensor(rng.normal(size=s).astype(dtype), requires_grad=True)
                        for s in shapes))  # fmt: skip


@pytest.mark.parametrize(("shape", "index"), [((40, 33), [39, 0, -40, 7] * 20), ((1, 3), [0, -1])])
def test_rows(shape, index):
    table = fathom.tensor(np.ones(shape, np.float32), requires_grad=True)
    compare(lambda t, i: t[i], table, fathom.tensor(np.array(index)))


@pytest.mark.parametrize("name", work.ROWS)
def test_benchmarks(name, monkeypatch):
    """The models of the benchmarks, their epochs and fleets, each activation, and Adam."""
    row = work.ROWS[name]
    monkeypatch.setattr(work, "SIZE", 10_000)
    monkeypatch.setattr(work, "STEPS", 3)
    monkeypatch.setattr(work, "NETWORKS", 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    native = with_fathom.make(row)
    found = [native.read(native.call()) for _ in range(2)]
    if row.kind == "fleet":
        assert np.isfinite(found).all()
        return
    eager = with_fathom.make_eager(row)
    wanted = [eager.read(eager.call()) for _ in range(2)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
