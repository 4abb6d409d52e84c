"""Two convolutions with the pooling and the head of one's choice, and digits in a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom import nn
from fathom.engine.errors import ArgumentError

Array = NDArray[Any]
POOLS = ("max", "average", "stride", "none")


def small_cnn(
    pool: str = "max", head: str = "flat", side: int = 8, outputs: int = 10,
    padding_mode: str = "zeros",
) -> nn.Sequential:  # fmt: skip
    """Convolutions 1 -> 8 -> 16 of 3 x 3 with ReLU, each followed by `pool` by 2, then the head.

    pool : "max", "average", "stride" (the convolutions skip every other place) or "none".
    head : "flat" (a dense layer over all places) or "global" (over the channels' means).

    >>> sum(p.size for p in small_cnn("max", "global").parameters())
    1418
    """
    if pool not in POOLS or head not in ("flat", "global"):
        raise ArgumentError(f"small_cnn: pool {pool!r} with head {head!r}", fix=f"pool: {POOLS}")
    layers: list[nn.Module] = []
    pools: dict[str, nn.Module] = {"max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}
    for inputs, channels in ((1, 8), (8, 16)):
        layers += [
            nn.Conv2d(inputs, channels, 3, stride=2 if pool == "stride" else 1, padding=1,
                      padding_mode=padding_mode),
            nn.ReLU(),
        ]  # fmt: skip
        layers += [pools[pool]] if pool in pools else []
    places = (side if pool == "none" else side // 4) ** 2
    if head == "global":
        return nn.Sequential(*layers, nn.GlobalAvgPool(), nn.Linear(16, outputs))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * places, outputs))


def framed(x: Array, side: int = 16) -> Array:
    """Rows of 64 pixels as (n, 1, side, side) images, the digit in the middle of zeros.

    >>> framed(np.ones((2, 64))).shape
    (2, 1, 16, 16)
    """
    edge = (side - 8) // 2
    return np.pad(x.reshape(-1, 1, 8, 8), ((0, 0), (0, 0), (edge, edge), (edge, edge)))
