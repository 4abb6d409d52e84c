"""Whether BLAS or a generated kernel makes a product faster here: measured once, kept on disk.

Two kernels and eight products of BLAS are timed, in a tenth of a second. `$FATHOM_GEMM` settles
the question instead: `blas`, `own`, or `auto` (the default); `$FATHOM_CALIBRATE=0` leaves the
measurement out, and a table for an ordinary machine is used. The two ways round differently in
the last bits: to repeat a run to the bit elsewhere, name one of them.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fathom.compile.native import blas
from fathom.compile.native.blas import Gemm
from fathom.compile.native.engine import Compiler, Library
from fathom.compile.native.gemm import Kernel, Product, generate, module, target_for
from fathom.compile.native.text import Writer
from fathom.engine.errors import ArgumentError

Way = Literal["blas", "own"]
Points = Sequence[tuple[float, float]]  # (log2 of multiply-adds, seconds own / seconds BLAS)

# m, n, k without ragged edges for common tiles: those compile fast
SIZES = ((42, 32, 32), (84, 96, 96), (168, 160, 160), (252, 256, 256))
LAYOUTS = ("nn", "nt")
OWN = 1  # the size at which the generated kernel is timed
VERSION = 1  # of the measurement and its file
ROUND, ROUNDS = 2e-4, 5  # seconds of one round of calls, and how many there are
FUSED = 8.0  # steps along k that a separate pass over C costs


@dataclass(frozen=True)
class Table:
    """Time of the generated kernel over that of BLAS, by layout and size.

    >>> table = Table({"nn": ((12.0, 0.5), (18.0, 2.0))})
    >>> table.ratio(Product.of(32, 32, 32))  # half way between
    1.0
    """

    points: Mapping[str, Points]

    def ratio(self, p: Product) -> float:
        """Interpolated between the sizes measured; beyond them, the nearest."""
        points = self.points["nt" if p.layout[1] == "t" and "nt" in self.points else "nn"]
        sizes, ratios = zip(*points, strict=True)
        logs = [math.log(r) for r in ratios]
        return math.exp(float(np.interp(math.log2(p.m * p.n * p.k), sizes, logs)))


def standard(threads: int) -> Table:
    """What to expect of a good BLAS, which threads help from some size on."""
    middle, large = (20.0, 1.0), (24.0, 0.95 * threads**0.7)
    return Table({"nn": ((12.0, 0.7), middle, large), "nt": ((12.0, 0.5), middle, large)})


def choose(p: Product, *, fused: bool = False) -> Way:
    """`"blas"` or `"own"`.

    Parameters
    ----------
    fused : an epilogue would go into the generated kernel, and be a pass of its own after BLAS.

    Raises `ArgumentError` for an unknown `$FATHOM_GEMM`.
    """
    wish = os.environ.get("FATHOM_GEMM", "auto")
    if wish not in ("auto", "blas", "own"):
        raise ArgumentError(
            f"FATHOM_GEMM={wish!r}: it may be auto, blas or own", fix="unset it, or correct it"
        )
    library = blas.find() if wish != "own" else None
    if library is None or not blas.takes(p):
        return "own"
    if wish == "blas":
        return "blas"
    return "own" if table(library).ratio(p) <= 1 + fused * FUSED / p.k else "blas"


def table(library: Gemm) -> Table:
    """The table for a BLAS with as many threads as it has now: from disk, or measured."""
    return _table(library, library.threads, os.environ.get("FATHOM_CALIBRATE", "1") != "0")


@lru_cache
def _table(library: Gemm, threads: int, measured: bool) -> Table:
    if not measured:
        return standard(threads)
    compiler = Compiler()
    path = place(compiler, library, threads)
    known = read(path)
    if known is None:
        known = measure(compiler, library)
        write(path, known, f"{library.key}, {threads} threads, {compiler.machine.cpu}")
    return known


# -- the file -------------------------------------------------------------------------------


def place(compiler: Compiler, library: Gemm, threads: int) -> Path | None:
    """The file of a processor, BLAS, its threads, and the versions of Fathom and LLVM."""
    if not compiler.cache:
        return None
    key = compiler.key(f"gemm {VERSION} {library.key} {threads} {os.cpu_count()}")
    return compiler.cache.folder / f"gemm-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def read(path: Path | None) -> Table | None:
    """The table in a file; None if there is none that is whole."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text())["points"]
        points = {layout: [(float(x), float(y)) for x, y in found[layout]] for layout in LAYOUTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = all(rows and all(y > 0 for _, y in rows) for rows in points.values())
    return Table(points) if whole else None


def write(path: Path | None, found: Table, about: str) -> None:
    """Keep a table; a folder that cannot be written is no error."""
    if path is None:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({"about": about, "points": dict(found.points)}, indent=1))
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)


# -- the measurement ------------------------------------------------------------------------


def measure(compiler: Compiler, library: Gemm) -> Table:
    """Time BLAS at each size and layout; the generated kernel has one speed at all of them."""
    products = {
        layout: [Product.of(*size, transpose_b=layout == "nt", accumulate=True) for size in SIZES]
        for layout in LAYOUTS
    }
    target = target_for(compiler.machine.features)
    kernels = {
        layout: generate(products[layout][OWN], f"own.{layout}", target=target)
        for layout in LAYOUTS
    }
    text = program(kernels, products, library)
    code = compiler.compile(text, {library.symbol(): library.address()})
    points = {}
    for layout, kernel in kernels.items():
        names = [f"{layout}.own", *(f"{layout}.{i}" for i in range(len(SIZES)))]
        shapes = [kernel.product, *products[layout]]
        speeds = [
            p.flops / t for p, t in zip(shapes, times(code, names, kernel.scratch), strict=True)
        ]
        sizes = [math.log2(p.flops / 2) for p in shapes[1:]]
        points[layout] = [(x, s / speeds[0]) for x, s in zip(sizes, speeds[1:], strict=True)]
    return Table(points)


def program(
    kernels: Mapping[str, Kernel], products: Mapping[str, Sequence[Product]], library: Gemm
) -> str:
    """The kernels, and functions that call them, or BLAS, n times."""
    parts = [library.declaration(), module(kernels.values())]
    for layout, kernel in kernels.items():
        pointers = ", ".join(f"ptr {name}" for name in kernel.parameters)
        parts.append(repeat(f"{layout}.own", f"call void @{kernel.name}({pointers})"))
        parts += [repeat(f"{layout}.{i}", library.call(p)) for i, p in enumerate(products[layout])]
    return "\n".join(parts)


def repeat(name: str, call: str) -> str:
    w = Writer()
    with w.loop("%n"):
        w.line(call)
    w.line("ret void")
    head = f"define void @{name}(ptr %A, ptr %B, ptr %C, ptr %scratch, i64 %n) {{"
    return "\n".join([head, "entry:", *w.lines, "}"])


def times(code: Library, names: Sequence[str], scratch: int) -> list[float]:
    """Seconds of a call of each function, the best of rounds taken in turns."""
    m, n, k = SIZES[-1]
    sizes = (m * k, k * n, m * n, scratch // 4)
    arrays = [np.full(size + 16, 1e-3, np.float32) for size in sizes]
    addresses = [array.ctypes.data + -array.ctypes.data % 64 for array in arrays]
    types = [ctypes.c_void_p] * 4 + [ctypes.c_int64]
    runs = [code.function(name, *types) for name in names]
    best = [seconds(run, addresses, 1) for run in runs]
    for _ in range(ROUNDS):
        for i, run in enumerate(runs):
            calls = max(1, math.ceil(ROUND / best[i]))
            best[i] = min(best[i], seconds(run, addresses, calls))
    return best


def seconds(run: Any, addresses: Sequence[int], calls: int) -> float:
    """Of one call among so many."""
    start = time.perf_counter()
    run(*addresses, calls)
    return (time.perf_counter() - start) / calls
