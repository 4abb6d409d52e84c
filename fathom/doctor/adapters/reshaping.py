"""Reshapes that exchange axes: the sizes are those of a permutation, the values are not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fathom.doctor.adapters.graph import Op

Shape = tuple[int, ...]

RESHAPES = frozenset({"view", "unsafe_view", "reshape", "reshape_alias", "flatten"})
TURNS = frozenset({"permute", "transpose", "t", "moveaxis", "swapaxes"})
COPIES = frozenset({"clone", "contiguous", "to_copy", "astype", "cast"})
ELEMENTWISE = COPIES | {
    "relu", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh",
    "softplus", "softsign", "hardtanh", "clamp", "pow", "square", "abs", "exp", "add", "sub",
    "mul", "div", "neg", "dropout",
}  # fmt: skip
OF_ROWS = frozenset({"linear", "layer_norm", "rms_norm"})  # they look at the last axis only


def exchanged(before: Shape, after: Shape) -> tuple[int, int, int] | None:
    """The first axis of two neighbouring blocks that change places, and the size of each block.

    >>> exchanged((32, 10, 8), (10, 32, 8)), exchanged((4, 28, 28, 3), (4, 3, 28, 28))
    ((0, 32, 10), (1, 784, 3))
    >>> exchanged((32, 10, 8), (32, 80)), exchanged((32, 1, 8), (32, 8, 1))
    (None, None)
    """
    apart = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
    if len(before) != len(after) or not apart:
        return None
    a, b = before[apart[0] : apart[-1] + 1], after[apart[0] : apart[-1] + 1]
    for k in range(1, len(a)):
        sizes = math.prod(a[:k]), math.prod(a[k:])
        if a[k:] + a[:k] == b and min(sizes) > 1:
            return apart[0], *sizes
    return None


def swaps(ops: list[Op]) -> tuple[tuple[str, Shape, Shape], ...]:
    """Each reshape that exchanges axes and is not taken back: the layer that gets its values (""
    if only the loss does), and the shapes before and after."""
    kept = {i: shapes for i in range(len(ops)) if (shapes := _swap(ops, i)) is not None}
    pairs = {i: _taken_back(ops, i, kept) for i in kept}
    harmless = {i for i, found in pairs.items() if found} | {j for f in pairs.values() for j in f}
    users = {at: i for i in reversed(range(len(ops))) for at in ops[i].inputs}  # the nearest
    return tuple((_user(ops, i, users), *kept[i]) for i in kept if i not in harmless)


def _swap(ops: list[Op], at: int) -> tuple[Shape, Shape] | None:
    """The shapes before and after a reshape that exchanges axes; also one in several goes. What
    was permuted is in another order already, and then the sizes tell nothing."""
    shapes = ops[at].shapes
    if shapes is None or ops[at].name not in RESHAPES or shapes[0] == shapes[1]:
        return None
    found, after = None, shapes[1]
    while ops[at].name in RESHAPES | COPIES and ops[at].inputs:
        before = ops[at].shapes
        if found is None and before is not None and exchanged(before[0], after):
            found = before[0], after
        at = ops[at].inputs[0]
        under = ops[at].shapes
        if found is None and under is not None and exchanged(*under):
            return None  # the one below has done it
    return None if ops[at].name in TURNS | RESHAPES else found


def _taken_back(ops: list[Op], at: int, kept: dict[int, tuple[Shape, Shape]]) -> set[int]:
    """The swaps which this one takes back, if between them every row is looked at by itself."""
    before, after = kept[at]
    first, m, n = exchanged(before, after) or (0, 0, 0)
    by_rows = OF_ROWS if before[-1] == after[-1] else frozenset()
    found: set[int] = set()
    queue = list(ops[at].inputs)
    for i in queue:
        op = ops[i]
        if i in kept and exchanged(*kept[i]) == (first, n, m):
            found.add(i)
            continue
        view = op.shapes is not None and op.shapes[0][-1:] == op.shapes[1][-1:] and bool(by_rows)
        known = op.name in ELEMENTWISE or (op.name in by_rows and bool(op.parameters)) or view
        if not known or not op.inputs:
            return set()
        queue.extend(j for j in op.inputs if j not in queue)
    return found


def _user(ops: list[Op], at: int, users: dict[int, int]) -> str:
    """The layer that gets an operation's values, on the shortest way to the loss."""
    while at in users:
        at = users[at]
        if ops[at].layer:
            return ops[at].layer
    return ""


__all__ = ["RESHAPES", "exchanged", "swaps"]
