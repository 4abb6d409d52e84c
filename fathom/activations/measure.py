"""The property audit: what textbooks tick in tables, measured on the function itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.activations.formulas import FORMULAS
from fathom.engine.backward import grad as gradients
from fathom.engine.errors import ArgumentError, suggest
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.ops import elementwise as e
from fathom.ops.analysis import analyse
from fathom.ops.formula import Formula

Function = Callable[[Array], Array]

POINTS = 24001
FUSED = {"relu": e.relu, "sigmoid": e.sigmoid, "tanh": e.tanh}  # primitives the layers run
ORDERS = 3  # derivatives looked at for jumps
NARROW = 1e-9  # a difference that stays over an interval this wide is a jump


@dataclass(frozen=True)
class Kink:
    """A place where a derivative jumps (order 0: the function itself), and by how much."""

    x: float
    order: int
    jump: float


@dataclass(frozen=True)
class Audit:
    """The measured properties of one activation.

    range : infimum and supremum of f (limits count). monotone : never falls, or never rises.
    smoothness : how many derivatives are continuous (-1: f itself jumps; inf: as many as were
    looked at, three). mean, std : of f(z) for z ~ N(0, 1). saturates : the sides ("left",
    "right") on which f settles at a finite value. flat_share : share of z ~ N(0, 1) with
    |f'(z)| < 0.01. slopes : smallest and largest f'. lipschitz : the least L with
    |f(x) - f(y)| <= L |x - y|. operations : of the expression. cost : time per element,
    float32, uncompiled, relative to ReLU (nan where not timed).
    """

    name: str
    range: tuple[float, float]
    monotone: bool
    smoothness: float
    kinks: tuple[Kink, ...]
    mean: float
    std: float
    saturates: tuple[str, ...]
    flat_share: float
    slopes: tuple[float, float]
    lipschitz: float
    operations: int | None
    cost: float

    @property
    def smooth(self) -> bool:
        """No jump in the function or its first three derivatives."""
        return self.smoothness == math.inf

    @property
    def zero_centred(self) -> bool:
        """|mean| under N(0, 1) below 0.01."""
        return abs(self.mean) < 0.01

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            f"({_number(self.range[0])}, {_number(self.range[1])})",
            "yes" if self.monotone else "no",
            "smooth" if self.smooth else "jumps" if self.smoothness < 0
            else f"C{self.smoothness:.0f}",
            f"{self.mean:.3f}",
            f"{self.std:.3f}",
            "+".join(self.saturates) or "-",
            f"{100 * self.flat_share:.1f}%",
            f"{_number(self.slopes[0])} .. {_number(self.slopes[1])}",
            _number(self.lipschitz),
            "-" if self.operations is None else str(self.operations),
            "-" if math.isnan(self.cost) else f"{self.cost:.1f}",
        )  # fmt: skip

    def __str__(self) -> str:
        return str(AuditTable((self,)))


@dataclass(frozen=True)
class AuditTable:
    """Several audits; prints as a table."""

    rows: tuple[Audit, ...]

    header = ("activation", "range", "monotone", "smooth", "mean", "std", "saturates", "flat",
              "slope", "Lipschitz", "ops", "cost")  # fmt: skip

    def __getitem__(self, name: str) -> Audit:
        found = {row.name: row for row in self.rows}
        if name not in found:
            raise ArgumentError(f"the table has no {name!r}", fix=suggest(str(name), found))
        return found[name]

    def __str__(self) -> str:
        table = [self.header, *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(self.header))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    __repr__ = __str__


def _number(value: float) -> str:
    return f"{value:g}" if value in (0.0, 1.0) or math.isinf(value) else f"{value:.4g}"


def audit(
    activation: Any = None, low: float = -12.0, high: float = 12.0, timing: bool = True
) -> Audit | AuditTable:
    """See `fathom.activations.audit`."""
    if not low < 0.0 < high:
        raise ArgumentError(f"audit: needs low < 0 < high; received {low} and {high}")
    if activation is None:
        activation = list(FORMULAS)
    if isinstance(activation, Iterable) and not isinstance(activation, str) \
            and not callable(activation):  # fmt: skip
        return AuditTable(tuple(_audit(a, low, high, timing) for a in activation))
    return _audit(activation, low, high, timing)


# -- the function and its derivatives ------------------------------------------------------------


def _resolve(activation: Any) -> tuple[str, Any]:
    if isinstance(activation, str):
        if activation.lower() not in FORMULAS:
            raise ArgumentError(
                f"audit: unknown activation {activation!r}", fix=suggest(activation, FORMULAS)
            )
        activation = FORMULAS[activation.lower()]
    if not callable(activation):
        raise ArgumentError(
            f"audit: needs a name, a formula, a layer or a function; received {activation!r}"
        )
    name = getattr(activation, "__name__", type(activation).__name__)
    return str(name).replace("<lambda>", "function"), activation


def _derivatives(activation: Any) -> list[Function]:
    """f, f', f'', f''' on arrays."""
    if isinstance(activation, Formula):
        formulas = [activation, *(activation.derivative(k) for k in range(1, ORDERS + 1))]
        fixed = [activation.defaults[n] for n in activation.names[1:]]
        return [_of_formula(f, fixed) for f in formulas]
    return [_of_callable(activation, k) for k in range(ORDERS + 1)]


def _of_formula(formula: Formula, fixed: list[float]) -> Function:
    def call(x: Array) -> Array:
        x = np.asarray(x, np.float64)
        out = formula.apply(x, *fixed)
        return np.broadcast_to(out.value() if isinstance(out, Tensor) else out, x.shape)

    return call


def _of_callable(function: Any, order: int) -> Function:
    """The derivative of that order by reverse mode, repeated."""

    def call(x: Array) -> Array:
        point = Tensor(np.asarray(x, np.float64), True)
        y = function(point)
        if not isinstance(y, Tensor) or y.shape != point.shape:
            raise ArgumentError(
                "audit: the function must give one number for each number it gets",
                fix="softmax, glu and maxout look at a whole axis; they have no such table",
            )
        for _ in range(order):
            if not y.requires_grad:
                return np.zeros(point.shape)
            y = _slope(y, point)
        return y.value().astype(np.float64)

    return call


def _slope(y: Tensor, x: Tensor) -> Tensor:
    ones = Tensor(np.ones(y.shape, y.dtype))
    found = gradients([y], [x], [ones], create_graph=True, allow_unused=True)[0]
    return Tensor(np.zeros(x.shape)) if found is None else found


# -- measuring -----------------------------------------------------------------------------------


def _audit(activation: Any, low: float, high: float, timing: bool) -> Audit:
    name, function = _resolve(activation)
    orders = _derivatives(function)
    x = np.linspace(low, high, POINTS) + 1e-7 * math.pi  # off the round numbers
    with np.errstate(all="ignore"):
        values = [f(x) for f in orders]
        found = analyse(orders[0], orders[1], low, high)
        kinks = _kinks(orders, values, x)
        y, slope = values[0], values[1]
        ends = [v for v in (found.left_limit, found.right_limit) if not math.isnan(v)]
        heights = [*ends, *(peak.value for peak in found.extrema), float(y.min()), float(y.max())]
        # the far slopes count where the function grows without end
        far = [v for v in (found.left_slope, found.right_slope) if not math.isnan(v)]
        slopes = [*far, _refined(orders[1], x, slope, -1.0), _refined(orders[1], x, slope, 1.0)]
        mean, std, flat = _under_normal(orders[0], orders[1])
    jumps = any(k.order == 0 for k in kinks)
    return Audit(
        name=name,
        range=(_snapped(min(heights)), _snapped(max(heights))),
        monotone=_monotone(y),
        smoothness=min((k.order - 1 for k in kinks), default=math.inf),
        kinks=kinks,
        mean=mean,
        std=std,
        saturates=tuple(
            side
            for side, limit in (("left", found.left_limit), ("right", found.right_limit))
            if math.isfinite(limit)
        ),
        flat_share=flat,
        slopes=(_snapped(min(slopes)), _snapped(max(slopes))),
        lipschitz=math.inf if jumps else _snapped(max(abs(s) for s in slopes)),
        operations=function.operations() if isinstance(function, Formula) else None,
        cost=_cost(function) if timing else math.nan,
    )


def _snapped(value: float) -> float:
    """Values within rounding of a whole number are that number."""
    nearest = round(value) if math.isfinite(value) else value
    return float(nearest) if abs(value - nearest) < 1e-9 else float(value)


def _monotone(y: Array) -> bool:
    steps = np.diff(y)
    slack = 1e-12 * max(1.0, float(np.abs(y).max()))
    return bool((steps >= -slack).all() or (steps <= slack).all())


def _refined(slope: Function, x: Array, values: Array, sign: float) -> float:
    """The largest (sign 1) or smallest slope, by zooming in around the best point."""
    best = int(np.argmax(sign * values))
    left, right = float(x[max(best - 1, 0)]), float(x[min(best + 1, len(x) - 1)])
    top = float(values[best])
    for _ in range(6):
        fine = np.linspace(left, right, 41)
        at = slope(fine)
        best = int(np.argmax(sign * at))
        top = sign * max(sign * top, sign * float(at[best]))
        left, right = float(fine[max(best - 1, 0)]), float(fine[min(best + 1, 40)])
    return top


def _kinks(orders: list[Function], values: list[Array], x: Array) -> tuple[Kink, ...]:
    """Where f or a derivative jumps: a difference that stays however near the points."""
    found: list[Kink] = []
    for order, (f, y) in enumerate(zip(orders, values, strict=True)):
        steps = np.abs(np.diff(y))
        usual = np.median(steps) + 1e-12
        for i in np.flatnonzero(steps > np.maximum(4.0 * usual, 1e-6)):
            if i and steps[i - 1] >= steps[i]:
                continue  # the neighbour is the candidate
            if i + 1 < len(steps) and steps[i + 1] > steps[i]:
                continue
            place, jump = _narrowed(f, float(x[i]), float(x[i + 1]))
            if abs(jump) > max(0.2 * steps[i], 1e-5) and not any(
                abs(k.x - place) < 1e-6 for k in found
            ):
                found.append(Kink(round(place, 6) + 0.0, order, jump))
    return tuple(sorted(found, key=lambda k: k.x))


def _narrowed(f: Function, low: float, high: float) -> tuple[float, float]:
    """Halve an interval, always into the half with the larger difference."""
    a, b = (float(v) for v in f(np.array([low, high])))
    while high - low > NARROW:
        middle = 0.5 * (low + high)
        m = float(f(np.array([middle]))[0])
        if abs(m - a) >= abs(b - m):
            high, b = middle, m
        else:
            low, a = middle, m
    return 0.5 * (low + high), b - a


def _under_normal(f: Function, slope: Function) -> tuple[float, float, float]:
    """Mean and standard deviation of f(z), and the share of flat places, for z ~ N(0, 1)."""
    z = np.linspace(-9.0, 9.0, 180000)  # no point on 0 or on a whole number
    weight = np.exp(-0.5 * z * z)
    weight /= weight.sum()
    y = f(z)
    mean = float(weight @ y)
    flat = float(weight @ (np.abs(slope(z)) < 0.01))
    return _snapped(mean), math.sqrt(max(float(weight @ ((y - mean) ** 2)), 0.0)), flat


def _seconds(function: Any) -> float:
    """The best of several runs on 65,536 float32 numbers."""
    x = Tensor(np.random.default_rng(0).standard_normal(1 << 16).astype(np.float32))
    best = math.inf
    with no_grad():
        function(x)
        for _ in range(7):
            start = time.perf_counter()
            function(x)
            best = min(best, time.perf_counter() - start)
    return best


def _cost(function: Any) -> float:
    fused = FUSED.get(function.name, function) if isinstance(function, Formula) else function
    return _seconds(fused) / _seconds(e.relu)
