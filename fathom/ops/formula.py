"""`formula`: an elementwise function written once.

    silu = formula(lambda x: x * sigmoid(x))

From that one line follow: a differentiable operation (one node on the tape, any order of
derivative), its evaluation in NumPy in cache-sized blocks, its derivative as a formula, LaTeX,
a plot, and its extrema, limits and monotone pieces.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.primitive import TABLE, Primitive, apply, broadcast_shape
from fathom.engine.tensor import Array
from fathom.ops.analysis import Analysis, analyse
from fathom.ops.expression import (
    Expr,
    Symbol,
    differentiate,
    substitute,
    to_latex,
    to_python,
    trace,
)

BLOCK = 1 << 16  # elements evaluated at a time: the temporaries stay in the cache


class Formula:
    """An elementwise function of one or more variables, as an operation and as an expression.

    >>> import fathom
    >>> silu = formula(lambda x: x * fathom.sigmoid(x), name="my_silu")
    >>> silu(fathom.tensor([0.0, 1.0]))
    tensor([0.    , 0.7311])
    >>> silu.derivative()(fathom.tensor(0.0))
    tensor(0.5)
    >>> print(silu.latex())
    x \\sigma\\left(x\\right)
    """

    def __init__(
        self,
        expr: Expr,
        names: Sequence[str],
        defaults: dict[str, float],
        name: str,
        doc: str = "",
    ) -> None:
        self.expr = expr
        self.names = tuple(names)
        self.defaults = defaults
        self.name = name
        self.__name__ = name
        self.__doc__ = doc or None
        self._derivatives: dict[tuple[str, bool], Formula] = {}
        self._plan = Plan(expr, self.names)
        self.primitive = Primitive(
            name,
            "elementwise",
            self._plan,
            tuple(self._partial(n) for n in self.names),
            "in",
            shape=broadcast_shape,
            cost=float(expr.operations()),
            listed=False,
        )
        self.primitive.unary = len(self.names) == 1

    def _partial(self, name: str) -> Callable[..., Any]:
        return lambda out, *ins: self.derivative(1, name).apply(*ins)

    def apply(self, *values: Any) -> Any:
        """The value for one tensor, array or number a variable, in order."""
        if any(isinstance(v, Symbol) for v in values):  # inside another formula: written out
            return substitute(self.expr, dict(zip(self.names, values, strict=True)))
        return apply(self.primitive, *values)

    def __call__(self, *values: Any, **named: Any) -> Any:
        if len(values) > len(self.names):
            raise ArgumentError(
                f"{self.name} takes {len(self.names)} values ({', '.join(self.names)}); "
                f"received {len(values)}"
            )
        given = dict(zip(self.names, values, strict=False))
        for key, value in named.items():
            if key not in self.names or key in given:
                raise ArgumentError(
                    f"{self.name}: {key!r} is not a free variable; it has {', '.join(self.names)}"
                )
            given[key] = value
        full = {**self.defaults, **given}
        missing = [n for n in self.names if n not in full]
        if missing:
            raise ArgumentError(f"{self.name}: no value for {missing[0]!r}")
        return self.apply(*(full[n] for n in self.names))

    def derivative(
        self, order: int = 1, variable: str | None = None, simplify: bool = True
    ) -> Formula:
        """The derivative with respect to a variable (the first by default), as a formula."""
        variable = self.names[0] if variable is None else variable
        if variable not in self.names:
            raise ArgumentError(f"{self.name} has no variable {variable!r}")
        if order < 1:
            raise ArgumentError(f"derivative: order must be >= 1; received {order}")
        key = (variable, simplify)
        if key not in self._derivatives:
            expr = differentiate(self.expr, variable, simplify)
            name = f"d{self.name}/d{variable}"
            self._derivatives[key] = Formula(expr, self.names, self.defaults, name)
        first = self._derivatives[key]
        return first if order == 1 else first.derivative(order - 1, variable, simplify)

    def operations(self, shared: bool = True) -> int:
        """Number of operations in the expression, shared parts counted once (or written out)."""
        return self.expr.operations(shared)

    def latex(self) -> str:
        """The expression as LaTeX."""
        return to_latex(self.expr)

    def source(self) -> str:
        """The NumPy program that evaluates the formula."""
        return self._plan.source(self.name)

    def analyse(self, low: float = -10.0, high: float = 10.0, **values: float) -> Analysis:
        """Extrema, zeros, limits and monotone pieces, found numerically."""
        rest = {**self.defaults, **values}
        fixed = [rest[n] for n in self.names[1:]]
        slope = self.derivative()
        return analyse(
            lambda x: np.asarray(self.apply(x, *fixed)),
            lambda x: np.asarray(slope.apply(x, *fixed)),
            low,
            high,
        )

    def plot(
        self, low: float = -5.0, high: float = 5.0, orders: int = 2, ax: Any = None, **values: float
    ) -> Any:
        """f, f', f'' on a matplotlib axes (a new one by default), which is returned."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(5, 3.4), layout="constrained").subplots()
        rest = {**self.defaults, **values}
        fixed = [rest[n] for n in self.names[1:]]
        x = np.linspace(low, high, 801)
        current = self
        for order in range(orders + 1):
            y = np.broadcast_to(np.asarray(current.apply(x, *fixed)), x.shape)
            ax.plot(x, y, label=self.name + "'" * order, linestyle=("-", "--", ":")[order % 3])
            if order < orders:
                current = current.derivative()
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.legend()
        ax.set_xlabel(self.names[0])
        return ax

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(self.names)}) = {to_python(self.expr)}"


def formula(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Make a `Formula` of a Python function of numbers; also a decorator.

    The function is called once, on symbols, and may use any elementwise operation of Fathom and
    `fathom.where`. Arguments with defaults may be left out in calls. Raises `GraphError` if it
    branches on a value, `ArgumentError` if it uses an operation that is not elementwise.

    >>> import fathom
    >>> @formula
    ... def tilted(x, slope=0.1):
    ...     return fathom.where(x > 0, x, slope * x)
    >>> tilted(fathom.tensor([-1.0, 2.0]))
    tensor([-0.1,  2. ])
    """
    if function is None:
        return lambda f: formula(f, name=name)
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters]
    defaults = {p.name: float(p.default) for p in parameters if p.default is not p.empty}
    title = name or function.__name__.replace("<lambda>", "formula")
    return Formula(trace(function, names), names, defaults, title, function.__doc__ or "")


# -- evaluation ----------------------------------------------------------------------------------


class Plan:
    """An expression as a list of NumPy steps that reuse each other's memory."""

    def __init__(self, expr: Expr, names: Sequence[str]) -> None:
        order = list(expr.nodes())
        self.names = names
        self.order = order
        self.steps = [e for e in order if e.args]
        last = {a: k for k, e in enumerate(self.steps) for a in e.args}
        self.dead = [
            [a for a in set(e.args) if a.args and last[a] == k] for k, e in enumerate(self.steps)
        ]
        self.root = expr

    def __call__(self, *values: Any) -> Array:
        arrays = [np.asarray(v) if not isinstance(v, np.ndarray) else v for v in values]
        floats = [a.dtype for a, v in zip(arrays, values, strict=True)
                  if a.dtype.kind == "f" and isinstance(v, (np.ndarray, np.generic))]  # fmt: skip
        dtype = np.result_type(*floats) if floats else np.dtype(np.float32)
        arrays = [a if a.dtype == dtype else a.astype(dtype) for a in arrays]
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        full = all(a.shape == shape or a.ndim == 0 for a in arrays)
        size = int(np.prod(shape, dtype=np.int64))
        if full and size >= 2 * BLOCK and all(a.flags.c_contiguous for a in arrays):
            return self.in_blocks(arrays, shape, dtype)
        out = self.run(arrays, dtype, shape if full else None)
        if out.shape == shape and self.root.args:
            return out
        return np.broadcast_to(out, shape).copy()  # a variable alone must not share its memory

    def in_blocks(self, arrays: list[Array], shape: tuple[int, ...], dtype: Any) -> Array:
        out = np.empty(shape, dtype)
        flat, ins = out.reshape(-1), [a if a.ndim == 0 else a.reshape(-1) for a in arrays]
        for start in range(0, flat.size, BLOCK):
            block = slice(start, start + BLOCK)
            part = [a if a.ndim == 0 else a[block] for a in ins]
            flat[block] = self.run(part, dtype, flat[block].shape)
        return out

    def run(self, arrays: list[Array], dtype: Any, shape: tuple[int, ...] | None) -> Array:
        """All steps on arrays of one shape; `shape` allows memory to be reused."""
        values: dict[Expr, Any] = {
            e: np.asarray(e.value, dtype) if e.is_constant else arrays[self.names.index(e.value)]
            for e in self.order
            if not e.args
        }
        free: list[Array] = []
        for e, dead in zip(self.steps, self.dead, strict=True):
            forward, args = TABLE[e.op].forward, [values[a] for a in e.args]
            reusable = isinstance(forward, np.ufunc) and bool(TABLE[e.op].rules)
            if free and reusable:
                out = forward(*args, out=free.pop())
            else:
                out = forward(*args)
            values[e] = out
            for a in dead:
                freed = values.pop(a)
                if shape and freed.__class__ is np.ndarray and freed.shape == shape:
                    if freed.dtype == dtype and freed is not out:
                        free.append(freed)
        return np.asarray(values[self.root], dtype)

    def source(self, name: str) -> str:
        """The steps as a Python function."""
        names: dict[Expr, str] = {}
        lines = [f"def {name}({', '.join(self.names)}):"]
        for e in self.order:
            if e.op in ("variable", "constant"):
                names[e] = e.value if e.op == "variable" else repr(e.value)
                continue
            names[e] = f"t{len(lines)}"
            lines.append(f"    {names[e]} = {e.op}({', '.join(names[a] for a in e.args)})")
        return "\n".join([*lines, f"    return {names[self.root]}"])
