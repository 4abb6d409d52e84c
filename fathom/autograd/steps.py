"""The backward pass one node at a time: upstream gradient, local rule, products, sums."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.backward import Sweep, accumulate, seed
from fathom.engine.modes import no_grad
from fathom.engine.tape import Node, match, parent_spec
from fathom.engine.tensor import (
    Array,
    Edge,
    Tensor,
    TensorLike,
)


@dataclass(frozen=True)
class Contribution:
    """What one node passes to one of its inputs."""

    target: Node | Tensor
    local: Array | None  # the derivative of the node's output by this input, if elementwise
    product: Array  # upstream times local: what arrives
    total: Array  # what the input has collected so far, this included


@dataclass(frozen=True)
class BackwardStep:
    """One node's turn: the gradient it received and what it made of it."""

    number: int
    node: Node
    upstream: Any
    contributions: tuple[Contribution, ...]

    def __str__(self) -> str:
        lines = [f"{self.number}. {self.node.primitive.name}: upstream {_text(self.upstream)}"]
        for c in self.contributions:
            local = "" if c.local is None else f" local {_text(c.local)},"
            total = f", total {_text(c.total)}"
            lines.append(f"   -> {name_of(c.target)}:{local} product {_text(c.product)}{total}")
        return "\n".join(lines)


def name_of(target: Node | Tensor) -> str:
    """How a node or a leaf is called in drawings."""
    if isinstance(target, Node):
        return target.primitive.name
    return target.name or ("leaf" if target.shape else "number")


def _text(array: Any) -> str:
    if isinstance(array, tuple):
        return "(" + ", ".join("-" if a is None else _text(a) for a in array) + ")"
    return np.array2string(np.asarray(array), precision=4, separator=", ", threshold=8)


class _Slow(Sweep):
    """A sweep that stops after each node and tells what happened."""

    def steps(self) -> Iterator[BackwardStep]:
        number = 0
        while self.queue:
            node = heapq.heappop(self.queue)[1]
            slot = self.pending.pop(node)
            several = isinstance(node.dtype, tuple)
            upstream = tuple(s and s[0] for s in slot) if several else slot[0]
            if node.hooks or node.kept:
                upstream = self.run_hooks(node, upstream)
            saved, out = node.saved, node.out
            with no_grad():
                upstream, results = self.pull_hooked(node, upstream)
            number += 1
            parts = []
            for i, (parent, result) in enumerate(zip(node.parents, results, strict=True)):
                if parent is None or result is None:
                    continue
                product = match(result, parent_spec(parent))
                self.give(parent, product, False)
                target = parent if isinstance(parent, Tensor) else parent[0]
                local = local_derivative(node, i, saved, out)
                parts.append(Contribution(target, local, product, self.total(parent).copy()))
            yield BackwardStep(number, node, upstream, tuple(parts))

    def total(self, target: Edge | Tensor) -> Array:
        if isinstance(target, Tensor):
            return self.leaves[id(target)][1][0]
        node, index = target
        slot = self.pending[node]
        return slot[index][0] if isinstance(node.dtype, tuple) else slot[0]


def local_derivative(node: Node, i: int, saved: Any, out: Any) -> Array | None:
    """d output / d input i of an elementwise node."""
    if node.primitive.form != "elementwise":
        return None
    rule = node.primitive.rules[i]
    if not callable(rule):
        return np.asarray(float(rule))
    ins = [a.value() if isinstance(a, Tensor) else a for a in saved]
    return np.asarray(rule(out, *ins))


def backward_steps(loss: Tensor, gradient: TensorLike | None = None) -> Iterator[BackwardStep]:
    """`loss.backward()` as an iterator: one step a node, in the order of the real pass.

    When it has run to its end, the leaves have their `grad`, exactly as after `backward`.

    >>> import fathom
    >>> a = fathom.tensor(2.0, requires_grad=True)
    >>> for step in backward_steps(a * a + a):
    ...     print(step)
    1. add: upstream 1.
       -> mul: local 1., product 1., total 1.
       -> number: local 1., product 1., total 1.
    2. mul: upstream 1.
       -> number: local 2., product 2., total 3.
       -> number: local 2., product 2., total 5.
    """
    sweep = _Slow(0, False, False, ())
    sweep.give(loss.edge or loss, seed(loss, gradient, False), False)
    yield from sweep.steps()
    sweep.finish()
    for leaf, total in sweep.leaves.values():
        accumulate(leaf, total[0], False)
