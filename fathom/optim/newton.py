"""Second-order methods: Newton, Newton-CG, and Levenberg-Marquardt for least squares.

Their closures return the loss (or the residuals) and do *not* call `backward`: the optimizer
differentiates it, twice where it must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array, Tensor
from fathom.optim.optimizer import Closure, at_least, evaluate
from fathom.optim.whole import WholeOptimizer, number


class Newton(WholeOptimizer):
    """w -= lr * (H + damping * I)^-1 g with the whole Hessian H: N^2 memory, N^3 time.

    Newton's method goes to any stationary point; with `saddle_free` the eigenvalues of H count
    by their size, so that saddle points repel (Dauphin et al., 2014).

    >>> import fathom
    >>> w = fathom.nn.Parameter([3.0, -2.0])
    >>> loss = Newton([w]).step(lambda: (w[0] ** 2 + 10 * w[1] ** 2 + w[0] * w[1]))
    >>> bool(abs(w).max() < 1e-5)
    True
    """

    wants_graph = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 0.0,
        saddle_free: bool = False,
    ) -> None:
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "Newton"),
            "damping": at_least(damping, 0.0, "damping", "Newton"),
            "saddle_free": bool(saddle_free),
        }
        super().__init__(params, defaults)

    def step(self, closure: Closure | None = None) -> Any:
        """One Newton step; returns the loss before it."""
        loss, gradient = self.graph(needed(closure, self))
        group, g = self.param_groups[0], gradient.value().astype(np.float64)
        matrix = hessian_of(gradient, self.parameters)
        move = _solve(matrix, g, group["damping"], group["saddle_free"])
        self.iterations += 1
        self.place(self.weights() - group["lr"] * move)
        return loss


class NewtonCG(WholeOptimizer):
    """Newton steps by conjugate gradients on Hessian-vector products, with a line search.

    The Hessian is never formed: each inner step costs one more backward pass. The inner loop
    ends at residual `tolerance` * |g| (min(0.5, sqrt|g|) without one), after `max_cg` steps, or
    where the curvature turns negative (Nocedal & Wright, 2006, algorithm 7.1).
    """

    wants_graph = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_cg: int | None = None,
        tolerance: float | None = None,
        damping: float = 0.0,
        line_search: bool = True,
    ) -> None:
        defaults = {
            "lr": at_least(lr, 0.0, "lr", "NewtonCG"),
            "max_cg": None if max_cg is None else int(at_least(max_cg, 1, "max_cg", "NewtonCG")),
            "tolerance": tolerance,
            "damping": at_least(damping, 0.0, "damping", "NewtonCG"),
            "line_search": bool(line_search),
        }
        super().__init__(params, defaults)
        self.inner = 0  # conjugate-gradient steps of the last outer step

    def step(self, closure: Closure | None = None) -> Any:
        """One outer step; returns the loss before it."""
        closure = needed(closure, self)
        loss, gradient = self.graph(closure)
        group, g = self.param_groups[0], gradient.value().copy()
        size = float(np.linalg.norm(g))
        tolerance = group["tolerance"]
        if tolerance is None:
            tolerance = min(0.5, size**0.5)
        product = hessian_product(gradient, self.parameters)
        damping = group["damping"]
        move, self.inner = conjugate_gradient(
            lambda v: product(v) + damping * v, -g, tolerance * size, group["max_cg"] or 2 * g.size
        )
        self.iterations += 1
        t, origin, start = group["lr"], self.weights(), float(loss.item())
        if group["line_search"]:
            slope = float(g @ move)
            for _ in range(30):
                reached = self.value_at(closure, origin + t * move)
                if reached <= start + 1e-4 * t * slope:
                    break
                t *= 0.5
            else:
                t = 0.0
        self.place(origin + t * move)
        return loss


class LevenbergMarquardt(WholeOptimizer):
    """Least squares: w -= (J'J + mu * diag)^-1 J'r, with mu by success (Marquardt, 1963).

    The closure returns the residuals r, of any shape; the loss is sum r^2 / 2. A step that
    does not lower it is taken back and tried again, shorter, with mu * `up`; one that does
    multiplies mu by `down`. `GaussNewton` is the case mu = 0.

    >>> import fathom
    >>> t = fathom.tensor(np.linspace(0.0, 1.0, 20))
    >>> y = 2.0 * fathom.exp(-3.0 * t)
    >>> w = fathom.nn.Parameter(np.array([1.0, -1.0]))
    >>> optimizer = LevenbergMarquardt([w])
    >>> for _ in range(20):
    ...     loss = optimizer.step(lambda: w[0] * fathom.exp(w[1] * t) - y)
    >>> w.detach()
    tensor([ 2., -3.], dtype=float64)
    """

    wants_graph = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        mu: float = 1e-3,
        up: float = 10.0,
        down: float = 0.1,
        max_tries: int = 20,
        scaled: bool = True,
    ) -> None:
        owner = type(self).__name__
        if not (up > 1.0 > down > 0.0):
            raise ArgumentError(
                f"{owner}: up must be > 1 and down in (0, 1); received {up!r}, {down!r}"
            )
        defaults = {
            "lr": at_least(lr, 0.0, "lr", owner),
            "mu": at_least(mu, 0.0, "mu", owner),
            "up": float(up),
            "down": float(down),
            "max_tries": int(at_least(max_tries, 1, "max_tries", owner)),
            "scaled": bool(scaled),
        }
        super().__init__(params, defaults)
        self.mu = float(mu)

    def step(self, closure: Closure | None = None) -> Any:
        """One accepted step, or none where no step helps; returns the loss before it."""
        closure = needed(closure, self)
        residuals = evaluate(closure)
        if not isinstance(residuals, Tensor) or not residuals.requires_grad:
            raise ArgumentError(
                f"{type(self).__name__}: the closure must return the residuals, a tensor that "
                "depends on the parameters"
            )
        group = self.param_groups[0]
        r = residuals.value().reshape(-1).astype(np.float64)
        jacobian = jacobian_of(residuals.reshape(-1), self.parameters).astype(np.float64)
        start, origin = 0.5 * float(r @ r), self.weights()
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ r
        self.iterations += 1
        for _ in range(group["max_tries"]):
            move = self._move(group, normal, gradient)
            self.place((origin - group["lr"] * move).astype(origin.dtype))
            reached = self._loss(closure)
            if reached < start or not self.mu:
                self.mu *= group["down"]
                return Tensor(np.asarray(start))
            self.mu *= group["up"]
        self.place(origin)
        return Tensor(np.asarray(start))

    def _move(self, group: dict[str, Any], normal: Array, gradient: Array) -> Array:
        if not self.mu:
            return np.asarray(np.linalg.lstsq(normal, gradient, rcond=None)[0])
        diagonal = normal.diagonal() if group["scaled"] else np.ones(len(normal))
        floor = np.maximum(diagonal, 1e-12 * max(float(diagonal.max()), 1e-300))
        return np.asarray(np.linalg.solve(normal + np.diag(self.mu * floor), gradient))

    def _loss(self, closure: Closure) -> float:
        r = np.asarray(evaluate(closure).value(), np.float64).reshape(-1)
        value = 0.5 * float(r @ r)
        return value if np.isfinite(value) else float("inf")

    def memory(self) -> dict[str, Any]:
        return {"mu": self.mu}

    def remember(self, memory: Mapping[str, Array]) -> None:
        if "mu" in memory:
            self.mu = number(memory["mu"])


class GaussNewton(LevenbergMarquardt):
    """Least squares: w -= lr * (J'J)^-1 J'r, every step accepted (Gauss, 1809)."""

    def __init__(self, params: Iterable[Any], lr: float = 1.0) -> None:
        super().__init__(params, lr, mu=0.0)


# -- the tools -----------------------------------------------------------------------------------


def needed(closure: Closure | None, owner: Any) -> Closure:
    if closure is None:
        raise ArgumentError(f"{type(owner).__name__}.step needs a closure; see its documentation")
    owner.refuse_trace()
    return closure


def hessian_product(gradient: Tensor, parameters: list[Tensor]) -> Callable[[Array], Array]:
    """v -> H v, from the differentiable gradient of a loss."""

    def product(v: Array) -> Array:
        found = grad(gradient, parameters, Tensor(v), retain_graph=True, allow_unused=True)
        return joined(found, parameters)

    return product


def joined(found: Iterable[Tensor | None], parameters: list[Tensor]) -> Array:
    return np.concatenate([
        np.zeros(p.size, p.dtype) if g is None else g.value().reshape(-1)
        for g, p in zip(found, parameters, strict=True)
    ])  # fmt: skip


def jacobian_of(outputs: Tensor, parameters: list[Tensor], chunk: int = 256) -> Array:
    """The derivatives (outputs, weights) of a vector, its rows side by side in one sweep."""
    from fathom.func import vmap
    from fathom.ops import zeros_like

    def row(v: Tensor) -> tuple[Tensor, ...]:
        found = grad(outputs, parameters, v, retain_graph=True, allow_unused=True)
        return tuple(
            zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)
        )

    basis = Tensor(np.eye(outputs.size, dtype=outputs.dtype))
    blocks = vmap(row, chunk_size=chunk)(basis)
    return np.concatenate([b.value().reshape(outputs.size, -1) for b in blocks], axis=1)


def hessian_of(gradient: Tensor, parameters: list[Tensor]) -> Array:
    """The Hessian in float64, made symmetric."""
    if not gradient.requires_grad:
        return np.zeros((gradient.size, gradient.size))
    matrix = jacobian_of(gradient, parameters).astype(np.float64)
    return np.asarray((matrix + matrix.T) / 2.0)


def _solve(matrix: Array, g: Array, damping: float, saddle_free: bool) -> Array:
    if saddle_free:
        values, vectors = np.linalg.eigh(matrix)
        size = np.abs(values) + damping
        floor = max(float(size.max(initial=0.0)) * 1e-12, 1e-300)
        return np.asarray(vectors @ ((vectors.T @ g) / np.maximum(size, floor)))
    shifted = matrix + damping * np.eye(len(g))
    try:
        return np.asarray(np.linalg.solve(shifted, g))
    except np.linalg.LinAlgError:  # singular: the shortest solution
        return np.asarray(np.linalg.lstsq(shifted, g, rcond=None)[0])


def conjugate_gradient(
    product: Callable[[Array], Array], b: Array, tolerance: float = 1e-10, most: int | None = None
) -> tuple[Array, int]:
    """x with A x = b for a positive definite A given by its products: (x, steps taken).

    In exact arithmetic it takes at most n steps (Hestenes & Stiefel, 1952). Where the curvature
    of A is not positive it stops with what it has (b itself in the first step).

    >>> conjugate_gradient(lambda v: np.array([2.0, 4.0]) * v, np.array([2.0, 4.0]))
    (array([1., 1.]), 2)
    """
    x, r = np.zeros_like(b), b.copy()
    p, square = r.copy(), float(r @ r)
    for step in range(most or len(b)):
        if square**0.5 <= tolerance:
            return x, step
        ap = product(p)
        curvature = float(p @ ap)
        if curvature <= 0:
            return (x if step else b.copy()), step
        alpha = square / curvature
        x += alpha * p
        r -= alpha * ap
        after = float(r @ r)
        p *= after / square
        p += r
        square = after
    return x, most or len(b)
