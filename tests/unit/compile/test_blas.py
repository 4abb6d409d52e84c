"""The BLAS in the process: found, called by pointer, and told of matrices the right way."""

from __future__ import annotations

import ctypes
import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fathom
from fathom.compile.native import blas, code
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


# -- in plans -----------------------------------------------------------------------------------


def program_with(wish: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> tuple[Any, Any]:
    """A training step under `FATHOM_BLAS`: its native program, and its results."""
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("FATHOM_BLAS", wish)
    monkeypatch.setenv("FATHOM_CACHE", str(cache))
    monkeypatch.setattr(code, "HEAVY_PRODUCT", 0)
    rng = np.random.default_rng(2)
    x = fathom.tensor(rng.standard_normal((24, 17)))
    w = fathom.tensor(rng.standard_normal((17, 9)), requires_grad=True)
    heads = fathom.tensor(rng.standard_normal((3, 9, 5)))

    def step() -> Any:
        loss = (((x @ w).relu() @ heads) ** 2).sum()
        loss.backward()
        slope, w.grad = w.grad, None
        return loss.detach(), slope

    compiled = fathom.compile(step, backend="native")
    found = [
        np.array(v.detach().numpy() if isinstance(v, fathom.Tensor) else v) for v in compiled()
    ]
    wanted = [np.array(v.detach().numpy() if isinstance(v, fathom.Tensor) else v) for v in step()]
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12)
    (entry,) = [entry for entries in compiled._entries.values() for entry in entries]
    return entry.program, found


@needs_blas
@pytest.mark.parametrize("threads, own", [("1", 1), ("2", 1), ("2", 2)])
def test_products_of_plans(
    threads: str, own: int, library: blas.Gemm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Generated unless BLAS is asked for; with one thread, its products are cut for Fathom's."""
    monkeypatch.setenv("FATHOM_NUM_THREADS", threads)
    with threadpool_limits(own):
        if library.threads != own:
            pytest.skip("BLAS has no second thread here")
        generated, _ = program_with("0", monkeypatch, tmp_path)
        assert "fathom.blas" not in generated.text
        made, first = program_with("1", monkeypatch, tmp_path)
        assert made.text.count('call void @"fathom.blas.dgemm"') >= 4
        assert made.symbols == library.symbols and made.forks == (int(threads) > own)
        _, again = program_with("1", monkeypatch, tmp_path)  # from the disk
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@needs_blas
def test_threads_of_blas_and_of_fathom(library: blas.Gemm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_BLAS", "1")
    for own, taken in ((1, {1, 2, 3}), (2, {2}), (3, {3})):
        monkeypatch.setattr(blas.Gemm, "threads", own)
        assert {n for n in (1, 2, 3) if blas.chosen(n) is library} == taken


@needs_blas
def test_wish_of_the_user(library: blas.Gemm, monkeypatch: pytest.MonkeyPatch) -> None:
    with threadpool_limits(1):
        for wish, taken in (("", None), ("0", None), ("1", library)):
            monkeypatch.setenv("FATHOM_BLAS", wish)
            assert blas.chosen(1) is taken
    monkeypatch.setenv("FATHOM_BLAS", "fast")
    with pytest.raises(ArgumentError, match="FATHOM_BLAS='fast': it may be 0 or 1"):
        blas.chosen(1)


def test_without_a_blas_kernels_are_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "find", lambda: None)
    monkeypatch.setenv("FATHOM_BLAS", "1")
    assert blas.chosen(1) is None
