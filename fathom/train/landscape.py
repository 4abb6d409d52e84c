"""Slices through the loss surface: along random, filter-normalized, or principal directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor, mark_written
from fathom.nn.utils import vector_to_parameters
from fathom.train.curvature import loss_function

Directions = list[Array]


@dataclass(frozen=True)
class Slice:
    """Losses on a line (n,) or a plane (n, n): `loss[i, j]` is at (x[i], y[j])."""

    x: Array
    loss: Array
    y: Array | None = None
    path: Array | None = None  # (steps, 2): where a training went, in the plane

    def plot(self, ax: Any = None, levels: int = 20) -> Any:
        """A curve or a contour plot on a matplotlib axes, which is returned."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(5, 4), layout="constrained").subplots()
        if self.y is None:
            ax.plot(self.x, self.loss)
            ax.set_ylabel("loss")
        else:
            ax.contourf(self.x, self.y, self.loss.T, levels=levels)
            ax.set_ylabel("direction 2")
            if self.path is not None:
                ax.plot(*self.path.T, "o-", ms=3, color="white")
        ax.set_xlabel("direction 1")
        return ax


def weights_of(model: Any) -> Array:
    """All parameters end to end, a copy."""
    return np.concatenate([p.value().reshape(-1) for p in model.parameters()])


@contextmanager
def restored(model: Any) -> Iterator[None]:
    """After the block, weights, buffers and modes are as they were before, bit for bit."""
    tensors = [*model.parameters(), *model.buffers()]
    kept = [t.value().copy() for t in tensors]
    modes = [(m, m.training) for m in model.modules()]
    try:
        yield
    finally:
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.value()[...] = value
            mark_written(tensor)
        for module, training in modes:
            object.__setattr__(module, "training", training)


def random_direction(model: Any, seed: int = 0, normalize: str | None = "filter") -> Array:
    """A normal direction, scaled to the weights so that slices can be compared.

    normalize : "filter" gives every row (filter) of a weight matrix the length of that row, and
    leaves biases where they are (Li et al., 2018); "layer" every parameter its length; None
    leaves the draw as it is.
    """
    if normalize not in ("filter", "layer", None):
        raise ArgumentError(f"normalize is 'filter', 'layer' or None; received {normalize!r}")
    rng, parts = np.random.default_rng(seed), []
    for p in model.parameters():
        w = p.value().astype(np.float64)
        d = rng.standard_normal(w.shape)
        if normalize == "filter" and w.ndim < 2:
            d = np.zeros_like(d)
        elif normalize is not None:
            axes = tuple(range(1, w.ndim)) if normalize == "filter" else None
            length = np.sqrt(np.square(d).sum(axis=axes, keepdims=True))
            d *= np.sqrt(np.square(w).sum(axis=axes, keepdims=True)) / np.maximum(length, 1e-300)
        parts.append(d.reshape(-1))
    return np.concatenate(parts)


def pca_directions(path: Sequence[Array] | Array, k: int = 2) -> tuple[Array, Array]:
    """The k principal directions (k, weights) of a training's path about its end, and the
    shares of the variance they explain (Li et al., 2018).

    path : weights (steps, weights), such as `weights_of(model)` after each epoch.
    """
    points = np.asarray(path, np.float64)
    if points.ndim != 2 or len(points) < k + 1:
        raise ShapeError(f"a path for {k} directions needs {k + 1} points or more in rows")
    centred = points[:-1] - points[-1]
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    return directions[:k], np.square(sizes[:k]) / max(float(np.square(sizes).sum()), 1e-300)


def slice_1d(
    model: Any, x: Any, y: Any, direction: Array | None = None, span: float = 1.0,
    points: int = 21, loss: Any = "auto", seed: int = 0,
) -> Slice:  # fmt: skip
    """The loss from -span to span along a direction (a filter-normalized draw without one).

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, hidden=(8,))
    >>> slice_1d(model, data.x, data.y, points=5).loss.shape
    (5,)
    """
    along = random_direction(model, seed) if direction is None else np.asarray(direction)
    steps = np.linspace(-span, span, _count(points))
    with _surface(model, x, y, loss) as at:
        return Slice(steps, np.array([at(t * along) for t in steps]))


def slice_2d(
    model: Any, x: Any, y: Any, directions: Sequence[Array] | None = None, span: float = 1.0,
    points: int = 11, loss: Any = "auto", seed: int = 0, path: Any = None,
) -> Slice:  # fmt: skip
    """The loss on a plane through the weights, points by points.

    directions : two vectors; without them two filter-normalized draws, or, with the `path` of a
    training, its principal directions, spanned as wide as the path goes.
    """
    places = None
    if path is not None:
        points_seen = np.asarray(path, np.float64)
        pair, _ = pca_directions(points_seen)
        places = (points_seen - weights_of(model)) @ pair.T
        span = max(span, 1.2 * float(np.abs(places).max()))
    elif directions is None:
        pair = np.stack([random_direction(model, seed), random_direction(model, seed + 1)])
    else:
        pair = np.asarray(directions, np.float64)
    if pair.ndim != 2 or len(pair) != 2:
        raise ShapeError(f"a plane needs two directions; received shape {pair.shape}")
    steps = np.linspace(-span, span, _count(points))
    with _surface(model, x, y, loss) as at:
        losses = np.array([[at(a * pair[0] + b * pair[1]) for b in steps] for a in steps])
    return Slice(steps, losses, steps, places)


def interpolate(
    model: Any, x: Any, y: Any, other: Array, points: int = 21, loss: Any = "auto"
) -> Slice:
    """The loss on the straight line from the model's weights (0) to others (1).

    (Goodfellow, Vinyals & Saxe, 2015.)
    """
    along = np.asarray(other, np.float64) - weights_of(model)
    steps = np.linspace(0.0, 1.0, _count(points))
    with _surface(model, x, y, loss) as at:
        return Slice(steps, np.array([at(t * along) for t in steps]))


def sharpness(
    model: Any, x: Any, y: Any, rho: float = 0.05, steps: int = 5, loss: Any = "auto"
) -> float:
    """How much the loss rises, at most, within a distance rho: by gradient ascent."""
    from fathom.engine.backward import grad

    closure = loss_function(model, x, y, loss)
    parameters = list(model.parameters())
    origin = weights_of(model)
    with restored(model):
        model.eval()
        start = worst = float(closure().item())
        offset = np.zeros_like(origin)
        for _ in range(steps):
            found = grad(closure(), parameters, allow_unused=True)
            g = np.concatenate([
                np.zeros(p.size, p.dtype) if t is None else t.value().reshape(-1)
                for t, p in zip(found, parameters, strict=True)
            ])  # fmt: skip
            offset = offset + rho * g / max(float(np.linalg.norm(g)), 1e-12)
            offset *= min(1.0, rho / max(float(np.linalg.norm(offset)), 1e-300))
            vector_to_parameters(Tensor((origin + offset).astype(origin.dtype)), parameters)
            worst = max(worst, float(closure().item()))
    return worst - start


def _count(points: int) -> int:
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise ArgumentError(f"points must be a whole number >= 2; received {points!r}")
    return points


@contextmanager
def _surface(model: Any, x: Any, y: Any, loss: Any) -> Iterator[Callable[[Array], float]]:
    """A function of an offset from the weights; they are put back afterwards."""
    closure = loss_function(model, x, y, loss)
    parameters = list(model.parameters())
    origin = weights_of(model)

    def at(offset: Array) -> float:
        if offset.shape != origin.shape:
            raise ShapeError(f"a direction has {origin.size} numbers; received {offset.shape}")
        moved = (origin + offset).astype(origin.dtype)
        vector_to_parameters(Tensor(moved), parameters)
        return float(closure().item())

    with restored(model), no_grad():
        model.eval()
        yield at
