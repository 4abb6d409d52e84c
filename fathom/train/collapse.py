"""Neural collapse (Papyan, Han & Donoho, 2020): four measures of the last layer's geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, DataError, ShapeError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Array, Tensor


@dataclass(frozen=True)
class Collapse:
    """All are 0 in full collapse, except the cosines, which are -1 / (classes - 1).

    nc1 : variation within classes against that between them, trace(W pinv(B)) / classes.
    nc2_norms, nc2_angles : spread of the lengths of the class means, and mean distance of their
        cosines from -1 / (classes - 1): the simplex equiangular tight frame.
    nc3 : distance of the classifier's weights from the class means, both of length 1.
    nc4 : share of rows on which the classifier and the nearest class mean differ.
    """

    nc1: float
    nc2_norms: float
    nc2_angles: float
    nc3: float
    nc4: float
    cosines: Array

    def __repr__(self) -> str:
        return (
            f"Collapse(nc1={self.nc1:.4g}, nc2_norms={self.nc2_norms:.4g}, "
            f"nc2_angles={self.nc2_angles:.4g}, nc3={self.nc3:.4g}, nc4={self.nc4:.4g})"
        )


def simplex_etf(classes: int, dimensions: int | None = None, seed: int = 0) -> Array:
    """`classes` unit vectors (classes, dimensions) with all cosines -1 / (classes - 1).

    >>> etf = simplex_etf(4)
    >>> np.round(etf @ etf.T, 6)[0].tolist()
    [1.0, -0.333333, -0.333333, -0.333333]
    """
    d = classes if dimensions is None else dimensions
    if classes < 2 or d < classes - 1:
        raise ArgumentError(
            f"{classes} classes need 2 or more, in {classes - 1} dimensions or more"
        )
    frame = np.sqrt(classes / (classes - 1)) * (np.eye(classes) - 1.0 / classes)
    values, vectors = np.linalg.eigh(frame)
    core = frame @ vectors[:, values > 0.5]  # (classes, classes - 1)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, classes - 1)))[0]
    return np.asarray(core @ turn.T)


def neural_collapse(features: Any, labels: Any, weight: Any = None, bias: Any = None) -> Collapse:
    """Measure features (n, d), their labels (n,), and the classifier's weight (classes, d).

    Without a weight, nc3 and nc4 are nan.

    >>> means = simplex_etf(3)
    >>> found = neural_collapse(np.repeat(means, 5, axis=0), np.repeat([0, 1, 2], 5), means)
    >>> bool(found.nc1 < 1e-12 and found.nc2_angles < 1e-12 and found.nc3 < 1e-12)
    True
    """
    h, y = np.asarray(features, np.float64), np.asarray(labels)
    if h.ndim != 2 or y.shape != (len(h),):
        raise ShapeError(f"features {h.shape} and labels {y.shape}: expected (n, d) and (n,)")
    found, codes = np.unique(y, return_inverse=True)
    k = len(found)
    if k < 2:
        raise DataError("neural collapse needs rows of two classes or more")
    means = np.stack([h[codes == c].mean(axis=0) for c in range(k)])
    middle = means.mean(axis=0)
    centred, rest = means - middle, h - means[codes]
    within, between = rest.T @ rest / len(h), centred.T @ centred / k
    lengths = np.linalg.norm(centred, axis=1)
    unit = centred / np.maximum(lengths, 1e-300)[:, None]
    cosines = (unit @ unit.T)[~np.eye(k, dtype=bool)]
    nc3 = nc4 = float("nan")
    if weight is not None:
        w = np.asarray(weight.value() if isinstance(weight, Tensor) else weight, np.float64)
        if w.shape[1:] != h.shape[1:] or len(w) < k:
            raise ShapeError(f"weight {w.shape} does not belong to {k} classes of {h.shape[1]}")
        rows = w[found.astype(int)] if y.dtype.kind in "iu" else w[:k]
        rows = rows - rows.mean(axis=0)
        nc3 = float(np.linalg.norm(rows / np.linalg.norm(rows) - centred / np.linalg.norm(centred)))
        scores = h @ w.T + (0.0 if bias is None else np.asarray(bias, np.float64))
        said = scores[:, found.astype(int)].argmax(axis=1)
        distance = np.square(h[:, None, :] - means[None]).sum(axis=2)
        nc4 = float(np.mean(said != distance.argmin(axis=1)))
    return Collapse(
        float(np.trace(within @ np.linalg.pinv(between)) / k),
        float(lengths.std() / lengths.mean()),
        float(np.abs(cosines + 1.0 / (k - 1)).mean()),
        nc3,
        nc4,
        cosines,
    )


def unconstrained_features(
    classes: int, rows: int = 10, dimensions: int | None = None, decay: float = 5e-3,
    steps: int = 200, seed: int = 0,
) -> Collapse:  # fmt: skip
    """The model behind the theory: features and classifier both free, with weight decay.

    (Mixon, Parshall & Pi, 2020; Zhu et al., 2021.) Its cross-entropy, minimized by L-BFGS, has
    the simplex frame as its global minimum.

    >>> bool(unconstrained_features(3).nc2_angles < 1e-3)
    True
    """
    from fathom.nn import Parameter
    from fathom.nn import functional as F
    from fathom.optim import LBFGS

    d = dimensions or classes
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(classes), rows)
    h = Parameter(0.1 * rng.standard_normal((len(labels), d)))
    w = Parameter(0.1 * rng.standard_normal((classes, d)))
    optimizer = LBFGS([h, w], max_iter=steps, tolerance_change=1e-14, tolerance_grad=1e-10,
                      line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(h @ w.T, labels)
        loss = loss + decay / 2 * ((w * w).sum() + (h * h).sum() / rows)
        loss.backward()
        return loss

    optimizer.step(closure)
    return neural_collapse(h.value(), labels, w)


def collapse_of(model: Any, x: Any, y: Any, layer: Any = None) -> Collapse:
    """The same of a model: its last linear layer, and what goes into that.

    >>> import fathom
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = fathom.models.mlp(4, 3, hidden=(8,))
    >>> 0 <= collapse_of(model, data.x, data.y).nc4 <= 1
    True
    """
    if layer is None:
        linear = [m for m in model.modules() if type(m).__name__ == "Linear"]
        if not linear:
            raise ArgumentError("the model has no Linear layer", fix="pass layer=")
        layer = linear[-1]
    seen: list[Array] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].value()))
    modes = [(m, m.training) for m in model.modules()]
    try:
        with no_grad():
            model.eval()
            kind = next(p.dtype for p in model.parameters())
            model(Tensor(np.asarray(x, kind)))
    finally:
        handle.remove()
        for module, training in modes:
            object.__setattr__(module, "training", training)
    bias = None if layer.bias is None else layer.bias.value()
    return neural_collapse(seen[-1].reshape(len(seen[-1]), -1), y, layer.weight, bias)
