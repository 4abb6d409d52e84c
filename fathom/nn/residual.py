"""Residual connections, and the small scales that make deep ones trainable."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn.checks import alike, flag, number, positive
from fathom.nn.dropout import DropPath, probability
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter
from fathom.ops.create import as_tensor

__all__ = [
    "LayerScale",
    "Residual",
]


class Residual(Module):
    """shortcut(x) + scale * body(x) (He et al., 2016).

    body : the branch; nn.Sequential(..., nn.LayerScale(width)) or nn.DropPath(p) at its end are
        the usual company. shortcut : what the input goes through, nothing by default; give
        nn.Linear or nn.Conv2d where the branch changes the shape.
    scale : of the branch, a number. learnable : make it a parameter; with scale=0.0 that is
        ReZero (Bachlechner et al., 2021).
    drop : probability with which the branch is left out for a sample, see `DropPath`.

    >>> import fathom
    >>> from fathom import nn
    >>> Residual(nn.Identity(), scale=0.5)(fathom.tensor([2.0]))
    tensor([3.])
    """

    def __init__(
        self,
        body: Module,
        shortcut: Module | None = None,
        *,
        scale: float = 1.0,
        learnable: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        for name, part in (("body", body), ("shortcut", shortcut)):
            if not isinstance(part, Module) and not (part is None and name == "shortcut"):
                raise ArgumentError(
                    f"Residual: {name} must be a layer; received {part!r}",
                    fix="nn.Residual(nn.Sequential(...)) takes several layers as the branch",
                )
        self.body = body
        if shortcut is not None:
            self.shortcut = shortcut
        self.initial, self.learnable = (
            number(scale, "scale", self),
            flag(learnable, "learnable", self),
        )
        start: Any = self.initial
        self.scale: Any = Parameter(np.asarray(start, np.float32)) if learnable else start
        self.drop = probability(drop, "Residual", "drop")

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = as_tensor(x)
        branch: Any = self.body(a)
        if self.drop and self.training:
            branch = DropPath(self.drop)(branch)
        if self.learnable or self.scale != 1.0:
            branch = branch * self.scale
        way = self._modules.get("shortcut")
        kept = a if way is None else way(a)
        if kept.shape != branch.shape:
            raise ShapeError(
                f"Residual: the branch makes {tuple(branch.shape)} of {tuple(kept.shape)}; they "
                "cannot be added",
                fix="give a shortcut that changes the shape, too, like nn.Linear or nn.Conv2d",
            )
        return kept + branch

    def config(self) -> dict[str, Any]:
        given = {"scale": self.initial, "learnable": self.learnable, "drop": self.drop}
        usual = {"scale": 1.0, "learnable": False, "drop": 0.0}
        return {k: v for k, v in given.items() if v != usual[k]}


class LayerScale(Module):
    """Each channel times a learned number that starts small (Touvron et al., 2021, CaiT).

    dim : number of channels. init_values : where they start. channels_first : they stand on
    axis 1, (n, c, ...), and not on the last one. At the end of a residual branch it makes a deep
    net start as the identity, nearly.

    >>> import fathom
    >>> LayerScale(2, 0.5)(fathom.ones(1, 2)).detach()
    tensor([[0.5, 0.5]])
    """

    def __init__(self, dim: int, init_values: float = 1e-5, channels_first: bool = False) -> None:
        super().__init__()
        self.dim = positive(dim, "dim", "LayerScale")
        self.init_values = number(init_values, "init_values", self)
        self.channels_first = flag(channels_first, "channels_first", self)
        self.gamma = Parameter(np.full(self.dim, init_values, np.float32))

    def forward(self, x: TensorLike) -> Tensor:
        a: Any = as_tensor(alike(self, x, self.gamma))
        axis = 1 if self.channels_first else a.ndim - 1
        if a.ndim <= axis or axis < 0 or a.shape[axis] != self.dim:
            raise ShapeError(
                f"LayerScale: expected {self.dim} channels on axis {axis}, received "
                f"{mark_axes(a.shape, [axis]) if a.ndim > max(axis, 0) else tuple(a.shape)}"
            )
        gamma: Any = self.gamma
        return a * (gamma.reshape(-1, *(1,) * (a.ndim - 2)) if self.channels_first else gamma)

    def config(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "init_values": self.init_values,
            "channels_first": self.channels_first,
        }
