"""Random programs of safe operations, as data: the same one runs in several libraries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (3, 3), (1, 3), (2, 2, 3)]


@dataclass(frozen=True)
class Op:
    """One step: `run(lib, *values)`, and whether it takes arguments of these shapes."""

    name: str
    arity: int
    run: Callable[..., Any]
    fits: Callable[..., bool] = lambda *shapes: True


def broadcasts(*shapes: Any) -> bool:
    try:
        return len(np.broadcast_shapes(*shapes)) <= 3
    except ValueError:
        return False


def multiplies(a: Any, b: Any) -> bool:
    return len(a) >= 1 and len(b) == 2 and a[-1] == b[0]


def small(lib: Any, x: Any) -> Any:
    """Keeps values in a range in which differences are exact enough."""
    return lib.tanh(x * 0.5) * 2


# All smooth, and tame: programs of them have no overflow, and kinks only by chance.
TABLE = [
    Op("add", 2, lambda lib, x, y: x + y, broadcasts),
    Op("sub", 2, lambda lib, x, y: x - y, broadcasts),
    Op("mul", 2, lambda lib, x, y: small(lib, x) * y, broadcasts),
    Op("div", 2, lambda lib, x, y: x / (y * y + 1.5), broadcasts),
    Op("maximum", 2, lambda lib, x, y: lib.maximum(x, y), broadcasts),
    Op("where", 3, lambda lib, c, x, y: lib.where(c > 0.1, x, y), broadcasts),
    Op("neg", 1, lambda lib, x: -x),
    Op("exp", 1, lambda lib, x: lib.exp(small(lib, x))),
    Op("log", 1, lambda lib, x: lib.log(x * x + 0.5)),
    Op("sqrt", 1, lambda lib, x: lib.sqrt(x * x + 1.0)),
    Op("tanh", 1, lambda lib, x: lib.tanh(x)),
    Op("sigmoid", 1, lambda lib, x: lib.sigmoid(x)),
    Op("square", 1, lambda lib, x: small(lib, x) ** 2),
    Op("cube", 1, lambda lib, x: small(lib, x) ** 3 * 0.2),
    Op("reciprocal", 1, lambda lib, x: 1.0 / (x * x + 1.0)),
    Op("abs", 1, lambda lib, x: abs(x + 0.0123)),
    Op("sum", 1, lambda lib, x: x.sum() * 0.3),
    Op("sum_last", 1, lambda lib, x: x.sum(-1), lambda s: len(s) > 0),
    Op("mean_keep", 1, lambda lib, x: x.mean(-1, keepdims=True), lambda s: len(s) > 0),
    Op("mean_first", 1, lambda lib, x: x.mean(0), lambda s: len(s) > 0),
    Op("max_last", 1, lambda lib, x: lib.amax(x, -1), lambda s: len(s) > 0),
    Op("softmax", 1, lambda lib, x: lib.softmax(x, -1), lambda s: len(s) > 0),
    Op("logsumexp", 1, lambda lib, x: lib.logsumexp(x, -1), lambda s: len(s) > 0),
    Op("swap", 1, lambda lib, x: x.swapaxes(-1, -2), lambda s: len(s) > 1),
    Op("flatten", 1, lambda lib, x: x.reshape(-1)),
    Op("unsqueeze", 1, lambda lib, x: x.unsqueeze(0), lambda s: len(s) < 3),
    Op("first", 1, lambda lib, x: x[0], lambda s: len(s) > 0),
    Op("tail", 1, lambda lib, x: x[..., 1:], lambda s: len(s) > 0 and s[-1] > 1),
    Op("gather", 1, lambda lib, x: x[[0, -1, 0]], lambda s: len(s) > 0),
    Op("twice", 2, lambda lib, x, y: lib.concatenate([x, y], -1),
       lambda a, b: a == b and 0 < len(a) and a[-1] < 4),
    Op("stack", 2, lambda lib, x, y: lib.stack([x, y], 0), lambda a, b: a == b and len(a) < 3),
    Op("matmul", 2, lambda lib, x, y: small(lib, x) @ y, multiplies),
]  # fmt: skip
BY_NAME = {op.name: op for op in TABLE}


@dataclass(frozen=True)
class Program:
    """Input arrays, and steps (name, places of the arguments among all values so far)."""

    inputs: tuple[np.ndarray, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...]

    def __call__(self, lib: Any, *inputs: Any) -> Any:
        """One number that depends on every value nobody used."""
        values = list(inputs)
        used: set[int] = set()
        for name, places in self.steps:
            used.update(places)
            values.append(BY_NAME[name].run(lib, *(values[p] for p in places)))
        ends = [v for i, v in enumerate(values) if i not in used]
        total = 0.0
        for i, v in enumerate(ends):
            total = total + (lib.tanh(v) * (1.0 + 0.1 * i)).sum()
        return total

    def __repr__(self) -> str:
        lines = [f"v{i}: {a.shape}" for i, a in enumerate(self.inputs)]
        for i, (name, places) in enumerate(self.steps, len(self.inputs)):
            lines.append(f"v{i} = {name}({', '.join(f'v{p}' for p in places)})")
        return "Program(" + "; ".join(lines) + ")"


class Shapes:
    """A library of zeros: finds the shape a step gives."""

    def __getattr__(self, name: str) -> Any:
        if name == "softmax":
            return lambda x, axis: x
        if name == "logsumexp":
            return lambda x, axis: x.sum(axis)
        return {"sigmoid": np.tanh}.get(name) or getattr(np, name)


class Zeros(np.ndarray):
    """NumPy with PyTorch's unsqueeze."""

    def unsqueeze(self, axis: int) -> np.ndarray:
        return np.expand_dims(self, axis)


def shape_after(op: Op, shapes: Sequence[Any]) -> tuple[int, ...]:
    arrays = [np.zeros(s).view(Zeros) for s in shapes]
    return np.shape(op.run(Shapes(), *arrays))


@st.composite
def programs(draw: Any, least: int = 5, most: int = 30) -> Program:
    count = draw(st.integers(1, 3))
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    shapes = [draw(st.sampled_from(SHAPES)) for _ in range(count)]
    inputs = tuple(rng.uniform(-1.5, 1.5, s) for s in shapes)
    steps: list[tuple[str, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(least, most))):
        # recent values more often: programs grow deep, not only wide
        last = len(shapes) - 1
        op = draw(st.sampled_from(TABLE))
        places = tuple(last - draw(st.integers(0, last)) for _ in range(op.arity))
        chosen = [shapes[p] for p in places]
        if not op.fits(*chosen):
            partners = [p for p in range(len(shapes)) if op.arity == 2
                        and op.fits(chosen[0], shapes[p])]  # fmt: skip
            if not partners:
                continue
            places = (places[0], partners[-1])
            chosen = [shapes[p] for p in places]
        found = shape_after(op, chosen)
        if np.prod(found, dtype=int) <= 40 and len(found) <= 3:
            steps.append((op.name, places))
            shapes.append(found)
    return Program(inputs, tuple(steps))
