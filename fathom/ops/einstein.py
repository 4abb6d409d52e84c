"""Einstein summation: products and sums described by letters, computed by `matmul`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import operand
from fathom.ops.linalg import matmul
from fathom.ops.reduce import sum as sum_
from fathom.ops.shape import permute, reshape
from fathom.ops.triangle import diagonal

__all__ = ["einsum"]

Label = str | int  # a letter, or how far from the right an axis of an ellipsis lies


class Part(NamedTuple):
    """An operand and the label of each of its axes."""

    x: Any
    labels: tuple[Label, ...]


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products by the letters of the axes: "ij,jk->ik" is the matrix product.

    Letters that do not stand behind the arrow are summed over. Without an arrow, those that
    occur once come out, in alphabetical order. "..." stands for axes that broadcast; a letter
    twice in one operand takes a diagonal.

    >>> import fathom
    >>> x, y = fathom.ones(2, 3), fathom.ones(3, 4)
    >>> fathom.einsum("ij,jk->ik", x, y).shape
    (2, 4)
    >>> fathom.einsum("ij->j", x)
    tensor([2., 2., 2.])
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    values = [operand(x) for x in operands]
    terms, output = parse(equation, values)
    sizes = sizes_of(equation, terms, values)
    parts = [_normal(Part(x, t), sizes) for x, t in zip(values, terms, strict=True)]
    for label in output:
        if label not in sizes:
            raise ArgumentError(
                f"einsum: output letter {label!r} of {equation!r} stands in no operand"
            )
    if len(set(output)) < len(output):
        raise ArgumentError(f"einsum: a letter stands twice in the output of {equation!r}")
    while len(parts) > 1:
        i, j = _cheapest(parts, output, sizes)
        right, left = parts.pop(j), parts.pop(i)
        parts.append(_pair(left, right, _kept(parts, output), sizes))
    x, labels = _sum_out(parts[0], set(output))
    return permute(x, tuple(labels.index(label) for label in output))


# -- reading the equation ----------------------------------------------------------------------


def parse(
    equation: str, values: Sequence[TensorLike]
) -> tuple[list[tuple[Label, ...]], tuple[Label, ...]]:
    """The labels of each operand and of the output."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(values):
        raise ArgumentError(
            f"einsum: {equation!r} describes {len(terms)} operands; received {len(values)}",
            fix="one group of letters for each operand, with commas between",
        )
    labels = [_labels(t, x.ndim, equation, i) for i, (t, x) in enumerate(zip(terms, values))]  # type: ignore[union-attr]  # noqa: B905
    dots = sorted({k for term in labels for k in term if isinstance(k, int)})
    if arrow:
        return labels, _output_labels(right, dots, equation)
    letters = [k for term in labels for k in term if isinstance(k, str)]
    return labels, (*dots, *sorted(k for k in set(letters) if letters.count(k) == 1))


def _letters(text: str, equation: str) -> list[str]:
    """The letters of one group, with at most one "..." among them."""
    pieces = text.split("...")
    letters = list(pieces[0]) + ["..."] * (len(pieces) - 1) + list("".join(pieces[1:]))
    wrong = [k for k in letters if k != "..." and not (k.isascii() and k.isalpha())]
    if wrong or len(pieces) > 2:
        what = f"{wrong[0]!r}" if wrong else "two '...' in one group"
        raise ArgumentError(
            f"einsum: {what} in {equation!r}", fix="letters, commas, '->' and '...' only"
        )
    return letters


def _labels(text: str, ndim: int, equation: str, position: int) -> tuple[Label, ...]:
    letters = _letters(text, equation)
    hidden = ndim - sum(k != "..." for k in letters)
    if hidden < 0 or (hidden and "..." not in letters):
        raise ShapeError(
            f"einsum: {text!r} in {equation!r} names {ndim - hidden} axes; operand {position} "
            f"has {ndim}",
            fix="one letter for each axis, or '...' for those that broadcast",
        )
    labels: list[Label] = []
    for k in letters:
        labels.extend(range(-hidden, 0) if k == "..." else [k])
    return tuple(labels)


def _output_labels(text: str, dots: list[int], equation: str) -> tuple[Label, ...]:
    labels: list[Label] = []
    for k in _letters(text, equation):
        labels.extend(dots if k == "..." else [k])
    return tuple(labels)


def sizes_of(equation: str, terms: Any, values: Any) -> dict[Label, int]:
    """The size of each label; 1 gives way to the size of others."""
    sizes: dict[Label, int] = {}
    owner: dict[Label, str] = {}
    for i, (term, x) in enumerate(zip(terms, values, strict=True)):
        for axis, label in enumerate(term):
            n = x.shape[axis]
            if sizes.get(label, 1) not in (1, n) and n != 1:
                raise ShapeError(
                    f"einsum: axis {label!r} of {equation!r} has size {sizes[label]} in "
                    f"{owner[label]} and {n} in operand {i} {mark_axes(x.shape, [axis])}"
                )
            if sizes.get(label, 1) == 1:
                sizes[label] = n
                owner[label] = f"operand {i} {mark_axes(x.shape, [axis])}"
    return sizes


# -- computing ---------------------------------------------------------------------------------


def _normal(part: Part, sizes: dict[Label, int]) -> Part:
    """Every label once (diagonals taken), and no axis of size 1 that broadcasts."""
    x, labels = part
    for label in labels:
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(
                    f"einsum: a diagonal of {mark_axes(x.shape, [i, j])} needs equal sizes"
                )
            x = diagonal(x, 0, i, j)
            labels = (*(k for n, k in enumerate(labels) if n not in (i, j)), label)
    keep = [i for i, label in enumerate(labels) if x.shape[i] == sizes[label]]
    if len(keep) < len(labels):
        x = reshape(x, tuple(x.shape[i] for i in keep))
    return Part(x, tuple(labels[i] for i in keep))


def _kept(others: Sequence[Part], output: Sequence[Label]) -> set[Label]:
    """The labels still needed after a contraction."""
    return set(output).union(*(part.labels for part in others))


def _cheapest(
    parts: Sequence[Part], output: Sequence[Label], sizes: dict[Label, int]
) -> tuple[int, int]:
    """The pair whose product is smallest compared with what it replaces."""

    def growth(pair: tuple[int, int]) -> int:
        i, j = pair
        rest = [p for k, p in enumerate(parts) if k not in pair]
        left, right = set(parts[i].labels), set(parts[j].labels)
        out = (left | right) & _kept(rest, output)
        product, *before = (math.prod(sizes[k] for k in labels) for labels in (out, left, right))
        return product - sum(before)

    pairs = [(i, j) for j in range(len(parts)) for i in range(j)]
    return min(pairs, key=growth)


def _sum_out(part: Part, keep: set[Label]) -> Part:
    """Without the labels nobody needs."""
    axes = tuple(i for i, label in enumerate(part.labels) if label not in keep)
    if not axes:
        return part
    return Part(sum_(part.x, axes), tuple(k for k in part.labels if k in keep))


def _pair(left: Part, right: Part, keep: set[Label], sizes: dict[Label, int]) -> Part:
    """The product of two parts, summed over what only they share: one batched matmul."""
    left = _sum_out(left, keep | set(right.labels))
    right = _sum_out(right, keep | set(left.labels))
    shared = [k for k in left.labels if k in right.labels]
    batch, inner = [k for k in shared if k in keep], [k for k in shared if k not in keep]
    rows = [k for k in left.labels if k not in shared]
    columns = [k for k in right.labels if k not in shared]
    b, n, k, m = ([sizes[s] for s in group] for group in (batch, rows, inner, columns))
    x = permute(left.x, tuple(left.labels.index(s) for s in (*batch, *rows, *inner)))
    y = permute(right.x, tuple(right.labels.index(s) for s in (*batch, *inner, *columns)))
    labels = (*batch, *rows, *columns)
    if not inner:
        x, y = reshape(x, (*b, *n, *(1,) * len(m))), reshape(y, (*b, *(1,) * len(n), *m))
        return Part(x * y, labels)
    lead = [math.prod(b)] if batch else []
    x = reshape(x, (*lead, math.prod(n), math.prod(k)))
    y = reshape(y, (*lead, math.prod(k), math.prod(m)))
    return Part(reshape(matmul(x, y), (*b, *n, *m)), labels)
