"""L-BFGS with PyTorch's closure interface, and the line search for the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array
from fathom.optim.optimizer import Closure, at_least, evaluate
from fathom.optim.whole import WholeOptimizer, number


class LBFGS(WholeOptimizer):
    """Quasi-Newton steps from the last `history_size` changes (Liu & Nocedal, 1989).

    `step(closure)` does up to `max_iter` iterations on the loss that the closure computes with
    its gradients. Without `line_search_fn="strong_wolfe"` every step has length `lr`, which can
    diverge. For full batches.

    >>> import fathom
    >>> w = fathom.nn.Parameter([3.0, -2.0])
    >>> optimizer = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((w - fathom.tensor([1.0, 2.0])) ** 4).sum()
    ...     loss.backward()
    ...     return loss
    >>> first = optimizer.step(closure)
    >>> bool(closure() < 1e-6)
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ArgumentError(
                f"LBFGS: line_search_fn is None or 'strong_wolfe'; received {line_search_fn!r}"
            )
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "LBFGS"),
            "max_iter": int(at_least(max_iter, 1, "max_iter", "LBFGS")),
            "max_eval": max_iter * 5 // 4 if max_eval is None else int(max_eval),
            "tolerance_grad": at_least(tolerance_grad, 0.0, "tolerance_grad", "LBFGS"),
            "tolerance_change": at_least(tolerance_change, 0.0, "tolerance_change", "LBFGS"),
            "history_size": int(at_least(history_size, 1, "history_size", "LBFGS")),
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        self.evaluations = 0
        self.changes: list[Array] = []  # y: differences of gradients
        self.moves: list[Array] = []  # s: differences of weights
        self.scale = 1.0  # of the initial inverse Hessian
        self.direction: Array | None = None
        self.length = 0.0
        self.last_gradient: Array | None = None

    def step(self, closure: Closure | None = None) -> Any:
        """Up to `max_iter` iterations; returns the loss before the first."""
        if closure is None:
            raise ArgumentError("LBFGS.step needs a closure that computes loss and gradients")
        group = self.param_groups[0]
        start = self.weights()
        try:
            with np.errstate(all="ignore"):
                return self._iterate(group, closure)
        except ArithmeticError:
            self.check_finite, checked = False, self.check_finite
            self.place(start)
            self.check_finite = checked
            raise

    def _iterate(self, group: dict[str, Any], closure: Closure) -> Any:
        first = evaluate(closure)
        self.evaluations += 1
        loss, g, calls = float(first), self.gradient(), 1
        smallest = group["tolerance_change"]
        if np.abs(g).max() <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            self.iterations += 1
            d = self._direction(g, group["history_size"])
            self.direction, self.last_gradient, before = d, g.copy(), loss
            t = group["lr"]
            if self.iterations == 1:
                t *= min(1.0, 1.0 / float(np.abs(g).sum()))
            self.length = t
            slope = float(g @ d)
            if slope > -smallest:
                break
            loss, g, used = self._move(group, closure, d, slope, Point(t, loss, g, slope),
                                       calls, last=iteration == group["max_iter"])  # fmt: skip
            calls += used
            self.evaluations += used
            if iteration == group["max_iter"] or calls >= group["max_eval"]:
                break
            if np.abs(g).max() <= group["tolerance_grad"]:
                break
            if np.abs(d * self.length).max() <= smallest or abs(loss - before) < smallest:
                break
        return first

    def _direction(self, g: Array, size: int) -> Array:
        """Minus the inverse Hessian times the gradient, by the two-loop recursion."""
        if self.direction is None or self.last_gradient is None:
            return -g
        y, s = g - self.last_gradient, self.direction * self.length
        if float(y @ s) > 1e-10:
            self.changes = [*self.changes[-(size - 1) :], y] if size > 1 else [y]
            self.moves = [*self.moves[-(size - 1) :], s] if size > 1 else [s]
            self.scale = float(y @ s) / float(y @ y)
        pairs = [(y, s, 1.0 / float(y @ s)) for y, s in zip(self.changes, self.moves, strict=True)]
        q, parts = -g, []
        for y, s, rho in reversed(pairs):
            parts.append(rho * float(s @ q))
            q -= parts[-1] * y
        q *= self.scale
        for (y, s, rho), part in zip(pairs, reversed(parts), strict=True):
            q += (part - rho * float(y @ q)) * s
        return q

    def _move(
        self, group: dict[str, Any], closure: Closure, d: Array, slope: float, now: Point,
        calls: int, last: bool,
    ) -> tuple[float, Array, int]:  # fmt: skip
        """Take the step; (loss, gradient, evaluations) where it leads."""
        origin = self.weights()

        def at(t: float) -> Point:
            loss = self.value_at(closure, origin + t * d)
            g = self.gradient()
            return Point(t, loss, g, float(g @ d))

        if group["line_search_fn"] is not None:
            zero = Point(0.0, now.loss, now.gradient, slope)
            most = group["max_eval"] - calls
            found, used = strong_wolfe(
                at, now.t, zero, float(np.abs(d).max()), group["tolerance_change"], most
            )
            self.length = found.t
            self.place(origin + found.t * d)
            return found.loss, found.gradient, used
        if last:  # with noise there is no use for another evaluation
            self.place(origin + now.t * d)
            return now.loss, now.gradient, 0
        found = at(now.t)
        return found.loss, found.gradient, 1

    def memory(self) -> dict[str, Any]:
        if self.direction is None or self.last_gradient is None:
            return {"func_evals": self.evaluations}
        empty = np.zeros((0, self.direction.size), self.direction.dtype)
        return {
            "func_evals": self.evaluations,
            "d": self.direction,
            "t": self.length,
            "old_dirs": np.stack(self.changes) if self.changes else empty,
            "old_stps": np.stack(self.moves) if self.moves else empty,
            "H_diag": self.scale,
            "prev_flat_grad": self.last_gradient,
        }

    def remember(self, memory: Mapping[str, Array]) -> None:
        self.evaluations = int(number(memory["func_evals"])) if memory else 0
        if "d" in memory:
            self.direction, self.last_gradient = memory["d"], memory["prev_flat_grad"]
            self.changes, self.moves = list(memory["old_dirs"]), list(memory["old_stps"])
            self.length, self.scale = number(memory["t"]), number(memory["H_diag"])


# -- the line search -----------------------------------------------------------------------------


class Point(NamedTuple):
    """A step length, with loss, gradient and slope there."""

    t: float
    loss: float
    gradient: Array
    slope: float


def strong_wolfe(
    at: Callable[[float], Point],
    t: float,
    zero: Point,
    size: float,
    tolerance: float = 1e-9,
    most: int = 25,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> tuple[Point, int]:
    """A step that lowers the loss enough and flattens its slope: (point, evaluations).

    Bracketing and zooming with cubic interpolation (Nocedal & Wright, 2006, section 3.5), with
    the safeguards of minFunc (Schmidt, 2005), which PyTorch follows too.
    """

    def too_high(p: Point) -> bool:
        return not p.loss <= zero.loss + c1 * p.t * zero.slope  # nan is too high, too

    def flat(p: Point) -> bool:
        return abs(p.slope) <= -c2 * zero.slope

    now, before, tries = at(t), zero, 0
    calls = 1
    bracket = [zero, now]
    while tries < most:
        risen = too_high(now) or (tries > 1 and now.loss >= before.loss)
        if not risen and flat(now):
            return now, calls
        if risen or now.slope >= 0:
            bracket = [before, now]
            break
        low, high = now.t + 0.01 * (now.t - before.t), now.t * 10.0
        t = cubic(before, now, low, high)
        before, now = now, at(t)
        calls, tries = calls + 1, tries + 1
    else:
        bracket = [zero, now]
    return _zoom(at, bracket, zero, size, tolerance, most, tries, calls, too_high, flat)


def _zoom(
    at: Callable[[float], Point], bracket: list[Point], zero: Point, size: float,
    tolerance: float, most: int, tries: int, calls: int,
    too_high: Callable[[Point], bool], flat: Callable[[Point], bool],
) -> tuple[Point, int]:  # fmt: skip
    """Narrow a bracket that holds a good step."""
    low, high = bracket if bracket[0].loss <= bracket[1].loss else bracket[::-1]
    stalled = False
    while tries < most and abs(high.t - low.t) * size >= tolerance:
        left, right = min(low.t, high.t), max(low.t, high.t)
        t = cubic(low, high, left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if stalled or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        new = at(t)
        calls, tries = calls + 1, tries + 1
        if too_high(new) or new.loss >= low.loss:
            high = new
            low, high = (low, high) if low.loss <= high.loss else (high, low)
            continue
        if flat(new):
            return new, calls
        if new.slope * (high.t - low.t) >= 0:
            high = low
        low = new
    return low, calls


def cubic(a: Point, b: Point, low: float, high: float) -> float:
    """The minimum of the cubic through two points with their slopes, held within bounds."""
    if a.t == b.t:
        return low
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3.0 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2.0
    d2 = math.sqrt(square)
    below = b.slope - a.slope + 2.0 * d2
    if below == 0.0:
        return high
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below), low), high)
