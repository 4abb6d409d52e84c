"""Functions of coordinates as networks: Fourier features, and what they are good for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.random import current
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn.activation import activation as activation_layer
from fathom.nn.checks import alike, number, positive, whole, whole_numbers
from fathom.nn.container import Sequential
from fathom.nn.linear import Linear
from fathom.nn.module import Module
from fathom.ops.checks import one_of, operand
from fathom.ops.shape import concatenate
from fathom.ops.trigonometric import cos, sin

__all__ = [
    "CoordinateMLP",
    "FourierFeatures",
    "spectral_error",
]


class FourierFeatures(Module):
    """Sines and cosines of coordinates: (..., in_features) -> (..., 2 * num_frequencies).

    kind : "gaussian", frequencies drawn with standard deviation `sigma` (Tancik et al., 2020);
        "octaves", 1, 2, 4, ... on each axis (Mildenhall et al., 2020), and the width is
        2 * num_frequencies * in_features.

    >>> import fathom
    >>> FourierFeatures(2, 16)(fathom.ones(5, 2)).shape
    (5, 32)
    """

    def __init__(
        self,
        in_features: int,
        num_frequencies: int,
        sigma: float = 1.0,
        kind: str = "gaussian",
    ) -> None:
        super().__init__()
        self.in_features = positive(in_features, "in_features", "FourierFeatures")
        self.num_frequencies = positive(num_frequencies, "num_frequencies", "FourierFeatures")
        one_of("FourierFeatures", "kind", kind, ("gaussian", "octaves"))
        self.sigma, self.kind = number(sigma, "sigma", self, 0.0, above=True), kind
        self.register_buffer("frequencies", Tensor(self._draw()))

    def _draw(self) -> Any:
        """(in_features, columns), in periods per unit."""
        if self.kind == "gaussian":
            shape = (self.in_features, self.num_frequencies)
            return current().stream("init").normal(shape, 0.0, self.sigma)
        octaves = 2.0 ** np.arange(self.num_frequencies)
        return np.kron(np.eye(self.in_features), octaves).astype(np.float32)

    @property
    def out_features(self) -> int:
        return 2 * int(self.frequencies.shape[1])

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = alike(self, x, self.frequencies)
        if not a.ndim or a.shape[-1] != self.in_features:
            raise ShapeError(
                f"FourierFeatures: needs (..., {self.in_features}) coordinates; received "
                f"{mark_axes(a.shape, [-1]) if a.ndim else a.shape}"
            )
        angles = (a * (2.0 * math.pi)) @ self.frequencies
        return concatenate([sin(angles), cos(angles)], -1)

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "num_frequencies": self.num_frequencies,
            "sigma": self.sigma,
            "kind": self.kind,
        }


class CoordinateMLP(Module):
    """A function of 1, 2, ... coordinates: (..., in_features) -> (..., out_features).

    An implicit representation of a signal, an image or a scene. With `num_frequencies=0` the
    network sees the bare coordinates and learns slow parts first (spectral bias, Rahaman et
    al., 2019); Fourier features put that right.

    >>> import fathom
    >>> CoordinateMLP(1, 1, hidden=(16,), num_frequencies=8)(fathom.ones(5, 1)).shape
    (5, 1)
    """

    builds_children = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (64, 64),
        num_frequencies: int = 32,
        sigma: float = 1.0,
        kind: str = "gaussian",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.in_features = positive(in_features, "in_features", "CoordinateMLP")
        self.out_features = positive(out_features, "out_features", "CoordinateMLP")
        widths = whole_numbers(hidden, "hidden", self)
        self.hidden = [positive(h, "hidden", "CoordinateMLP") for h in widths]
        self.num_frequencies = whole(num_frequencies, "num_frequencies", self, 0)
        one_of("CoordinateMLP", "kind", kind, ("gaussian", "octaves"))
        self.sigma = number(sigma, "sigma", self, 0.0, above=True)
        self.kind, self.activation = kind, activation
        layers: list[Module] = []
        width = self.in_features
        if self.num_frequencies:
            features = FourierFeatures(width, self.num_frequencies, sigma, kind)
            layers, width = [features], features.out_features
        for size in self.hidden:
            layers += [Linear(width, size), activation_layer(activation)]
            width = size
        self.layers = Sequential(*layers, Linear(width, self.out_features))

    def forward(self, x: TensorLike) -> Tensor:
        return self.layers(x)

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "hidden": self.hidden,
            "num_frequencies": self.num_frequencies,
            "sigma": self.sigma,
            "kind": self.kind,
            "activation": self.activation,
        }


def spectral_error(
    prediction: TensorLike, target: TensorLike, frequencies: Sequence[int]
) -> dict[int, float]:
    """How much of each frequency of a periodic signal is still missing: 0 none, 1 all.

    Both are samples (n,) of one period, evenly spaced. Measured while training, the errors show
    the spectral bias: slow frequencies go to 0 first.

    >>> t = np.arange(64) / 64
    >>> spectral_error(np.sin(2 * np.pi * t), np.sin(2 * np.pi * t), [1])
    {1: 0.0}
    """
    got, wanted = (np.asarray(operand(v), np.float64).reshape(-1) for v in (prediction, target))
    if got.shape != wanted.shape:
        raise ShapeError(
            f"spectral_error: prediction {got.shape} and target {wanted.shape} need one shape"
        )
    missing, whole = np.fft.rfft(got - wanted), np.fft.rfft(wanted)
    found = {}
    for f in frequencies:
        if not 0 <= f < len(whole) or abs(whole[f]) < 1e-9 * len(wanted):
            raise ArgumentError(f"spectral_error: the target holds nothing of frequency {f}")
        found[int(f)] = float(abs(missing[f]) / abs(whole[f]))
    return found
