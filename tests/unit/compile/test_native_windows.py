"""Convolution and pooling in native code, against eager."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fathom
from fathom.nn import functional as F
from tests.unit.compile.native_harness import agree, parameter, program_of

pytest.importorskip("llvmlite")

DTYPES = [np.float32, np.float64]
CONVOLUTIONS = [  # input, weight, options
    ((2, 1, 8, 8), (3, 1, 5, 5), {"padding": 2}),
    ((3, 3, 9, 7), (4, 3, 3, 3), {}),
    ((3, 4, 9, 7), (6, 2, 3, 2), {"stride": 2, "padding": 1, "groups": 2}),
    ((2, 4, 7, 11), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
    ((2, 4, 7, 11), (8, 1, 3, 3), {"groups": 4, "padding": 1, "stride": 2}),
    ((2, 4, 7, 11), (12, 1, 3, 3), {"groups": 4}),
    ((2, 4, 6, 5), (5, 4, 1, 1), {}),
    ((2, 4, 6, 5), (6, 2, 1, 1), {"groups": 2}),
    ((2, 4, 6, 5), (5, 4, 1, 1), {"stride": 2}),
    ((2, 3, 12, 12), (4, 3, 3, 3), {"dilation": 2, "padding": (2, 1), "stride": (1, 2)}),
    ((2, 2, 9, 7), (3, 2, 3, 3), {"dilation": (2, 1), "stride": (2, 1)}),
    ((2, 3, 5, 40), (4, 3, 3, 3), {"padding": "same"}),
    ((1, 2, 4, 130), (3, 2, 2, 3), {"padding": 1}),
    ((1, 8, 40, 70), (5, 8, 3, 3), {"padding": 1}),  # in several parts
    ((2, 3, 5, 6), (2, 3, 5, 6), {}),  # a single window
    ((6, 3, 4, 4), (5, 3, 3, 3), {"padding": 1}),  # few positions: samples side by side
    ((6, 4, 5, 5), (6, 2, 3, 3), {"stride": 2, "groups": 2}),
    ((7, 4, 5, 5), (6, 2, 3, 3), {"groups": 2}),
    ((64, 4, 3, 3), (6, 4, 3, 3), {}),
    ((2, 4, 12, 40), (4, 1, 3, 3), {"groups": 4, "padding": (1, 2), "dilation": (1, 2)}),
    ((2, 4, 9, 20), (4, 1, 3, 5), {"groups": 4, "padding": (3, 1), "stride": (2, 1)}),
]


def _name(case: Any) -> str:
    return f"{case[0]}-{case[1]}-{case[2]}".replace(" ", "")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=_name)
def test_conv2d(case: Any, dtype: Any) -> None:
    shape, kernel, options = case
    given = [parameter(*s, dtype=dtype) for s in (shape, kernel, kernel[:1])]
    agree(lambda x, w, b: F.conv2d(x, w, b, **options), *given)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((3, 4, 9), (5, 4, 3), {"padding": 1}),
        ((6, 4, 9), (4, 1, 3), {"padding": 1, "groups": 4}),
        ((3, 4, 19), (6, 2, 3), {"stride": 2, "dilation": 2, "groups": 2}),
        ((2, 2, 5, 6, 7), (3, 2, 3, 3, 3), {"padding": 1}),
        ((2, 2, 5, 6, 7), (3, 2, 2, 3, 1), {"stride": 2}),
    ],
)
def test_other_ranks(shape: Any, kernel: Any, options: Any, dtype: Any) -> None:
    function = F.conv1d if len(shape) == 3 else F.conv3d
    x, w = parameter(*shape, dtype=dtype), parameter(*kernel, dtype=dtype)
    agree(lambda x, w: function(x, w, **options), x, w)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1, "output_padding": 1},
        {"stride": (1, 2), "dilation": 2},
        {"stride": 3, "output_padding": 2},
    ],
)
def test_transposed(options: Any) -> None:
    given = [parameter(2, 4, 5, 6), parameter(4, 3, 3, 3), parameter(3)]
    agree(lambda x, w, b: F.conv_transpose2d(x, w, b, **options), *given)
    given = [parameter(2, 4, 5, 6), parameter(4, 3, 3, 3), parameter(6)]
    agree(lambda x, w, b: F.conv_transpose2d(x, w, b, groups=2, **options), *given)


def test_views_are_convolved_where_they_lie() -> None:
    given = [parameter(2, 7, 6, 3), parameter(3, 4, 3, 3), parameter(4)]
    agree(lambda x, w, b: F.conv2d(x.permute(0, 3, 1, 2), w.permute(1, 0, 2, 3), b), *given)
    agree(lambda x, w, b: F.conv2d(x.permute(0, 3, 1, 2).flip(-1), w[:, :1].permute(1, 0, 2, 3)
                                   .expand(4, 3, 3, 3), b), *given)  # fmt: skip
    agree(lambda x, w: F.conv2d(x[:, :, 1:5, ::2].permute(0, 1, 3, 2), w), parameter(2, 3, 6, 8),
          parameter(4, 3, 1, 1))  # fmt: skip


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": 1},
    {"kernel_size": 3, "stride": (1, 3), "padding": (0, 1)},
    {"kernel_size": 7, "stride": 5, "padding": 3},
    {"kernel_size": 3, "stride": 4},
    {"kernel_size": 2, "stride": 2, "ceil_mode": True},
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("options", POOLS, ids=str)
def test_pooling(options: Any, dtype: Any) -> None:
    x = parameter(2, 3, 13, 39, dtype=dtype)
    agree(lambda x: F.max_pool2d(x, return_indices=True, **options), x)
    agree(lambda x: F.avg_pool2d(x, **options), x)
    agree(lambda x: F.avg_pool2d(x.permute(0, 1, 3, 2), **options), x)
    agree(lambda x: F.max_pool2d(x.permute(0, 1, 3, 2), **options), x)


def test_pooling_of_other_ranks() -> None:
    agree(lambda x: F.max_pool1d(x, 3, 2, 1), parameter(2, 3, 13))
    agree(lambda x: F.max_pool3d(x, 3, 2, 1), parameter(2, 3, 7, 6, 8))
    agree(lambda x: F.avg_pool3d(x, 3, 2, 1), parameter(2, 3, 7, 6, 8))
    agree(lambda x: F.max_pool2d(x, 3, 2, 1, dilation=2), parameter(2, 3, 13, 14))
    agree(lambda x: F.lp_pool2d(x * x, 2.0, 3), parameter(2, 6, 7, 5))
    agree(lambda x: F.local_response_norm(x, 3), parameter(2, 6, 4, 5))


def test_adaptive_pooling() -> None:
    x = parameter(2, 3, 8, 8)
    for size in (1, (2, 4), (3, 5)):
        agree(lambda x, size=size: F.adaptive_avg_pool2d(x, size), x)
    agree(lambda x: F.adaptive_max_pool2d(x, (2, 4)), x)
    agree(lambda x: F.adaptive_max_pool2d(x, (3, 5), return_indices=True), x)
    agree(lambda x: F.adaptive_max_pool1d(x, 4), parameter(2, 3, 10))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": (2, 3), "stride": 2, "padding": 1},
        {"kernel_size": 2, "dilation": 2, "padding": 1},
    ],
    ids=str,
)
def test_unfold_and_fold(options: Any) -> None:
    x = parameter(2, 3, 7, 8)
    agree(lambda x: F.unfold(x, **options), x)
    columns = F.unfold(x, **options).shape
    agree(lambda y: F.fold(y, (7, 8), **options), parameter(*columns))
    agree(lambda y: F.fold(y, (7, 8), **options), parameter(*columns[1:], dtype=np.float64))


def test_windows_along_an_axis() -> None:
    agree(lambda x: fathom.sliding_windows(x, 1, 3, 2), parameter(4, 9, 2))


@pytest.mark.parametrize("threads", ["2", "3"])
def test_threads_share_the_samples(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_NUM_THREADS", threads)
    shapes = [
        ((7, 8, 20, 24), (8, 8, 3, 3)),
        ((7, 8, 40, 44), (8, 1, 3, 3)),  # depthwise
        ((10, 64, 4, 4), (64, 64, 3, 3)),  # samples side by side
        ((7, 64, 16, 18), (32, 64, 1, 1)),
    ]
    for shape, kernel in shapes:
        groups = shape[1] // kernel[1]
        given = [parameter(*s) for s in (shape, kernel, kernel[:1])]
        agree(
            lambda x, w, b, n=groups: F.conv2d(x, w, b, padding=w.shape[-1] // 2, groups=n), *given
        )
    for pool in (F.max_pool2d, F.avg_pool2d):
        agree(lambda x, p=pool: p(x, 3, 2, 1), parameter(7, 11, 50, 54))


def test_of_equals_the_first_wins_and_nan_is_kept() -> None:
    x = np.zeros((1, 1, 4, 40), np.float32)
    x[0, 0, 0, 5] = x[0, 0, 3, 39] = np.nan
    x[0, 0, 2:, 10:14] = -np.inf
    x[0, 0, 2, 20] = np.inf
    for options in ({}, {"padding": 1, "stride": 1}):
        pool = fathom.compile(
            lambda x, o=options: F.max_pool2d(x, 2, return_indices=True, **o), backend="native"
        )
        expected = F.max_pool2d(fathom.tensor(x), 2, return_indices=True, **options)
        for a, b in zip(pool(fathom.tensor(x)), expected, strict=True):
            np.testing.assert_array_equal(np.asarray(a.numpy()), b.numpy())


def test_lenet_learns_as_eager_does() -> None:
    from fathom import nn

    rng = np.random.default_rng(0)
    x = fathom.tensor(rng.normal(size=(6, 1, 28, 28)).astype(np.float32))
    y = fathom.tensor(rng.integers(0, 10, 6))
    losses = []
    for backend in ("native", None):
        with fathom.seed(0):
            model = nn.Sequential(
                nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5),
                nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 32), nn.ReLU(),
                nn.Linear(32, 10),
            )  # fmt: skip
        optimizer = fathom.optim.Adam(model.parameters(), lr=1e-3)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        run = fathom.compile(step, backend=backend) if backend else step
        losses.append([float(run(x, y)) for _ in range(8)])
        if backend:
            kinds = {unit.kind for unit in program_of(run).schedule.units}
            assert "host" not in kinds and "custom" in kinds
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
