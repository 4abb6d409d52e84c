"""Compound scaling: where the next doubling of a network's cost should go (Tan & Le, 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fathom.engine.errors import ArgumentError
from fathom.nn import Conv2d, ReLU, Sequential
from fathom.nn.checks import positive

Base = tuple[int, int, int]


@dataclass(frozen=True)
class Scaled:
    """A network of `depth` 3 x 3 convolutions of `width` channels on square images.

    `resolution` is the side in pixels; `factors` are depth, width and resolution over those of
    the base, before rounding.
    """

    depth: int
    width: int
    resolution: int
    factors: tuple[float, float, float]

    @property
    def multiply_adds(self) -> int:
        """9 depth width^2 resolution^2, for one image."""
        return 9 * self.depth * self.width**2 * self.resolution**2

    @property
    def cost_factor(self) -> float:
        """Cost over that of the base, before rounding: depth * width^2 * resolution^2."""
        depth, width, resolution = self.factors
        return depth * width**2 * resolution**2

    def network(self) -> Sequential:
        """The convolutions, with ReLU between them: (n, width, side, side) -> the same.

        >>> net = compound_scaling(1.0, base=(2, 4, 8)).network()
        >>> net.summary((4, 8, 8)).multiply_adds
        18432
        """
        layers = [
            layer
            for _ in range(self.depth)
            for layer in (Conv2d(self.width, self.width, 3, padding=1), ReLU())
        ]
        return Sequential(*layers[:-1])


def compound_scaling(
    budget: float,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    base: Base = (8, 16, 32),
) -> Scaled:
    """Depth, width and resolution of a network that costs `budget` times the base.

    EfficientNet's rule (Tan & Le, 2019): depth alpha^phi, width beta^phi, resolution gamma^phi,
    with phi so large that (alpha beta^2 gamma^2)^phi = budget; alpha beta^2 gamma^2 = 1.92 for the
    paper's constants, "about 2", so that phi counts doublings. alpha=2, beta=gamma=1 is depth
    alone. Rounded to whole layers, channels and pixels.

    base : layers, channels and side in pixels of the network that costs 1.

    >>> found = compound_scaling(4.0)
    >>> found.depth, found.width, found.resolution, round(found.cost_factor, 9)
    (12, 20, 43, 4.0)
    """
    if not (budget > 0 and math.isfinite(budget)):
        raise ArgumentError(f"compound_scaling: budget must be > 0; received {budget!r}")
    if min(alpha, beta, gamma) < 1 or max(alpha, beta, gamma) == 1:
        raise ArgumentError(
            "compound_scaling: alpha, beta and gamma are >= 1 and not all 1; received "
            f"{alpha}, {beta}, {gamma}"
        )
    sizes = [positive(size, "base", "compound_scaling") for size in base]
    phi = math.log(budget) / math.log(alpha * beta**2 * gamma**2)
    factors = (alpha**phi, beta**phi, gamma**phi)
    depth, width, side = (max(1, round(s * f)) for s, f in zip(sizes, factors, strict=True))
    return Scaled(depth, width, side, factors)
