"""The curvature of a loss, and the noise in its gradient, without ever forming the Hessian.

Both need a function that gives the loss anew: `loss_function(model, x, y)` makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.backward import grad
from fathom.engine.errors import ArgumentError
from fathom.engine.modes import enable_grad
from fathom.engine.tensor import Array, Tensor
from fathom.optim.newton import hessian_of, hessian_product

Product = Callable[[Array], Array]


def loss_function(model: Any, x: Any, y: Any, loss: Any = "auto") -> Callable[[], Tensor]:
    """A function without arguments that computes the model's mean loss on x and y."""
    from fathom.train.arguments import as_inputs, as_targets, find_loss

    inputs = as_inputs(model, x)
    targets = as_targets(y, inputs, loss)
    measure = find_loss(loss, targets)
    return lambda: measure(model(Tensor(inputs)), Tensor(targets))


def _gradient(closure: Callable[[], Tensor], parameters: list[Tensor]) -> Tensor:
    from fathom.ops import concatenate

    with enable_grad():
        found = grad(closure(), parameters, create_graph=True, allow_unused=True)
        parts = [
            Tensor(np.zeros(p.size, p.dtype)) if g is None else g.reshape(-1)
            for g, p in zip(found, parameters, strict=True)
        ]
        return concatenate(parts, 0)


def hvp_of(closure: Callable[[], Tensor], parameters: Iterable[Tensor]) -> tuple[Product, int]:
    """(v -> Hessian times v, number of weights). One backward pass for each product."""
    given = list(parameters)
    gradient = _gradient(closure, given)
    if not gradient.requires_grad:
        return np.zeros_like, gradient.size
    return hessian_product(gradient, given), gradient.size


def dense_hessian(closure: Callable[[], Tensor], parameters: Iterable[Tensor]) -> Array:
    """The whole Hessian (N, N) in float64, for small N."""
    given = list(parameters)
    return hessian_of(_gradient(closure, given), given)


def lanczos(
    product: Product, size: int, steps: int = 30, seed: int = 0, start: Array | None = None
) -> tuple[Array, Array, Array]:
    """Diagonal and off-diagonal of the tridiagonal matrix T, and the basis Q: A ~ Q T Q'.

    With full reorthogonalization (Lanczos, 1950; Golub & Van Loan, 2013, section 10.1).
    """
    v = np.random.default_rng(seed).standard_normal(size) if start is None else start.copy()
    v /= np.linalg.norm(v)
    basis, alphas, betas = [v], [], []
    for _ in range(min(steps, size)):
        w = np.asarray(product(basis[-1]), np.float64)
        alphas.append(float(w @ basis[-1]))
        q = np.stack(basis)
        w -= q.T @ (q @ w)
        w -= q.T @ (q @ w)
        beta = float(np.linalg.norm(w))
        if beta < 1e-10 * max(1.0, *map(abs, alphas)):
            break
        betas.append(beta)
        basis.append(w / beta)
    count = len(alphas)
    return np.array(alphas), np.array(betas[: count - 1]), np.stack(basis[:count])


def eigenvalues(
    closure: Callable[[], Tensor], parameters: Iterable[Tensor], k: int = 1, steps: int = 50,
    seed: int = 0,
) -> tuple[Array, Array]:  # fmt: skip
    """The k largest eigenvalues of the Hessian by size, and their vectors (k, N), by Lanczos.

    >>> import fathom
    >>> w = fathom.nn.Parameter(np.array([1.0, 1.0, 1.0]))
    >>> scale = fathom.tensor(np.array([1.0, 2.0, -5.0]))
    >>> eigenvalues(lambda: (scale * w * w).sum(), [w], k=2)[0].round(6).tolist()
    [-10.0, 4.0]
    """
    if k < 1:
        raise ArgumentError(f"k must be >= 1; received {k!r}")
    parameters = list(parameters)
    product, size = hvp_of(closure, parameters)
    kind = parameters[0].dtype
    alphas, betas, basis = lanczos(lambda v: product(v.astype(kind)), size, max(steps, 2 * k), seed)
    values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    order = np.argsort(-np.abs(values), kind="stable")[:k]
    return values[order], (basis.T @ vectors[:, order]).T


def sharpness(model: Any, x: Any, y: Any, loss: Any = "auto", steps: int = 50) -> float:
    """The largest eigenvalue of the Hessian of the model's loss on x and y, by Lanczos.

    Gradient descent is stable below the rate 2 / sharpness (Cohen et al., 2021). The model is
    taken in the mode it is in.

    >>> from fathom import nn
    >>> model = nn.Linear(1, 1, bias=False).double()
    >>> round(sharpness(model, np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])), 6)
    5.0
    """
    closure = loss_function(model, x, y, loss)
    values, _ = eigenvalues(closure, model.parameters(), k=max(steps // 2, 1), steps=steps)
    return float(values.max())


def trace(
    closure: Callable[[], Tensor], parameters: Iterable[Tensor], samples: int = 30, seed: int = 0
) -> tuple[float, float]:
    """The trace of the Hessian and its standard error, from random signs (Hutchinson, 1990)."""
    if samples < 2:
        raise ArgumentError(f"samples must be >= 2; received {samples!r}")
    parameters = list(parameters)
    product, size = hvp_of(closure, parameters)
    kind = parameters[0].dtype
    rng, found = np.random.default_rng(seed), []
    for _ in range(samples):
        v = rng.integers(0, 2, size).astype(kind) * 2 - 1
        found.append(float(np.dot(v.astype(np.float64), product(v))))
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(samples))


def spectral_density(
    closure: Callable[[], Tensor], parameters: Iterable[Tensor], points: int = 200,
    steps: int = 40, samples: int = 5, width: float | None = None, seed: int = 0,
) -> tuple[Array, Array]:  # fmt: skip
    """(values, density) of the Hessian's eigenvalues, by stochastic Lanczos quadrature.

    (Ghorbani, Krishnan & Xiao, 2019.) Each eigenvalue is a normal bump of the given width (a
    50th of the range without one); the density integrates to 1.
    """
    parameters = list(parameters)
    product, size = hvp_of(closure, parameters)
    kind = parameters[0].dtype
    nodes, masses = [], []
    for sample in range(samples):
        alphas, betas, _ = lanczos(lambda v: product(v.astype(kind)), size, steps, seed + sample)
        values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
        nodes.append(values)
        masses.append(np.square(vectors[0]) / samples)
    at, mass = np.concatenate(nodes), np.concatenate(masses)
    spread = max(float(at.max() - at.min()), 1e-12)
    wide = width or spread / 50.0
    grid = np.linspace(at.min() - 4 * wide, at.max() + 4 * wide, points)
    bumps = np.exp(-0.5 * np.square((grid[:, None] - at) / wide)) / (wide * np.sqrt(2 * np.pi))
    return grid, bumps @ mass


# -- the noise of the gradient -------------------------------------------------------------------


@dataclass(frozen=True)
class GradientNoise:
    """`trace` of the covariance of the gradients of single rows, `square` of the mean gradient.

    `scale` = trace / square, the simple noise scale B of McCandlish et al. (2018): batches much
    smaller are mostly noise, much larger ones a waste. The gradient of a batch of B rows has
    the variance trace / B. `square` is corrected for its own noise, and so can be <= 0, where
    `scale` is infinite.
    """

    trace: float
    square: float
    rows: int

    @property
    def scale(self) -> float:
        return self.trace / self.square if self.square > 0 else float("inf")

    def __repr__(self) -> str:
        return (
            f"GradientNoise(trace={self.trace:.4g}, square={self.square:.4g}, "
            f"scale={self.scale:.4g}, rows={self.rows})"
        )


def per_row_gradients(model: Any, x: Any, y: Any, loss: Any = "auto", chunk: int = 64) -> Array:
    """The gradient of each row's loss: (rows, weights), in eval mode."""
    from fathom.func import functional_call, tree_map, vmap
    from fathom.func import grad as grad_of
    from fathom.train.arguments import as_inputs, as_targets, find_loss

    inputs = as_inputs(model, x)
    targets = as_targets(y, inputs, loss)
    measure = find_loss(loss, targets)
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def one(values: Any, row: Tensor, target: Tensor) -> Tensor:
        output = functional_call(model, values, (row.reshape(1, *row.shape),))
        return measure(output, target.reshape(1, *target.shape))

    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    blocks = []
    try:
        for start in range(0, len(inputs), chunk):
            rows = slice(start, start + chunk)
            found = vmap(grad_of(one), (tree_map(lambda _: None, weights), 0, 0))(
                weights, Tensor(inputs[rows]), Tensor(targets[rows])
            )
            parts = [found[name].value() for name in weights]
            blocks.append(np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1))
    finally:
        for module, training in modes:
            object.__setattr__(module, "training", training)
    return np.concatenate(blocks)


def gradient_noise(model: Any, x: Any, y: Any, loss: Any = "auto") -> GradientNoise:
    """Measure the noise of the gradient on x (n, ...) and y, from every row's own gradient.

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, hidden=(8,))
    >>> noise = gradient_noise(model, data.x, data.y)
    >>> noise.trace > 0 and noise.rows == 150
    True
    """
    g = per_row_gradients(model, x, y, loss).astype(np.float64)
    if len(g) < 2:
        raise ArgumentError("the noise of the gradient needs two rows or more")
    total = float(np.square(g - g.mean(axis=0)).sum() / (len(g) - 1))
    square = float(np.square(g.mean(axis=0)).sum()) - total / len(g)
    return GradientNoise(total, square, len(g))


def batch_noise(
    model: Any, x: Any, y: Any, sizes: Sequence[int] = (1, 4, 16, 64), repeats: int = 50,
    loss: Any = "auto", seed: int = 0,
) -> dict[int, float]:  # fmt: skip
    """For each batch size, the mean squared distance of its gradient from that of all rows.

    Rows are drawn with replacement, so size * distance is the same for all: trace of the
    covariance.
    """
    g = per_row_gradients(model, x, y, loss).astype(np.float64)
    mean, rng = g.mean(axis=0), np.random.default_rng(seed)
    return {
        size: float(np.mean([
            np.square(g[rng.integers(0, len(g), size)].mean(axis=0) - mean).sum()
            for _ in range(repeats)
        ]))
        for size in sizes
    }  # fmt: skip


__all__ = [
    "GradientNoise",
    "batch_noise",
    "dense_hessian",
    "eigenvalues",
    "gradient_noise",
    "hvp_of",
    "lanczos",
    "loss_function",
    "per_row_gradients",
    "sharpness",
    "spectral_density",
    "trace",
]
