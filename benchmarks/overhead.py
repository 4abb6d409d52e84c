"""What a node costs: relu on a 4x4 float32 array, in a chain of 100.

    python benchmarks/overhead.py [--json FILE] [--quick] [--threads N]

Beside Fathom: PyTorch, bare NumPy (no gradients: the floor), and the smallest tape over arrays
that could be called one (below, in the manner of micrograd): what a gradient costs in Python
when nothing is checked, named, versioned or hooked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import harness

LENGTH = 100
CASES = ["forward", "forward + backward"]
START = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


# -- the bare tape -------------------------------------------------------------------------------


class Value:
    """An array, its gradient, and how to hand the gradient on."""

    __slots__ = ("back", "data", "grad", "parents")

    def __init__(
        self,
        data: Any,
        parents: tuple[Value, ...] = (),
        back: Callable[[Any], tuple[Any, ...]] | None = None,
    ) -> None:
        self.data = data
        self.grad: Any = None
        self.parents = parents
        self.back = back

    def __add__(self, other: Value) -> Value:
        return Value(self.data + other.data, (self, other), lambda g: (g, g))

    def __mul__(self, other: Value) -> Value:
        return Value(
            self.data * other.data, (self, other), lambda g: (g * other.data, g * self.data)
        )

    def relu(self) -> Value:
        out = np.maximum(self.data, 0)
        return Value(out, (self,), lambda g: (g * (out > 0),))

    def sum(self) -> Value:
        return Value(self.data.sum(), (self,), lambda g: (np.broadcast_to(g, self.data.shape),))

    def backward(self) -> None:
        order: list[Value] = []
        seen: set[int] = set()
        stack = [(self, False)]
        while stack:
            value, done = stack.pop()
            if done:
                order.append(value)
            elif id(value) not in seen:
                seen.add(id(value))
                stack.append((value, True))
                stack.extend((parent, False) for parent in value.parents)
        self.grad = np.ones_like(self.data)
        for value in reversed(order):
            if value.back is None:
                continue
            for parent, gradient in zip(value.parents, value.back(value.grad), strict=True):
                parent.grad = gradient if parent.grad is None else parent.grad + gradient


# -- what is timed -------------------------------------------------------------------------------


def chain_of(leaf: Any, relu: Callable[[Any], Any], case: str) -> tuple[Callable[[], Any], float]:
    def forward() -> Any:
        x = leaf
        for _ in range(LENGTH):
            x = relu(x)
        return x

    def both() -> None:
        leaf.grad = None
        forward().sum().backward()

    return (forward if case == "forward" else both), LENGTH


def fathom_chain(case: str) -> tuple[Callable[[], Any], float]:
    import fathom

    return chain_of(fathom.tensor(START, requires_grad=True), fathom.relu, case)


def torch_chain(case: str) -> tuple[Callable[[], Any], float]:
    import torch

    return chain_of(torch.tensor(START, requires_grad=True), torch.relu, case)


def tape_chain(case: str) -> tuple[Callable[[], Any], float]:
    return chain_of(Value(START), Value.relu, case)


def numpy_chain(case: str) -> tuple[Callable[[], Any], float]:
    """Forward, and by hand backward: the arithmetic alone."""

    def both() -> Any:
        outs, x = [], START
        for _ in range(LENGTH):
            x = np.maximum(x, 0)
            outs.append(x)
        g = np.ones_like(x)
        for out in reversed(outs):
            g = g * (out > 0)
        return g

    if case == "forward":
        return chain_of(START, lambda x: np.maximum(x, 0), case)
    return both, LENGTH


if __name__ == "__main__":
    harness.run(
        __file__,
        "microseconds a node",
        {
            "fathom": fathom_chain,
            "torch": torch_chain,
            "numpy": numpy_chain,
            "tape": tape_chain,
        },
        CASES,
        "The cost of one small operation, beside PyTorch, NumPy and a bare tape.",
    )
