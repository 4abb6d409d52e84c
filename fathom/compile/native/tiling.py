"""How a matrix product is cut into tiles that fit the registers of a processor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fathom.compile.native.pack import SQUARE
from fathom.compile.native.text import SIZES
from fathom.engine.errors import ArgumentError

LATENCY = 4  # cycles of a fused multiply-add: so many must be under way
BLOCK = 1024  # steps along k of one pass: a panel of B, 128 KiB, stays in the second cache
CACHE = 1 << 21
NEAR = 1 << 15  # bytes of the first cache
SHARE = 1 << 22  # bytes of A that one pass goes through, again for each panel of B


@dataclass(frozen=True)
class Target:
    """What the generator must know of a processor: bytes of a vector register, and how many."""

    width: int
    registers: int

    def lanes(self, dtype: str) -> int:
        return self.width // SIZES[dtype]


def target_for(features: str) -> Target:
    """The target for an LLVM feature string such as `"+avx2,+fma,-avx512f"`.

    >>> target_for("+avx2,+fma,-avx512f")
    Target(width=32, registers=16)
    """
    has = set(features.split(","))
    if {"+avx512f", "+avx512vl"} <= has:
        return Target(64, 32)
    if {"+avx2", "+fma"} <= has:
        return Target(32, 16)
    return Target(16, 32 if "+neon" in has else 16)


def host_target() -> Target:
    """The target of this machine (needs llvmlite)."""
    from fathom.compile.native.engine import Compiler

    return target_for(Compiler(cache=False).machine.features)


@dataclass(frozen=True)
class Product:
    """C[m, n] = A[m, k] @ B[k, n], or += with `accumulate`; strides count elements.

    Attributes
    ----------
    a, b : strides of a row and of a column of A and B.
    c : stride of a row of C, whose columns are neighbours.
    batch : how many products of this kind lie behind each other.
    steps : from one product of the batch to the next, in A, B and C (0: the same one).

    >>> Product.of(32, 10, 64, transpose_b=True)  # x @ W.T with W of shape (10, 64)
    Product(m=32, n=10, k=64, a=(64, 1), b=(1, 64), c=10, dtype='float', ...)
    """

    m: int
    n: int
    k: int
    a: tuple[int, int]
    b: tuple[int, int]
    c: int
    dtype: str = "float"
    accumulate: bool = False
    batch: int = 1
    steps: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if min(self.m, self.n, self.k, self.batch) < 1:
            raise ArgumentError(
                f"a product needs sizes of at least 1, got m, n, k, batch = "
                f"{self.m}, {self.n}, {self.k}, {self.batch}",
                fix="an empty product is zeros: write those",
            )
        if self.dtype not in SIZES:
            raise ArgumentError(f"dtype {self.dtype!r}: a product takes {' or '.join(SIZES)}")

    @classmethod
    def of(
        cls,
        m: int,
        n: int,
        k: int,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        dtype: str = "float",
        accumulate: bool = False,
        batch: int = 1,
    ) -> Product:
        """The product of contiguous row-major arrays, given as they are or transposed."""
        a = (1, m) if transpose_a else (k, 1)
        b = (1, k) if transpose_b else (n, 1)
        return cls(m, n, k, a, b, n, dtype, accumulate, batch, (m * k, k * n, m * n))

    @property
    def layout(self) -> str:
        """`nn`, `nt`, `tn` or `tt`: which operands do not lie row by row."""
        return ("n" if self.a[1] == 1 else "t") + ("n" if self.b[1] == 1 else "t")

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k * self.batch


class Columns(NamedTuple):
    """The columns of a tile: vectors, lanes of one, and how many columns there really are."""

    vectors: int
    lanes: int
    used: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    def part(self, v: int) -> int:
        """How many lanes of vector `v` are in use."""
        return min(self.lanes, self.used - v * self.lanes)


@dataclass(frozen=True)
class Shape:
    """How a product is cut: the tile, its copies into panels, and the steps of k at a time."""

    rows: int
    vectors: int
    lanes: int
    block: int  # steps along k of one pass
    pack_a: bool
    pack_b: bool
    dot: bool = False


def choose(p: Product, target: Target) -> Shape:
    """The tile with the fewest cycles by a simple count, and which operands to copy.

    Copies pay for operands that lie the wrong way, for rows so far apart that they fall into one
    set of the cache, and for a B beyond the cache that is read many times.
    """
    widest, size = target.lanes(p.dtype), SIZES[p.dtype]
    lanes = min(widest, power_above(p.n))
    rows, vectors = min(tiles(p, target, lanes), key=lambda t: cost(p, t[0], t[1], lanes, target))
    if p.a[1] == 1 and p.b[0] == 1:
        by_tiles = cost(p, rows, vectors, lanes, target) * p.k + (p.b[1] != 1) * 0.5 * p.k * p.n
        far = 8 * p.k * size > NEAR  # four rows and four columns leave the first cache
        by_dots = p.m * p.n * (-(-p.k // widest) + 3) * (1.15 if far else 1.0)
        if by_dots < by_tiles:
            return dots(p, target)
    long = p.k >= 64
    most = min(BLOCK, max(BLOCK // 4, SHARE // (p.m * size)))
    block = even(p.k, most) if p.k > most else p.k
    pack_a = long and p.n >= 64 and max(p.a) * size % 4096 == 0
    apart = p.b[0] * size % 4096 == 0 or p.n * p.k * size > CACHE
    pack_b = p.b[1] != 1 or (long and p.m >= 64 and apart)
    return Shape(rows, vectors, lanes, block, pack_a, pack_b)


def dots(p: Product, target: Target) -> Shape:
    """Dot products of a few rows of A with a few columns of B at a time."""
    lanes = min(target.lanes(p.dtype), power_above(p.k))
    rows = min(p.m, 4 if target.registers > 16 else 3)
    columns = min(p.n, 8, 16 // rows, (target.registers - 1 - rows) // (rows + 1))
    return Shape(rows, columns, lanes, p.k, False, False, dot=True)


def power_above(n: int) -> int:
    return 1 << (n - 1).bit_length()


def even(total: int, most: int) -> int:
    """The size of blocks that share `total` evenly, a multiple of `SQUARE`."""
    count = -(-total // most)
    size = -(-total // count // SQUARE) * SQUARE
    while 0 < total % size < SQUARE:
        size += SQUARE
    return size


def padded(rows: int) -> int:
    """The width of a panel of A."""
    return -(-rows // SQUARE) * SQUARE


def tiles(p: Product, target: Target, lanes: int) -> Iterator[tuple[int, int]]:
    """Tiles that fit into the registers, with room for the vectors of B and one of A."""
    for vectors in range(1, min(8, -(-p.n // lanes)) + 1):
        most = (target.registers - 1 - vectors) // vectors
        for rows in range(1, min(most, p.m, 16) + 1):
            yield rows, vectors


def parts(p: Product, rows: int, vectors: int, lanes: int) -> Iterator[tuple[int, int, int]]:
    """How many tiles of which rows and vectors there are: whole ones, and those at the edges."""
    full, left = divmod(p.n, vectors * lanes)
    widths = ((vectors, full), (-(-left // lanes), int(left > 0)))
    heights = ((rows, p.m // rows), (p.m % rows, int(p.m % rows > 0)))
    for (r, down), (v, across) in itertools.product(heights, widths):
        if down and across:
            yield down * across, r, v


def cost(p: Product, rows: int, vectors: int, lanes: int, target: Target) -> float:
    """Cycles of one step along k over all of C: tiles begin and end, and code has to be made."""
    loads = 1.2 if target.registers > 16 else 0.9  # a cycle; AVX-512 multiplies from memory
    return sum(
        count * (max(r * v, LATENCY, (r + v) / loads) + 8 / min(p.k, 64)) + 0.01 * r * v
        for count, r, v in parts(p, rows, vectors, lanes)
    )
