"""Convolutions, unfold and fold, interpolation against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from fathom.nn import functional as F
from tests.oracles.battery import battery
from tests.oracles.harness import Case

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def case(function, shapes, label="", **options):
    """The same function with the same options in both libraries."""
    name = f"{function} {label or ' '.join(f'{k}={v}' for k, v in options.items())}"
    return Case(
        name,
        lambda *xs: getattr(F, function)(*xs, **options),
        lambda *xs: getattr(TF, function)(*xs, **options),
        shapes,
    )


X1, X2, X3 = (2, 4, 7), (2, 4, 7, 6), (1, 2, 4, 5, 4)
CASES = [
    case("conv1d", [(X1, (3, 4, 3), (3,)), (X1, (3, 4, 1), (3,)), ((4, 7), (3, 4, 2), (3,)),
                    ((0, 4, 7), (3, 4, 3), (3,))]),
    case("conv1d", [(X1, (3, 4, 3))], stride=2, padding=1),
    case("conv1d", [(X1, (3, 4, 4))], padding="same"),
    case("conv1d", [(X1, (3, 4, 4))], padding="same", dilation=2),
    case("conv1d", [(X1, (6, 2, 3), (6,))], groups=2, dilation=2),
    case("conv2d", [(X2, (3, 4, 3, 2), (3,)), (X2, (3, 4, 1, 1), (3,)),
                    ((4, 5, 5), (3, 4, 2, 2), (3,)), ((0, 4, 5, 5), (3, 4, 2, 2), (3,))]),
    case("conv2d", [(X2, (3, 4, 3, 2))], "no bias"),
    case("conv2d", [(X2, (3, 4, 1, 1))], stride=2),
    case("conv2d", [(X2, (3, 4, 3, 3))], stride=2),
    case("conv2d", [(X2, (3, 4, 3, 3))], stride=(1, 2), padding=(2, 1)),
    case("conv2d", [(X2, (3, 4, 3, 2))], padding=1, dilation=(2, 3)),
    case("conv2d", [(X2, (3, 4, 3, 2))], padding="same", dilation=(1, 2)),
    case("conv2d", [(X2, (3, 4, 3, 2))], padding="valid"),
    case("conv2d", [(X2, (6, 2, 3, 3), (6,))], groups=2, padding=1),
    case("conv2d", [(X2, (4, 1, 3, 3), (4,))], "depthwise", groups=4),
    case("conv2d", [(X2, (8, 1, 2, 3), (8,))], groups=4, stride=2, dilation=2, padding=1),
    case("conv2d", [(X2, (3, 4, 2, 2))], stride=3, padding=4),
    case("conv3d", [(X3, (3, 2, 2, 3, 2), (3,)), ((2, 3, 3, 3), (3, 2, 2, 2, 2), (3,))]),
    case("conv3d", [(X3, (4, 1, 2, 2, 2))], stride=(1, 2, 1), padding=1, groups=2),
    case("conv3d", [(X3, (2, 2, 2, 2, 2))], padding="same"),
    case("conv_transpose1d", [(X1, (4, 3, 3), (3,)), ((4, 7), (4, 3, 2), (3,)),
                              ((0, 4, 7), (4, 3, 2), (3,))]),
    case("conv_transpose1d", [(X1, (4, 3, 3))], stride=3, padding=1, output_padding=2),
    case("conv_transpose2d", [((2, 4, 3, 4), (4, 3, 3, 2), (3,))]),
    case("conv_transpose2d", [((2, 4, 3, 4), (4, 3, 3, 2))], stride=2, padding=1, output_padding=1),
    case("conv_transpose2d", [((2, 4, 3, 4), (4, 2, 3, 2), (4,))], groups=2, dilation=2,
         padding=(2, 0)),
    case("conv_transpose2d", [((2, 4, 3, 3), (4, 1, 2, 2), (4,))], "depthwise", groups=4,
         stride=(2, 3)),
    case("conv_transpose2d", [((2, 4, 3, 3), (4, 2, 2, 2))], dilation=3, output_padding=2),
    case("conv_transpose3d", [((1, 2, 2, 3, 2), (2, 3, 2, 2, 2), (3,))]),
    case("conv_transpose3d", [((1, 2, 2, 3, 2), (2, 1, 3, 2, 2))], stride=2, padding=(1, 0, 1),
         output_padding=(1, 0, 1), groups=2),
    case("unfold", [((2, 3, 5, 4),), ((3, 5, 4),), ((2, 3, 2, 2),), ((0, 3, 5, 4),)],
         kernel_size=2),
    case("unfold", [((2, 3, 7, 6),)], kernel_size=(3, 2), dilation=(1, 2), padding=1,
         stride=(2, 1)),
    case("unfold", [((2, 3, 4, 4),)], kernel_size=1),
    case("fold", [((2, 12, 12),), ((12, 12),)], output_size=(5, 4), kernel_size=2),
    case("fold", [((2, 12, 24),)], output_size=(7, 6), kernel_size=(3, 2), dilation=(1, 2),
         padding=1, stride=(2, 1)),
    case("interpolate", [((2, 3, 4),), ((2, 3, 4, 5),), ((1, 2, 2, 3, 2),)], scale_factor=2),
    case("interpolate", [((2, 3, 4, 5),)], size=(7, 3)),
    case("interpolate", [((2, 3, 5),)], size=3, mode="nearest-exact"),
    case("interpolate", [((2, 3, 5),)], scale_factor=1.7, mode="linear"),
    case("interpolate", [((2, 3, 5),)], size=8, mode="linear", align_corners=True),
    case("interpolate", [((2, 3, 4, 5),)], size=(7, 3), mode="bilinear"),
    case("interpolate", [((2, 3, 4, 5),)], size=(7, 1), mode="bilinear", align_corners=True),
    case("interpolate", [((2, 3, 4, 5),)], scale_factor=(2, 1.5), mode="bilinear"),
    case("interpolate", [((2, 3, 4, 5),)], scale_factor=1.3, mode="bilinear",
         recompute_scale_factor=True),
    case("interpolate", [((2, 3, 4, 5),)], size=(7, 3), mode="bicubic"),
    case("interpolate", [((2, 3, 4, 5),)], size=(7, 3), mode="bicubic", align_corners=True),
    case("interpolate", [((1, 2, 3, 2, 4),)], size=(4, 3, 2), mode="trilinear"),
    case("interpolate", [((2, 3, 5, 4),)], size=(3, 2), mode="area"),
    case("pixel_shuffle", [((2, 8, 2, 3),), ((4, 2, 2),)], upscale_factor=2),
    case("pixel_unshuffle", [((2, 2, 4, 6),)], downscale_factor=2),
]  # fmt: skip
test_equals_pytorch, test_forward_mode, test_vmap, test_float32_stays_float32 = battery(
    CASES, torch, rtol=1e-4, atol=1e-5
)


@pytest.mark.parametrize(
    ("n", "c", "size", "out", "kernel", "groups"),
    [
        (64, 1, 28, 6, 5, 1),
        (70, 6, 14, 16, 5, 1),
        (9, 32, 32, 32, 3, 32),
        (3, 64, 40, 64, 3, 2),
        (40, 8, 9, 12, 3, 4),
    ],
)
def test_large_batches_go_block_by_block(n, c, size, out, kernel, groups) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, size, size))
    w = rng.standard_normal((out, c // groups, kernel, kernel))
    ours, theirs = [ft.Tensor(a, True) for a in (x, w)], [torch.tensor(a) for a in (x, w)]
    for t in theirs:
        t.requires_grad_()
    y, ty = F.conv2d(*ours, groups=groups, padding=1), TF.conv2d(*theirs, groups=groups, padding=1)
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), atol=1e-9)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    ty.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-8)


def test_convolution_equals_its_composition_of_unfold_and_matmul() -> None:
    rng = np.random.default_rng(0)
    x, w = (ft.tensor(rng.standard_normal(s)) for s in ((3, 2, 7, 6), (4, 2, 3, 2)))

    def fused(a, b):
        return (F.conv2d(a, b, stride=2, padding=1, dilation=(1, 2)) ** 2).sum()

    def plain(a, b):
        columns = F.unfold(a, (3, 2), (1, 2), 1, 2)
        return ((b.reshape(4, 12) @ columns) ** 2).sum()

    t = tuple(rng.standard_normal(v.shape) for v in (x, w))
    for order in (
        lambda f: (f(x, w),),
        lambda f: ft.func.grad(f, (0, 1))(x, w),
        lambda f: ft.func.hvp(f, (x, w), t),
    ):
        for a, b in zip(order(fused), order(plain), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10)


def test_per_sample_gradients_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 2, 6, 6)), ft.Tensor(rng.standard_normal((3, 2, 3, 3)))

    def loss(weight, sample):
        return (F.conv2d(sample, weight, stride=2) ** 2).sum()

    found = ft.func.vmap(ft.func.grad(loss), (None, 0))(w, ft.Tensor(x)).numpy()
    for i in range(5):
        single = ft.func.grad(loss)(w, ft.Tensor(x[i])).numpy()
        np.testing.assert_allclose(found[i], single, rtol=1e-10)


def test_multiply_adds() -> None:
    from fathom.engine.primitive import TABLE

    params = {"stride": (1, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1), "groups": 1}
    assert TABLE["conv"].cost((64, 1, 28, 28), (6, 1, 5, 5), (6,), **params) == 64 * 784 * 6 * 25


def test_input_is_not_changed_and_no_memory_is_shared() -> None:
    x = np.ones((1, 1, 4, 4))
    for function in (lambda a: F.unfold(a, 1), lambda a: F.avg_pool2d(a, 1), lambda a: F.fold(
        F.unfold(a, 1), 4, 1)):  # fmt: skip
        out = function(x)
        out[...] = 7
        assert (x == 1).all()


ONE = ft.ones(1, 3, 8, 8)
BAD = [
    (lambda: F.conv2d(ONE, ft.ones(4, 2, 3, 3)), ValueError, ">3<"),
    (lambda: F.conv2d(ft.ones(1, 8, 8, 3), ft.ones(4, 3, 3, 3)),
     ValueError, "channels come before"),
    (lambda: F.conv2d(ft.ones(8, 8), ft.ones(4, 3, 3, 3)), ValueError, "(n, c, h, w)"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 3)), ValueError, "(out, in/groups, *kernel)"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 9, 3)), ValueError, ">8<"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 3, 3), ft.ones(3)), ValueError, "bias must have"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 3, 3), padding="sam"), ValueError, "did you mean 'same'"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 3, 3), padding="same", stride=2), ValueError, "stride 1"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 3, 3), stride=0), ValueError, "stride must be >= 1"),
    (lambda: F.conv2d(ONE, ft.ones(4, 3, 3, 3), stride=(1, 1, 1)), ValueError, "2 of them"),
    (lambda: F.conv2d(ONE, ft.ones(4, 1, 3, 3), groups=3), ValueError, "groups=3"),
    (lambda: F.conv2d(ft.tensor(np.ones((1, 3, 8, 8), int)), ft.ones(4, 3, 3, 3)),
     TypeError, "float"),
    (lambda: F.conv_transpose2d(ONE, ft.ones(4, 3, 3, 3)), ValueError, "(in, out/groups, *kernel)"),
    (lambda: F.conv_transpose2d(ONE, ft.ones(3, 4, 3, 3), output_padding=1), ValueError, "smaller"),
    (lambda: F.conv_transpose2d(ft.ones(1, 3, 1, 1), ft.ones(3, 4, 3, 3), padding=2),
     ValueError, "less padding"),
    (lambda: F.fold(ft.ones(1, 12, 11), (5, 4), 2), ValueError, ">11<"),
    (lambda: F.interpolate(ONE, 4, mode="linear"), ValueError, "bilinear"),
    (lambda: F.interpolate(ONE, 4, mode="bilinera"), ValueError, "did you mean 'bilinear'"),
    (lambda: F.interpolate(ONE), ValueError, "one of them"),
    (lambda: F.pixel_shuffle(ONE, 2), ValueError, "c * 4"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[t for *_, t in BAD])
def test_errors_teach(call, kind, text) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ft.FathomError)
    assert text in str(caught.value)
