"""The BLAS that is already in the process (NumPy's), called by pointer from native code.

Generated kernels make the products of plans. OpenBLAS takes 1.04 to 9 times as long for those of
networks and is at most 3 % quicker, for squares of 2,048 (`benchmarks/gemm.py`, one core of an
AMD EPYC with AVX-512); so nothing is measured when a plan is made. Where that is different (a
vendor's library that knows more of its processor), `$FATHOM_BLAS=1` leaves plain products to
BLAS. The two ways round differently in the last bits.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fathom.compile.native.text import Writer
from fathom.compile.native.tiling import Product
from fathom.engine.errors import ArgumentError

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # CBLAS's enums, always 32 bits
LETTERS = {"float": "s", "double": "d"}
# what a build may put around the C name, and the width of its integers if that tells
AFFIXES: tuple[tuple[str, str, int | None], ...] = (
    ("scipy_", "64_", 64),
    ("scipy_", "", 32),
    ("", "64_", 64),
    ("", "_64", 64),  # MKL, which has both
    ("", "$NEWLAPACK$ILP64", 64),  # Accelerate
    ("", "", None),
)
ACCELERATE = "/System/Library/Frameworks/Accelerate.framework/Accelerate"


@dataclass(frozen=True, eq=False)
class Gemm:
    """A BLAS, and where its matrix products are.

    Attributes
    ----------
    addresses : of `cblas_sgemm`, `cblas_dgemm`, and `gemv` where it was found, by the names
        `sgemm`, `dgemm`, `sgemv`, `dgemv`.
    bits : width of its integers, 32 or 64.
    name, version, architecture : of the library; the last is the kernel it chose for this CPU.
    """

    addresses: Mapping[str, int]
    bits: int
    name: str
    version: str
    architecture: str
    path: str
    library: Any = field(repr=False, default=None)  # keeps it loaded
    pool: Any = field(repr=False, default=None)  # threadpoolctl's, to be asked

    @property
    def threads(self) -> int:
        """How many it uses at this moment."""
        return 1 if self.pool is None else int(self.pool.num_threads)

    @property
    def key(self) -> str:
        """Names the library for caches."""
        return f"{self.name} {self.version} {self.architecture} {self.bits}"

    def symbol(self, dtype: str = "float") -> str:
        """The name under which `call` calls: hand it to the linker with `address`."""
        return f"fathom.blas.{LETTERS[dtype]}gemm"

    def address(self, dtype: str = "float") -> int:
        return self.addresses[f"{LETTERS[dtype]}gemm"]

    @property
    def symbols(self) -> dict[str, int]:
        """What the linker has to know."""
        return {self.symbol(t): self.address(t) for t in LETTERS}

    def declaration(self, dtype: str = "float") -> str:
        """The IR declaration of the product under its `symbol`."""
        i, pointer = f"i{self.bits}", f"ptr, i{self.bits}"
        types = f"i32, i32, i32, {i}, {i}, {i}, {dtype}, {pointer}, {pointer}, {dtype}, {pointer}"
        return f'declare void @"{self.symbol(dtype)}"({types})'

    def call(self, p: Product, a: str = "%A", b: str = "%B", c: str = "%C") -> str:
        """One line of IR that makes a product (of a batch: one of its products).

        Raises `ArgumentError` for strides that BLAS has no words for; see `takes`.
        """
        left, right = stored(p.a, p.m, p.k), stored(p.b, p.k, p.n)
        if left is None or right is None or p.c < p.n:
            raise ArgumentError(
                f"BLAS takes matrices with neighbouring elements along one axis; got strides "
                f"{p.a}, {p.b} and rows of C {p.c} apart",
                fix="use the generated kernel for this product",
            )
        (side_a, lda), (side_b, ldb) = left, right
        i, t = f"i{self.bits}", p.dtype
        return (
            f'call void @"{self.symbol(t)}"(i32 {ROW_MAJOR}, i32 {side_a}, i32 {side_b}, '
            f"{i} {p.m}, {i} {p.n}, {i} {p.k}, {t} 1.0, ptr {a}, {i} {lda}, "
            f"ptr {b}, {i} {ldb}, {t} {float(p.accumulate)}, ptr {c}, {i} {p.c})"
        )

    def text(self, name: str, p: Product) -> str:
        """A function `void name(ptr A, ptr B, ptr C)` that makes all products of a batch."""
        w, names = Writer(), ("%A", "%B", "%C")
        with w.turns(p.batch) as i:
            at = [w.at(x, w.times(i, s), p.dtype) for x, s in zip(names, p.steps, strict=True)]
            w.line(self.call(p, *at))
        w.line("ret void")
        head = f"define void @{name}(ptr %A, ptr %B, ptr %C) {{\nentry:"
        return "\n".join([head, *w.lines, "}", ""])


def stored(strides: tuple[int, int], rows: int, columns: int) -> tuple[int, int] | None:
    """How BLAS is told of a matrix: plain or transposed, and the leading dimension.

    >>> stored((4, 1), 3, 4), stored((1, 3), 3, 4), stored((8, 2), 3, 4)
    ((111, 4), (112, 3), None)
    """
    row, column = strides
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return PLAIN, max(row, columns)
    if (row == 1 or rows == 1) and (column >= rows or columns == 1):
        return TRANSPOSED, max(column, rows)
    return None


def takes(p: Product) -> bool:
    """Whether BLAS can make this product from where its operands lie."""
    return p.c >= p.n and None not in (stored(p.a, p.m, p.k), stored(p.b, p.k, p.n))


@cache
def find() -> Gemm | None:
    """NumPy's BLAS if it can be told, else any that makes a correct product; None without.

    Each candidate has to multiply two small matrices first.
    """
    for record in candidates():
        try:
            if works(record):
                return record
        except (OSError, ValueError, ctypes.ArgumentError):
            continue
    return None


def chosen(threads: int) -> Gemm | None:
    """The BLAS that is to make the products of plans; None: kernels are generated.

    Both would fight for the cores if BLAS had other threads than Fathom, which has `threads`: it
    is taken if it has as many, or only one; products are then cut for Fathom's own.

    Raises `ArgumentError` for an unknown `$FATHOM_BLAS`.
    """
    wish = os.environ.get("FATHOM_BLAS", "0")
    if wish not in ("0", "1", ""):
        raise ArgumentError(f"FATHOM_BLAS={wish!r}: it may be 0 or 1", fix="unset it")
    library = find() if wish == "1" else None
    return library if library is not None and library.threads in (1, threads) else None


def candidates() -> Iterator[Gemm]:
    """Every BLAS in the process whose products have a name we know, NumPy's first."""
    from threadpoolctl import ThreadpoolController  # not at every start

    home = Path(np.__file__).parent
    homes = tuple(str(folder) for folder in (home, home.with_name("numpy.libs")))
    pools = [pool for pool in ThreadpoolController().lib_controllers if pool.user_api == "blas"]
    pools.sort(key=lambda pool: not pool.filepath.startswith(homes))
    found = [(pool.info(), pool) for pool in pools]
    if sys.platform == "darwin" and os.path.exists(os.path.dirname(ACCELERATE)):
        found.append(({"filepath": ACCELERATE, "internal_api": "accelerate"}, None))
    for info, pool in found:
        try:
            record = open_library(info, pool)
        except OSError:
            continue
        if record is not None:
            yield record


def open_library(info: Mapping[str, Any], pool: Any = None) -> Gemm | None:
    """The record of a loaded library, as threadpoolctl describes it."""
    path, kind = info["filepath"], info["internal_api"]
    mode = getattr(os, "RTLD_NOLOAD", 0) if kind != "accelerate" else 0
    library = ctypes.CDLL(path, mode=mode | getattr(os, "RTLD_LAZY", 0))
    for before, after, bits in AFFIXES:
        found = {}
        for name in ("sgemm", "dgemm", "sgemv", "dgemv"):
            function = getattr(library, f"{before}cblas_{name}{after}", None)
            if function is not None:
                found[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
        if "sgemm" in found and "dgemm" in found:
            return Gemm(
                found,
                bits or integer_bits(library, kind),
                kind,
                str(info.get("version")),
                str(info.get("architecture", "")),
                path,
                library,
                pool,
            )
    return None


def integer_bits(library: Any, kind: str) -> int:
    """The width of the integers of a BLAS whose names do not say."""
    if kind == "openblas":
        config = getattr(library, "openblas_get_config", None)
        if config is not None:
            config.restype = ctypes.c_char_p
            return 64 if b"USE64BITINT" in (config() or b"") else 32
    if kind == "blis":
        size = getattr(library, "bli_info_get_blas_int_type_size", None)
        if size is not None:
            size.restype = ctypes.c_int64
            return int(size())
    return 64 if kind == "mkl" and os.environ.get("MKL_INTERFACE_LAYER", "")[:5] == "ILP64" else 32


def works(record: Gemm) -> bool:
    """Whether it makes [2, 3] @ [2, 3].T right, in both precisions, among other numbers."""
    for name, dtype, number in (
        ("sgemm", np.float32, ctypes.c_float),
        ("dgemm", np.float64, ctypes.c_double),
    ):
        a: np.ndarray[Any, Any] = np.arange(8, dtype=dtype).reshape(2, 4)
        b: np.ndarray[Any, Any] = a + 1
        c: np.ndarray[Any, Any] = np.full((2, 3), -1, dtype)
        function(record, name, number)(
            ROW_MAJOR, PLAIN, TRANSPOSED, 2, 2, 3, 1.0, a.ctypes.data, 4, b.ctypes.data, 4, 0.0,
            c.ctypes.data, 3,
        )  # fmt: skip
        if not np.array_equal(c, [[8, 20, -1], [32, 92, -1]]):
            return False
    return True


def function(record: Gemm, name: str, number: Any) -> Any:
    """`sgemm` or `dgemm` for `ctypes`; `number` is the ctypes type of its scalars."""
    i = ctypes.c_int64 if record.bits == 64 else ctypes.c_int32
    matrix = (ctypes.c_void_p, i)
    kind = ctypes.CFUNCTYPE(
        None, *[ctypes.c_int32] * 3, i, i, i, number, *matrix, *matrix, number, *matrix
    )
    return kind(record.addresses[name])
