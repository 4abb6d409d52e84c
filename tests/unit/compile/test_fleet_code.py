"""Code for blocks of networks: products, gathered rows, wide instructions."""

import ctypes

import numpy as np
import pytest

from fathom.compile.native.fleet_product import LanedProduct, product, tile
from fathom.compile.native.fleet_text import Wide, widen

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "narrow, wide",
    [
        ("fneg float %x", "fneg <4 x float> %x"),
        ("icmp ne i8 %flag, 0", "icmp ne <4 x i8> %flag, splat (i8 0)"),
        ("select i1 %b, float 0.0, float %x",
         "select <4 x i1> %b, <4 x float> splat (float 0.0), <4 x float> %x"),
        ("fpext float %v12 to double", "fpext <4 x float> %v12 to <4 x double>"),
        ("call i32 @llvm.smax.i32(i32 %a, i32 -1)",
         "call <4 x i32> @llvm.smax.v4i32(<4 x i32> %a, <4 x i32> splat (i32 -1))"),
        ("load i64, ptr %p0, align 8", "load <4 x i64>, ptr %p0, align 8"),
        ("alloca [16 x float], align 64", "alloca [16 x <4 x float>], align 64"),
    ],
)  # fmt: skip
def test_instructions(narrow, wide):
    assert widen(narrow, 4) == wide


def test_addresses_and_loops_stay_as_they_are():
    w = Wide(4)
    with w.loop(3) as turn:
        total = turn.carry("float", "0.0")
        place = w.at("%p", w.op(f"mul nsw i64 {turn.index}, 2"), "float")
        turn.step([w.op(f"fadd float {total}, {w.op(f'load float, ptr {place}')}")])
    text = "\n".join(w.lines)
    assert "phi <4 x float> [splat (float 0.0), %entry]" in text
    assert "phi i64 [0, %entry]" in text and "mul nsw i64 %index1, 2" in text
    assert "getelementptr inbounds <4 x float>, ptr %p" in text


@pytest.mark.parametrize("registers", [16, 32])
@pytest.mark.parametrize("m, n", [(1, 1), (32, 16), (3, 50), (16, 2)])
def test_a_tile_fits(m, n, registers):
    rows, columns = tile(m, n, registers)
    assert rows <= m and columns <= n and rows * columns + min(rows, columns) < registers


def run(p, lanes, registers, a, b, size):
    """c of a product on arrays (elements, lanes), with canaries around."""
    engine = pytest.importorskip("fathom.compile.native.engine")
    text = product(p, lanes, registers).replace("@@NAME@", "@f").replace("internal ", "")
    library = engine.Compiler(cache=False).compile(f"{text}\nattributes #0 = {{ nounwind }}")
    whole = np.full((size + 2, lanes), 7.0, a.dtype)
    at = [array.ctypes.data for array in (a, b, whole[1:])]
    library.function("f", *[ctypes.c_void_p] * 3)(*at)
    assert (whole[[0, -1]] == 7.0).all()
    return whole[1:-1]


@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (5, 3, 7), (8, 4, 2), (9, 1, 6)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_product(m, k, n, turned, dtype):
    pytest.importorskip("llvmlite")
    lanes = 4
    a, b = RNG.standard_normal((m, k, lanes)), RNG.standard_normal((k, n, lanes))
    a, b = a.astype(dtype), b.astype(dtype)
    given, steps = a, (k, 1)
    if turned:
        given, steps = np.ascontiguousarray(a.transpose(1, 0, 2)), (1, m)
    kind = {"float32": "float", "float64": "double"}[dtype]
    p = LanedProduct(m, n, k, steps, (n, 1), kind)
    c = run(p, lanes, 16, given, b, m * n).reshape(m, n, lanes)
    np.testing.assert_allclose(c, np.einsum("ikl,kjl->ijl", a, b), rtol=1e-5, atol=1e-6)


def test_a_batch_of_products_with_one_side_shared():
    pytest.importorskip("llvmlite")
    a, b = RNG.standard_normal((3, 4, 2, 8)), RNG.standard_normal((2, 5, 8))
    p = LanedProduct(4, 5, 2, (2, 1), (5, 1), "double", ((3, 8, 0),))
    c = run(p, 8, 32, a, b, 60).reshape(3, 4, 5, 8)
    np.testing.assert_allclose(c, np.einsum("bikl,kjl->bijl", a, b), rtol=1e-12)
