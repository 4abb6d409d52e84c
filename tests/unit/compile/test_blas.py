"""The BLAS in the process: found, called by pointer, and told of matrices the right way."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fathom.compile.native import blas, calibrate
from fathom.compile.native.gemm import Product
from fathom.engine.errors import ArgumentError

found = blas.find()
needs_blas = pytest.mark.skipif(found is None, reason="NumPy has no BLAS that can be called")


@pytest.fixture
def library() -> blas.Gemm:
    if found is None:
        pytest.skip("NumPy has no BLAS that can be called")
    return found


def test_record(library: blas.Gemm) -> None:
    assert library.bits in (32, 64)
    assert library.threads >= 1
    assert set(library.addresses) >= {"sgemm", "dgemm"} and all(library.addresses.values())
    assert library.name in library.key and library.version in library.key
    assert blas.find() is library


def test_threads_are_asked_each_time(library: blas.Gemm) -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        assert library.threads == 1


def test_a_library_that_multiplies_wrongly_is_not_taken(library: blas.Gemm) -> None:
    """One whose `dgemm` is in truth something else fails its trial."""
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)
    nothing = kind(lambda *rest: None)
    addresses = dict(library.addresses)
    addresses["dgemm"] = ctypes.cast(nothing, ctypes.c_void_p).value or 0
    fake = blas.Gemm(addresses, library.bits, "fake", "0", "", "")
    assert blas.works(library) and not blas.works(fake)
    assert fake.threads == 1


@pytest.mark.parametrize(
    "names, bits",
    [
        (["scipy_cblas_sgemm64_", "scipy_cblas_dgemm64_"], 64),
        (["scipy_cblas_sgemm", "scipy_cblas_dgemm"], 32),
        (["cblas_sgemm64_", "cblas_dgemm64_"], 64),
        (["cblas_sgemm", "cblas_dgemm", "cblas_sgemm_64", "cblas_dgemm_64"], 64),
        (["cblas_sgemm", "cblas_dgemm", "cblas_sgemv"], 32),
        (["cblas_sgemm"], None),
        ([], None),
    ],
)
def test_names_and_widths(
    names: list[str], bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ctypes.CFUNCTYPE(None)
    functions = {name: kind(lambda: None) for name in names}
    monkeypatch.setattr(ctypes, "CDLL", lambda *rest, **options: SimpleNamespace(**functions))
    info = {"filepath": "libblas.so", "internal_api": "mkl", "version": "1"}
    record = blas.open_library(info)
    assert (record and record.bits) == bits
    if record is not None:
        assert ("sgemv" in record.addresses) == ("cblas_sgemv" in names)


def test_integers_of_a_library_whose_names_do_not_say() -> None:
    def giving(value: Any) -> Any:
        return SimpleNamespace(
            openblas_get_config=Answer(value), bli_info_get_blas_int_type_size=Answer(value)
        )

    assert blas.integer_bits(giving(b"OpenBLAS 0.3 USE64BITINT DYNAMIC_ARCH"), "openblas") == 64
    assert blas.integer_bits(giving(b"OpenBLAS 0.3 DYNAMIC_ARCH"), "openblas") == 32
    assert blas.integer_bits(giving(64), "blis") == 64
    assert blas.integer_bits(SimpleNamespace(), "blis") == 32


class Answer:
    """A function of a library that returns one thing."""

    restype: Any = None

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value


@pytest.mark.parametrize("rows, columns", list(itertools.product((1, 2, 3), repeat=2)))
def test_stored_describes_the_matrix(rows: int, columns: int) -> None:
    """What BLAS is told addresses the same elements; a refusal means that nothing would."""

    def places(row: int, column: int) -> list[int]:
        return [i * row + j * column for i in range(rows) for j in range(columns)]

    def meant(side: int, leading: int) -> list[int]:
        return places(leading, 1) if side == blas.PLAIN else places(1, leading)

    least = {blas.PLAIN: columns, blas.TRANSPOSED: rows}
    for strides in itertools.product(range(9), repeat=2):
        told = blas.stored(strides, rows, columns)
        if told is not None:
            assert meant(*told) == places(*strides) and told[1] >= least[told[0]]
        else:
            every = ((side, n) for side, low in least.items() for n in range(low, 9))
            assert all(meant(*one) != places(*strides) for one in every), strides


def test_products_blas_has_no_words_for(library: blas.Gemm) -> None:
    strided = Product(3, 4, 5, (10, 2), (4, 1), 4)
    assert not blas.takes(strided)
    with pytest.raises(ArgumentError, match=re.escape("got strides (10, 2), (4, 1)")):
        library.call(strided)


@needs_blas
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_call_from_native_code(library: blas.Gemm, dtype: str) -> None:
    pytest.importorskip("llvmlite")
    from fathom.compile.native.engine import Compiler

    kind = np.float32 if dtype == "float" else np.float64
    rng = np.random.default_rng(0)
    sides = list(itertools.product((False, True), repeat=2))
    products = [
        Product.of(7, 5, 6, transpose_a=ta, transpose_b=tb, dtype=dtype, accumulate=ta)
        for ta, tb in sides
    ]
    text = "\n".join([library.declaration(dtype), *(
        f"define void @p{i}(ptr %A, ptr %B, ptr %C) {{\n  {library.call(p)}\n  ret void\n}}"
        for i, p in enumerate(products)
    )])  # fmt: skip
    symbols = {library.symbol(dtype): library.address(dtype)}
    code = Compiler(cache=False).compile(text, symbols)
    for i, (ta, tb) in enumerate(sides):
        a, b, c = (rng.standard_normal(s).astype(kind) for s in ((7, 6), (6, 5), (7, 5)))
        left, right = (np.ascontiguousarray(x.T) if t else x for x, t in ((a, ta), (b, tb)))
        expected = a @ b + c * ta
        code.function(f"p{i}", *[ctypes.c_void_p] * 3)(
            left.ctypes.data, right.ctypes.data, c.ctypes.data
        )
        np.testing.assert_allclose(c, expected, rtol=0, atol=1e-5)


# -- which is faster ----------------------------------------------------------------------------


def test_ratio_is_interpolated_and_held_at_the_ends() -> None:
    table = calibrate.Table({"nn": ((9.0, 0.25), (12.0, 1.0), (15.0, 4.0)), "nt": ((9.0, 0.5),)})
    sizes = [2, 8, 16, 32, 64]
    ratios = [table.ratio(Product.of(s, s, s)) for s in sizes]
    np.testing.assert_allclose(ratios, [0.25, 0.25, 1.0, 4.0, 4.0])
    assert table.ratio(Product.of(8, 8, 8, transpose_b=True)) == 0.5
    assert table.ratio(Product.of(16, 16, 16, transpose_a=True)) == 1.0


def test_standard_table_leaves_large_products_to_threads() -> None:
    large, small = Product.of(512, 512, 512), Product.of(16, 16, 16)
    assert calibrate.standard(1).ratio(large) < 1 < calibrate.standard(8).ratio(large)
    assert calibrate.standard(8).ratio(small) < 1


@needs_blas
def test_wish_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    p, odd = Product.of(64, 64, 64), Product(3, 4, 5, (10, 2), (4, 1), 4)
    for wish in ("blas", "own"):
        monkeypatch.setenv("FATHOM_GEMM", wish)
        assert calibrate.choose(p) == wish
        assert calibrate.choose(odd) == "own"
    monkeypatch.setenv("FATHOM_GEMM", "fast")
    with pytest.raises(ArgumentError, match="FATHOM_GEMM='fast': it may be auto, blas or own"):
        calibrate.choose(p)


def test_without_a_blas_the_kernel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "find", lambda: None)
    monkeypatch.setenv("FATHOM_GEMM", "blas")
    assert calibrate.choose(Product.of(512, 512, 512)) == "own"


@needs_blas
def test_choice_follows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FATHOM_GEMM", raising=False)
    slow = calibrate.Table({"nn": ((10.0, 1.05),), "nt": ((10.0, 0.9),)})
    monkeypatch.setattr(calibrate, "table", lambda library: slow)
    p = Product.of(64, 64, 64)
    assert calibrate.choose(p) == "blas"
    assert calibrate.choose(p, fused=True) == "own"  # a pass over C is saved
    assert calibrate.choose(Product.of(64, 64, 64, transpose_b=True)) == "own"


@needs_blas
def test_table_is_measured_once_and_read_again(
    library: blas.Gemm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    monkeypatch.delenv("FATHOM_CALIBRATE", raising=False)
    calibrate._table.cache_clear()
    try:
        first = calibrate.table(library)
        (file,) = (tmp_path / "native").glob("gemm-*.json")
        assert library.key in json.loads(file.read_text())["about"]
        assert set(first.points) == {"nn", "nt"}
        assert all(0 < y < math.inf for rows in first.points.values() for _, y in rows)
        calibrate._table.cache_clear()
        monkeypatch.setattr(calibrate, "measure", None)  # not called
        assert calibrate.table(library) == first
        monkeypatch.setenv("FATHOM_CALIBRATE", "0")
        assert calibrate.table(library) == calibrate.standard(library.threads)
    finally:
        calibrate._table.cache_clear()


@pytest.mark.parametrize(
    "text", ["", "{}", '{"points": {"nn": []}}', '{"points": {"nn": [[1, 0]], "nt": [[1, -1]]}}']
)
def test_a_broken_file_is_measured_anew(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gemm.json"
    path.write_text(text)
    assert calibrate.read(path) is None
    calibrate.write(path, calibrate.standard(2), "standard")
    assert calibrate.read(path) == calibrate.Table(
        {k: [tuple(map(float, r)) for r in v] for k, v in calibrate.standard(2).points.items()}
    )
