"""Matrix products of a block of networks: one for each, in the lanes of vectors.

    c[i, j, :] += a[i, k, :] * b[k, j, :]

Tiles of c stay in registers; each vector of a or b that is loaded serves a whole row or column of
the tile. The sum goes along k in order, whatever the tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from fathom.compile.native.fleet_text import splat
from fathom.compile.native.text import Index, Writer, vector


@dataclass(frozen=True)
class LanedProduct:
    """c = a @ b for matrices of vectors; steps count vectors.

    Attributes
    ----------
    lead : sizes of the axes before the matrices, with the steps of a and b along each of them.
    a, b : the steps of a row and of a column; c lies in one piece.
    kind : "float" or "double".
    """

    m: int
    n: int
    k: int
    a: tuple[int, int]
    b: tuple[int, int]
    kind: str
    lead: tuple[tuple[int, int, int], ...] = ()


def tile(m: int, n: int, registers: int) -> tuple[int, int]:
    """Rows and columns of c that are made together: few loads for each product, few leftovers.

    >>> tile(32, 16, 32), tile(32, 2, 32), tile(16, 16, 16), tile(5, 1, 16)
    ((4, 4), (8, 2), (2, 4), (5, 1))
    """

    def cost(size: tuple[int, int]) -> tuple[float, int]:
        rows, columns = size
        parts = -(-m // rows) * -(-n // columns)
        return parts * (max(rows * columns, 4) + rows + columns), rows

    room = registers - 2  # for what LLVM keeps besides
    fitting = [
        (r, c)
        for r in (1, 2, 3, 4, 5, 6, 8)
        for c in (1, 2, 3, 4, 5, 6, 8)
        if r <= m and c <= n and r * c + min(r, c) + 1 <= room
    ]
    return min(fitting, key=cost)


def product(p: LanedProduct, lanes: int, registers: int) -> str:
    """The function `void @NAME(ptr a, ptr b, ptr c)`."""
    w, type = Writer(), vector(p.kind, lanes)
    rows, columns = tile(p.m, p.n, registers)
    with ExitStack() as stack:
        first: tuple[Index, Index, Index] = (0, 0, 0)
        behind = p.m * p.n
        for size, *_ in p.lead:
            behind *= size
        for size, *steps in p.lead:
            behind //= size
            i = stack.enter_context(w.turns(size))
            moves = zip(first, (*steps, behind), strict=True)
            first = tuple(_plus(w, at, i, step) for at, step in moves)  # type: ignore[assignment]
        for height, top, downs in parts(p.m, rows):
            for width, left, rights in parts(p.n, columns):
                with w.turns(downs, height, top) as i, w.turns(rights, width, left) as j:
                    _tile(w, p, type, first, (i, height), (j, width))
    w.line("ret void")
    head = "define internal void @@NAME@(ptr noalias %a, ptr noalias %b, ptr noalias %c) #0 {"
    return "\n".join([head, "entry:", *w.lines, "}\n"])


def parts(n: int, size: int) -> Iterator[tuple[int, int, int]]:
    """n in pieces: (size, where the first begins, how many), the last one smaller.

    >>> list(parts(14, 4))
    [(4, 0, 3), (2, 12, 1)]
    """
    whole, rest = divmod(n, size)
    if whole:
        yield size, 0, whole
    if rest:
        yield rest, n - rest, 1


def _plus(w: Writer, at: Index, index: Index, step: int) -> Index:
    """at + index * step; steps may be negative."""
    if step == 0 or index == 0:
        return at
    if isinstance(index, int):
        return w.plus(at, index * step)
    moved = index if step == 1 else w.op(f"mul nsw i64 {index}, {step}")
    return moved if at == 0 else w.op(f"add nsw i64 {at}, {moved}")


def _tile(
    w: Writer,
    p: LanedProduct,
    type: str,
    first: tuple[Index, Index, Index],
    rows: tuple[Index, int],
    columns: tuple[Index, int],
) -> None:
    (i, height), (j, width) = rows, columns
    cells = [(r, c) for r in range(height) for c in range(width)]
    a = w.at("%a", _plus(w, first[0], i, p.a[0]), type)
    b = w.at("%b", _plus(w, first[1], j, p.b[1]), type)
    with w.loop(p.k) as turn:
        sums = [turn.carry(type, splat(p.kind, "0.0")) for _ in cells]
        x = w.at(a, _plus(w, 0, turn.index, p.a[1]), type)
        y = w.at(b, _plus(w, 0, turn.index, p.b[0]), type)
        xs = [_load(w, x, r * p.a[0], type) for r in range(height)]
        ys = [_load(w, y, c * p.b[1], type) for c in range(width)]
        sums = [_fma(w, type, xs[r], ys[c], s) for (r, c), s in zip(cells, sums, strict=True)]
        turn.step(sums)
    c0 = w.at("%c", w.plus(w.plus(first[2], w.times(i, p.n)), j), type)
    for (r, c), total in zip(cells, sums, strict=True):
        w.line(f"store {type} {total}, ptr {w.at(c0, r * p.n + c, type)}, align 16")


def _load(w: Writer, base: str, offset: int, type: str) -> str:
    return w.op(f"load {type}, ptr {w.at(base, offset, type)}, align 16")


def _fma(w: Writer, type: str, x: str, y: str, total: str) -> str:
    product = w.op(f"fmul contract {type} {x}, {y}")
    return w.op(f"fadd contract {type} {total}, {product}")
